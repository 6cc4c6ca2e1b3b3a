"""The training runs, each from its start to its report or its error, at most one at a time.

The row of a running run keeps all other runs out, on any machine, as long as its heartbeat goes on. Every transaction
of a run checks that the run is running, so a run that was cancelled, or was considered dead, can change nothing.
"""

import math
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

import structlog
from filelock import Timeout
from sqlalchemy import ColumnElement, Connection, Engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from zap.db.engine import database_now, process_lock, write_transaction
from zap.db.log.training_log import remove_train_predictions
from zap.db.tables import ModelVersion, TrainingEvent, TrainingRun, utc_now
from zap.errors import NotFound, RunEnded, TrainingCancelled, TrainingFailed, TrainingRunning, ZapError

log = structlog.get_logger(__name__)

# A run without a heartbeat for this time has died.
LAPSED_SECONDS = 8
# A run whose process never sent a heartbeat has died after this time.
_START_SECONDS = 12
# A run that is alive sends a heartbeat within this time. Until then a clock that was set makes it look dead.
_CONFIRMED_SECONDS = 1.5
# A clock that jumps further than this was set; a smaller difference is drift.
_JUMP_SECONDS = 2.0
# How long a run's transaction may be idle on PostgreSQL before the server ends it.
_IDLE_SECONDS = 5
# The lock that the process of a run holds on SQLite, where a long import keeps it from writing heartbeats.
PROCESS_LOCK = "training"
# How many of the newest runs keep their events.
_RUNS_WITH_EVENTS = 50
_RUNNING = col(TrainingRun.status) == "running"
_CANCELLED = "the training was cancelled; the version in production is unchanged"
# For each database of this process: how far its clock is ahead of this process's monotonic clock, and since when it has
# not jumped.
_clocks: WeakKeyDictionary[Engine, tuple[float, float]] = WeakKeyDictionary()


def claim_run(engine: Engine, kind: str, options: Mapping[str, Any]) -> int:
    """Add a new run with status running, and return its number. Its process must start within _START_SECONDS.

    Args:
        engine: on the database.
        kind: `train` or `tune`.
        options: the options of the request or the command.

    Raises:
        TrainingRunning: another run is running.
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
        # Two processes claimed a run at the same time: the unique index accepts only one of them.
        raise _refusal(running_run(engine)) from None
    return claimed


def beat(connection: Connection, run_id: int) -> None:
    """Write the heartbeat of a run. Every transaction of the run calls this, so that it writes nothing after its end.

    Raises:
        TrainingCancelled: the run was cancelled.
        TrainingFailed: the run was considered dead.
    """
    if connection.dialect.name == "postgresql":
        # The row is locked until the transaction ends. If the machine of the run dies, TCP would wait for hours.
        timeout = ("idle_in_transaction_session_timeout", f"{_IDLE_SECONDS}s", True)
        connection.execute(select(func.set_config(*timeout)))
    beating = update(TrainingRun).where((col(TrainingRun.run_id) == run_id) & _RUNNING)
    if connection.execute(beating.values(heartbeat_at=database_now(connection))).rowcount != 1:
        raise _end_of(connection, run_id)


def add_events(connection: Connection, run_id: int, events: list[dict[str, Any]]) -> None:
    """Store progress of a run."""
    if events:
        now = utc_now()
        connection.execute(
            insert(TrainingEvent), [{"run_id": run_id, "created_at": now, "data": data} for data in events]
        )


def finish_run(connection: Connection, run_id: int, report: Mapping[str, Any]) -> None:
    """Store the report of a run, and end it. Call this in the transaction that makes the report true.

    Raises:
        TrainingCancelled, TrainingFailed: the run has already ended.
    """
    finished = update(TrainingRun).where((col(TrainingRun.run_id) == run_id) & _RUNNING)
    values = {"status": "finished", "finished_at": utc_now(), "report": dict(report)}
    if connection.execute(finished.values(values)).rowcount != 1:
        raise _end_of(connection, run_id)


def fail_run(engine: Engine, run_id: int, error: ZapError) -> bool:
    """End a running run with an error, and remove the rows that it wrote. A run that has ended is not changed.

    The status of the run is then `cancelled` after TrainingCancelled, and `failed` after every other error.

    Returns:
        Whether the run was running.
    """
    ended = _mark_ended(engine, run_id, "cancelled" if isinstance(error, TrainingCancelled) else "failed", error)
    if ended:
        remove_rows(engine, run_id)
    return ended


def cancel_run(engine: Engine, run_id: int) -> None:
    """Cancel a run from another process. Its process notices within a second. Its rows are removed later.

    Raises:
        NotFound: there is no such run.
        RunEnded: the run has already ended.
    """
    if not _mark_ended(engine, run_id, "cancelled", TrainingCancelled(_CANCELLED)):
        status = read_run(engine, run_id)["status"]
        raise RunEnded(f"training run {run_id} has already ended: its status is {status}")


def see_to_dead_runs(engine: Engine) -> None:
    """End the runs that died, and remove the rows of runs without a report. Servers call this regularly."""
    end_lapsed_runs(engine)
    remove_leftovers(engine)


def end_lapsed_runs(engine: Engine) -> list[int]:
    """End the runs whose process or machine died, and return their numbers. Their rows are removed later.

    A clock that is set must not end a run. So a run that seems dead is checked twice, and after a jump of the clock no
    run is ended for as long as a process may take to start.
    """
    lapsed = _lapsed_runs(engine)
    if not lapsed or _is_held(engine):
        return []
    if engine.dialect.name == "postgresql":
        time.sleep(_CONFIRMED_SECONDS)
        again = _lapsed_runs(engine)
        lapsed = {run_id: heard_at for run_id, heard_at in lapsed.items() if again.get(run_id, ...) == heard_at}
    died = TrainingFailed("the process or the machine of the training died: its heartbeat stopped; train again")
    return [run_id for run_id in lapsed if _mark_ended(engine, run_id, "failed", died, only_lapsed=True)]


def _lapsed_runs(engine: Engine) -> dict[int, datetime | None]:
    """Return the runs that seem dead by the clock, each with the time of its last heartbeat."""
    with engine.connect() as connection:
        if not _is_even(engine, database_now(connection)):
            return {}
        runs = select(col(TrainingRun.run_id), col(TrainingRun.heartbeat_at))
        found = connection.execute(runs.where(_RUNNING & _is_lapsed(connection))).all()
    return {row.run_id: row.heartbeat_at for row in found}


def _is_even(engine: Engine, now: datetime) -> bool:
    """Return whether the database's clock has not jumped for as long as a process may take to start."""
    monotonic = time.monotonic()
    ahead = now.timestamp() - monotonic
    before, since = _clocks.get(engine, (ahead, -math.inf))
    if abs(ahead - before) > _JUMP_SECONDS:
        log.warning("the clock of the database was set", seconds=round(ahead - before, 1))
        since = monotonic
    _clocks[engine] = ahead, since
    return monotonic - since >= _START_SECONDS


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
            connection.execute(delete(ModelVersion).where(never_served & (col(ModelVersion.model_version) == version)))


