"""The changes of ChargingSessions since a moment, by any program, read from the log that triggers write."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    String,
    delete,
    exists,
    false,
    func,
    insert,
    select,
    text,
    type_coerce,
)
from sqlmodel import SQLModel

from zap.db.engine import background_transactions, database_now, write_transaction
from zap.db.tables import utc_now
from zap.db.triggers import are_logged

CHANGES = SQLModel.metadata.tables["session_changes"]
# How long a change is kept after every server can see it.
KEPT = timedelta(hours=1)
# On PostgreSQL an older mark is not used, because changes after such a mark may soon be pruned.
_TRUSTED = KEPT / 2
# How many rows one transaction prunes. On SQLite other writers wait for this transaction.
_PORTION = 1000

# The stored text, so that two marks are compared exactly.
_CHANGED_AT = type_coerce(CHANGES.c.changed_at, String)
_DAY = func.substr(CHANGES.c.charging_start_time, 1, 10)
# The snapshot, the place of the log (its table, and the start of its server), and the clock. After a restore or a
# failover the place differs.
_POSTGRESQL_PLACE = text(
    "SELECT pg_current_snapshot()::text, to_regclass('session_changes')::oid::bigint || ' ' ||"
    " pg_postmaster_start_time()::text, clock_timestamp()"
)
# A role that only predicts may not prune.
_MAY_PRUNE = text(
    "SELECT has_table_privilege('session_changes', 'DELETE') AND has_table_privilege('session_changes', 'UPDATE')"
)


@dataclass(frozen=True)
class _SqliteMark:
    """The newest change that was read. Changes get their numbers in the order of their commits."""

    change_id: int
    changed_at: str | None


@dataclass(frozen=True)
class _PostgresqlMark:
    """The snapshot in which the changes were read. Changes do not get their numbers in the order of their commits.

    Attributes:
        place: identifies the log.
        at: when the snapshot was taken, on the clock of the server.
        running: the transactions that ran then. They are invisible in the snapshot.
        next: all transactions from this one on are invisible too.
    """

    place: str
    at: datetime
    running: tuple[int, ...]
    next: int


Mark = _SqliteMark | _PostgresqlMark


class ChangedSession(NamedTuple):
    """One change of a session: its driver and its start before or after the change, as they are stored.

    Without a `session_id` any session may have changed.
    """

    change_id: int
    session_id: int | None
    user_id: str | None
    start: str | None


def mark_as_json(mark: Mark | None) -> dict[str, Any] | None:
    """Return a mark in a form for JSON."""
    if mark is None:
        return None
    return asdict(mark) | ({"at": mark.at.isoformat()} if isinstance(mark, _PostgresqlMark) else {})


def read_mark(stored: Mapping[str, Any] | None) -> Mark | None:
    """Return the mark in the result of `mark_as_json`."""
    if stored is None:
        return None
    if "place" not in stored:
        return _SqliteMark(**stored)
    at, running = datetime.fromisoformat(stored["at"]), tuple(stored["running"])
    return _PostgresqlMark(**{**stored, "at": at, "running": running})


def changes_since(connection: Connection, mark: Mark | None) -> tuple[set[date] | None, Mark]:
    """Return the days of the old and of the new starts of changed sessions, and the mark for the next call.

    If a change commits after the mark was taken, the next call after this commit returns its days.
    Read the sessions after this call, in the same transaction or in a later one.

    Args:
        connection: on a database at head.
        mark: the mark that the previous call returned; None at the first call.

    Returns:
        The days: an empty set if nothing has changed, and None if any session may have changed: at the first call,
        after a TRUNCATE, if the mark is older than the log, and if triggers are missing. A start that is no time has
        no day.
    """
    found, known = new_mark(connection, mark)
    if mark is None or not known:
        return None, found
    if found == mark:
        return set(), found
    return _days(connection, mark), found


def new_mark(connection: Connection, mark: Mark | None) -> tuple[Mark, bool]:
    """Return a mark of the present, and whether the log has all changes since another mark.

    The log lacks changes if there is no other mark, if the other mark is older than the log, or if triggers are
    missing.
    """
    found: Mark
    if connection.dialect.name == "sqlite":
        found = _sqlite_mark(connection)
        known = isinstance(mark, _SqliteMark) and _is_kept(connection, mark)
    else:
        found = _postgresql_mark(connection)
        known = isinstance(mark, _PostgresqlMark) and mark.place == found.place and found.at - mark.at < _TRUSTED
    return found, known and are_logged(connection)


def changed_sessions(connection: Connection, mark: Mark, after: int, most: int) -> Sequence[ChangedSession]:
    """Return changes that were not committed when a mark was taken, in the order of their numbers.

    Take the mark for the next call with `new_mark` before this call. Both calls may find a change that commits later.

    Args:
        connection: on a database at head.
        mark: a mark for which the log has all changes.
        after: the number of the last change that was read; 0 at first.
        most: the most changes to return.
    """
    columns = (CHANGES.c.change_id, CHANGES.c.session_id, CHANGES.c.user_id, CHANGES.c.charging_start_time)
    found: list[ChangedSession] = []
    for since in _after(mark):
        # OFFSET keeps PostgreSQL from reading the whole log in the order of its numbers.
        all_of_them = select(*columns).where(since)
        some = (all_of_them if connection.dialect.name == "sqlite" else all_of_them.offset(0)).subquery()
        asked = select(some).where(some.c.change_id > after).order_by(some.c.change_id).limit(most)
        found += (ChangedSession(*row) for row in connection.execute(asked))
    return heapq.nsmallest(most, found)


def prune_changes(engine: Engine, portion: int = _PORTION) -> int:
    """Remove changes that every server could see for an hour, in short transactions, and return their number.

    On SQLite the newest such change is kept, because the mark of a server may name it. An empty log gets a change,
    because a mark must name a change. On PostgreSQL nothing is removed if the role has no right to do so.

    Args:
        engine: on a database at head.
        portion: the most rows of one transaction.
    """
    with engine.connect() as connection:
        empty = not connection.scalar(select(exists(select(CHANGES.c.change_id))))
        old = _prunable(connection)
        some = select(CHANGES.c.change_id).where(old).limit(portion)
        nothing = connection.scalar(some.limit(1)) is None
    if empty and engine.dialect.name == "sqlite":
        with write_transaction(engine) as connection:
            connection.execute(insert(CHANGES).values(changed_at=utc_now()))
    if nothing:
        return 0
    transaction = background_transactions(engine)
    removed = 0
    while True:
        with transaction() as connection:
            # If another process prunes some of these rows at the same time, they are left to that process.
            rows = connection.scalars(some.with_for_update(skip_locked=True)).all()
            connection.execute(delete(CHANGES).where(CHANGES.c.change_id.in_(rows)))
        removed += len(rows)
        if len(rows) < portion:
            return removed


def _days(connection: Connection, mark: Mark) -> set[date] | None:
    """Return the days of the changes that were not committed when the mark was taken; None for any day."""
    days = [
        row
        for after in _after(mark)
        for row in connection.execute(select(_DAY, CHANGES.c.session_id.is_(None)).where(after).distinct())
    ]
    if any(anything for _, anything in days):
        return None
    return {day for text_of_day, _ in days for day in _day(text_of_day)}


def _day(start: object) -> Iterator[date]:
    """Yield the day of the first ten characters of a start; nothing if they are no day."""
    try:
        if isinstance(start, str):
            yield date.fromisoformat(start)
    except ValueError:
        return


def _after(mark: Mark) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions for changes that were not committed when the mark was taken.

    They are separate queries, because PostgreSQL uses the index for each of them, but not for both together.
    """
    if isinstance(mark, _SqliteMark):
        yield CHANGES.c.change_id > mark.change_id
        return
    writer = CHANGES.c.transaction_id
    yield writer >= mark.next
    if mark.running:
        yield writer.in_(mark.running)


