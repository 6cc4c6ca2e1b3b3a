"""Looking back: everything that one process does about earlier answers, one look after another.

First the follower matches answers with sessions and keeps sums and counts up to date. Then challengers answer the
newest requests, drift and harm are looked at, alarms are raised and resolved, and rows whose time is over are removed.
A part that fails is tried again.
While the follower works off a backlog, or fails, only the alarms that need no counts are looked at.
"""

import math
import time
from collections.abc import Callable, Collection
from functools import partial

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.db.monitoring.answered_requests import count_requests
from zap.db.monitoring.follower_marks import LeaseLost
from zap.db.monitoring.outcome_arrivals import count_arrivals
from zap.db.monitoring.quality_days import apply as add_to_quality
from zap.db.tables import utc_now
from zap.errors import ZapError
from zap.flows.alarms import LOOK_SECONDS, LOOKS, WHILE_BEHIND, look_for_alarms
from zap.flows.following import Following, KeepSums
from zap.flows.monitors import Monitors
from zap.flows.old_rows import remove_old_rows
from zap.flows.retention import Reached, remove_by_settings
from zap.flows.trials import Trials
from zap.settings import Settings

log = structlog.get_logger(__name__)

# The pause between two looks at drift and harm.
_MONITORS_SECONDS = 300.0
# The pause between two looks for rows whose time is over.
_OLD_ROWS_SECONDS = 3600.0


class _Stopped(Exception):
    """The process is told to stop, so a part ends early. The next process goes on with it."""


def new_follower(engine: Engine, settings: Settings) -> Following:
    """Return a follower that keeps all sums and counts up to date."""
    sums: list[KeepSums] = [add_to_quality, partial(count_arrivals, wall_time=settings.wall_time)]
    return Following(engine, settings.wall_time, settings.horizon, sums, [count_requests])


class LookingBack:
    """Look back as long as no other process does. Only one thread may use it.

    Args:
        engine: on a database at head.
        settings: the time zone of the drivers, the horizon of outcomes, and where alarms are posted.

    Attributes:
        following: the follower.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine, self._settings = engine, settings
        self.following = new_follower(engine, settings)
        self._trials = Trials(engine, settings, settings.horizon)
        self._monitors = Monitors(engine, settings)
        self._monitors_at = self._alarms_at = self._old_rows_at = -math.inf
        self._behind_at = time.monotonic()
        self._old_requests = Reached()

    def look(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Do everything once. Return whether this process looks back; if not, another process does.

        Args:
            stop: whether to end early; the next look goes on.

        Raises:
            SQLAlchemyError, ZapError: the follower itself cannot go on now.
        """
        try:
            if not self._follow(stop):
                return False
        except Exception:
            # Nobody else would say that the follower is behind.
            self._look_while_behind(stop)
            raise
        try:
            self._part("trials", lambda: self._answer_for_trials(stop), stop)
            if time.monotonic() - self._monitors_at >= _MONITORS_SECONDS:
                self._monitors_at = time.monotonic()
                self._part("drift and harm", lambda: self._look_at_monitors(stop), stop)
            if time.monotonic() - self._alarms_at >= LOOK_SECONDS:
                self._alarms_at = time.monotonic()
                self._look_for_alarms(LOOKS, stop)
            if time.monotonic() - self._old_rows_at >= _OLD_ROWS_SECONDS:
                self._old_rows_at = time.monotonic()
                self._part("old rows", lambda: self._remove_old_rows(stop), stop)
                self._part("retention", lambda: self._remove_by_settings(stop), stop)
        except LeaseLost:
            return False
        except _Stopped:
            pass
        return True

    def close(self, *, keeps_lease: bool = False) -> None:
        """End what was started, and let another process look back at once.

        Args:
            keeps_lease: whether to leave the lease as it is, because the database does not answer. It ends by itself.
        """
        self._trials.close()
        self._monitors.close()
        if not keeps_lease:
            self.following.close()

    def _follow(self, stop: Callable[[], bool]) -> bool:
        """Follow all that there is to follow, and say meanwhile if that is too much."""

        def stops() -> bool:
            self._look_while_behind(stop)
            return stop()

        return self.following.look(stops)

    def _answer_for_trials(self, stop: Callable[[], bool]) -> None:
        while self._trials.look(self.following.check, utc_now(), lambda: self._between(stop)) and not stop():
            # While challengers catch up, the follower must not fall behind.
            self._follow(stop)

    def _look_at_monitors(self, stop: Callable[[], bool]) -> None:
        self._monitors.look(self.following.check, utc_now(), lambda: self._between(stop))

    def _remove_old_rows(self, stop: Callable[[], bool]) -> None:
        if remove_old_rows(self._engine, self.following.check, utc_now(), lambda: self._between(stop)):
            # The next look goes on.
            self._old_rows_at = -math.inf

    def _remove_by_settings(self, stop: Callable[[], bool]) -> None:
        check, between = self.following.check, lambda: self._between(stop)
        if remove_by_settings(self._engine, self._settings, check, utc_now(), between, self._old_requests):
            # The next look goes on.
            self._old_rows_at = -math.inf

    def _between(self, stop: Callable[[], bool]) -> None:
        """Let requests go first, and keep the lease, between two portions of a long part.

        Raises:
            LeaseLost: another process looks back now.
            _Stopped: the process is told to stop.
        """
        if stop():
            raise _Stopped
        self.following.lease.beat()

    def _look_while_behind(self, stop: Callable[[], bool]) -> None:
        if time.monotonic() - self._behind_at >= LOOK_SECONDS:
            self._look_for_alarms(WHILE_BEHIND, stop)

    def _look_for_alarms(self, kinds: Collection[str], stop: Callable[[], bool]) -> None:
        self._behind_at = time.monotonic()
        self._part("alarms", lambda: look_for_alarms(self._engine, self._settings, utc_now(), kinds), stop)

    @staticmethod
    def _part(name: str, work: Callable[[], object], stop: Callable[[], bool]) -> None:
        """Do one part, unless the process is told to stop. An error is logged, and the next look tries again."""
        if stop():
            return
        try:
            work()
        except ZapError as error:
            log.warning("a part of looking back was not possible", part=name, reason=error.message)
        except SQLAlchemyError as error:
            log.warning("a part of looking back was not possible", part=name, error=type(error).__name__)
