"""The end of a run without a report: the run is marked, and the rows that it wrote are removed."""

from collections.abc import Callable

import structlog
from sqlalchemy import ColumnElement, Connection, Engine, delete, select, update
from sqlmodel import col

from zap.db.audit import note
from zap.db.engine import write_transaction
from zap.db.log.training_log import remove_train_predictions
from zap.db.monitoring_tables import MonitorState
from zap.db.tables import ModelVersion, TrainingRun, utc_now
from zap.errors import TrainingCancelled, TrainingFailed, ZapError
from zap.sentences import phrase, say

log = structlog.get_logger(__name__)

RUNNING = col(TrainingRun.status) == "running"
# The statuses of runs, as the sentences about runs name them.
STATUSES = (phrase("running"), phrase("finished"), phrase("failed"), phrase("cancelled"))
# What a run says that another process has ended, because a person asked for it.
CANCELLED = say("the training was cancelled; the version in production is unchanged")


def mark_ended(
    engine: Engine,
    run_id: int,
    status: str,
    error: ZapError,
    condition: Callable[[Connection], ColumnElement[bool]] | None = None,
) -> bool:
    """End a running run with an error, and return whether it was running.

    Args:
        engine: on the database.
        run_id: the run.
        status: `failed` or `cancelled`.
        error: the error, whose problem becomes the report of the run.
        condition: returns another condition that the row of the run must meet, from a connection.
    """
    which = (col(TrainingRun.run_id) == run_id) & RUNNING
    with write_transaction(engine) as connection:
        if condition is not None:
            which &= condition(connection)
        values = {
            "status": status,
            "finished_at": utc_now(),
            "report": {"status": error.status_code, **error.problem()},
        }
        if connection.execute(update(TrainingRun).where(which).values(values)).rowcount != 1:
            return False
        action = "training.cancel" if status == "cancelled" else "training.fail"
        after = {"status": status, "reason": error.message}
        note(connection, action, f"run {run_id}", before={"status": "running"}, after=after)
    return True


def log_end_of_other(run_id: int, status: str, error: ZapError) -> None:
    """Log that this process has ended a run of another process.

    A process that ends its own run raises the error, so a log of the error would repeat it.
    """
    log.warning("a training ended without a version", run_id=run_id, status=status, reason=error.message)


def end_of(connection: Connection, run_id: int) -> ZapError:
    """Return the error with which a run that was ended must stop."""
    status = connection.scalar(select(col(TrainingRun.status)).where(col(TrainingRun.run_id) == run_id))
    if status == "cancelled":
        return TrainingCancelled(CANCELLED)
    return TrainingFailed(
        say("the heartbeat of the training stopped, so it was considered dead; the version in production is unchanged")
    )


def remove_leftovers(engine: Engine) -> None:
    """Remove the rows of runs that ended without a report, if the process that ended them did not remove them."""
    with engine.connect() as connection:
        ended = col(TrainingRun.status).in_(["failed", "cancelled"]) & (col(ModelVersion.status) == "candidate")
        left = connection.scalars(
            select(col(TrainingRun.run_id))
            .join(ModelVersion, col(ModelVersion.run_id) == col(TrainingRun.run_id))
            .where(ended)
        ).all()
    for run_id in left:
        remove_rows(engine, run_id)


def remove_rows(engine: Engine, run_id: int) -> None:
    """Remove the version and the logged rows of a run that ended without a report."""
    with engine.connect() as connection:
        never_served = (col(ModelVersion.run_id) == run_id) & (col(ModelVersion.status) == "candidate")
        versions = connection.scalars(select(col(ModelVersion.model_version)).where(never_served)).all()
    for version in versions:
        remove_train_predictions(engine, [version])
        # The version is removed last: if this process is interrupted, `remove_leftovers` finds the rest by it.
        with write_transaction(engine) as connection:
            connection.execute(delete(MonitorState).where(col(MonitorState.model_version) == version))
            connection.execute(delete(ModelVersion).where(never_served & (col(ModelVersion.model_version) == version)))
