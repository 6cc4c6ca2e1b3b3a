"""LightGBM's SHAP values: how much each column adds to the score of each class, for the trees of a booster."""

import lightgbm
import numpy as np


def shap_values(booster: lightgbm.Booster, matrix: np.ndarray, threads: int) -> np.ndarray:
    """Return the SHAP values of n rows (Lundberg et al., 2020, "From local explanations to global understanding").

    Args:
        booster: a booster of two or more classes.
        matrix: float64, n rows of the booster's columns.
        threads: the number of threads that LightGBM may use.

    Returns:
        float64 of shape (n, classes, columns + 1). The last place has the mean score of the training rows. The sum over
        the last axis is the raw score of a class. With two classes, the score of the first class is 0, and the score of
        the second class is its log-odds.
    """
    n, columns = matrix.shape
    if not n:
        return np.empty((0, max(2, booster.num_model_per_iteration()), columns + 1))
    found = np.asarray(booster.predict(matrix, pred_contrib=True, num_threads=threads))
    found = found.reshape(n, -1, columns + 1)
    # A booster of two classes has only the score of the second class.
    return np.concatenate([np.zeros_like(found), found], axis=1) if found.shape[1] == 1 else found
