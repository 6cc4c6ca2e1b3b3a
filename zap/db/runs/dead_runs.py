"""Runs whose process or machine died: they are found by their heartbeats, and ended."""

import math
import time
from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

import structlog
from filelock import Timeout
from sqlalchemy import ColumnElement, Connection, Engine, select
from sqlmodel import col

from zap.db.engine import database_now, process_lock
from zap.db.runs.run_end import RUNNING, log_end_of_other, mark_ended, remove_leftovers
from zap.db.tables import TrainingRun
from zap.errors import TrainingFailed
from zap.sentences import say

log = structlog.get_logger(__name__)

# A run without a heartbeat for this time has died.
LAPSED_SECONDS = 8
# A run whose process never sent a heartbeat has died after this time.
_START_SECONDS = 12
# A run that is alive sends a heartbeat within this time. Until then a clock that was set makes it look dead.
_CONFIRMED_SECONDS = 1.5
# A clock that jumps further than this was set; a smaller difference is drift.
_JUMP_SECONDS = 2.0
# The lock that the process of a run holds on SQLite, where a long import keeps it from writing heartbeats.
PROCESS_LOCK = "training"
# For each database of this process: how far its clock is ahead of this process's monotonic clock, and since when it has
# not jumped.
_clocks: WeakKeyDictionary[Engine, tuple[float, float]] = WeakKeyDictionary()


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
    died = TrainingFailed(say("the process or the machine of the training died: its heartbeat stopped; train again"))
    ended = [run_id for run_id in lapsed if mark_ended(engine, run_id, "failed", died, _is_lapsed)]
    for run_id in ended:
        log_end_of_other(run_id, "failed", died)
    return ended


def _lapsed_runs(engine: Engine) -> dict[int, datetime | None]:
    """Return the runs that seem dead by the clock, each with the time of its last heartbeat."""
    with engine.connect() as connection:
        if not _is_even(engine, database_now(connection)):
            return {}
        runs = select(col(TrainingRun.run_id), col(TrainingRun.heartbeat_at))
        found = connection.execute(runs.where(RUNNING & _is_lapsed(connection))).all()
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
