"""RecentSessions: the sessions of the last weeks in memory, and the present that follows from them.

A request needs no query: a thread reads the log of changes that triggers write, and reads the sessions of changed days
again. So a change by any program counts after at most FRESH_SECONDS; if the triggers are missing, it may take longer.
For moments before the last days, the sessions are read from the database.
"""

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.db.history.day_sessions import DaySessions, Types, day_of, read_days
from zap.db.history.session_changes import Mark, changes_since
from zap.errors import DatabaseUnavailable
from zap.ml.cells import to_seconds
from zap.ml.driver_columns import DAY
from zap.ml.inference import Predictor
from zap.ml.population_now import DAYS_BEFORE, PopulationNow, Present, unknown_present
from zap.ml.presents import blocks
from zap.threads import Pool

# The sessions in memory answer a request only if they were compared with the database within this time.
FRESH_SECONDS = 2.0
# Requests for a session that started in the last days need no query either. More days would
# take more memory.
_PAST_DAYS = 2
# If the log of changes is missing, all sessions of the window are read again. The pause after such a read is this many
# times as long as the read.
_PAUSE = 20
# How many presents are remembered: one for each version, minute of asking and hour of the start.
_MOST_VALUES = 4096
# How many windows are remembered: of the last weeks, one for each set of charger types, and of the past. A window is
# the counted sessions of some days, and no rolling window of a training.
_MOST_TYPES = 4
_MOST_PAST_WINDOWS = 4
# A window of the past is read again after FRESH_SECONDS, or after this many times the time that its read took.
_PAST_PAUSE = 10


@dataclass(frozen=True)
class _Window:
    """The counted sessions of some types and days. After the window is made, only `values` changes.

    Attributes:
        now: the counts.
        values: the values of presents, by version, minute of asking and hour of the start. Only the event loop changes
            them.
        read_at: when the sessions of a window of the past were read, on the monotonic clock.
        seconds: how long this read took.
    """

    now: PopulationNow
    values: dict[tuple[int, int, int], list[float]] = field(default_factory=dict)
    read_at: float = 0.0
    seconds: float = 0.0


