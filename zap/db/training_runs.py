"""The training runs: each from its start to its report or its error, at most one at a time.

The row of a running one keeps all others out, on any machine, for as long as its heartbeat goes on. Whatever a run
writes it writes in transactions that find it running: one that was cancelled, or taken for dead, can change nothing.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import structlog
from filelock import Timeout
from sqlalchemy import ColumnElement, Connection, Engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from zap.db.engine import database_now, process_lock, write_transaction
from zap.db.tables import ModelVersion, TrainingEvent, TrainingRun, utc_now
from zap.db.train_predictions import remove_train_predictions
from zap.errors import NotFound, RunEnded, TrainingCancelled, TrainingFailed, TrainingRunning, ZapError

log = structlog.get_logger(__name__)

# A run that was not heard of for so long has died.
LAPSED_SECONDS = 8
# And one whose process was never heard of, after so long.
_START_SECONDS = 12
# How long on PostgreSQL a run's transaction may stand still before the server ends it.
_IDLE_SECONDS = 5
# The lock that the process of a run holds on SQLite. There a long import keeps everybody from writing, a heartbeat too.
PROCESS_LOCK = "training"
# Runs whose events are kept.
_RUNS_WITH_EVENTS = 50
_RUNNING = col(TrainingRun.status) == "running"


def claim_run(engine: Engine, kind: str, options: Mapping[str, Any]) -> int:
    """A new run, whose process begins in a moment; its number.

    Args:
        engine: the database.
        kind: `train` or `tune`.
        options: what was asked for.

    Raises:
        TrainingRunning: another one is running.
    """
    end_lapsed_runs(engine)
    try:
        with write_transaction(engine) as connection:
            running = connection.scalar(select(col(TrainingRun.run_id)).where(_RUNNING))
            if running is not None:
                raise _refusal(running)
            now = database_now(connection)
            row = {"kind": kind, "status": "running", "started_at": now, "options": dict(options)}
            claimed: int = connection.execute(insert(TrainingRun).returning(col(TrainingRun.run_id)), row).scalar_one()
    except IntegrityError:
        # Two that saw no other one: the index lets one through.
        raise _refusal(running_run(engine)) from None
    return claimed


def beat(connection: Connection, run_id: int) -> None:
    """Say that a run is alive. In the transaction of whatever it writes, so that nothing is written after its end.

    Raises:
        TrainingCancelled: it was cancelled.
        TrainingFailed: it was taken for dead.
    """
    if connection.dialect.name == "postgresql":
        # A process that stands still, on a machine that is gone, must not hold the row for the hours that TCP waits.
        timeout = ("idle_in_transaction_session_timeout", f"{_IDLE_SECONDS}s", True)
        connection.execute(select(func.set_config(*timeout)))
    beating = update(TrainingRun).where((col(TrainingRun.run_id) == run_id) & _RUNNING)
    if connection.execute(beating.values(heartbeat_at=database_now(connection))).rowcount != 1:
        raise _end_of(connection, run_id)


def add_events(connection: Connection, run_id: int, events: list[dict[str, Any]]) -> None:
    """Keep what a run told of itself."""
    if events:
        now = utc_now()
        connection.execute(
            insert(TrainingEvent), [{"run_id": run_id, "created_at": now, "data": data} for data in events]
        )


def finish_run(connection: Connection, run_id: int, report: Mapping[str, Any]) -> None:
    """The run has its report; in the transaction that makes true what the report says.

    Raises:
        TrainingCancelled, TrainingFailed: it has ended already.
    """
    finished = update(TrainingRun).where((col(TrainingRun.run_id) == run_id) & _RUNNING)
    values = {"status": "finished", "finished_at": utc_now(), "report": dict(report)}
    if connection.execute(finished.values(values)).rowcount != 1:
        raise _end_of(connection, run_id)


def fail_run(engine: Engine, run_id: int, error: ZapError) -> bool:
    """The run ended without a report: the reason stays, and its rows go. A run that has ended stays as it is.

    Returns:
        Whether it was running.
    """
    ended = _mark_ended(engine, run_id, "failed", error)
    if ended:
        remove_rows(engine, run_id)
    return ended


def cancel_run(engine: Engine, run_id: int) -> None:
    """End a run from outside. Its process finds it ended within a second; the rows that it left are still there.

    Raises:
        NotFound: there is no such run.
        RunEnded: it has ended already.
    """
    if not _mark_ended(engine, run_id, "cancelled", TrainingCancelled("it was cancelled")):
        status = read_run(engine, run_id)["status"]
        raise RunEnded(f"training run {run_id} has ended already: it is {status}")


def see_to_dead_runs(engine: Engine) -> None:
    """End the runs that died, and remove what ended runs have left; to be called now and then by whoever serves."""
    end_lapsed_runs(engine)
    remove_leftovers(engine)


def end_lapsed_runs(engine: Engine) -> list[int]:
    """End the runs whose process or machine died; their numbers. What they left is still there."""
    with engine.connect() as connection:
        lapsed = connection.scalars(select(col(TrainingRun.run_id)).where(_RUNNING & _is_lapsed(connection))).all()
    if not lapsed or _is_held(engine):
        return []
    died = TrainingFailed("its process or machine died: nothing was heard of it any more")
    return [run_id for run_id in lapsed if _mark_ended(engine, run_id, "failed", died, only_lapsed=True)]


def remove_leftovers(engine: Engine) -> None:
    """Remove what is left of runs that ended without a version, where whoever ended them could not do so to the end."""
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
        # Last: by it whoever comes later finds what is left to do.
        with write_transaction(engine) as connection:
            connection.execute(delete(ModelVersion).where(never_served & (col(ModelVersion.model_version) == version)))


def prune_events(connection: Connection) -> None:
    """Forget how the oldest runs went; how they ended stays."""
    kept = select(col(TrainingRun.run_id)).order_by(col(TrainingRun.run_id).desc()).limit(_RUNS_WITH_EVENTS)
    connection.execute(delete(TrainingEvent).where(col(TrainingEvent.run_id).not_in(kept)))


def running_run(engine: Engine) -> int | None:
    """The number of the run that is running."""
    with engine.connect() as connection:
        running: int | None = connection.scalar(select(col(TrainingRun.run_id)).where(_RUNNING))
    return running


def read_run(engine: Engine, run_id: int) -> dict[str, Any]:
    """One run, column by column, with the last that it told of itself as `progress`.

    Raises:
        NotFound: there is no such run.
    """
    with engine.connect() as connection:
        row = connection.execute(select(TrainingRun.__table__).where(col(TrainingRun.run_id) == run_id)).mappings()  # type: ignore[attr-defined]
        if (run := row.one_or_none()) is None:
            raise NotFound(f"there is no training run {run_id}")
        newest = (
            select(col(TrainingEvent.data))
            .where(col(TrainingEvent.run_id) == run_id)
            .order_by(col(TrainingEvent.event_id).desc())
            .limit(1)
        )
        return {**run, "progress": connection.scalar(newest)}


def list_runs(engine: Engine, limit: int, before: int | None = None) -> list[dict[str, Any]]:
    """The newest runs, newest first, without their reports; `before` a number, where it is given."""
    columns = [column for column in TrainingRun.__table__.columns if column.name != "report"]  # type: ignore[attr-defined]
    runs = select(*columns).order_by(col(TrainingRun.run_id).desc()).limit(limit)
    if before is not None:
        runs = runs.where(col(TrainingRun.run_id) < before)
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(runs).mappings()]


def events_after(engine: Engine, run_id: int, event_id: int) -> list[tuple[int, dict[str, Any]]]:
    """What a run told of itself after an event, with the numbers of these events."""
    later = (col(TrainingEvent.run_id) == run_id) & (col(TrainingEvent.event_id) > event_id)
    events = select(col(TrainingEvent.event_id), col(TrainingEvent.data)).where(later)
    with engine.connect() as connection:
        return [(row[0], row[1]) for row in connection.execute(events.order_by(col(TrainingEvent.event_id)))]


def _refusal(run_id: int | None) -> TrainingRunning:
    if run_id is None:
        return TrainingRunning("another training was running a moment ago; try again")
    return TrainingRunning(
        f"training run {run_id} has not ended; wait for it, or cancel it with DELETE /training-runs/{run_id}",
        run_id=run_id,
        training_run=f"/training-runs/{run_id}",
    )


def _end_of(connection: Connection, run_id: int) -> ZapError:
    """Why a run must not go on."""
    status = connection.scalar(select(col(TrainingRun.status)).where(col(TrainingRun.run_id) == run_id))
    if status == "cancelled":
        return TrainingCancelled("it was cancelled")
    return TrainingFailed("its heartbeat was not heard, so it was taken for dead; the model that served still does")


def _mark_ended(engine: Engine, run_id: int, status: str, error: ZapError, *, only_lapsed: bool = False) -> bool:
    which = (col(TrainingRun.run_id) == run_id) & _RUNNING
    with write_transaction(engine) as connection:
        if only_lapsed:
            which &= _is_lapsed(connection)
        values = {"status": status, "finished_at": utc_now(), "report": error.problem()}
        ended = connection.execute(update(TrainingRun).where(which).values(values)).rowcount == 1
    if ended:
        log.warning("a training ended without a version", run_id=run_id, status=status, reason=error.message)
    return ended


def _is_lapsed(connection: Connection) -> ColumnElement[bool]:
    """Of a run whose process lock is free: it was not heard of for too long."""
    now, heartbeat = database_now(connection), col(TrainingRun.heartbeat_at)
    never_began = heartbeat.is_(None) & (col(TrainingRun.started_at) < now - timedelta(seconds=_START_SECONDS))
    if connection.dialect.name == "sqlite":
        # One that began holds its lock until it has ended: nobody has to wait.
        return never_began | heartbeat.is_not(None)
    return never_began | (heartbeat < now - timedelta(seconds=LAPSED_SECONDS))


def _is_held(engine: Engine) -> bool:
    """Whether on SQLite a process holds the lock of a run: it is alive, and only cannot write."""
    lock = process_lock(engine, PROCESS_LOCK, timeout=0)
    if lock is None:
        return False
    try:
        with lock:
            return False
    except Timeout:
        return True
