"""Intervals over drivers: how much a score would vary with other drivers.

The sessions of one driver are alike, so drivers are resampled, never sessions. Two common cases make such intervals too
narrow: a few drivers lose much while most drivers gain a little, and a few drivers have most of the sessions. Therefore
`mean_intervals` returns the union of two bootstrap-t intervals, and None if there are too few drivers.
`tests/simulations/intervals.py` measures how often a verdict is "better" by chance.
"""

from collections.abc import Callable, Iterable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from zap.ml.resampling import bootstrap_t, drawn_sums, grouped, per_driver

# If 85 % of all drivers gain a little and 15 % lose much, then 4 % of all samples of 20 drivers have no losing driver,
# and no interval can show the loss. Of all samples of 30 drivers, 0.8 % have none.
FEWEST_EFFECTIVE_DRIVERS = 30
# In the second interval a driver has at most this share of the total weight.
_MOST_OF_ONE_DRIVER = 0.01
_TAILS = (0.025, 0.975)
# How many separate means are resampled at a time: a bound of the memory.
_COLUMNS_AT_A_TIME = 100


def effective_drivers(drivers: np.ndarray) -> float:
    """Return the effective number of drivers: how many drivers with equally many sessions carry equal information.

    It is (sum n)^2 / sum n^2, where n is a driver's number of sessions (Kish, Survey Sampling, 1965); 0.0 without
    sessions.

    Args:
        drivers: the code of the driver of each session.
    """
    return effective_number(np.unique(drivers, return_counts=True)[1])


def effective_number(sessions: np.ndarray) -> float:
    """Return the result of `effective_drivers`, from the number of sessions of each driver."""
    counts = sessions.astype(np.float64)
    return float(counts.sum() ** 2 / (counts**2).sum()) if counts.any() else 0.0


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
    sessions, sums = per_driver(values.T, drivers)
    return mean_intervals_of(sums, sessions)


def mean_intervals_of(sums: np.ndarray, sessions: np.ndarray) -> Intervals | None:
    """Return the result of `mean_intervals`, from sums of each driver, or of each group of drivers.

    Args:
        sums: float64 of shape (drivers, columns).
        sessions: the number of sessions of each driver, one or more.
    """
    if effective_number(sessions) < FEWEST_EFFECTIVE_DRIVERS:
        return None
    capped, weights = _capped(sums, sessions[:, None])
    pairs = [grouped(sums, sessions), grouped(capped, weights[:, 0])]
    return Intervals(*(_as_lists(*ends) for ends in _union(pairs, _tails(sums.shape[1]))))


def separate_intervals(sums: np.ndarray, sessions: np.ndarray) -> list[list[float] | None]:
    """Return the interval of the mean of each column, as `mean_intervals` does for one mean, in one pass.

    Args:
        sums: float64 of shape (groups, columns): the sums of at most some thousands of groups of drivers.
        sessions: of the same shape: the number of sessions of each group in each column; 0 is a group without any.
    """
    found: list[list[float] | None] = [None] * sums.shape[1]
    enough = [at for at in range(len(found)) if effective_number(sessions[:, at]) >= FEWEST_EFFECTIVE_DRIVERS]
    for start in range(0, len(enough), _COLUMNS_AT_A_TIME):
        some = enough[start : start + _COLUMNS_AT_A_TIME]
        pairs = [(sums[:, some], sessions[:, some])]
        if (sessions[:, some] > _MOST_OF_ONE_DRIVER * sessions[:, some].sum(axis=0)).any():
            pairs.append(_capped(*pairs[0]))
        (ends,) = _union(pairs, _tails(1)[:1])
        for at, interval in zip(some, _as_lists(*ends), strict=True):
            found[at] = interval
    return found


def _capped(sums: np.ndarray, sessions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums and the sessions with each driver weighted down to at most _MOST_OF_ONE_DRIVER."""
    weights = np.minimum(sessions, _MOST_OF_ONE_DRIVER * sessions.sum(axis=0))
    return sums * np.divide(weights, sessions, out=np.zeros(sessions.shape), where=sessions > 0), weights


def _union(
    pairs: list[tuple[np.ndarray, np.ndarray]], tails: list[tuple[float, float]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each pair of tails the lowest lower and the highest upper ends over several sums and sessions."""
    ends = [bootstrap_t(sums, sessions, tails) for sums, sessions in pairs]
    return [
        (np.minimum.reduce([lower for lower, _ in alike]), np.maximum.reduce([upper for _, upper in alike]))
        for alike in zip(*ends, strict=True)
    ]


def _as_lists(lower: np.ndarray, upper: np.ndarray) -> list[list[float]]:
    return [[float(low), float(high)] for low, high in zip(lower, upper, strict=True)]


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
    sessions, sums = per_driver(counts, drivers)
    return statistic_interval_of(sums, sessions, statistic)


def statistic_interval_of(
    sums: np.ndarray, sessions: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]
) -> list[float] | None:
    """Return the result of `statistic_interval`, from sums of each driver, or of each group of drivers.

    Args:
        sums: counts of shape (drivers, columns).
        sessions: the number of sessions of each driver.
        statistic: as in `statistic_interval`.
    """
    if effective_number(sessions) < FEWEST_EFFECTIVE_DRIVERS:
        return None
    sums, _ = grouped(sums, sessions)
    total = sums.sum(axis=0)
    found = float(statistic(total[None])[0])
    resampled = statistic(drawn_sums(sums))
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


def jackknife_interval_of(
    sums: np.ndarray, sessions: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]
) -> list[float] | None:
    """Return the 95 % interval of a smooth statistic of counts by the delete-one jackknife.

    It takes far less time than `statistic_interval_of`, so it is for plots with hundreds of intervals (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11). It is symmetric, and cut off at 0 and 1.

    Args:
        sums: counts of shape (drivers, columns).
        sessions: the number of sessions of each driver.
        statistic: as in `statistic_interval_of`, with values from 0 to 1.
    """
    if effective_number(sessions) < FEWEST_EFFECTIVE_DRIVERS:
        return None
    n, total = len(sums), sums.sum(axis=0)
    found, without_one = float(statistic(total[None])[0]), statistic(total - sums)
    error = np.sqrt((n - 1) / n * ((without_one - without_one.mean()) ** 2).sum())
    half = NormalDist().inv_cdf(_TAILS[1]) * float(error)
    return [max(0.0, found - half), min(1.0, found + half)]


def _tails(columns: int) -> list[tuple[float, float]]:
    """Return the quantiles of the two ends of a 95 % interval, for one mean and for `columns` means at once."""
    return [(tail / 2, 1 - tail / 2) for tail in (0.05, 0.05 / columns)]
