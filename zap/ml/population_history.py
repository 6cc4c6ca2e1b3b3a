"""The mix of charger types of all drivers, on the days before a moment."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from zap.ml.driver_columns import DAY


class PopulationHistory:
    """The mix of types of all drivers on the days before a moment.

    A model keeps the counts of its training sessions, so after the last counted day the mix does not change.

    Args:
        counts: for each day (since 1970-01-01) the number of started sessions of each type; it is not copied.
        n_types: the number of types.
    """

    def __init__(self, counts: Mapping[int, Sequence[int]], n_types: int) -> None:
        self.counts = counts
        # The number of counted sessions.
        self.sessions = sum(map(sum, counts.values()))
        self._days = sorted(counts)
        # The counts begin with one session of each type: no share is zero, and the mix before the first day is even.
        total = [1] * n_types
        self._mixes = [_shares(total)]
        for day in self._days:
            total = [before + count for before, count in zip(total, counts[day], strict=True)]
            self._mixes.append(_shares(total))

    def mix(self, at: int) -> list[float]:
        """Return the share of each type in all sessions that started before the day of `at`."""
        return self._mixes[bisect_left(self._days, at // DAY)]

    def mixes(self, moments: np.ndarray) -> np.ndarray:
        """Return the result of `mix` for n moments: float64 of shape (n, types)."""
        days, mixes = self._as_arrays
        found: np.ndarray = mixes[np.searchsorted(days, moments // DAY)]
        return found

    @cached_property
    def _as_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self._days, dtype=np.int64), np.array(self._mixes)


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total for count in counts]
