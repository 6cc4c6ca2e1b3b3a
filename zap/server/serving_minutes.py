"""Serving minutes: what this process has answered in each minute, until the database has it."""

import math
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from time import monotonic
from time import time as wall_seconds

import structlog
from sqlalchemy import Engine

from zap.db.monitoring.serving_counts import (
    WRITTEN_WITHIN,
    CountedMinute,
    Rights,
    clock_of,
    merge_minutes,
    rights_of,
    write_minutes,
)
from zap.db.process_name import new_process_name
from zap.monitoring.answer_counts import NOTHING, AnswerCounter, Counts

log = structlog.get_logger(__name__)

_MINUTE = 60
# The pause after an attempt to write that failed.
_RETRY_SECONDS = 10.0
_MOST_UNWRITTEN = round(WRITTEN_WITHIN / timedelta(seconds=_MINUTE))


class ServingMinutes:
    """Write the finished minutes of this process to the database. A watch calls `look`.

    A request only adds to the counters. At the end of a minute their readings are compared with the readings before.
    Minutes that cannot be written are kept for an hour. A process that is killed loses the minute that is not finished,
    and the minutes that could not be written.

    Args:
        engine: on a database at head.
        counters: the counters of this process, by subject.
    """

    def __init__(self, engine: Engine, counters: Mapping[str, AnswerCounter]) -> None:
        self._engine = engine
        self._counters = counters
        self._process = new_process_name()
        self._rights: Rights | None = None
        # By how many seconds the clock of the database is ahead of the monotonic clock, which nobody sets.
        self._ahead = wall_seconds() - monotonic()
        self._lock = threading.Lock()
        self._readings: dict[str, Counts] = {}
        self._minute = self._present_minute()
        self._number = 0
        self._unwritten: list[CountedMinute] = []
        self._next_write = 0.0

    def look(self) -> None:
        """End the minute if it is over, and write what is not written yet.

        Raises:
            SQLAlchemyError, ZapError: the database did not answer. The minutes are kept for the next attempt.
        """
        if self._rights is None:
            self._begin()
        minute = self._present_minute()
        if minute != self._minute:
            self.end_minute(minute)
            self._next_write = 0.0
        if monotonic() >= self._next_write:
            self._next_write = monotonic() + _RETRY_SECONDS
            self.write()
            self._next_write = math.inf

    def end_minute(self, next_minute: int | None = None) -> None:
        """End the present minute, and begin another.

        Args:
            next_minute: the number of the minute that begins now, since 1970; by default the present one.
        """
        with self._lock:
            readings = {subject: counter.read() for subject, counter in self._counters.items()}
            counts = {subject: now.since(self._readings.get(subject, NOTHING)) for subject, now in readings.items()}
            self._number += 1
            begins_at = datetime.fromtimestamp(self._minute * _MINUTE, UTC)
            some = {subject: one for subject, one in counts.items() if one != NOTHING}
            if some:
                self._unwritten.append(CountedMinute(self._number, begins_at, some))
                self._forget(len(self._unwritten) - _MOST_UNWRITTEN)
                del self._unwritten[:-_MOST_UNWRITTEN]
            self._readings = readings
            self._minute = self._present_minute() if next_minute is None else next_minute

    def write(self) -> None:
        """Write the minutes that have ended. A minute that is written a second time adds nothing.

        Raises:
            SQLAlchemyError, ZapError: the minutes could not be written.
        """
        if self._rights is not None and not self._rights.writes:
            self._unwritten = []
            return
        now = clock_of(self._engine)
        self._ahead = now.timestamp() - monotonic()
        with self._lock:
            minutes = [minute for minute in self._unwritten if minute.begins_at >= now - WRITTEN_WITHIN]
            self._forget(len(self._unwritten) - len(minutes))
            self._unwritten = minutes
        write_minutes(self._engine, self._process, minutes)
        written = {minute.number for minute in minutes}
        with self._lock:
            self._unwritten = [minute for minute in self._unwritten if minute.number not in written]
        if self._rights is not None and self._rights.merges:
            merge_minutes(self._engine, now)

    def write_rest(self) -> None:
        """End the present minute, and write all minutes, at the end of this process.

        Raises:
            SQLAlchemyError, ZapError: the minutes could not be written, and are lost.
        """
        self.end_minute()
        self.write()

    def _begin(self) -> None:
        self._ahead = clock_of(self._engine).timestamp() - monotonic()
        self._minute = self._present_minute()
        self._rights = rights_of(self._engine)
        if not self._rights.writes:
            log.warning(
                "the figures of serving lack this server: its role on PostgreSQL may not insert into serving_counts"
            )

    def _present_minute(self) -> int:
        return int(monotonic() + self._ahead) // _MINUTE

    @staticmethod
    def _forget(minutes: int) -> None:
        """Say that minutes are lost, if there are any: they are too old to be written."""
        if minutes > 0:
            log.warning("the figures of serving lack minutes that could not be written for an hour", minutes=minutes)
