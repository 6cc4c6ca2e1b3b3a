"""The follower in a serving process: looks of `LookingBack` on a thread of low priority."""

import os
import sys
import threading
import time

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
# the other threads use more than this share of a processor, the follower takes only a small share of the time.
_BUSY = 0.5
_SHARE_WHEN_BUSY = 0.05
# Shorter than the time after which a follower without a heartbeat loses its lease.
_LONGEST_PAUSE = 3.0


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
        # When the last step ended; the processor time of this process and of this thread until then.
        self._before = (0.0, 0.0, 0.0)

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
        took, used, own = (now - before for now, before in zip(_times(), self._before, strict=True))
        if used - own > _BUSY * took:
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


def _times() -> tuple[float, float, float]:
    """Return the time, the processor time of this process, and the processor time of this thread, in seconds."""
    return time.monotonic(), time.process_time(), time.thread_time()
