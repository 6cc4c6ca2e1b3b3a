"""The columns of the present for many sessions at any moments, computed in blocks of days."""

from collections.abc import Iterator

import numpy as np

from zap.ml.driver_columns import DAY
from zap.ml.population_history import PopulationHistory
from zap.ml.population_now import DAYS_BEFORE, PRESENT_COLUMNS, PopulationNow, Started

# The moments of this many days share one window. A longer block needs more memory, a shorter one more windows.
BLOCK_DAYS = 28


def presents(
    sessions: Started, moments: np.ndarray, starts: np.ndarray, population: PopulationHistory, out: np.ndarray
) -> None:
    """Write the columns of the present of n sessions, as they were known at n moments.

    Args:
        sessions: the sessions of all drivers, in order of start.
        moments: int64, seconds on the wall clock since 1970-01-01, in any order.
        starts: int64, when the n sessions start.
        population: the mix of all drivers.
        out: float64 of shape (n, len(present_columns(types))).
    """
    n_types = out.shape[1] // len(PRESENT_COLUMNS)
    for rows, first, last in blocks(moments):
        now = PopulationNow(first, last - first, n_types)
        inside = slice(*np.searchsorted(sessions.starts, [first * DAY, last * DAY]).tolist())
        now.observe(sessions.some(inside))
        out[rows] = now.columns(moments[rows], starts[rows], population.mixes(moments[rows]))


def blocks(moments: np.ndarray) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yield the places of the moments that share a window, the first day of the window, and the day after its last day.

    The windows are aligned to BLOCK_DAYS, so that the moments of different calls share windows.

    Args:
        moments: int64, seconds on the wall clock since 1970-01-01, in any order.
    """
    numbers = moments // (BLOCK_DAYS * DAY)
    order = np.argsort(numbers, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else ():
        first = int(numbers[rows[0]]) * BLOCK_DAYS
        yield rows, first - DAYS_BEFORE, first + BLOCK_DAYS
