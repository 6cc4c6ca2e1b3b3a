"""The follower in a serving process: looks of `LookingBack` on a thread of low priority."""

import os
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.db.monitoring.follower_lease import may_follow
from zap.errors import ZapError
from zap.flows.looking_back import LookingBack
from zap.settings import Settings

log = structlog.get_logger(__name__)

# The pause between two looks.
FOLLOW_SECONDS = 1.0
# Predictions get the processor before the follower.
NICENESS = 10
# The threads of a process take turns with one interpreter, so a low priority alone does not let requests go first. If
# the other threads use more than this share of a processor, the follower takes only a small share of the time. Time in
# which this thread waited for a processor does not count, because then the other threads may have waited for one too.
_BUSY = 0.5
_SHARE_WHEN_BUSY = 0.05
# Shorter than the time after which a follower without a heartbeat loses its lease.
_LONGEST_PAUSE = 3.0
# Where Linux tells how long the thread that reads has waited for a processor.
_SCHEDULED = Path("/proc/thread-self/schedstat")


class _Times(NamedTuple):
    """Times until now, in seconds.

    Attributes:
        wall: a clock that never goes back.
        waited: how long this thread has been ready and without a processor.
        process, thread: the processor time of this process, and of this thread.
    """

    wall: float
    waited: float
    process: float
    thread: float


class Follower:
    """Follow in one server process of several, as long as no other process follows. A watch calls `look`.

    Args:
        engine: on a database at head.
        settings: the time zone of the drivers, and the horizon of outcomes.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._looking_back = LookingBack(engine, settings)
        self._stopping = threading.Event()
        self._may: bool | None = None
        # Whether the database has answered the last look.
        self._answers = False
        self._before = _Times(0.0, 0.0, 0.0, 0.0)

    def look(self) -> None:
        """Follow all that there is to follow, if this process may."""
        if self._may is None:
            self._begin()
        if self._may and not self._stopping.is_set():
            self._answers = False
            self._before = _times()
            self._looking_back.look(self._pause)
            self._answers = True

    def _pause(self) -> bool:
        """Let requests go first after a step of the follower. Return whether the look has to end."""
        took, waited, used, own = (now - before for now, before in zip(_times(), self._before, strict=True))
        if used - own > _BUSY * (took - waited):
            self._stopping.wait(min(own / _SHARE_WHEN_BUSY, _LONGEST_PAUSE))
        self._before = _times()
        return self._stopping.is_set()

    def stop(self) -> None:
        """End a running look after its next transaction, and begin none."""
        self._stopping.set()

    def close(self) -> None:
        """Let another process follow at once. Call this after the last look.

        A database that has not answered the last look is not asked, so that the server ends in time.
        """
        try:
            self._looking_back.close(keeps_lease=not self._answers)
        except (SQLAlchemyError, ZapError) as error:
            # The lease ends by itself when its heartbeat stops.
            log.warning("the follower could not return its lease", error=type(error).__name__)

    def _begin(self) -> None:
        """Find out whether this process may follow, and lower the priority of this thread."""
        self._may = may_follow(self._engine)
        if not self._may:
            log.warning(
                "this server does not follow what happens after its answers: its role on PostgreSQL may not write"
                " outcomes, alarms and trials; run `zap follow` with a role that may, or set ZAP_FOLLOW to false"
            )
        if sys.platform == "linux":
            # On Linux each thread has a priority of its own.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _times() -> _Times:
    return _Times(time.monotonic(), _waited(), time.process_time(), time.thread_time())


def _waited() -> float:
    """Return how long this thread has been ready and without a processor, in seconds; 0.0 where this is not known."""
    try:
        # The second number, in nanoseconds: https://docs.kernel.org/scheduler/sched-stats.html
        return int(_SCHEDULED.read_bytes().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