class RecentSessions:
    """The sessions of the last weeks, for one process.

    Args:
        engine: on the database.
        wall_now: returns the current moment as the drivers' wall time.
    """

    def __init__(self, engine: Engine, wall_now: Callable[[], datetime]) -> None:
        self._engine, self._wall_now = engine, wall_now
        # One separate thread: a database that does not answer must not delay other work.
        self._thread = Pool("recent-sessions", 1)
        # A read of the past may take seconds.
        self._past_thread = Pool("past-sessions", 1)
        # Held while the sessions of the last weeks, or of the past, are read. The event loop takes no lock.
        self._reading, self._reading_past = threading.Lock(), threading.Lock()
        self._mark: Mark | None = None
        self._days: dict[int, DaySessions] = {}
        self._windows: OrderedDict[Types, _Window] = OrderedDict()
        self._past_windows: OrderedDict[tuple[int, int, Types], _Window] = OrderedDict()
        # When the log of changes was last read, on the monotonic clock.
        self._checked_at = float("-inf")
        # How many calls in a row the log could not say what has changed, and when all sessions may be read again then.
        self._unknown_changes, self._read_again_at = 0, float("-inf")

    def close(self) -> None:
        """Stop the thread after its current work."""
        self._thread.close()
        self._past_thread.close()

    async def begin(self, seconds: float) -> None:
        """Read the sessions before the first request. Return after some seconds at the latest; the read goes on."""
        with contextlib.suppress(DatabaseUnavailable, SQLAlchemyError):
            await self._thread.run(self.follow, until=time.monotonic() + seconds)

    def follow(self) -> None:
        """Read what has changed since the last call. This method blocks, so the event loop must not call it.

        Raises:
            SQLAlchemyError: the database does not answer. The next call reads the changes that this call missed.
        """
        with self._reading:
            self._follow()

    def known(self, start: int, moment: int, predictor: Predictor) -> Present | None:
        """Return the present at a moment from memory; None if the database has to be read.

        Args:
            start: the start of the session, in seconds on the wall clock.
            moment: the moment of asking, `Predictor.asked_at`.
            predictor: the predictor of the version that answers.
        """
        if predictor.asked_before is None:
            return unknown_present(moment, len(predictor.types))
        if time.monotonic() - self._checked_at > FRESH_SECONDS:
            return None
        window = self._windows.get(predictor.types)
        if window is None or not window.now.covers(moment):
            return None
        key = predictor.model_version, moment // 60, start // 3600
        values = window.values.get(key)
        if values is None:
            if len(window.values) >= _MOST_VALUES:
                window.values.clear()
            at, asked = np.array([moment], dtype=np.int64), np.array([start], dtype=np.int64)
            columns = window.now.columns(at, asked, predictor.population.mixes(at))
            values = window.values[key] = columns[0].tolist()
        return Present(moment, values)

    async def present(self, start: int, moment: int, predictor: Predictor, until: float) -> Present:
        """Return the present at a moment, from memory or from a read in a thread. Call this on the event loop.

        Args:
            start: as in `known`.
            moment: as in `known`.
            predictor: as in `known`.
            until: when the request stops waiting, on the monotonic clock.

        Raises:
            DatabaseUnavailable: the database, or reads before this one, take too long.
        """
        window = self._windows.get(predictor.types)
        is_past = window is not None and not window.now.covers(moment)
        thread = self._past_thread if is_past else self._thread
        found = await thread.run(self.presents, [start], [moment], predictor, until=until)
        return found[0]

    def presents(self, starts: Sequence[int], moments: Sequence[int], predictor: Predictor) -> list[Present]:
        """Return the presents of many sessions, each bit-equal to the result of `known`. This method blocks.

        Args:
            starts: the starts of the sessions, in seconds on the wall clock.
            moments: the moments of asking.
            predictor: the predictor of the version that answers.
        """
        if predictor.asked_before is None or not moments:
            return [unknown_present(moment, len(predictor.types)) for moment in moments]
        with self._reading:
            if time.monotonic() - self._checked_at > FRESH_SECONDS:
                self._follow()
            window = self._window(predictor.types)
        asked, at = np.array(starts, dtype=np.int64), np.array(moments, dtype=np.int64)
        recent = np.array([window.now.covers(moment) for moment in moments])
        found: list[list[float]] = [[]] * len(moments)
        past = np.flatnonzero(~recent)
        parts = [(np.flatnonzero(recent), window.now)] if recent.any() else []
        parts += [
            (past[rows], self._past_window(first, last, predictor.types)) for rows, first, last in blocks(at[past])
        ]
        for rows, now in parts:
            values = now.columns(at[rows], asked[rows], predictor.population.mixes(at[rows])).tolist()
            for row, one in zip(rows.tolist(), values, strict=True):
                found[row] = one
        return [Present(moment, values) for moment, values in zip(moments, found, strict=True)]

    def _follow(self) -> None:
        """Read the changed days and the new days, and count them."""
        begin = time.monotonic()
        today = to_seconds(self._wall_now()) // DAY
        # Tomorrow is read already, so that the first requests after midnight need no query.
        wanted = range(today - _PAST_DAYS - DAYS_BEFORE, today + 2)
        with self._engine.connect() as connection:
            changed, mark = changes_since(connection, self._mark)
            self._unknown_changes = self._unknown_changes + 1 if changed is None else 0
            if self._unknown_changes > 1 and begin < self._read_again_at:
                # The next call gets the old mark, so that it misses nothing.
                self._checked_at = begin
                return
            gone = None if changed is None else {day_of(day) for day in changed}
            before = {
                day: one for day, one in self._days.items() if gone is not None and day in wanted and day not in gone
            }
            read = read_days(connection, [day for day in wanted if day not in before])
        if read or len(before) != len(self._days):
            days = before | read
            moved = gone is None or self._days.keys() != days.keys()
            windows = OrderedDict(
                (types, _Window(_counted(days, types) if moved else self._recounted(types, window.now, read)))
                for types, window in self._windows.items()
            )
            self._days, self._windows = days, windows
        if changed is None:
            self._read_again_at = time.monotonic() + _PAUSE * (time.monotonic() - begin)
        self._mark, self._checked_at = mark, begin

    def _recounted(self, types: Types, before: PopulationNow, read: dict[int, DaySessions]) -> PopulationNow:
        """Return the counts of a window after the sessions of some days have changed."""
        now = before.copy()
        for day, sessions in read.items():
            now.forget(self._days[day].of_types(types))
            now.observe(sessions.of_types(types))
        return now.added_up()

    def _window(self, types: Types) -> _Window:
        """Return the window of the last weeks for some types. The first call counts the sessions."""
        window = self._windows.get(types)
        if window is None:
            window = _Window(_counted(self._days, types))
            # A new dictionary, because the event loop reads the old dictionary meanwhile.
            newest = list(self._windows.items())[-(_MOST_TYPES - 1) :]
            self._windows = OrderedDict([*newest, (types, window)])
        return window

    def _past_window(self, first: int, last: int, types: Types) -> PopulationNow:
        """Return the counts of a window of the past, read from the database if they are too old.

        A file of old requests would otherwise read the whole history again and again.
        """
        # Another lock: a read of the past may take long, and what is known of these weeks must stay fresh.
        with self._reading_past:
            key, begin, recent = (first, last, types), time.monotonic(), self._days
            known = self._past_windows.pop(key, None)
            if known is None or begin - known.read_at > max(FRESH_SECONDS, _PAST_PAUSE * known.seconds):
                with self._engine.connect() as connection:
                    read = read_days(connection, [day for day in range(first, last) if day not in recent])
                days = {day: read[day] if day in read else recent[day] for day in range(first, last)}
                counted = _counted(days, types)
                known = _Window(counted, read_at=begin, seconds=time.monotonic() - begin)
            self._past_windows[key] = known
            if len(self._past_windows) > _MOST_PAST_WINDOWS:
                self._past_windows.popitem(last=False)
            return known.now


def _counted(days: dict[int, DaySessions], types: Types) -> PopulationNow:
    """Return the counts of consecutive days."""
    now = PopulationNow(min(days), len(days), len(types))
    for day in days.values():
        now.observe(day.of_types(types))
    # The sums are computed in this thread, so that the event loop does not wait for them.
    return now.added_up()
