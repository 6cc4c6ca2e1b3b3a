"""The figures of the history: sessions by month and type, drivers, and days without sessions.

Counting a million sessions takes about a second, so no page waits for it: one thread counts, a page shows what is
known and when it was counted. Later only the months are counted again whose sessions have changed.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.db.history.month_counts import (
    MOST_MONTHS,
    MonthCounts,
    count_all,
    count_month,
    months_with_sessions,
    next_month,
)
from zap.db.history.session_changes import Mark, changes_since
from zap.db.tables import utc_now
from zap.errors import ZapError

log = structlog.get_logger(__name__)

# The shortest pause between two counts, and the pause in multiples of the time that the last count took.
_PAUSE_SECONDS, _PAUSE_TIMES = 1.0, 20.0
# The most holes that are returned.
_MOST_HOLES = 12


@dataclass(frozen=True)
class Hole:
    """Days in a row without a session: the first, the last, and how many."""

    first: date
    last: date
    days: int


@dataclass(frozen=True)
class HistoryFigures:
    """The figures of the history.

    Attributes:
        counted_at: when the sessions were counted (UTC).
        sessions: the number of sessions.
        undated: how many of them are in none of the months: their start is missing or no time, or is 40 years older.
        drivers: the number of drivers.
        months: the months from the first to the last one, oldest first, also the empty ones between them.
        types: the charger types, the most frequent first.
        first, last: the days of the first and of the last session; None without sessions.
        holes: the longest holes, the longest first.
        hole_count: the number of all holes.
        empty_days: the number of days without a session between the first and the last one.
    """

    counted_at: datetime
    sessions: int
    undated: int
    drivers: int
    months: Sequence[MonthCounts]
    types: Sequence[str]
    first: date | None
    last: date | None
    holes: Sequence[Hole]
    hole_count: int
    empty_days: int


class HistoryCounter:
    """Count the history of one process, in a thread of its own.

    Args:
        engine: on the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history-figures")
        self._turn = threading.Lock()
        self._counting: Future[None] | None = None
        self._next_count = float("-inf")
        self._is_closed = False
        # Whether the newest count has failed.
        self.has_failed = False
        # Only the thread changes these.
        self._mark: Mark | None = None
        self._months: dict[date, MonthCounts] = {}
        self._figures: HistoryFigures | None = None

    def read(self, seconds: float) -> HistoryFigures | None:
        """Return the newest figures; None if they are being counted for the first time, or cannot be counted.

        Args:
            seconds: how long to wait for newer figures.
        """
        with self._turn:
            is_free = self._counting is None or self._counting.done()
            if is_free and time.monotonic() >= self._next_count and not self._is_closed:
                self._counting = self._thread.submit(self._count)
            counting = self._counting
        if counting is not None:
            wait([counting], timeout=seconds)
        return self._figures

    def close(self) -> None:
        """End the thread after the month that is being counted."""
        with self._turn:
            self._is_closed = True
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _count(self) -> None:
        began = time.monotonic()
        try:
            self._figures = self._counted()
            self.has_failed = False
        except (ZapError, SQLAlchemyError) as error:
            # All months are counted again next time.
            self._mark, self.has_failed = None, True
            log.warning("the history could not be counted", error=f"{type(error).__name__}: {error}"[:500])
        except Exception:
            # Nobody reads the result of this work, so nobody else would tell the error.
            self._mark, self.has_failed = None, True
            log.exception("the history could not be counted")
        finally:
            self._next_count = time.monotonic() + max(_PAUSE_SECONDS, _PAUSE_TIMES * (time.monotonic() - began))

    def _counted(self) -> HistoryFigures | None:
        """Return the figures of the present; the known ones if nothing has changed, or if the process ends."""
        counted_at = utc_now()
        with self._engine.connect() as connection:
            days, mark = changes_since(connection, self._mark)
            if self._figures is not None and mark == self._mark:
                return self._figures
        for month in self._changed_months(days):
            if self._is_closed:
                return self._figures
            # One transaction a month, because a long one would keep SQLite's log of changes from being emptied.
            with self._engine.connect() as connection:
                self._count_month(connection, month)
        with self._engine.connect() as connection:
            sessions, drivers = count_all(connection)
        self._mark = mark
        return _figures(counted_at, sessions, drivers, self._months)

    def _changed_months(self, days: set[date] | None) -> Iterable[date]:
        """Return the months to count: the months of changed days, or all months if any session may have changed."""
        if days is not None:
            return {day.replace(day=1) for day in days}
        with self._engine.connect() as connection:
            months = list(months_with_sessions(connection))
        self._months = {month: known for month, known in self._months.items() if month in months}
        return months

    def _count_month(self, connection: Connection, month: date) -> None:
        counted = count_month(connection, month)
        # Replaced, because a page may read the months now.
        rest = {one: known for one, known in self._months.items() if one != month}
        self._months = rest | ({month: counted} if counted.days else {})


def _figures(counted_at: datetime, sessions: int, drivers: int, known: Mapping[date, MonthCounts]) -> HistoryFigures:
    types: Counter[str] = Counter()
    for month in known.values():
        types.update(month.types)
    days = sorted(day for month in known.values() for day in month.days)
    holes = list(_holes(days))
    return HistoryFigures(
        counted_at=counted_at,
        sessions=sessions,
        undated=sessions - sum(month.sessions for month in known.values()),
        drivers=drivers,
        months=_whole(known),
        types=[name for name, _ in types.most_common()],
        first=days[0] if days else None,
        last=days[-1] if days else None,
        holes=sorted(holes, key=lambda hole: -hole.days)[:_MOST_HOLES],
        hole_count=len(holes),
        empty_days=sum(hole.days for hole in holes),
    )


def _holes(days: Sequence[date]) -> Iterator[Hole]:
    one = timedelta(days=1)
    for before, after in pairwise(days):
        if (missing := (after - before).days - 1) > 0:
            yield Hole(before + one, after - one, missing)


def _whole(known: Mapping[date, MonthCounts]) -> list[MonthCounts]:
    """Return the newest months in order, with the empty months between them, as many as a plot has places."""
    months = []
    month = min(known, default=date.max)
    while known and month <= max(known):
        months.append(known.get(month) or MonthCounts(month, {}, 0, frozenset(), 0))
        month = next_month(month)
        if month == date.max:
            break
    return months[-MOST_MONTHS:]
