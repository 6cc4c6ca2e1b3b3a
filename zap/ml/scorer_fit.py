"""Fit the scorer of an estimator: trees that answer alone, or a blend of trees and a logistic regression."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from zap.ml.blend import Blend
from zap.ml.boosting import BoostingProgress, boost
from zap.ml.features import MATRIX_COLUMNS
from zap.ml.history_columns import driver_column
from zap.ml.learned_weights import Weights
from zap.ml.logistic import SESSIONS
from zap.ml.logistic_fit import fit_logistic
from zap.ml.scorer import Scorer
from zap.ml.trees_alone import TreesAlone


def fit_scorer(  # noqa: PLR0913, PLR0917
    params: Mapping[str, Any],
    matrix: np.ndarray,
    codes: np.ndarray,
    n_classes: int,
    weights: Weights,
    progress: BoostingProgress | None = None,
) -> tuple[Scorer, np.ndarray]:
    """Fit the scorer that `params["estimator"]` names to a matrix of n rows and the n codes of their classes.

    The scorers of both estimators have equal parts, so that an evaluation shows the scores of each part.

    Args:
        params: the parameters of ChargerTypeModel.
        matrix: float64 of shape (n, columns).
        codes: n codes of classes.
        n_classes: the number of classes.
        weights: the learned weights.
        progress: called with the progress of the boosting.

    Returns:
        The scorer, and its probabilities for the n rows, bit-identical to `score`: shape (n, n_classes).
    """
    trees, found = boost(params, matrix, codes, n_classes, progress)
    logistic = fit_logistic(matrix, codes, n_classes, weights.strength)
    sessions = len(MATRIX_COLUMNS) + driver_column(SESSIONS, n_classes)
    blend = Blend(trees, logistic, weights.logistic, matrix.shape[1], sessions)
    if params["estimator"] == "lightgbm":
        return TreesAlone(trees, blend), found
    return blend, blend.mixed(found, matrix)
