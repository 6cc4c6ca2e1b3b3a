"""The counts of data quality: added to the days, read, and removed before the follower counts again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from zap.db.monitoring_tables import DataQualityDay
from zap.monitoring.data_quality import Found

# What is counted: answered requests, reported sessions, refused requests and rows, refused reports.
REQUESTS, SESSIONS, REFUSED, REFUSED_REPORTS = "requests", "sessions", "refused", "refused_reports"
# And the arrivals of outcomes, see `zap.db.monitoring.outcome_arrivals`.
OUTCOMES = "outcomes"
_DAYS: Table = DataQualityDay.__table__  # type: ignore[attr-defined]
_KEY = ("day", "subject", "field", "found")


@dataclass(frozen=True)
class DayCount:
    """How often something was found in one field on one day."""

    day: date
    subject: str
    field: str
    found: str
    count: int


def day_of(moment: datetime) -> date:
    """Return the day (UTC) on which something that happened at a moment is counted."""
    return moment.astimezone(UTC).date()


def apply(connection: Connection, subject: str, days: Mapping[date, Mapping[Found, int]]) -> None:
    """Add counts to the stored counts, in the transaction of the caller.

    All processes write the rows in one order, so that no two of them wait for each other.

    Args:
        connection: in a writing transaction.
        subject: what is counted, such as REQUESTS.
        days: for each day (UTC), how often something was found in a field.
    """
    rows: list[dict[str, Any]] = [
        {"day": datetime.combine(day, time()), "subject": subject, "field": field, "found": found, "count": count}
        for day, counts in sorted(days.items())
        for (field, found), count in sorted(counts.items())
        if count
    ]
    if not rows:
        return
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    added = insert(_DAYS)
    connection.execute(
        added.on_conflict_do_update(index_elements=_KEY, set_={"count": _DAYS.c["count"] + added.excluded["count"]}),
        rows,
    )


def remove_days(connection: Connection, subject: str, since: datetime | None = None) -> None:
    """Remove the counts of a subject, in the transaction of the caller, before they are counted again.

    Args:
        connection: a transaction that writes.
        subject: what is counted.
        since: the first day is the day (UTC) of this moment; None for all days.
    """
    removed = delete(_DAYS).where(_DAYS.c.subject == subject)
    if since is not None:
        removed = removed.where(_DAYS.c.day >= datetime.combine(day_of(since), time()))
    connection.execute(removed)


def read_days(engine: Engine, first: date, last: date) -> list[DayCount]:
    """Return the counts of requests and reports from one day to another, by day, subject, field and what was found."""
    in_range = _DAYS.c.day.between(datetime.combine(first, time()), datetime.combine(last, time()))
    key = [_DAYS.c[name] for name in _KEY]
    statement = select(*key, _DAYS.c["count"]).where(in_range & (_DAYS.c.subject != OUTCOMES)).order_by(*key)
    with engine.connect() as connection:
        return [DayCount(day.date(), *rest) for day, *rest in connection.execute(statement)]
