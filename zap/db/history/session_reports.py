"""The app's reports of sessions, which are added to the history in one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from zap.db.engine import write_transaction
from zap.db.history.drivers import facts_now
from zap.db.history.history_rows import (
    ROW_ID,
    SESSIONS,
    Key,
    Row,
    compare_rows,
    continue_ids,
    key_of,
    stored_rows,
    take_turn,
    write_sessions,
)
from zap.errors import InvalidRequest
from zap.formats.json_body import error_at, pointer
from zap.formats.session_report import END, FIELDS, NEEDED_AT_FIRST, SESSION_ID, START, Report, SessionReport
from zap.ml.features import FACTS

_KEY = (SESSION_ID,)
# For a session that started longer ago, the present facts about its driver and vehicle may have changed since.
_NEAR = timedelta(days=2)


@dataclass(frozen=True)
class ReportedSessions:
    """The result of a report.

    Attributes:
        added, updated, unchanged: numbers of sessions.
        user_ids: the drivers whose history has changed.
    """

    added: int
    updated: int
    unchanged: int
    user_ids: frozenset[str]


def report_sessions(engine: Engine, report: Report, now: datetime) -> ReportedSessions:
    """Add new sessions, and update known ones.

    A missing value erases nothing, and a report that is sent twice changes nothing the second time. The present facts
    about the driver and the vehicle are stored with a session of the last days, if it is new or its driver or vehicle
    has changed: training must not see later facts. They are not stored with an older session, because they may be later
    facts already.

    Args:
        engine: on a database at head.
        report: the parsed report.
        now: the drivers' wall time.

    Raises:
        InvalidRequest: the report has errors, a new session lacks a required field, or a known session would end before
            it starts. All errors are listed, and nothing was written.
        SQLAlchemyError: another writer took too long. Nothing was written.
    """
    unknown = dict.fromkeys((*FIELDS, *FACTS))
    rows = [unknown | session.values | {SESSION_ID: session.session_id} for session in report.sessions]
    if report.errors:
        # Nothing will be written, so no write transaction is needed.
        with engine.connect() as connection:
            stored = _stored(connection, rows)
        raise InvalidRequest(_errors(report, stored))
    with write_transaction(engine) as connection:
        take_turn(connection)
        stored = _stored(connection, rows)
        if errors := _errors(report, stored):
            raise InvalidRequest(errors)
        _take_facts(connection, rows, stored, now)
        added, changes = compare_rows(rows, [stored.get(key_of(row, _KEY)) for row in rows])
        write_sessions(connection, added, changes)
        if added and connection.dialect.name == "postgresql":
            continue_ids(connection, SESSIONS)
    return _outcome(rows, added, [row for rows_to_change in changes.values() for row in rows_to_change], stored)


def _take_facts(connection: Connection, rows: list[Row], stored: Mapping[Key, Row], now: datetime) -> None:
    """Add the present facts about driver and vehicle to the rows with which they are stored."""
    taking, named = [], []
    for row in rows:
        before = stored.get((row[SESSION_ID],))
        said = {name: value for name, value in row.items() if value is not None}
        whole = {**(before or {}), **said}
        start = _wall_time(whole.get(START))
        of_others = before is None or any(
            name in said and said[name] != before[name] for name in ("user_id", "vehicle_id")
        )
        if of_others and start is not None and abs(now - start) <= _NEAR:
            taking.append(row)
            named.append(whole)
    for row, facts in zip(taking, facts_now(connection, named), strict=True):
        row.update(facts)


def _outcome(rows: list[Row], added: list[Row], updated: list[Row], stored: Mapping[Key, Row]) -> ReportedSessions:
    drivers = {row["user_id"] for row in added}
    for row in updated:
        drivers |= {stored[row[ROW_ID],]["user_id"], row.get("user_id")}
    return ReportedSessions(
        added=len(added),
        updated=len(updated),
        unchanged=len(rows) - len(added) - len(updated),
        user_ids=frozenset(drivers - {None}),
    )


def _stored(connection: Connection, rows: list[Row]) -> dict[Key, Row]:
    return {key: row for key, (row,) in stored_rows(connection, SESSIONS, _KEY, rows).items()} if rows else {}


def _errors(report: Report, stored: Mapping[Key, Row]) -> list[dict[str, str]]:
    """Return the errors of the report, and the errors that follow from the stored sessions."""
    errors = list(report.errors)
    bad = {error["pointer"] for error in errors}
    for session in report.sessions:
        before = stored.get((session.session_id,))
        if before is None:
            missing = [name for name in NEEDED_AT_FIRST if name not in session.values]
            errors += [
                error_at((*session.place, name), f"is required: session {session.session_id} is not known yet")
                for name in missing
                if pointer(*session.place, name) not in bad
            ]
        elif error := _wrong_order(session, before):
            errors.append(error)
    return errors


def _wrong_order(session: SessionReport, before: Row) -> dict[str, str] | None:
    """Return the error of a new end before the stored start, or of a new start after the stored end."""
    start, end = session.values.get(START), session.values.get(END)
    if session.latest_start is not None and start is None and end != before[END]:
        stored = _wall_time(before[START])
        if stored is not None and stored > session.latest_start:
            return error_at((*session.place, END), f"is {end}, before the stored start of the session, {stored}")
    if session.earliest_end is not None and end is None and start != before[START]:
        stored = _wall_time(before[END])
        if stored is not None and stored < session.earliest_end:
            return error_at((*session.place, START), f"is {start}, after the stored end of the session, {stored}")
    return None


def _wall_time(stored: Any) -> datetime | None:
    """Return a stored time if it is a naive time; None for other values, which a database older than zap may hold."""
    return stored if isinstance(stored, datetime) and stored.tzinfo is None else None
