"""Drivers without a past: their prediction is a blend of the trees' prediction and the mix of the days before."""

import numpy as np

from zap.ml.features import MATRIX_COLUMNS
from zap.ml.history_columns import driver_column, type_columns
from zap.ml.weighted_mean import best_weights, weighted_mean


def is_cold(matrix: np.ndarray, n_classes: int) -> np.ndarray:
    """Return for each row whether its driver has no past."""
    cold: np.ndarray = matrix[:, len(MATRIX_COLUMNS) + driver_column("sessions", n_classes)] == 0
    return cold


def mixes(matrix: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the shares of types in each row. For a driver without a past they are the mix of the days before."""
    return matrix[:, len(MATRIX_COLUMNS) :][:, type_columns("share", n_classes)]


def draw_to_mix(found: np.ndarray, cold: np.ndarray, shares: np.ndarray, weight: float) -> np.ndarray:
    """Blend the probabilities for drivers without a past with the mix, in place. Return them.

    Args:
        found: the trees' probabilities for n rows, of shape (n, classes).
        cold: for each row whether its driver has no past.
        shares: the shares of the types in each row, of shape (n, classes); without a past they are the mix.
        weight: the weight of the trees, 0 to 1.
    """
    found[cold] = weighted_mean(found[cold], shares[cold], weight)
    return found


def witnessed_weight(found: np.ndarray, mix: np.ndarray, drivers: np.ndarray) -> float:
    """Return the weight of the trees that the drivers' sessions support.

    The result is the mean of the best weights minus their standard deviation (`weighted_mean.best_weights`): without
    evidence the prediction stays at the mix, and a few more sessions move the weight only a little.

    Args:
        found: for each of n sessions, the trees' probability of the type that the driver used.
        mix: for each of n sessions, the share of that type in the mix.
        drivers: n codes from 0 to n_drivers - 1; each code occurs.
    """
    best = best_weights(found, mix, drivers)
    return float(max(0.0, best.mean() - best.std()))
