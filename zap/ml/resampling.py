"""Resampling of drivers: their sums over many draws, and the bootstrap-t intervals of a ratio of sums."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

RESAMPLES = 1000
# More drivers than this are put into this many random groups, because the draws of more drivers would take gigabytes.
# Groups are as independent of each other as drivers are.
_MOST_DRAWN = 20_000
# How many draws are multiplied at a time: a compromise between speed and memory.
_DRAWS_AT_A_TIME = 50


def per_driver(columns: Iterable[np.ndarray], drivers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of sessions of each driver, and the sums of the columns, of shape (drivers, columns)."""
    different, places, sessions = np.unique(drivers, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(places, column, minlength=len(different)) for column in columns], axis=1)
    return sessions.astype(np.float64), sums


def grouped(sums: np.ndarray, sessions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums and the numbers of sessions, by driver or by at most _MOST_DRAWN groups of drivers."""
    if len(sessions) <= _MOST_DRAWN:
        return sums, sessions
    groups = np.random.default_rng(42).permutation(len(sessions)) % _MOST_DRAWN
    joined = np.stack([np.bincount(groups, column) for column in sums.T], axis=1)
    return joined, np.bincount(groups, sessions)


def bootstrap_t(
    sums: np.ndarray, sessions: np.ndarray, tails: list[tuple[float, float]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each pair of tails the lower and the upper ends of sums / sessions, for each column of sums.

    Args:
        sums: of shape (drivers, columns).
        sessions: of shape (drivers,), or of the shape of `sums` if the columns are sums over different sessions.
        tails: the pairs of quantiles.
    """
    drivers, columns = sums.shape
    sessions = sessions.reshape(drivers, -1)
    squares = np.column_stack([sums**2, sums * sessions, sessions**2, sums, sessions])
    drawn = drawn_sums(squares)
    mean, error = _ratio(squares.sum(axis=0, keepdims=True), columns, drivers)
    means, errors = _ratio(drawn, columns, drivers)
    away = means - mean
    # If all drivers in a draw are alike, the standard error is 0, and t is set to a very large value.
    far = np.sign(away) * np.where(np.isclose(away, 0, atol=1e-12), 0, 1e3)
    t = np.divide(away, errors, out=far, where=errors > 1e-12)
    quantiles = [np.quantile(t, pair, axis=0) for pair in tails]
    return [((mean - high * error)[0], (mean - low * error)[0]) for low, high in quantiles]


def _ratio(squares: np.ndarray, columns: int, drivers: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sums / sessions and its linearised standard error, both of shape (draws, columns).

    Args:
        squares: for each draw the sums over drivers of s^2, s n, n^2, s and n, where s has `columns` columns, and n
            has one column or as many.
        columns: the number of columns of s.
        drivers: the number of drivers in a draw.
    """
    of_sessions = (squares.shape[1] - 3 * columns) // 2
    ends = np.cumsum([columns, columns, of_sessions, columns])
    ss, sn, nn, s, n = np.split(squares, ends, axis=1)
    means = s / n
    variance = np.maximum(ss - 2 * means * sn + means**2 * nn, 0) * drivers / (drivers - 1)
    return means, np.sqrt(variance) / n


def drawn_sums(per_driver: np.ndarray) -> np.ndarray:
    """Return the sums over RESAMPLES draws of drivers with replacement; shape (RESAMPLES, columns)."""
    draws = _draws(len(per_driver))
    starts = range(0, RESAMPLES, _DRAWS_AT_A_TIME)
    return np.concatenate([draws[at : at + _DRAWS_AT_A_TIME].astype(np.float64) @ per_driver for at in starts])


@lru_cache(maxsize=1)
def _draws(drivers: int) -> np.ndarray:
    """Return how often each driver is drawn, of shape (RESAMPLES, drivers). All comparisons share these draws."""
    random = np.random.default_rng(42)
    # A count fits into a byte: with fewer than 256 drivers always, with more drivers for all practical purposes.
    draws = np.empty((RESAMPLES, drivers), dtype=np.uint8)
    for draw in draws:
        draw[:] = np.bincount(random.integers(drivers, size=drivers), minlength=drivers)
    return draws
