"""The app's reports of sessions, which are added to the history in one transaction."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from zap.db.engine import write_transaction
from zap.db.history.drivers import facts_now, named_drivers, vehicles_not_stored
from zap.db.history.history_rows import (
    ROW_ID,
    SESSIONS,
    Row,
    compare_rows,
    continue_ids,
    stored_of,
    take_turn,
    write_sessions,
)
from zap.db.history.session_ids import is_another, number_texts, numbers_of, whose_session
from zap.db.history.session_predictions import log_as_changed, name_answers, wrong_answers
from zap.db.history.spellings import stored_spellings
from zap.db.monitoring.data_quality_days import SESSIONS as REPORTED
from zap.db.monitoring.data_quality_days import apply, day_of
from zap.db.tables import utc_now
from zap.errors import InvalidRequest, SessionTaken
from zap.formats.json_body import error_at, pointer
from zap.formats.session_report import (
    END,
    FIELDS,
    NEEDED_AT_FIRST,
    SESSION_ID,
    START,
    TOO_LONG,
    USER_ID,
    VEHICLE_ID,
    Report,
    SessionReport,
)
from zap.formats.values import LONGEST_SESSION
from zap.ml.features import FACTS
from zap.monitoring.data_quality import session_counts

_KEY = (SESSION_ID,)
_TYPE = "charger_type"
_TIMESTAMP = "timestamp"
# For a session that started longer ago, the current facts about its driver and vehicle may have changed since.
_NEAR = timedelta(days=2)


@dataclass(frozen=True)
class ReportedSessions:
    """The result of a report.

    Attributes:
        added, updated, unchanged: numbers of sessions.
        user_ids: the drivers whose history has changed.
        spellings: for each field, the texts that are stored in another spelling, each with the stored spelling.
        words: for each field, the texts that counted as null.
        unknown_vehicles: the reported vehicles that are not in Vehicles.
    """

    added: int
    updated: int
    unchanged: int
    user_ids: frozenset[str]
    spellings: dict[str, dict[str, str]] = field(default_factory=dict)
    words: dict[str, list[str]] = field(default_factory=dict)
    unknown_vehicles: list[int] = field(default_factory=list)


def report_sessions(engine: Engine, report: Report, now: datetime) -> ReportedSessions:
    """Add new sessions, and update known ones.

    A missing value erases nothing, and a report that is sent twice changes nothing the second time. The current facts
    about the driver and the vehicle are stored with a session of the last days, if it is new or its driver or vehicle
    has changed: training must not see later facts. They are not stored with an older session, because they may be later
    facts already. A new session also gets the time of this report, from which a training measures how late sessions
    are stored.

    Args:
        engine: on a database at head.
        report: the parsed report.
        now: the drivers' wall time.

    Raises:
        InvalidRequest: the report has errors, a new session lacks a required field, or a known session would end before
            it starts. All errors are listed, and nothing was written.
        SessionTaken: a session has the id of a stored session with another user and another start. All of them are
            listed, and nothing was written.
        SQLAlchemyError: another writer took too long. Nothing was written.
    """
    nothing = dict.fromkeys((*FIELDS, *FACTS))
    rows = [nothing | session.values for session in report.sessions]
    if report.errors:
        # Nothing will be written, so no write transaction is needed.
        with engine.connect() as connection:
            _name_drivers(connection, rows)
            _check(connection, report, rows, _stored(connection, report, rows))
    with write_transaction(engine) as connection:
        take_turn(connection)
        _name_drivers(connection, rows)
        _spell_types(connection, rows)
        before = _stored(connection, report, rows)
        _check(connection, report, rows, before)
        _number_texts(connection, report, rows)
        _take_facts(connection, rows, before, now)
        for row, stored in zip(rows, before, strict=True):
            if stored is None:
                row[_TIMESTAMP] = now
        added, changes = compare_rows(rows, before)
        write_sessions(connection, added, changes)
        if added and connection.dialect.name == "postgresql":
            continue_ids(connection, SESSIONS)
        after = [_after(row, stored) for row, stored in zip(rows, before, strict=True)]
        unknown = vehicles_not_stored(connection, [row.get(VEHICLE_ID) for row in after])
        apply(connection, REPORTED, {day_of(utc_now()): session_counts(zip(before, after, strict=True), unknown)})
        changed = {row[ROW_ID] for rows_to_change in changes.values() for row in rows_to_change}
        changed |= _name_answers(connection, report, rows, before, changed)
    reported = {row[VEHICLE_ID] for row in rows}
    unknown_vehicles = [vehicle for vehicle in unknown if vehicle in reported]
    return replace(_outcome(report, rows, before, changed), unknown_vehicles=unknown_vehicles)


def _name_drivers(connection: Connection, rows: list[Row]) -> None:
    """Replace the driver of each row, as the report names it, by the driver's id."""
    names = named_drivers(connection, {row[USER_ID] for row in rows if row[USER_ID] is not None})
    for row in rows:
        row[USER_ID] = names.get(row[USER_ID], row[USER_ID])


