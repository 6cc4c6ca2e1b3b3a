"""What the looks for alarms read: how far the follower has read, counts of days, and the newest training."""

import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Engine, select
from sqlmodel import col

from zap.db.engine import database_now
from zap.db.log.prediction_log import check_writable
from zap.db.monitoring.data_quality_days import REFUSED, REQUESTS
from zap.db.monitoring.outcome_arrivals import arrival_hours
from zap.db.monitoring_tables import Alarm, DataQualityDay, Follower, QualityDay
from zap.db.tables import Prediction, TrainingRun
from zap.formats.refusal_reasons import REFUSED as REFUSED_ONES
from zap.monitoring.data_quality import ANSWERED, WHOLE
from zap.monitoring.usual_counts import DayCount
from zap.monitoring.usual_gaps import REMEMBERED, UsualGap, usual_gap

# The days that are read: the usual days, and the days of a fault.
_DAYS = timedelta(days=90)
# The statuses of answers that have a session, or may still get one.
_MATCHED, _WAITING = "matched", "waiting"


class EndedTraining(NamedTuple):
    """The newest training that finished or failed."""

    run_id: int
    status: str
    ended_at: datetime | None
    reason: str


def seconds_behind(engine: Engine) -> float | None:
    """Return for how long the first answer after the follower's place has been waiting; None if nothing waits.

    Without a follower's place there is nothing to compare with, so the result is None too.
    """
    place = select(col(Follower.prediction_id)).limit(1).scalar_subquery()
    first = select(col(Prediction.prediction_timestamp)).where(col(Prediction.prediction_id) > place)
    with engine.connect() as connection:
        logged_at = connection.scalar(first.order_by(col(Prediction.prediction_id)).limit(1))
        if logged_at is None:
            return None
        return (database_now(connection) - _in_utc(logged_at)).total_seconds()


def commit_seconds(engine: Engine) -> float:
    """Return how long a commit of the log takes, by a request that leaves no rows.

    Raises:
        SQLAlchemyError, DatabaseReplaced: the log cannot be written to.
    """
    begun = time.perf_counter()
    check_writable(engine)
    return time.perf_counter() - begun


def newest_training(engine: Engine) -> EndedTraining | None:
    """Return the newest training that finished or failed, and was not cancelled; None if there is none."""
    columns = (getattr(TrainingRun, name) for name in ("run_id", "status", "finished_at", "report"))
    ended = select(*map(col, columns))
    ended = ended.where((col(TrainingRun.kind) == "train") & col(TrainingRun.status).in_(["finished", "failed"]))
    with engine.connect() as connection:
        row = connection.execute(ended.order_by(col(TrainingRun.run_id).desc()).limit(1)).one_or_none()
    if row is None:
        return None
    report: Mapping[str, Any] = row.report or {}
    ended_at = row.finished_at and _in_utc(row.finished_at)
    return EndedTraining(row.run_id, row.status, ended_at, str(report.get("detail", "")))


def outcome_days(engine: Engine, matured_before: datetime) -> list[DayCount]:
    """Return for each day the live answers with a driver, and how many of them have a session.

    A day after `matured_before` may still get sessions, so it counts only if it has some.

    Args:
        engine: on the database.
        matured_before: the first moment (wall time) about which the outcomes of an answer may still come.
    """
    recent = (col(QualityDay.kind) == "live") & (col(QualityDay.day) >= matured_before - _DAYS)
    answers: dict[date, dict[str, int]] = {}
    with engine.connect() as connection:
        for day, found in connection.execute(select(col(QualityDay.day), col(QualityDay.answers)).where(recent)):
            sums = answers.setdefault(day.date(), {_MATCHED: 0, _WAITING: 0})
            for status in sums:
                sums[status] += int(found.get(status, 0))
    days = [DayCount(day, sum(sums.values()), sums[_MATCHED]) for day, sums in sorted(answers.items())]
    return [one for one in days if one.times or datetime.combine(one.day, datetime.max.time()) < matured_before]


def outcome_gaps(engine: Engine, now: datetime) -> tuple[datetime | None, UsualGap | None]:
    """Return the last hour (UTC) in which outcomes arrived, and the usual gap; None where it is not known.

    Args:
        engine: on the database.
        now: the present moment (UTC).
    """
    since = now - REMEMBERED
    raised = select(col(Alarm.since)).where((col(Alarm.kind) == "no_outcomes") & (col(Alarm.since) >= since))
    with engine.connect() as connection:
        hours = [hour.replace(tzinfo=UTC) for hour in arrival_hours(connection, since)]
        alarms = [_in_utc(moment) for moment in connection.scalars(raised)]
    return (hours[-1] if hours else None), usual_gap(hours, alarms, now)


def refused_days(engine: Engine, now: datetime) -> list[DayCount]:
    """Return for each day (UTC) the requests, and how many of them were refused. The last day is not over.

    Args:
        engine: on the database.
        now: the present moment (UTC).
    """
    days, today = col(DataQualityDay.day), now.astimezone(UTC).replace(tzinfo=None)
    subject, found_in = col(DataQualityDay.subject), col(DataQualityDay.found)
    every = ((subject == REQUESTS) & (found_in == ANSWERED)) | ((subject == REFUSED) & (found_in == REFUSED_ONES))
    counted = select(days, subject, col(DataQualityDay.count)).where((col(DataQualityDay.field) == WHOLE) & every)
    found: dict[date, dict[str, int]] = {}
    with engine.connect() as connection:
        for day, what, count in connection.execute(counted.where((days >= today - _DAYS) & (days <= today))):
            found.setdefault(day.date(), {})[what] = int(count)
    return [
        DayCount(day, some.get(REQUESTS, 0) + some.get(REFUSED, 0), some.get(REFUSED, 0))
        for day, some in sorted(found.items())
    ]


def _in_utc(moment: datetime) -> datetime:
    """Return a moment with its zone. A stamp that is older than zap has none."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
