"""The model versions that may have learned from a driver, and the training that may learn from the driver now."""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import Connection, exists, select
from sqlmodel import col

from zap.db.audit_tables import AuditRow
from zap.db.erasure_tables import Erasure
from zap.db.tables import ModelVersion, TrainingRun

# What the audit says about an erasure that is done again in an older database.
ERASED_AGAIN = "driver.erase-again"
# How much the clocks of machines may differ.
_CLOCKS = timedelta(minutes=2)


def versions_that_learned(connection: Connection, starts: Collection[datetime]) -> list[int]:
    """Return the versions that may have learned from sessions with these starts, oldest first.

    A version has learned from all usable sessions until the newest one that it was trained on. It is not stored which
    sessions the history lacked then, so a session that was added later with an earlier start counts too.

    Args:
        connection: on a database at head.
        starts: when the sessions of a driver started, as wall time.
    """
    if not starts:
        return []
    first = min(starts)
    columns = col(ModelVersion.model_version), col(ModelVersion.trained_until), col(ModelVersion.created_at)
    rows = connection.execute(select(*columns).order_by(columns[0])).all()
    # The versions of an older zap do not say until when they have learned.
    return [
        number
        for number, trained_until, created_at in rows
        if (trained_until or created_at.replace(tzinfo=None)) >= first
    ]


def running_trainings(connection: Connection) -> list[int]:
    """Return the training that runs now, at most one. It cannot end before the transaction of this connection ends."""
    running = select(col(TrainingRun.run_id)).where(col(TrainingRun.status) == "running")
    return list(connection.scalars(running.with_for_update()))


def erased_during(connection: Connection, run_id: int) -> bool:
    """Return whether a driver was erased since a training began, so that the training may have read the driver's rows.

    Args:
        connection: a transaction of the training, after it has checked that it still runs.
        run_id: the training.
    """
    begun = connection.scalar(select(col(TrainingRun.started_at)).where(col(TrainingRun.run_id) == run_id))
    if begun is None:
        return False
    since = begun - _CLOCKS
    if connection.scalar(select(exists().where(col(Erasure.erased_at) > since))):
        return True
    # The ledger has the time of the first erasure, and the audit the time at which it was done again.
    again = (col(AuditRow.action) == ERASED_AGAIN) & (col(AuditRow.happened_at) > since)
    return bool(connection.scalar(select(exists().where(again))))
