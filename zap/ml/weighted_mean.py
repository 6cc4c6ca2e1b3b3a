"""The weighted mean of two predictions, and the weights that fit the drivers' sessions."""

from typing import Any

import numpy as np

# The weights that are tried, and the number of bootstrap draws of drivers.
_WEIGHTS = np.linspace(0, 1, 101)
_DRAWS = 200
_LEAST = float(np.finfo(np.float64).tiny)


def weighted_mean(one: Any, other: Any, weight: Any) -> Any:
    """Return the weighted mean of two probabilities, or of two arrays of probabilities.

    Args:
        one: the first probability.
        other: the second probability.
        weight: the weight of the first, 0 to 1.
    """
    return weight * one + (1.0 - weight) * other


def best_weights(one: np.ndarray, other: np.ndarray, drivers: np.ndarray) -> np.ndarray:
    """Return the best weight of the first prediction for each of many draws of the drivers.

    Drivers are drawn with replacement. The best weight of a draw is the weight with the lowest mean log loss. Drivers
    are drawn, not sessions, because the sessions of one driver are alike (the cluster bootstrap, Davison and Hinkley,
    1997).

    Args:
        one: for each of n sessions, the first probability of the type that the driver used.
        other: for each of n sessions, the second probability of that type.
        drivers: n codes from 0 to n_drivers - 1; each code occurs.
    """
    losses = -np.log(np.maximum(weighted_mean(one[:, None], other[:, None], _WEIGHTS), _LEAST))
    order = np.argsort(drivers, kind="stable")
    sessions = np.bincount(drivers)
    per_driver = np.add.reduceat(losses[order], np.cumsum(sessions) - sessions, axis=0)
    n = len(sessions)
    random = np.random.default_rng(42)
    draws = np.stack([np.bincount(random.integers(n, size=n), minlength=n) for _ in range(_DRAWS)])
    best: np.ndarray = _WEIGHTS[(draws @ per_driver).argmin(axis=1)]
    return best
