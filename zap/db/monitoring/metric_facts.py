"""What metrics say about the content of the database: trainings, trials, outcomes, alarms, and the follower."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, func, select
from sqlmodel import col

from zap.db.engine import file_of
from zap.db.monitoring_tables import Alarm, Follower, QualityDay, Trial
from zap.db.tables import Prediction, TrainingRun

# The statuses of answers about which `quality_days` counts.
STATUSES = ("matched", "superseded", "waiting", "no_driver")
_OUTCOME_DAYS = timedelta(days=30)


def run_counts(connection: Connection) -> dict[str, int]:
    """Return the number of training runs by their status."""
    return _counts(connection, col(TrainingRun.status))


def trial_counts(connection: Connection) -> dict[str, int]:
    """Return the number of trials by their status, which is their verdict if they have ended with one."""
    return _counts(connection, col(Trial.status))


def last_training(connection: Connection) -> datetime | None:
    """Return when the newest training finished; None if none has."""
    finished = (col(TrainingRun.kind) == "train") & (col(TrainingRun.status) == "finished")
    newest = select(col(TrainingRun.finished_at)).where(finished).order_by(col(TrainingRun.run_id).desc())
    moment: datetime | None = connection.scalar(newest.limit(1))
    return moment


def firing_kinds(connection: Connection) -> set[str]:
    """Return the kinds of the alarms that stand."""
    return set(connection.scalars(select(col(Alarm.kind)).where(col(Alarm.until).is_(None)).distinct()))


def outcome_counts(connection: Connection, now: datetime) -> dict[str, int]:
    """Return the number of live answers of the last days by what is known about their session.

    Args:
        connection: on the database.
        now: the present moment, as the drivers' wall time.
    """
    recent = (col(QualityDay.kind) == "live") & (col(QualityDay.day) >= now - _OUTCOME_DAYS)
    sums = dict.fromkeys(STATUSES, 0)
    for answers in connection.scalars(select(col(QualityDay.answers)).where(recent)):
        if isinstance(answers, dict):
            for status in STATUSES:
                count = answers.get(status, 0)
                sums[status] += count if isinstance(count, int) else 0
    return sums


def rows_behind(connection: Connection) -> int | None:
    """Return how many rows of predictions are after the place of the follower; None if nobody has followed yet."""
    place = connection.scalar(select(col(Follower.prediction_id)).limit(1))
    if place is None:
        return None
    last = connection.scalar(select(func.max(col(Prediction.prediction_id)))) or 0
    return max(0, int(last) - max(0, int(place)))


def database_sizes(engine: Engine, connection: Connection) -> dict[str, float]:
    """Return the bytes of the database by their part: `database`; on SQLite also `wal`, and `free` inside the file."""
    if engine.dialect.name == "sqlite":
        pages, free, size = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("page_count", "freelist_count", "page_size")
        )
        file = file_of(engine)
        return {"database": pages * size, "wal": file.wal_bytes if file else 0, "free": free * size}
    return {"database": float(connection.scalar(select(func.pg_database_size(func.current_database()))) or 0)}


def postgresql_figures(connection: Connection) -> dict[str, Any]:
    """Return what PostgreSQL counts about this database, and its replicas as far as the role may see them."""
    counted = connection.exec_driver_sql(
        "SELECT numbackends, xact_commit, xact_rollback, blks_hit, blks_read, deadlocks"
        " FROM pg_stat_database WHERE datname = current_database()"
    )
    replicas = connection.exec_driver_sql(
        "SELECT count(*) AS replicas, max(extract(epoch FROM replay_lag)) AS lag FROM pg_stat_replication"
    )
    return {**counted.mappings().one(), **replicas.mappings().one()}


def _counts(connection: Connection, status: Any) -> dict[str, int]:
    rows = connection.execute(select(status, func.count()).group_by(status))
    return {str(name): int(n) for name, n in rows}
