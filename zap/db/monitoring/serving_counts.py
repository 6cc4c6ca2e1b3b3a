"""The counts of serving: what each process answered in a minute, merged into longer spans, and read.

The rows of processes are merged 70 minutes after their minute, when no process writes them again. So the table has a
bound: the rows of 80 minutes for each process, about 150 spans of ten minutes, and 35 days of hours.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Table, delete, func, insert, select, text
from sqlalchemy.dialects import postgresql, sqlite

from zap.db.engine import database_now, write_transaction
from zap.db.monitoring_tables import ServingCount
from zap.monitoring.answer_counts import Counts, total

# A minute that is older than this is not written any more.
WRITTEN_WITHIN = timedelta(hours=1)
# Spans of this number of minutes become longer spans at this age. The minutes have to be older than WRITTEN_WITHIN,
# because a minute that is written again must find its row.
MERGES = ((1, 10, timedelta(minutes=70)), (10, 60, timedelta(hours=25)))
KEPT = timedelta(days=35)
# The minutes that a row may have.
LENGTHS = (1, *(into for _, into, _ in MERGES))
# The most spans that one call merges at each level.
_MOST_MERGES = 30
_COUNTS: Table = ServingCount.__table__  # type: ignore[attr-defined]
_ALL_PROCESSES = {"process": "", "number": 0}
# An arbitrary number, which every zap on a PostgreSQL database must use.
_MERGE_LOCK_KEY = 0x7A61_7005
_MAY = text("SELECT has_table_privilege('serving_counts', 'INSERT'), has_table_privilege('serving_counts', 'DELETE')")


class CountedMinute(NamedTuple):
    """What one process has answered in one minute.

    Attributes:
        number: of the minute in this process, from 1.
        begins_at: when it began (UTC).
        counts: by subject.
    """

    number: int
    begins_at: datetime
    counts: Mapping[str, Counts]


class ServedSpan(NamedTuple):
    """What one or all processes have answered in some minutes."""

    begins_at: datetime
    minutes: int
    subject: str
    counts: Counts


class Rights(NamedTuple):
    """What the role of an engine may do with the counts."""

    writes: bool
    merges: bool


def rights_of(engine: Engine) -> Rights:
    """Return whether the role of an engine may write and merge. A role that only predicts may do neither."""
    if engine.dialect.name == "sqlite":
        return Rights(writes=True, merges=True)
    with engine.connect() as connection:
        writes, deletes = connection.execute(_MAY).one()
    return Rights(writes, merges=writes and deletes)


def clock_of(engine: Engine) -> datetime:
    """Return the present time (UTC) on the clock of the database."""
    with engine.connect() as connection:
        return database_now(connection)


def write_minutes(engine: Engine, process: str, minutes: Iterable[CountedMinute]) -> None:
    """Write minutes of one process in one transaction. A minute that has a row already adds nothing.

    Args:
        engine: on the database.
        process: the name of the process.
        minutes: the minutes; a minute without answers needs no row.
    """
    rows = [
        _row(1, minute.begins_at, subject, counts) | {"process": process, "number": minute.number}
        for minute in minutes
        for subject, counts in sorted(minute.counts.items())
    ]
    if not rows:
        return
    dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
    with write_transaction(engine) as connection:
        connection.execute(dialect.insert(_COUNTS).on_conflict_do_nothing(), rows)


def merge_minutes(engine: Engine, now: datetime) -> None:
    """Merge old spans into longer ones, and remove the oldest, in short transactions. One process at a time does so.

    Args:
        engine: on the database, whose role may merge.
        now: the present time (UTC).
    """
    for minutes, into, age in MERGES:
        until = span_begin(now - age, into)
        old = (_COUNTS.c.minutes == minutes) & (_COUNTS.c.begins_at < until)
        for _ in range(_MOST_MERGES):
            with engine.connect() as connection:
                first = connection.scalar(select(func.min(_COUNTS.c.begins_at)).where(old))
            if first is None:
                break
            with write_transaction(engine) as connection:
                if not _is_alone(connection):
                    return
                _merge(connection, span_begin(first, into), minutes, into)
                oldest = (_COUNTS.c.minutes == into) & (_COUNTS.c.begins_at < now - KEPT)
                connection.execute(delete(_COUNTS).where(oldest))


def read_spans(engine: Engine, since: datetime) -> list[ServedSpan]:
    """Return the spans that began at a moment or later, in order of their length and begin."""
    statement = select(_COUNTS).where(_COUNTS.c.minutes.in_(LENGTHS), _COUNTS.c.begins_at >= since)
    with engine.connect() as connection:
        rows = connection.execute(statement.order_by(*_COUNTS.primary_key.columns)).mappings().all()
    return [ServedSpan(row["begins_at"], row["minutes"], row["subject"], _counts(row)) for row in rows]


def first_span(engine: Engine) -> datetime | None:
    """Return when the first span began that is stored; None without spans."""
    # For each length by itself, because the index begins with the length.
    firsts = [
        select(func.min(_COUNTS.c.begins_at)).where(_COUNTS.c.minutes == minutes).scalar_subquery()
        for minutes in LENGTHS
    ]
    with engine.connect() as connection:
        return min((one for one in connection.execute(select(*firsts)).one() if one is not None), default=None)


def span_begin(moment: datetime, minutes: int) -> datetime:
    """Return the begin of the span of some minutes that has a moment in it. Spans begin at whole hours (UTC)."""
    seconds = 60 * minutes
    return datetime.fromtimestamp(moment.timestamp() // seconds * seconds, UTC)


def _is_alone(connection: Connection) -> bool:
    """Return whether no other process merges until this transaction ends."""
    # SQLite has only one writer at a time.
    if connection.dialect.name == "sqlite":
        return True
    return bool(connection.scalar(select(func.pg_try_advisory_xact_lock(_MERGE_LOCK_KEY))))


def _merge(connection: Connection, begin: datetime, minutes: int, into: int) -> None:
    """Replace the rows of a span, and the row that an earlier merge has made, by their sums."""
    within = _COUNTS.c.begins_at.between(begin, begin + timedelta(minutes=into - 1))
    rows = delete(_COUNTS).where(_COUNTS.c.minutes.in_((minutes, into)), within).returning(_COUNTS)
    by_subject: dict[str, list[Counts]] = defaultdict(list)
    for row in connection.execute(rows).mappings():
        by_subject[row["subject"]].append(_counts(row))
    sums: Sequence[dict[str, Any]] = [
        _row(into, begin, subject, total(counts)) | _ALL_PROCESSES for subject, counts in sorted(by_subject.items())
    ]
    if sums:
        connection.execute(insert(_COUNTS), sums)


def _row(minutes: int, begins_at: datetime, subject: str, counts: Counts) -> dict[str, Any]:
    return {
        "minutes": minutes,
        "begins_at": begins_at,
        "subject": subject,
        "answered": counts.answered,
        "refused": counts.refused,
        "failed": counts.failed,
        "nanoseconds": counts.nanoseconds,
        "buckets": {str(place): n for place, n in sorted(counts.buckets.items())},
    }


def _counts(row: Mapping[Any, Any]) -> Counts:
    buckets = {int(place): n for place, n in row["buckets"].items()}
    return Counts(row["refused"], row["failed"], row["nanoseconds"], buckets)
