"""Contributions and importances: the effect of each column on the scores of a booster, by column name."""

from collections.abc import Sequence
from typing import Literal, get_args

import lightgbm
import numpy as np
import pandas as pd

from zap.ml.pasts import warn
from zap.ml.shap_values import shap_values

Kind = Literal["gain", "split"]

# The name of the column that holds the mean score; it follows the columns of the model.
EXPECTED_VALUE = "expected_value"
# With many types, the values of more rows would take gigabytes.
_ROWS_AT_A_TIME = 5000


def importances(booster: lightgbm.Booster, columns: Sequence[str], kind: Kind) -> pd.Series:
    """Return the importance of each column for the booster's trees, largest first.

    Args:
        booster: a booster that was fitted to a matrix of these columns.
        columns: the names of the columns.
        kind: `gain` (the training loss that splits on the column have saved) or `split` (the number of these splits).

    Raises:
        ValueError: `kind` is neither `gain` nor `split`.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"there is no importance {kind!r}; there are {' and '.join(get_args(Kind))}")
    found = pd.Series(booster.feature_importance(kind), index=pd.Index(columns, name="column"), name=kind)
    return found.sort_values(ascending=False, kind="stable")


def class_code(classes: Sequence[str], charger_type: str) -> int:
    """Return the code of a charger type: its place in the classes of a model.

    Raises:
        ValueError: the model does not know the charger type.
    """
    if charger_type not in classes:
        raise ValueError(f"the model knows no charger type {charger_type!r}; it knows {', '.join(classes)}")
    return classes.index(charger_type)


def warn_of_weightless(weight: float, cold: np.ndarray) -> None:
    """Warn if some rows have a driver without a past, and the trees have no weight for such rows.

    Args:
        weight: the weight of the trees for drivers without a past.
        cold: for each row whether its driver has no past.
    """
    if weight == 0 and (n := int(cold.sum())):
        warn(
            f"{n} of {len(cold)} rows have a driver without a past. Their prediction is the mix of types alone"
            " (cold_weight_ is 0); the contributions explain the score of the trees, which has no weight there"
        )


def contributions(booster: lightgbm.Booster, matrix: np.ndarray, type_codes: np.ndarray, *, threads: int) -> np.ndarray:
    """Return LightGBM's SHAP values of n rows, for one class in each row.

    Args:
        booster: a booster of two or more classes.
        matrix: n rows of the booster's columns.
        type_codes: the code of the class that is explained in each row.
        threads: the number of threads that LightGBM may use.

    Returns:
        float64 of shape (n, columns + 1). The last column is the mean score. The sum of a row is the booster's raw
        score of the row's class.
    """
    n, columns = matrix.shape
    if not n:
        return np.empty((0, columns + 1))
    parts = []
    # LightGBM computes the values of all classes together; one class is kept.
    for at in range(0, n, _ROWS_AT_A_TIME):
        some = shap_values(booster, matrix[at : at + _ROWS_AT_A_TIME], threads)
        codes = type_codes[at : at + _ROWS_AT_A_TIME]
        if booster.num_model_per_iteration() == 1:
            # Both classes have the log-odds as their score: the first class has the opposite sign.
            parts.append(np.where(codes[:, None] == 1, some[:, 1], -some[:, 1]))
        else:
            parts.append(some[np.arange(len(codes)), codes])
    return np.concatenate(parts)
