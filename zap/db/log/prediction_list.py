"""Pages of the answers to requests, newest first, with what happened after each of them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, Table, func, select

from zap.db.monitoring_tables import Outcome
from zap.db.tables import InferenceInput, Prediction, SessionTextId
from zap.formats.values import FIRST_YEAR, LARGEST_ID, LAST_YEAR

_PREDICTIONS: Table = Prediction.__table__  # type: ignore[attr-defined]
_INPUTS: Table = InferenceInput.__table__  # type: ignore[attr-defined]
_OUTCOMES: Table = Outcome.__table__  # type: ignore[attr-defined]
_TEXT_IDS: Table = SessionTextId.__table__  # type: ignore[attr-defined]
_ID = _PREDICTIONS.c.prediction_id

# How many ids one query looks through, and how long (seconds) one page may look for its answers.
WINDOW = 5_000
PAGE_SECONDS = 1.0
# A driver with more answers than this, such as the id of all guests, is looked for among all answers.
_MOST_OF_A_DRIVER = 10_000
_IDS_OF_A_QUERY = 1_000
# Ids and times of answers have nearly the same order. Transactions that run at the same time, batches that wait, and
# the clocks of machines differ by less than this.
_DISORDER = timedelta(minutes=10)

# The columns of a listed answer, with the types of their values.
COLUMNS: dict[str, type] = {
    "prediction_id": int,
    "input_id": int,
    "request_timestamp": str,
    "user_id": str,
    "asked_at": str,
    "model_version": int,
    "predicted_class": str,
    "probability": float,
    "kind": str,
    "outcome": str,
    "actual_class": str,
    "session_id": str,
    "lag_seconds": int,
    "matched_by": str,
    "superseded_by": int,
}


@dataclass(frozen=True)
class Wanted:
    """Which answers to list. None stands for all.

    Attributes:
        since: the first moment of the requests, in UTC.
        until: the moment at which the range ends; it is not in the range.
        user_id: the driver. The follower finds the driver of an answer, so answers that it has not read are left out.
        outcome: the status of the outcome.
        right: whether the session that followed had the predicted type; answers without such a session are left out.
    """

    since: datetime | None = None
    until: datetime | None = None
    user_id: str | None = None
    model_version: int | None = None
    predicted_class: str | None = None
    actual_class: str | None = None
    outcome: str | None = None
    kind: str | None = None
    input_id: int | None = None
    right: bool | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions for the rows of the joined tables."""
        equal: dict[Any, Any] = {
            _OUTCOMES.c.user_id: self.user_id,
            _PREDICTIONS.c.model_version: self.model_version,
            _PREDICTIONS.c.predicted_class: self.predicted_class,
            _OUTCOMES.c.actual_class: self.actual_class,
            _OUTCOMES.c.status: self.outcome,
            _OUTCOMES.c.kind: self.kind,
            _PREDICTIONS.c.input_id: self.input_id,
        }
        found = [_PREDICTIONS.c.source == "inference"]
        found += [column == value for column, value in equal.items() if value is not None]
        if self.right is not None:
            is_right = _OUTCOMES.c.actual_class == _PREDICTIONS.c.predicted_class
            found += [_OUTCOMES.c.status == "matched", is_right if self.right else ~is_right]
        if self.since is not None:
            found.append(_INPUTS.c.request_timestamp >= self.since)
        if self.until is not None:
            found.append(_INPUTS.c.request_timestamp < self.until)
        return found


@dataclass(frozen=True)
class Page:
    """Some answers, newest first.

    Attributes:
        rows: the answers, each with a value for each of COLUMNS.
        before: the `before` of the next page; None if there are no more answers.
        removed_before: on the last page, the moment (UTC) from before which requests were removed; None if none were.
    """

    rows: list[dict[str, Any]]
    before: int | None
    removed_before: datetime | None = None


@dataclass(frozen=True)
class NewerPage:
    """Some answers that are newer than a given one, newest first.

    Attributes:
        rows: as in Page.
        after: the `after` of the page with the next newer answers; None if there are no more answers.
    """

    rows: list[dict[str, Any]]
    after: int | None


