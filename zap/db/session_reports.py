"""The app's reports of sessions: brought into the history in one transaction, whole or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine

from zap.db.engine import write_transaction
from zap.db.history_rows import (
    ROW_ID,
    SESSIONS,
    Key,
    Row,
    compare_rows,
    continue_ids,
    stored_rows,
    take_turn,
    write_rows,
)
from zap.errors import InvalidRequest
from zap.ml.json_body import error_at, pointer
from zap.ml.session_report import END, FIELDS, NEEDED_AT_FIRST, SESSION_ID, START, Report, SessionReport

_KEY = (SESSION_ID,)


@dataclass(frozen=True)
class ReportedSessions:
    """What became of a report.

    Attributes:
        added, updated, unchanged: how many sessions.
        user_ids: the drivers whose past is another now.
    """

    added: int
    updated: int
    unchanged: int
    user_ids: frozenset[str]


def report_sessions(engine: Engine, report: Report) -> ReportedSessions:
    """Add the sessions that are not known yet, and give the others what is known of them now.

    What a report does not know erases nothing, and reporting the same again changes nothing.

    Raises:
        InvalidRequest: all errors of the report, and those that only the database can tell: a session that is not
            known lacks what is needed of it, or a stored one would end before it starts. Nothing was written.
        SQLAlchemyError: whoever else writes takes too long. Nothing was written.
    """
    rows = [dict.fromkeys(FIELDS) | session.values | {SESSION_ID: session.session_id} for session in report.sessions]
    if report.errors:
        # Nothing will be written, so nobody has to wait.
        with engine.connect() as connection:
            stored = _stored(connection, rows)
        raise InvalidRequest(_errors(report, stored))
    with write_transaction(engine) as connection:
        take_turn(connection)
        stored = _stored(connection, rows)
        if errors := _errors(report, stored):
            raise InvalidRequest(errors)
        added, changes = compare_rows(rows, _KEY, stored)
        write_rows(connection, SESSIONS, added, changes)
        if added and connection.dialect.name == "postgresql":
            continue_ids(connection, SESSIONS)
    return _outcome(rows, added, [row for rows_to_change in changes.values() for row in rows_to_change], stored)


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
    return stored_rows(connection, SESSIONS, _KEY, rows) if rows else {}


def _errors(report: Report, stored: Mapping[Key, Row]) -> list[dict[str, str]]:
    """The errors of the report and those that follow from what is stored."""
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
    """Where a new end lies before the stored start, or a new start behind the stored end."""
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
    """A stored time that can be compared; a database from before zap may hold others."""
    return stored if isinstance(stored, datetime) and stored.tzinfo is None else None
