"""GET /pages/models/compare: two versions beside each other, from what is stored."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.params import QueryParameter
from sqlalchemy import Engine

from zap.db.versions.model_registry import list_versions, production_version
from zap.db.versions.version_comparison import compared
from zap.formats.values import LARGEST_ID
from zap.pages.page import answer_reading
from zap.public import PAGE
from zap.scopes import READ, needs

_CHOICES, _COLUMNS = 50, 15
First = Annotated[int | None, QueryParameter(name="first", ge=0, le=LARGEST_ID)]
Second = Annotated[int | None, QueryParameter(name="second", ge=0, le=LARGEST_ID)]


@get("/pages/models/compare", opt=PAGE | needs(READ))
async def compare_models(
    request: Request[Any, Any, State], first: First = None, second: Second = None
) -> Response[bytes]:
    """Show two versions beside each other; without versions, ask for them.

    Raises:
        NotFound: there is no such version.
    """
    return await answer_reading(request, "model_comparison.html", _read, first, second)


def _read(engine: Engine, first: int | None, second: int | None) -> Mapping[str, Any]:
    numbers = [one["model_version"] for one in list_versions(engine, _CHOICES)]
    serving = production_version(engine)
    found = None if first is None or second is None else beside(engine, first, second)
    if first is None:
        first = serving.model_version if serving else None
    if second is None:
        second = next((one for one in numbers if one != first), first)
    # Versions that are older than the choices can be compared by the address.
    chosen = [one for one in (first, second) if one is not None]
    return {
        "choices": sorted({*numbers, *chosen}, reverse=True),
        "first": first,
        "second": second,
        "found": found,
    }


def beside(engine: Engine, first: int, second: int) -> dict[str, Any]:
    """Return two versions beside each other, with differences of the scores and with wall times that are times.

    Raises:
        NotFound: there is no such version.
    """
    found = compared(engine, first, second)
    tested = {
        name: [_moment(one) if name in {"from", "until"} else one for one in both]
        for name, both in found["tested"].items()
    }
    largest = max((one or 0.0 for both in found["groups"].values() for one in both), default=0.0) or 1.0
    return {
        **found,
        "tested": tested,
        "differences": {name: _difference(both) for name, both in found["scores"].items()},
        "largest": largest,
        "columns": dict([*found["columns"].items()][:_COLUMNS]),
        "guessing": [min((one for one in both if one is not None), default=None) for both in _by_version(found)],
    }


def _by_version(found: Mapping[str, Any]) -> list[list[float | None]]:
    return [[both[place] for both in found["baselines"].values()] for place in (0, 1)]


def _difference(both: list[float | None]) -> float | None:
    one, other = both
    return None if one is None or other is None else other - one


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