def read_page(
    engine: Engine, wanted: Wanted, limit: int, before: int = LARGEST_ID, seconds: float = PAGE_SECONDS
) -> Page:
    """Return a page of answers with smaller ids than `before`.

    The cost has a bound for any filter and any size of the log: a page ends when its time is over, also with fewer
    answers than `limit`, or none. `before` of the page then says where the next page goes on.

    Args:
        engine: on the database.
        wanted: which answers.
        limit: the most answers of the page.
        before: return answers with smaller ids.
        seconds: how long to look for answers if only a few of many answers are wanted.
    """
    with engine.connect() as connection:
        if wanted.input_id is not None:
            # An input has one prediction, or a few that another program wrote.
            return _full(_read(connection, wanted, [before > _ID], limit), limit)
        if wanted.user_id is not None and (ids := _of_driver(connection, wanted.user_id)) is not None:
            return _full(_among(connection, wanted, [one for one in ids if one < before], limit), limit)
        return _in_windows(connection, wanted, limit, before, time.monotonic() + seconds)


def read_newer(engine: Engine, wanted: Wanted, limit: int, after: int, seconds: float = PAGE_SECONDS) -> NewerPage:
    """Return the page that is newer than an answer: the answers with the smallest ids above `after`.

    The cost has the bound of `read_page`.

    Args:
        engine: on the database.
        wanted: which answers.
        limit: the most answers of the page.
        after: return answers with larger ids.
        seconds: how long to look for answers if only a few of many answers are wanted.
    """
    with engine.connect() as connection:
        if wanted.input_id is not None:
            return _full_newer(_read(connection, wanted, [after < _ID], limit, newest_first=False), limit)
        if wanted.user_id is not None and (ids := _of_driver(connection, wanted.user_id)) is not None:
            newer = [one for one in reversed(ids) if one > after]
            return _full_newer(_among(connection, wanted, newer, limit, newest_first=False), limit)
        return _in_windows_up(connection, wanted, limit, after, time.monotonic() + seconds)


def pages(engine: Engine, wanted: Wanted, limit: int) -> Iterator[Page]:
    """Yield all pages. Each page has a transaction of its own, so that a long list blocks no other work."""
    before: int | None = LARGEST_ID
    while before is not None:
        page = read_page(engine, wanted, limit, before)
        before = page.before
        yield page


def _full(rows: list[dict[str, Any]], limit: int) -> Page:
    return Page(rows, rows[-1]["prediction_id"] if len(rows) == limit else None)


def _full_newer(rows: list[dict[str, Any]], limit: int) -> NewerPage:
    return NewerPage(rows[::-1], rows[-1]["prediction_id"] if len(rows) == limit else None)


def _of_driver(connection: Connection, user_id: str) -> list[int] | None:
    """Return the ids of a driver's answers, newest first; None if the driver has very many."""
    # Without an order, because the database must use the index of drivers.
    some = select(_OUTCOMES.c.prediction_id).where(_OUTCOMES.c.user_id == user_id).limit(_MOST_OF_A_DRIVER + 1)
    ids = connection.scalars(some).all()
    return None if len(ids) > _MOST_OF_A_DRIVER else sorted(ids, reverse=True)


