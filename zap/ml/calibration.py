"""How well the confidence of answers matches their accuracy, from the sums of ten bins of confidence."""

from typing import Any

import numpy as np

BINS = 10


def bin_places(confidence: np.ndarray) -> np.ndarray:
    """Return for each session the place of its bin. The bins are equally wide."""
    places: np.ndarray = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return places


def calibration_of(sessions: np.ndarray, confidence: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Return the expected calibration error, and the bins that have sessions.

    The expected calibration error (Naeini et al., 2015) is the mean of |accuracy - mean confidence| over the bins,
    weighted by their sessions.

    Args:
        sessions: the number of sessions in each bin.
        confidence: the sum of the confidence over the sessions of each bin.
        right: the number of sessions of each bin that were predicted correctly.
    """
    bins = [
        {
            "from": place / BINS,
            "to": (place + 1) / BINS,
            "sessions": int(sessions[place]),
            "mean_confidence": float(confidence[place] / sessions[place]),
            "accuracy": float(right[place] / sessions[place]),
        }
        for place in np.flatnonzero(sessions).tolist()
    ]
    gaps = [one["sessions"] * abs(one["accuracy"] - one["mean_confidence"]) for one in bins]
    return {"expected_calibration_error": float(sum(gaps) / sessions.sum()), "bins": bins}