def _spell_types(connection: Connection, rows: list[Row]) -> None:
    """Replace each charger type by its stored spelling, if the history has only other spellings of it."""
    counts = Counter(row[_TYPE] for row in rows if row[_TYPE] is not None)
    changed = stored_spellings(connection, _TYPE, counts) if counts else {}
    for row in rows:
        row[_TYPE] = changed.get(row[_TYPE], row[_TYPE])


def _stored(connection: Connection, report: Report, rows: list[Row]) -> list[Row | None]:
    """Return the stored session of each reported session, or None. Set the number of each session in its row, if known.

    A text without a number, which no session has, leaves the number out.
    """
    ids = [session.session_id for session in report.sessions]
    numbers = numbers_of(connection, [one for one in ids if isinstance(one, str)])
    for row, one in zip(rows, ids, strict=True):
        row[SESSION_ID] = numbers.get(one) if isinstance(one, str) else one
    numbered = [row for row in rows if row[SESSION_ID] is not None]
    found = iter(stored_of(connection, SESSIONS, _KEY, numbered) if numbered else [])
    return [None if row[SESSION_ID] is None else next(found) for row in rows]


def _number_texts(connection: Connection, report: Report, rows: list[Row]) -> None:
    """Give new texts their numbers."""
    new = {
        session.session_id: row for session, row in zip(report.sessions, rows, strict=True) if row[SESSION_ID] is None
    }
    for text, number in number_texts(connection, [str(text) for text in new]).items():
        new[text][SESSION_ID] = number


def _name_answers(
    connection: Connection, report: Report, rows: list[Row], before: list[Row | None], changed: set[int]
) -> set[int]:
    """Store the answers that the report names. Return the known sessions whose answer has changed.

    Args:
        connection: the transaction of the report.
        report: the report.
        rows: the values of each session, with its number.
        before: the stored session of each reported session.
        changed: the numbers of the sessions whose values have changed.
    """
    known = {row[SESSION_ID] for row, stored in zip(rows, before, strict=True) if stored is not None}
    named = zip(report.sessions, rows, strict=True)
    names = {row[SESSION_ID]: session.prediction_id for session, row in named if session.names_answer}
    renamed = name_answers(connection, names) & known
    log_as_changed(connection, sorted(renamed - changed))
    return renamed


def _check(connection: Connection, report: Report, rows: list[Row], before: list[Row | None]) -> None:
    """Refuse a report with errors, or with the id of another session.

    Raises:
        InvalidRequest: lists all errors.
        SessionTaken: lists all sessions with the id of another session. There are no other errors.
    """
    taken = [
        error_at((*session.place, SESSION_ID), _of_another(session, stored))
        for session, row, stored in zip(report.sessions, rows, before, strict=True)
        if stored is not None
        and None not in {row[USER_ID], row[START]}
        and is_another(row[USER_ID], row[START], stored[USER_ID], stored[START])
    ]
    errors = _errors(report, before, {error["pointer"] for error in taken})
    errors += wrong_answers(connection, report.sessions, rows, before)
    if errors:
        raise InvalidRequest(errors + taken)
    if taken:
        raise SessionTaken(taken)


def _of_another(session: SessionReport, stored: Row) -> str:
    whose = whose_session(stored["user_id"], stored[START])
    return (
        f"is {session.session_id}, which is stored with {whose}. If this is a different session, send its own id. To"
        " correct the stored session, send its user and its start in two reports"
    )


