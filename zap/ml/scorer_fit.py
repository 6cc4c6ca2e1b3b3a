"""Fit the scorer of an estimator: trees alone, or a blend of trees and a logistic regression."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from zap.ml.blend import Blend
from zap.ml.boosting import BoostingProgress, boost
from zap.ml.features import MATRIX_COLUMNS
from zap.ml.history_columns import driver_column
from zap.ml.logistic import SESSIONS
from zap.ml.logistic_fit import fit_logistic
from zap.ml.scorer import Scorer


def fit_scorer(  # noqa: PLR0913
    params: Mapping[str, Any],
    matrix: np.ndarray,
    codes: np.ndarray,
    n_classes: int,
    progress: BoostingProgress | None = None,
    *,
    weight: float = 0.0,
    strength: float = 0.0,
) -> tuple[Scorer, np.ndarray]:
    """Fit the scorer that `params["estimator"]` names to a matrix of n rows and the n codes of their classes.

    Args:
        params: the parameters of ChargerTypeModel.
        matrix: float64 of shape (n, columns).
        codes: n codes of classes.
        n_classes: the number of classes.
        progress: called with the progress of the boosting.
        weight: of the estimator "blend": the weight of the logistic regression.
        strength: of the estimator "blend": the strength of the logistic regression.

    Returns:
        The scorer, and its probabilities for the n rows, bit-identical to `score`: shape (n, n_classes).
    """
    trees, found = boost(params, matrix, codes, n_classes, progress)
    if params["estimator"] != "blend":
        return trees, found
    logistic = fit_logistic(matrix, codes, n_classes, strength)
    sessions = len(MATRIX_COLUMNS) + driver_column(SESSIONS, n_classes)
    blend = Blend(trees, logistic, weight, matrix.shape[1], sessions)
    return blend, blend.mixed(found, matrix)
