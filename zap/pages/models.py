"""GET /pages/models: the versions with their scores beside guessing, the running trials, and the changes."""

from collections.abc import Mapping
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.params import QueryParameter
from sqlalchemy import Engine

from zap.db.monitoring.trials import trials_now
from zap.db.versions.model_registry import list_versions, production_version
from zap.db.versions.promotions import list_promotions, newest_promotions, rollback_target
from zap.errors import NotFound
from zap.formats.values import LARGEST_ID
from zap.pages.page import answer_reading
from zap.public import PAGE
from zap.scopes import READ, needs

_VERSIONS, _CHANGES = 20, 6
_MOST_DIGITS = 20
Before = Annotated[int, QueryParameter(name="before", ge=1, le=LARGEST_ID)]


@get("/pages/models", opt=PAGE | needs(READ))
async def models(request: Request[Any, Any, State], before: Before = LARGEST_ID) -> Response[bytes]:
    """Show the versions, newest first."""
    state = request.app.state
    return await answer_reading(request, "models.html", _read, state, before)


def known_number(written: str, what: str) -> int:
    """Return the number in a path. Read as a text, because Litestar answers JSON for a path without a number.

    Raises:
        NotFound: no row can have this number.
    """
    number = int(written) if written.isascii() and written.isdigit() and len(written) < _MOST_DIGITS else -1
    if not 0 <= number <= LARGEST_ID:
        raise NotFound(f"there is no {what} {written[:50]}")
    return number


def _read(engine: Engine, state: State, before: int) -> Mapping[str, Any]:
    found = list_versions(engine, _VERSIONS + 1, before)
    versions, serving = found[:_VERSIONS], production_version(engine)
    trials = trials_now(engine)
    return {
        "versions": versions,
        "older": versions[-1]["model_version"] if len(found) > _VERSIONS else None,
        "is_newest": before == LARGEST_ID,
        "serving": serving and serving.model_version,
        "refused": state.production.refused,
        "earlier": rollback_target(engine),
        "trials": trials,
        "on_trial": [one["model_version"] for one in trials],
        "promoted": newest_promotions(engine, [one["model_version"] for one in versions]),
        "changes": list_promotions(engine, _CHANGES),
    }