def _sqlite_mark(connection: Connection) -> _SqliteMark:
    newest = select(CHANGES.c.change_id, _CHANGED_AT).order_by(CHANGES.c.change_id.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    return _SqliteMark(0, None) if row is None else _SqliteMark(*row)


def _is_kept(connection: Connection, mark: _SqliteMark) -> bool:
    """Return whether the log still has the change of a mark, and therefore all later changes."""
    changed_at = select(_CHANGED_AT).where(CHANGES.c.change_id == mark.change_id)
    return mark.changed_at is not None and connection.scalar(changed_at) == mark.changed_at


def _postgresql_mark(connection: Connection) -> _PostgresqlMark:
    snapshot, place, at = connection.execute(_POSTGRESQL_PLACE).one()
    _, following, running = snapshot.split(":")
    return _PostgresqlMark(place, at, tuple(map(int, filter(None, running.split(",")))), int(following))


def _prunable(connection: Connection) -> ColumnElement[bool]:
    """Return the condition for changes to remove."""
    sqlite = connection.dialect.name == "sqlite"
    if not sqlite and not connection.scalar(_MAY_PRUNE):
        return false()
    bound = CHANGES.c.change_id if sqlite else CHANGES.c.oldest_running
    newest = _newest_aged(connection, bound)
    if newest is None:
        return false()
    # A transaction may commit long after it has written its rows. Then the rows are old, but no server has seen them.
    # So a change that is an hour old decides: it stores which transactions had ended at its time.
    below = CHANGES.c.change_id if sqlite else CHANGES.c.transaction_id
    older: ColumnElement[bool] = below < newest
    return older


def _newest_aged(connection: Connection, bound: ColumnElement[int]) -> int | None:
    """Return a column of the newest change that is an hour old, or of one that is nearly as new; None if there is none.

    Numbers and times have nearly the same order, so halving the numbers finds it. To pass over all newer changes would
    read a million rows after a large import.
    """
    number, aged = CHANGES.c.change_id, CHANGES.c.changed_at < database_now(connection) - KEPT
    # Two queries: SQLite would read the whole table for both ends in one query.
    low, last = (connection.scalar(select(end)) for end in (func.min(number), func.max(number)))
    if low is None or last is None:
        return None
    found, high = None, last + 1
    while low < high:
        middle = (low + high) // 2
        change, value, is_aged = connection.execute(
            select(number, bound, aged).where(number >= middle).order_by(number).limit(1)
        ).one()
        if is_aged:
            found, low = value, change + 1
        else:
            high = middle
    return found
