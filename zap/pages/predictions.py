"""GET /pages/predictions: the answers to requests, newest first, by driver, time, type, version and outcome."""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any, NamedTuple

from litestar import Request, Response, get
from litestar.datastructures import State
from sqlalchemy import Engine

from zap.db.history.drivers import drivers_like
from zap.db.log.prediction_list import PAGE_SECONDS, Wanted
from zap.errors import NoModel
from zap.flows.prediction_list import list_newer, list_predictions
from zap.formats.values import LARGEST_ID
from zap.pages.listed import MOST_SIMILAR, read_listed
from zap.pages.page import answer_reading, see_other
from zap.pages.query import Query, address
from zap.public import PAGE
from zap.scopes import READ, needs

_PATH = "/pages/predictions"
_ROWS = 25
# How long zap looks for the first page of a rare kind of answers. A person who looks further back waits longer.
_FIRST_SECONDS = 0.05
_STATUSES = ("waiting", "superseded", "no_driver")
OUTCOMES = ("right", "wrong", *_STATUSES)
KINDS = ("live", "backtest")
_DAY = timedelta(days=1)


class Asked:
    """The filters of a request for the list.

    Raises:
        ValidationException: a filter cannot be read.
    """

    def __init__(self, query: Query) -> None:
        self.id = query.number("id")
        self.before, self.after = query.number("before"), query.number("after")
        since, until = query.day("from"), query.day("to")
        outcome, kind = query.choice("outcome", OUTCOMES), query.choice("kind", KINDS)
        self.filters: dict[str, Any] = {
            "driver": query.text("driver"),
            "from": since,
            "to": until,
            "class": query.text("class"),
            "version": query.number("version"),
            "outcome": outcome,
            "kind": kind,
            "input": query.number("input"),
        }
        self.wanted = Wanted(
            since=None if since is None else datetime.combine(since, time(), UTC),
            until=None if until is None or until == until.max else datetime.combine(until, time(), UTC) + _DAY,
            user_id=self.filters["driver"],
            model_version=self.filters["version"],
            predicted_class=self.filters["class"],
            outcome=outcome if outcome in _STATUSES else None,
            kind=kind,
            input_id=self.filters["input"],
            right={"right": True, "wrong": False}.get(outcome or ""),
        )

    def address(self, **place: int) -> str:
        """Return the address of another page of this list."""
        return address(_PATH, {**self.filters, **place})


class Shown(NamedTuple):
    """A page of answers.

    Attributes:
        rows: the answers.
        older, newer: the addresses of the older and the newer page.
        removed_before: on the last page, the moment (UTC) from before which requests were removed.
    """

    rows: list[dict[str, Any]]
    older: str | None
    newer: str | None
    removed_before: datetime | None = None


@get(_PATH, opt=PAGE | needs(READ))
async def predictions(request: Request[Any, Any, Any]) -> Response[Any]:
    """Show a page of answers. With an id, go to this prediction."""
    query = Query(request)
    asked = Asked(query)
    if asked.id is not None:
        return see_other(request, f"{_PATH}/{asked.id}")
    if query.has_empty:
        # A form also sends its empty fields. An address without them is shorter to send to a colleague.
        return see_other(request, address(_PATH, query.values))
    state = request.app.state
    return await answer_reading(request, "predictions.html", _read, state, asked)


def _read(engine: Engine, state: State, asked: Asked) -> Mapping[str, Any]:
    seconds = _FIRST_SECONDS if asked.before is None and asked.after is None else PAGE_SECONDS
    shown = None if asked.after is None else _newer(engine, asked, seconds)
    if shown is None:
        shown = _older(engine, asked, None if asked.after is not None else asked.before, seconds)
    found = shown.rows
    types = _types(state)
    chosen, driver = asked.filters["class"], asked.filters["driver"]
    similar = [] if found or driver is None else drivers_like(engine, driver, MOST_SIMILAR)
    return {
        "rows": [read_listed(row, state.settings) for row in found],
        "filters": asked.filters,
        "similar": [(one, address(_PATH, {**asked.filters, "driver": one})) for one in similar],
        "is_filtered": any(value is not None for value in asked.filters.values()),
        "older": shown.older,
        "newer": shown.newer,
        "removed_before": shown.removed_before and shown.removed_before.date(),
        "is_full": len(found) == _ROWS,
        "newest": asked.address(),
        "types": types if chosen is None or chosen in types else [*types, chosen],
        "horizon": state.settings.horizon.total_seconds(),
    }


def _older(engine: Engine, asked: Asked, before: int | None, seconds: float) -> Shown:
    """Return a page read from above. One more row is read, which tells whether there is an older page."""
    page = list_predictions(engine, asked.wanted, _ROWS + 1, LARGEST_ID if before is None else before, seconds)
    rows = page.rows[:_ROWS]
    last = rows[-1]["prediction_id"] if len(page.rows) > _ROWS else page.before
    older = None if last is None else asked.address(before=last)
    newer = None if before is None else asked.address(after=rows[0]["prediction_id"] if rows else before - 1)
    return Shown(rows, older, newer, page.removed_before if older is None else None)


def _newer(engine: Engine, asked: Asked, seconds: float) -> Shown | None:
    """Return the page above `asked.after`; None if it has the newest answers, whose page is read from above."""
    after = asked.after or 0
    page = list_newer(engine, asked.wanted, _ROWS + 1, after, seconds)
    if page.after is None:
        return None
    rows = page.rows[-_ROWS:]
    older = asked.address(before=rows[-1]["prediction_id"] if rows else after + 1)
    return Shown(rows, older, asked.address(after=rows[0]["prediction_id"] if len(page.rows) > _ROWS else page.after))


def _types(state: State) -> list[str]:
    """Return the charger types of the version in production."""
    try:
        return list(state.production.predictor.types)
    except NoModel:
        return []