def _take_facts(connection: Connection, rows: list[Row], stored: list[Row | None], now: datetime) -> None:
    """Add the current facts about driver and vehicle to the rows with which they are stored."""
    taking, named = [], []
    for row, before in zip(rows, stored, strict=True):
        said = {name: value for name, value in row.items() if value is not None}
        whole = _after(row, before)
        start = _wall_time(whole.get(START))
        of_others = before is None or any(
            name in said and said[name] != before[name] for name in ("user_id", "vehicle_id")
        )
        if of_others and start is not None and abs(now - start) <= _NEAR:
            taking.append(row)
            named.append(whole)
    for row, facts in zip(taking, facts_now(connection, named), strict=True):
        row.update(facts)


def _after(row: Row, before: Row | None) -> Row:
    """Return the values of a session after its report."""
    return {**(before or {}), **{name: value for name, value in row.items() if value is not None}}


def _outcome(report: Report, rows: list[Row], before: list[Row | None], changed: set[int]) -> ReportedSessions:
    """Return the result. `changed` has the numbers of the known sessions that the report has changed."""
    drivers = set()
    for row, stored in zip(rows, before, strict=True):
        if stored is None or row[SESSION_ID] in changed:
            drivers |= {row["user_id"], stored["user_id"] if stored else None}
    spellings: dict[str, dict[str, str]] = {}
    words: dict[str, dict[str, None]] = {}
    for session, row in zip(report.sessions, rows, strict=True):
        for name, text in session.texts.items():
            if row[name] != text:
                spellings.setdefault(name, {})[text] = row[name]
        for name, text in session.words.items():
            words.setdefault(name, {})[text] = None
    added = before.count(None)
    return ReportedSessions(
        added=added,
        updated=len(changed),
        unchanged=len(rows) - added - len(changed),
        user_ids=frozenset(drivers - {None}),
        spellings=spellings,
        words={name: [*texts] for name, texts in words.items()},
    )


def _errors(report: Report, before: list[Row | None], taken: set[str]) -> list[dict[str, str]]:
    """Return the errors of the report, and the errors that follow from the stored sessions.

    Args:
        report: the report.
        before: the stored session of each reported session.
        taken: the pointers to ids of other sessions. Their times are not compared with the times of this session.
    """
    errors = list(report.errors)
    bad = {error["pointer"] for error in errors}
    for session, stored in zip(report.sessions, before, strict=True):
        if stored is None:
            missing = [name for name in NEEDED_AT_FIRST if name not in session.values]
            errors += [
                error_at((*session.place, name), _required(session, name))
                for name in missing
                if pointer(*session.place, name) not in bad
            ]
        elif pointer(*session.place, SESSION_ID) not in taken and (error := _wrong_order(session, stored)):
            errors.append(error)
    return errors


def _required(session: SessionReport, name: str) -> str:
    """Return the error for a missing field of a new session."""
    required = f"is required: session {session.session_id} is not known yet"
    return f"is {session.words[name]!r}, which counts as null; it {required}" if name in session.words else required


def _wrong_order(session: SessionReport, before: Row) -> dict[str, str] | None:
    """Return the error of a new end or a new start that does not fit the stored start or end."""
    start, end = session.values.get(START), session.values.get(END)
    if session.latest_start is not None and start is None and end != before[END]:
        stored = _wall_time(before[START])
        if stored is not None and stored > session.latest_start:
            return error_at((*session.place, END), f"is {end}, before the stored start of the session, {stored}")
        if stored is not None and end is not None and end - stored > LONGEST_SESSION:
            return error_at((*session.place, END), f"is {end}, {TOO_LONG}, {stored}")
    if session.earliest_end is not None and end is None and start != before[START]:
        stored = _wall_time(before[END])
        if stored is not None and stored < session.earliest_end:
            return error_at((*session.place, START), f"is {start}, after the stored end of the session, {stored}")
        if stored is not None and start is not None and stored - start > LONGEST_SESSION:
            return error_at((*session.place, START), f"is {start}, more than a year before the stored end, {stored}")
    return None


def _wall_time(stored: Any) -> datetime | None:
    """Return a stored time if it is a naive time; None for other values, which a database older than zap may hold."""
    return stored if isinstance(stored, datetime) and stored.tzinfo is None else None
