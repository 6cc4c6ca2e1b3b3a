"""The present, which is what all drivers do at a moment: the open sessions, and the types of the recent sessions.

Training and serving use `PopulationNow`. It counts the starts and the ends of sessions by minute, in a window of
consecutive days, so its size depends on the number of days, not on the number of sessions. (This window is no rolling
window of a training.) All counts are whole numbers, so sessions that are added one by one, in any order, give
bit-identical values to sessions that are added at once.

A moment is rounded down to a full minute. A session has started at a moment if it started strictly earlier, and it has
ended if its end is strictly earlier. A session that has started and not ended is open, for at most LONGEST_OPEN.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from zap.ml.driver_columns import DAY

# A session counts as open for at most this time. Without an end it counts as open for this time.
LONGEST_OPEN = DAY
# The share of the open sessions is relative to the most sessions that were open at once on the day of the moment and
# on this many days before it.
MOST_OPEN_DAYS = 56
# The weeks before a start in which the sessions of one hour of the week are counted.
HOUR_WEEKS = 8
# A window begins this many days before the day of the first moment that it serves: MOST_OPEN_DAYS, and one day for the
# sessions that were open when these days began.
DAYS_BEFORE = MOST_OPEN_DAYS + 1
# A mix is drawn to the mix of a longer time (the day to the week, and so on) as if it had this many more sessions with
# the mix of the longer time.
PRIOR_SESSIONS = 5.0

# How many minutes before the start of a session its driver asks, unless the operator says otherwise.
ASKED_BEFORE_MINUTES = 15

# The columns with a value for each charger type, by group.
OPEN_SESSIONS = "open_sessions"
PRESENT_GROUPS = {
    OPEN_SESSIONS: ("open", "open_share"),
    "recent_mixes": ("mix_week", "mix_day", "mix_hour"),
    "hour_of_week": ("mix_hour_of_week",),
}
PRESENT_COLUMNS = tuple(column for columns in PRESENT_GROUPS.values() for column in columns)

_MINUTE = 60
_HOUR = 60
_DAY = 24 * _HOUR
_WEEK = 7 * _DAY
_RECENT = np.array([_WEEK, _DAY, _HOUR])
_WEEKS_AGO = np.arange(1, HOUR_WEEKS + 1) * _WEEK


class Started(NamedTuple):
    """The starts, the ends and the charger types of n sessions.

    Attributes:
        starts: int64, seconds on the wall clock since 1970-01-01.
        ends: int64, seconds like the starts, at most `start + LONGEST_OPEN`. A session without an end and a duration
            has this end.
        codes: int64, the places of the types in the learned types. Sessions of other types are left out.
    """

    starts: np.ndarray
    ends: np.ndarray
    codes: np.ndarray

    def some(self, rows: slice | np.ndarray) -> "Started":
        """Return some of the sessions."""
        return Started(self.starts[rows], self.ends[rows], self.codes[rows])


def started(starts: np.ndarray, ends: np.ndarray, durations: np.ndarray, codes: np.ndarray) -> Started:
    """Return sessions as `PopulationNow` counts them.

    Args:
        starts: n starts, datetime64[s].
        ends: n ends, datetime64[s]; NaT where missing.
        durations: n durations in hours, NaN where missing; they are used where the end is missing.
        codes: n codes of types, -1 for other types.
    """
    known = codes >= 0
    begin = starts[known].astype("datetime64[s]").astype(np.int64)
    latest = begin + LONGEST_OPEN
    end = ends[known].astype("datetime64[s]")
    # A duration counts only up to LONGEST_OPEN, so that the seconds fit into an integer.
    seconds = np.minimum(np.nan_to_num(durations[known] * 3600, nan=LONGEST_OPEN), LONGEST_OPEN)
    without = np.isnat(end) | (end.astype(np.int64) < begin)
    stop = np.where(without, begin + np.rint(seconds).astype(np.int64), end.astype(np.int64))
    return Started(begin, np.minimum(stop, latest), codes[known].astype(np.int64))


def present_columns(types: Sequence[str]) -> list[str]:
    """Return the names of the columns of `PopulationNow.columns`. A name has its charger type in brackets."""
    return [f"{name}[{type_}]" for name in PRESENT_COLUMNS for type_ in types]


class Present(NamedTuple):
    """The present at one moment.

    Attributes:
        moment: the moment of asking, in seconds on the wall clock since 1970-01-01.
        values: the values of `present_columns`.
    """

    moment: int
    values: Sequence[float]


def unknown_present(moment: int, n_types: int) -> Present:
    """Return the present of a moment of which nothing is known: all values are missing."""
    return Present(moment, [math.nan] * (len(PRESENT_COLUMNS) * n_types))


class PopulationNow:
    """The sessions of all drivers that start in a window of days, counted by minute.

    Args:
        first_day: the first day of the window, in days since 1970-01-01.
        days: the number of days of the window.
        n_types: the number of charger types.
    """

    def __init__(self, first_day: int, days: int, n_types: int) -> None:
        self._first_minute, self._days, self._n_types = first_day * _DAY, days, n_types
        # The number of starts and of ends in each minute.
        self._starts = np.zeros((days * _DAY, n_types), dtype=np.int32)
        self._ends = np.zeros_like(self._starts)
        self._totals: _Totals | None = None

    def copy(self) -> Self:
        """Return an independent copy."""
        other = type(self)(self._first_minute // _DAY, self._days, self._n_types)
        other._starts[:], other._ends[:] = self._starts, self._ends  # noqa: SLF001 - of the same class
        return other

    def observe(self, sessions: Started) -> None:
        """Add sessions, in any order. Sessions that start outside of the window are ignored."""
        self._count(sessions, 1)

    def forget(self, sessions: Started) -> None:
        """Take away sessions that were observed."""
        self._count(sessions, -1)

    def added_up(self) -> Self:
        """Return this window, ready for `columns`, whose first call would otherwise take longer."""
        self._total()
        return self

    def covers(self, moment: int) -> bool:
        """Return whether the window is long enough for a moment, in seconds on the wall clock since 1970-01-01."""
        first = self._first_minute + DAYS_BEFORE * _DAY
        return first <= moment // _MINUTE < self._first_minute + self._days * _DAY

    def columns(self, moments: np.ndarray, starts: np.ndarray, mixes: np.ndarray) -> np.ndarray:
        """Return the columns of n sessions as they were known at n moments.

        Args:
            moments: int64, seconds on the wall clock since 1970-01-01; `covers` is true for each.
            starts: int64, when the sessions start, not before their moments.
            mixes: the mix of types at each moment (`PopulationHistory.mix`), of shape (n, types).

        Returns:
            float64 of shape (n, len(present_columns(types))). If no session started in the week before a moment, the
            present is not known, and the values are NaN.
        """
        totals = self._totals or self._total()
        now = moments // _MINUTE - self._first_minute
        # The minutes at which the counted times begin (week, day, hour, hours of the week), and then the minutes at
        # which the hours of the week end.
        hours = starts[:, None] // _MINUTE // _HOUR * _HOUR - self._first_minute - _WEEKS_AGO
        places = np.concatenate([now[:, None] - _RECENT, hours, hours + _HOUR], axis=1)
        # A start may lie weeks after the moment of asking; sessions after that moment are not known.
        # (The method `take` needs a fifth of the time of an index.)
        begun = totals.starts.take(np.minimum(places, now[:, None]), axis=0)
        counts = np.empty((len(now), 4, self._n_types))
        np.subtract(totals.starts[now, None], begun[:, :3], out=counts[:, :3])
        counts[:, 3] = np.einsum("ijk->ik", begun[:, 3 + HOUR_WEEKS :] - begun[:, 3 : 3 + HOUR_WEEKS])
        sums = counts.sum(axis=2, keepdims=True)
        divisors = sums + PRIOR_SESSIONS
        columns = np.empty((len(now), len(PRESENT_COLUMNS), self._n_types))
        columns[:, 0] = is_open = totals.open[now]
        most = np.maximum(totals.most_today[now], totals.most_before[now // _DAY])
        np.divide(is_open, np.maximum(most, 1), out=columns[:, 1])
        # The week, the day, the hour, and the hour of the week: each mix is drawn to a mix that is computed before it.
        for mix, drawn_to in ((2, mixes), (3, columns[:, 2]), (4, columns[:, 3]), (5, columns[:, 2])):
            np.divide(counts[:, mix - 2] + PRIOR_SESSIONS * drawn_to, divisors[:, mix - 2], out=columns[:, mix])
        columns[sums[:, 0, 0] == 0] = np.nan
        return columns.reshape(len(now), -1)

    def _count(self, sessions: Started, times: int) -> None:
        starts = sessions.starts // _MINUTE - self._first_minute
        inside = (starts >= 0) & (starts < len(self._starts))
        ends = np.minimum(sessions.ends[inside] // _MINUTE - self._first_minute, len(self._ends) - 1)
        # An end after the window is counted in its last minute, where an end changes no moment of the window.
        codes = sessions.codes[inside]
        np.add.at(self._starts, (starts[inside], codes), times)
        np.add.at(self._ends, (ends, codes), times)
        self._totals = None

    def _total(self) -> "_Totals":
        starts, ends = (np.zeros((len(self._starts) + 1, self._n_types), dtype=np.int32) for _ in range(2))
        np.cumsum(self._starts, axis=0, out=starts[1:])
        np.cumsum(self._ends, axis=0, out=ends[1:])
        is_open = starts - ends
        by_day = is_open[:-1].reshape(self._days, _DAY, self._n_types)
        most_today = np.maximum.accumulate(by_day, axis=1)
        most = np.zeros((self._days + MOST_OPEN_DAYS, self._n_types), dtype=np.int32)
        most[MOST_OPEN_DAYS:] = most_today[:, -1]
        days_before = np.lib.stride_tricks.sliding_window_view(most[:-1], MOST_OPEN_DAYS, axis=0)
        self._totals = _Totals(starts, is_open, most_today.reshape(-1, self._n_types), days_before.max(axis=-1))
        return self._totals


class _Totals(NamedTuple):
    """The sums of the counts of a window, for each minute (or day) and type.

    Attributes:
        starts: the sessions that started in the window before each minute.
        open: the sessions that are open at the beginning of each minute.
        most_today: the most open sessions on the day of each minute, until that minute.
        most_before: the most open sessions on the MOST_OPEN_DAYS days before each day.
    """

    starts: np.ndarray
    open: np.ndarray
    most_today: np.ndarray
    most_before: np.ndarray