def prune_events(connection: Connection) -> None:
    """Remove the events of old runs; the runs and their reports are kept."""
    kept = select(col(TrainingRun.run_id)).order_by(col(TrainingRun.run_id).desc()).limit(_RUNS_WITH_EVENTS)
    connection.execute(delete(TrainingEvent).where(col(TrainingEvent.run_id).not_in(kept)))


def running_run(engine: Engine) -> int | None:
    """Return the number of the run that is running; None if there is none."""
    with engine.connect() as connection:
        running: int | None = connection.scalar(select(col(TrainingRun.run_id)).where(_RUNNING))
    return running


def read_run(engine: Engine, run_id: int) -> dict[str, Any]:
    """Return the columns of a run, with its newest event as `progress`.

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
    """Return the newest runs without their reports, newest first.

    Args:
        engine: on the database.
        limit: the most runs to return.
        before: return runs with a smaller number.
    """
    columns = [column for column in TrainingRun.__table__.columns if column.name != "report"]  # type: ignore[attr-defined]
    runs = select(*columns).order_by(col(TrainingRun.run_id).desc()).limit(limit)
    if before is not None:
        runs = runs.where(col(TrainingRun.run_id) < before)
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(runs).mappings()]


def events_after(engine: Engine, run_id: int, event_id: int) -> list[tuple[int, dict[str, Any]]]:
    """Return the events of a run after the event `event_id`, each with its number."""
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
    """Return the error with which a run that was ended must stop."""
    status = connection.scalar(select(col(TrainingRun.status)).where(col(TrainingRun.run_id) == run_id))
    if status == "cancelled":
        return TrainingCancelled(_CANCELLED)
    return TrainingFailed(
        "the heartbeat of the training stopped, so it was considered dead; the version in production is unchanged"
    )


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
    """Return the condition for runs whose heartbeat has stopped. On SQLite their process lock must be free."""
    now, heartbeat = database_now(connection), col(TrainingRun.heartbeat_at)
    started, start = col(TrainingRun.started_at), timedelta(seconds=_START_SECONDS)
    # A start in the future means that the clock was set back since.
    never_began = heartbeat.is_(None) & ((started < now - start) | (started > now + start))
    if connection.dialect.name == "sqlite":
        # A live process holds its lock from its first heartbeat to its end. The lock is free, so the process has died.
        return never_began | heartbeat.is_not(None)
    silent = timedelta(seconds=LAPSED_SECONDS)
    return never_began | (heartbeat < now - silent) | (heartbeat > now + silent)


def _is_held(engine: Engine) -> bool:
    """Return whether on SQLite a process holds the lock of a run: it is alive, even if it cannot write heartbeats."""
    lock = process_lock(engine, PROCESS_LOCK, timeout=0)
    if lock is None:
        return False
    try:
        with lock:
            return False
    except Timeout:
        return True
