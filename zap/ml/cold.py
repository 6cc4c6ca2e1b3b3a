"""Drivers without a past: what is said of them lies between what the trees found and the mix of the days before."""

from typing import Any

import numpy as np

from zap.ml.features import MATRIX_COLUMNS
from zap.ml.user_history import driver_column, type_columns


def is_cold(matrix: np.ndarray, n_classes: int) -> np.ndarray:
    """For each row whether its driver has no past."""
    cold: np.ndarray = matrix[:, len(MATRIX_COLUMNS) + driver_column("sessions", n_classes)] == 0
    return cold


def mixes(matrix: np.ndarray, n_classes: int) -> np.ndarray:
    """The shares of types in each row: for a driver without a past the mix of the days before."""
    return matrix[:, len(MATRIX_COLUMNS) :][:, type_columns("share", n_classes)]


def between(found: Any, mix: Any, weight: Any) -> Any:
    """What is said of a type, or of many: `weight` of what the trees found, the rest of the mix."""
    return weight * found + (1.0 - weight) * mix


def draw_to_mix(found: np.ndarray, matrix: np.ndarray, weight: float) -> np.ndarray:
    """Change in place what the trees found for n rows, of shape (n, classes), where the driver has no past."""
    n_classes = found.shape[1]
    cold = is_cold(matrix, n_classes)
    found[cold] = between(found[cold], mixes(matrix, n_classes)[cold], weight)
    return found
