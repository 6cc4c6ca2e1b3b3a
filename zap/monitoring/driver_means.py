"""Scores of sessions, and their means over drivers: a driver counts once, however many sessions it has."""

import numpy as np


def brier(probabilities: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Return the Brier score of each session, halved so that it lies between 0 (best) and 1.

    Half the sum of the squared differences between the probabilities and what was used (Brier, 1950). A charger type
    that the version does not know has no column: then nothing that it said was right.

    Args:
        probabilities: of shape (sessions, types).
        used: for each session the column of the type that the driver used; -1 for a type without a column.
    """
    known = used >= 0
    said = np.where(known, probabilities[np.arange(len(used)), used], 0.0)
    score: np.ndarray = np.clip(((probabilities**2).sum(axis=1) - 2 * said + 1) / 2, 0.0, 1.0)
    return score


def driver_means(drivers: np.ndarray, *scores: np.ndarray) -> list[np.ndarray]:
    """Return the mean of each score for each driver, in the order of the drivers' codes.

    Args:
        drivers: the code of the driver of each session.
        scores: one or more scores of each session.
    """
    _, codes = np.unique(drivers, return_inverse=True)
    sessions = np.bincount(codes)
    return [np.bincount(codes, one) / sessions for one in scores]
