"""Intervals over drivers: how much a score would vary with other drivers.

The sessions of one driver are alike, so drivers are resampled, never sessions. Two common cases make such intervals too
narrow: a few drivers lose much while most drivers gain a little, and a few drivers have most of the sessions. Therefore
`mean_intervals` returns the union of two bootstrap-t intervals, and None if there are too few drivers.
`tests/simulations/intervals.py` measures how often a verdict is "better" by chance.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

RESAMPLES = 1000
# If 85 % of all drivers gain a little and 15 % lose much, then 4 % of all samples of 20 drivers have no losing driver,
# and no interval can show the loss. Of all samples of 30 drivers, 0.8 % have none.
FEWEST_EFFECTIVE_DRIVERS = 30
# In the second interval a driver has at most this share of the total weight.
_MOST_OF_ONE_DRIVER = 0.01
# More drivers than this are put into this many random groups, because the draws of more drivers would take gigabytes.
# Groups are as independent of each other as drivers are.
_MOST_DRAWN = 20_000
_TAILS = (0.025, 0.975)
# How many draws are multiplied at a time: a compromise between speed and memory.
_DRAWS_AT_A_TIME = 50


def effective_drivers(drivers: np.ndarray) -> float:
    """Return the effective number of drivers: how many drivers with equally many sessions carry equal information.

    It is (sum n)^2 / sum n^2, where n is a driver's number of sessions (Kish, Survey Sampling, 1965); 0.0 without
    sessions.

    Args:
        drivers: the code of the driver of each session.
    """
    sessions = np.unique(drivers, return_counts=True)[1].astype(np.float64)
    return float(sessions.sum() ** 2 / (sessions**2).sum()) if len(sessions) else 0.0


class Intervals(NamedTuple):
    """The intervals of several means, each as [low, high].

    Attributes:
        alone: for each mean, an interval that holds with 95 %.
        together: wider intervals, which hold for all means at once with 95 % (Bonferroni's correction).
    """

    alone: list[list[float]]
    together: list[list[float]]


def mean_intervals(values: np.ndarray, drivers: np.ndarray) -> Intervals | None:
    """Return the intervals of the mean over all sessions, for each column.

    The method is the bootstrap-t over drivers of the ratio sum of values / sum of sessions, with a linearised standard
    error (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 12). It is applied twice: with all
    sessions, and with the sessions of each driver weighted down to at most 1 % of all sessions. An interval reaches
    from the lower of the two lower ends to the higher of the two upper ends.

    Args:
        values: float64 of shape (n, columns), one row for each session.
        drivers: the code of the driver of each session.

    Returns:
        An interval for each column; None if `effective_drivers` is below FEWEST_EFFECTIVE_DRIVERS.
    """
    if effective_drivers(drivers) < FEWEST_EFFECTIVE_DRIVERS:
        return None
    sessions, sums = _per_driver(values.T, drivers)
    weights = np.minimum(sessions, _MOST_OF_ONE_DRIVER * sessions.sum())
    capped = sums * (weights / sessions)[:, None]
    ends = [
        _bootstrap_t(*_grouped(one, n), _tails(values.shape[1])) for one, n in ((sums, sessions), (capped, weights))
    ]
    found = []
    for which in (0, 1):
        lower = np.minimum(*(both[which][0] for both in ends))
        upper = np.maximum(*(both[which][1] for both in ends))
        found.append([[float(low), float(high)] for low, high in zip(lower, upper, strict=True)])
    return Intervals(*found)


def statistic_interval(
    counts: Iterable[np.ndarray], drivers: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]
) -> list[float] | None:
    """Return the 95 % interval of a statistic of counts, bias-corrected and accelerated (BCa; Efron, 1987).

    Args:
        counts: columns of n counts, one count for each session.
        drivers: the code of the driver of each session.
        statistic: a function of the summed counts, of shape (draws, columns), with one number for each draw.

    Returns:
        The two ends; None if `effective_drivers` is below FEWEST_EFFECTIVE_DRIVERS.
    """
    if effective_drivers(drivers) < FEWEST_EFFECTIVE_DRIVERS:
        return None
    sums, _ = _grouped(*reversed(_per_driver(counts, drivers)))
    total = sums.sum(axis=0)
    found = float(statistic(total[None])[0])
    resampled = statistic(_resampled(sums))
    without_one = statistic(total - sums)
    below = np.mean(resampled < found) + np.mean(resampled == found) / 2
    if below in {0.0, 1.0}:
        # All draws are below, or all are above: the bias cannot be estimated.
        return [float(end) for end in np.quantile(resampled, _TAILS)]
    normal = NormalDist()
    bias = normal.inv_cdf(float(below))
    away = without_one.mean() - without_one
    spread = (away**2).sum()
    acceleration = (away**3).sum() / (6 * spread**1.5) if spread else 0.0
    ends = []
    for tail in _TAILS:
        z = bias + normal.inv_cdf(tail)
        ends.append(float(np.quantile(resampled, normal.cdf(float(bias + z / (1 - acceleration * z))))))
    return ends


def _per_driver(columns: Iterable[np.ndarray], drivers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of sessions of each driver, and the sums of the columns, of shape (drivers, columns)."""
    different, places, sessions = np.unique(drivers, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(places, column, minlength=len(different)) for column in columns], axis=1)
    return sessions.astype(np.float64), sums


def _grouped(sums: np.ndarray, sessions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums and the numbers of sessions, by driver or by at most _MOST_DRAWN groups of drivers."""
    if len(sessions) <= _MOST_DRAWN:
        return sums, sessions
    groups = np.random.default_rng(42).permutation(len(sessions)) % _MOST_DRAWN
    joined = np.stack([np.bincount(groups, column) for column in sums.T], axis=1)
    return joined, np.bincount(groups, sessions)


def _tails(columns: int) -> list[tuple[float, float]]:
    """Return the quantiles of the two ends of a 95 % interval, for one mean and for `columns` means at once."""
    return [(tail / 2, 1 - tail / 2) for tail in (0.05, 0.05 / columns)]


def _bootstrap_t(
    sums: np.ndarray, sessions: np.ndarray, tails: list[tuple[float, float]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each pair of tails the lower and the upper ends of sums / sessions, for each column of sums."""
    drivers, columns = sums.shape
    squares = np.column_stack([sums**2, sums * sessions[:, None], sessions**2, sums, sessions])
    drawn = _resampled(squares)
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
        squares: for each draw the sums over drivers of s^2, s n, n^2, s and n, where s has `columns` columns.
        columns: the number of columns of s.
        drivers: the number of drivers in a draw.
    """
    ss, sn = squares[:, :columns], squares[:, columns : 2 * columns]
    nn, s, n = squares[:, [2 * columns]], squares[:, 2 * columns + 1 : -1], squares[:, [-1]]
    means = s / n
    variance = np.maximum(ss - 2 * means * sn + means**2 * nn, 0) * drivers / (drivers - 1)
    return means, np.sqrt(variance) / n


def _resampled(per_driver: np.ndarray) -> np.ndarray:
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
