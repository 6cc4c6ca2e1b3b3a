"""When outcomes arrived, and how late: counted with the days of data quality, by the hour (UTC) and by the delay.

The counts do not follow from the log and the history, so `zap follow --from-start` keeps them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time, timedelta

from sqlalchemy import ColumnElement, Connection, select
from sqlmodel import col

from zap.db.engine import database_now
from zap.db.monitoring.data_quality_days import OUTCOMES, apply, day_of
from zap.db.monitoring_tables import DataQualityDay
from zap.monitoring.outcome_arrivals import arrived, count_delays
from zap.monitoring.outcome_change import OutcomeChange

_HOURS = " h"
_OUTCOMES = col(DataQualityDay.subject) == OUTCOMES


def count_arrivals(
    connection: Connection, changes: Sequence[OutcomeChange], wall_time: Callable[[datetime], datetime]
) -> None:
    """Count the outcomes that have arrived, in the transaction that writes them.

    Args:
        connection: a transaction that writes, of the only follower.
        changes: changes of outcomes.
        wall_time: converts a moment to the drivers' wall time.
    """
    if not (starts := arrived(changes)):
        return
    now = database_now(connection)
    found = count_delays(starts, wall_time(now))
    at = f"{now.astimezone(UTC).hour:02}"
    apply(connection, OUTCOMES, {day_of(now): Counter({(at, f"{hours}{_HOURS}"): n for hours, n in found.items()})})


def arrival_hours(connection: Connection, since: datetime) -> list[datetime]:
    """Return the hours (UTC, without a zone) in which outcomes arrived, in order.

    Args:
        connection: on the database.
        since: leave out the days before this moment (UTC).
    """
    asked = select(col(DataQualityDay.day), col(DataQualityDay.field)).where(_OUTCOMES & _from(since)).distinct()
    return sorted(day + timedelta(hours=int(hour)) for day, hour in connection.execute(asked))


def arrived_delays(connection: Connection, since: datetime) -> dict[datetime, Counter[int]]:
    """Return for each day (UTC) how many outcomes arrived, by the class of their delay in hours.

    Args:
        connection: on the database.
        since: leave out the days before this moment (UTC).
    """
    days: dict[datetime, Counter[int]] = {}
    asked = select(col(DataQualityDay.day), col(DataQualityDay.found), col(DataQualityDay.count))
    for day, delay, count in connection.execute(asked.where(_OUTCOMES & _from(since))):
        days.setdefault(day, Counter())[int(delay.removesuffix(_HOURS))] += count
    return days


def _from(since: datetime) -> ColumnElement[bool]:
    """Return the condition for the day of a moment and later days."""
    return col(DataQualityDay.day) >= datetime.combine(day_of(since), time())