def _among(
    connection: Connection, wanted: Wanted, ids: Sequence[int], limit: int, *, newest_first: bool = True
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for first in range(0, len(ids), _IDS_OF_A_QUERY):
        if len(rows) == limit:
            break
        some = [_ID.in_(ids[first : first + _IDS_OF_A_QUERY])]
        rows += _read(connection, wanted, some, limit - len(rows), newest_first=newest_first)
    return rows


def _in_windows(connection: Connection, wanted: Wanted, limit: int, before: int, end: float) -> Page:
    """Return a page from windows of ids, from the newest id down, until `end` on the monotonic clock."""
    lowest = 0 if wanted.since is None else _first_id(connection, wanted.since, -_DISORDER)
    top = before if wanted.until is None else min(before, _first_id(connection, wanted.until, _DISORDER))
    rows: list[dict[str, Any]] = []
    while True:
        newest = connection.scalar(select(func.max(_ID)).where(lowest <= _ID, top > _ID))
        if newest is None:
            return Page(rows, None)
        top = max(lowest, newest - WINDOW + 1)
        # The ids of outcomes are bounded too, so that no plan reads all outcomes.
        window = [_ID.between(top, newest)]
        rows += _read(connection, wanted, window, limit - len(rows), _OUTCOMES.c.prediction_id.between(top, newest))
        if len(rows) == limit:
            return _full(rows, limit)
        if top == lowest:
            return Page(rows, None)
        if time.monotonic() > end:
            return Page(rows, top)


def _in_windows_up(connection: Connection, wanted: Wanted, limit: int, after: int, end: float) -> NewerPage:
    """Return a page from windows of ids, from `after` up, until `end` on the monotonic clock."""
    top = LARGEST_ID if wanted.until is None else _first_id(connection, wanted.until, _DISORDER)
    low = after if wanted.since is None else max(after, _first_id(connection, wanted.since, -_DISORDER) - 1)
    rows: list[dict[str, Any]] = []
    while True:
        oldest = connection.scalar(select(func.min(_ID)).where(low < _ID, top > _ID))
        if oldest is None:
            return NewerPage(rows[::-1], None)
        low = min(oldest + WINDOW, top) - 1
        window, of_outcomes = [_ID.between(oldest, low)], _OUTCOMES.c.prediction_id.between(oldest, low)
        rows += _read(connection, wanted, window, limit - len(rows), of_outcomes, newest_first=False)
        if len(rows) == limit:
            return _full_newer(rows, limit)
        if time.monotonic() > end:
            return NewerPage(rows[::-1], low)


def _first_id(connection: Connection, moment: datetime, shift: timedelta) -> int:
    """Return the smallest id before which all times are before `moment + shift`, apart from the disorder of times.

    This finds the place of a moment without an index of times, which each logged answer would have to update.
    """
    moment = min(max(moment, datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)), datetime(LAST_YEAR, 1, 1, tzinfo=UTC)) + shift
    # Two queries: SQLite would read the whole table for both ends in one query.
    low, last = (connection.scalar(select(end)) for end in (func.min(_ID), func.max(_ID)))
    if low is None or last is None:
        return 0
    high = last + 1
    while low < high:
        middle = (low + high) // 2
        stamp = _PREDICTIONS.c.prediction_timestamp
        found, at = connection.execute(select(_ID, stamp).where(middle <= _ID).order_by(_ID).limit(1)).one()
        # Rows that are older than zap have times without a zone, or no readable time.
        if at is None or (at if at.tzinfo else at.replace(tzinfo=UTC)) < moment:
            low = found + 1
        else:
            high = middle
    return int(low)


def _read(  # noqa: PLR0913 - the two ways through the ids share one statement
    connection: Connection,
    wanted: Wanted,
    ids: Sequence[ColumnElement[bool]],
    limit: int,
    of_outcomes: ColumnElement[bool] | None = None,
    *,
    newest_first: bool = True,
) -> list[dict[str, Any]]:
    order = _ID.desc() if newest_first else _ID.asc()
    statement = _statement(of_outcomes).where(*ids, *wanted.conditions()).order_by(order).limit(limit)
    return [_listed(row) for row in connection.execute(statement).mappings()]


def _statement(of_outcomes: ColumnElement[bool] | None) -> Select[Any]:
    same = _OUTCOMES.c.prediction_id == _ID
    joined = (
        _PREDICTIONS.outerjoin(_OUTCOMES, same if of_outcomes is None else same & of_outcomes)
        .outerjoin(_INPUTS, _INPUTS.c.input_id == _PREDICTIONS.c.input_id)
        .outerjoin(_TEXT_IDS, _TEXT_IDS.c.session_id == _OUTCOMES.c.session_id)
    )
    of_prediction = ("prediction_id", "input_id", "model_version", "predicted_class", "probabilities")
    of_outcome = ("user_id", "asked_at", "kind", "status", "actual_class", "session_id")
    of_match = ("lag_seconds", "matched_by", "superseded_by")
    return select(
        *(_PREDICTIONS.c[name] for name in of_prediction),
        *(_OUTCOMES.c[name] for name in (*of_outcome, *of_match)),
        _INPUTS.c.request_timestamp,
        _TEXT_IDS.c.text_id,
    ).select_from(joined)


def _listed(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row with a value for each of COLUMNS."""
    session_id = row["session_id"] if row["text_id"] is None else row["text_id"]
    computed = {
        "request_timestamp": row["request_timestamp"] and row["request_timestamp"].isoformat(),
        "asked_at": row["asked_at"] and row["asked_at"].isoformat(),
        "probability": (row["probabilities"] or {}).get(row["predicted_class"]),
        "outcome": row["status"],
        "session_id": None if session_id is None else str(session_id),
    }
    return {name: computed[name] if name in computed else row[name] for name in COLUMNS}
