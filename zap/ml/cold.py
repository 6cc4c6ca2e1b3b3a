"""Drivers without a past: their prediction is a blend of the trees' prediction and the mix of the days before."""

from typing import Any

import numpy as np

from zap.ml.features import MATRIX_COLUMNS
from zap.ml.history_columns import driver_column, type_columns

# The weights that are tried, and the number of bootstrap draws of drivers.
_WEIGHTS = np.linspace(0, 1, 101)
_DRAWS = 200
_LEAST = float(np.finfo(np.float64).tiny)


def is_cold(matrix: np.ndarray, n_classes: int) -> np.ndarray:
    """Return for each row whether its driver has no past."""
    cold: np.ndarray = matrix[:, len(MATRIX_COLUMNS) + driver_column("sessions", n_classes)] == 0
    return cold


def mixes(matrix: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the shares of types in each row. For a driver without a past they are the mix of the days before."""
    return matrix[:, len(MATRIX_COLUMNS) :][:, type_columns("share", n_classes)]


def blend(found: Any, mix: Any, weight: Any) -> Any:
    """Return the weighted mean of the trees' probabilities and the mix.

    Args:
        found: the trees' probability of a type, or an array of probabilities.
        mix: the share of the type in the mix, or an array of shares.
        weight: the weight of the trees, 0 to 1.
    """
    return weight * found + (1.0 - weight) * mix


def draw_to_mix(found: np.ndarray, cold: np.ndarray, shares: np.ndarray, weight: float) -> np.ndarray:
    """Blend the probabilities for drivers without a past with the mix, in place. Return them.

    Args:
        found: the trees' probabilities for n rows, of shape (n, classes).
        cold: for each row whether its driver has no past.
        shares: the shares of the types in each row, of shape (n, classes); without a past they are the mix.
        weight: the weight of the trees, 0 to 1.
    """
    found[cold] = blend(found[cold], shares[cold], weight)
    return found


def witnessed_weight(found: np.ndarray, mix: np.ndarray, drivers: np.ndarray) -> float:
    """Return the weight of the trees that the drivers' sessions support.

    Drivers are drawn with replacement many times. The best weight of a draw is the weight with the lowest mean log
    loss. The result is the mean of the best weights minus their standard deviation: without evidence the prediction
    stays at the mix, and a few more sessions move the weight only a little. Drivers are drawn, not sessions, because
    the sessions of one driver are alike (the cluster bootstrap, Davison and Hinkley, 1997).

    Args:
        found: for each of n sessions, the trees' probability of the type that the driver used.
        mix: for each of n sessions, the share of that type in the mix.
        drivers: n codes from 0 to n_drivers - 1; each code occurs.
    """
    losses = -np.log(np.maximum(blend(found[:, None], mix[:, None], _WEIGHTS), _LEAST))
    order = np.argsort(drivers, kind="stable")
    sessions = np.bincount(drivers)
    per_driver = np.add.reduceat(losses[order], np.cumsum(sessions) - sessions, axis=0)
    n = len(sessions)
    random = np.random.default_rng(42)
    draws = np.stack([np.bincount(random.integers(n, size=n), minlength=n) for _ in range(_DRAWS)])
    best = _WEIGHTS[(draws @ per_driver).argmin(axis=1)]
    return float(max(0.0, best.mean() - best.std()))
