"""Fit the logistic regression on the drivers' shares with scikit-learn, and choose its strength over time folds."""

import warnings
from typing import Any

import numpy as np

from zap.ml.cold import is_cold
from zap.ml.features import MATRIX_COLUMNS
from zap.ml.history_columns import driver_column, type_columns
from zap.ml.logistic import SESSIONS, SHARES, Logistic, log_inputs

# If there are fewer rows of drivers with a past than this, nothing is fitted. Only the newest _MOST_ROWS rows are used:
# they are the most similar to future sessions, and the few weights need no more rows.
FEWEST_ROWS = 100
_MOST_ROWS = 50_000
# The strengths that are tried (the argument C of scikit-learn: a small C keeps the weights near 0), each on folds of
# the newest rows. Each fold learns from all rows before an eighth of the rows, and is tested on this eighth.
_STRENGTHS = (0.001, 0.01, 0.1, 1.0)
_FOLDS = 3
_FOLD_SHARE = 0.125
_MOST_FOLD_ROWS = 10_000
_MOST_ITERATIONS = 500
_DIGITS = 9


def fit_logistic(matrix: np.ndarray, codes: np.ndarray, n_classes: int, strength: float) -> Logistic | None:
    """Fit a logistic regression to the rows of drivers with a past.

    Args:
        matrix: float64 of n rows of all columns, in order of start.
        codes: n codes of charger types.
        n_classes: the number of charger types.
        strength: the result of `chosen_strength`.

    Returns:
        The logistic regression; None if fewer than FEWEST_ROWS rows have a driver with a past.
    """
    places = _warm(matrix, n_classes)[-_MOST_ROWS:]
    if len(places) < FEWEST_ROWS:
        return None
    shares, sessions = _places(n_classes)
    inputs = log_inputs(matrix[places], shares, sessions)
    constants, weights = _fitted(inputs, codes[places], n_classes, strength)
    return Logistic(shares, sessions, constants.tolist(), weights.tolist())


def chosen_strength(matrix: np.ndarray, codes: np.ndarray, n_classes: int) -> float:
    """Return the strength with the lowest log loss over time folds of the rows of drivers with a past.

    If there are fewer rows than FEWEST_ROWS, the result is the middle strength.

    Args:
        matrix: as in `fit_logistic`.
        codes: as in `fit_logistic`.
        n_classes: as in `fit_logistic`.
    """
    places = _warm(matrix, n_classes)[-_MOST_FOLD_ROWS:]
    if len(places) < FEWEST_ROWS:
        return _STRENGTHS[len(_STRENGTHS) // 2]
    from sklearn.model_selection import TimeSeriesSplit  # noqa: PLC0415 - a server does not fit
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    inputs, used = log_inputs(matrix[places], *_places(n_classes)), codes[places]
    folds = list(TimeSeriesSplit(_FOLDS, test_size=int(len(places) * _FOLD_SHARE)).split(inputs))

    def loss(strength: float) -> float:
        losses = []
        for train, test in folds:
            constants, weights = _fitted(inputs[train], used[train], n_classes, strength)
            scores = constants + inputs[test] @ weights
            scores -= scores.max(axis=1, keepdims=True)
            chosen = scores[np.arange(len(test)), used[test]]
            losses.append(float(np.mean(np.log(np.exp(scores).sum(axis=1)) - chosen)))
        return sum(losses)

    # Several threads would add numbers in another order.
    with threadpool_limits(1, "blas"):
        return min(_STRENGTHS, key=loss)


def _warm(matrix: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the places of the rows whose drivers have a past."""
    return np.flatnonzero(~is_cold(matrix, n_classes))


def _places(n_classes: int) -> tuple[list[int], int]:
    """Return the places of the shares in a row of all columns, and the place of the number of sessions."""
    before = len(MATRIX_COLUMNS)
    slices = [type_columns(name, n_classes) for name in SHARES]
    shares = [before + place for one in slices for place in range(one.start, one.stop)]
    return shares, before + driver_column(SESSIONS, n_classes)


def _fitted(inputs: np.ndarray, codes: np.ndarray, n_classes: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit to n rows. Return the constants, of shape (classes,), and the weights, of shape (inputs, classes).

    The inputs are standardised for the fit. The returned numbers are for inputs that are not standardised.
    """
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - a server does not fit
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    mean, scale = inputs.mean(axis=0), inputs.std(axis=0)
    scale[scale == 0] = 1.0
    # One more row of each type, with mean inputs, so that each type has a row. No type then gets the probability 0.
    rows = np.vstack([(inputs - mean) / scale, np.zeros((n_classes, inputs.shape[1]))])
    used = np.concatenate([codes, np.arange(n_classes)])
    model: Any = LogisticRegression(C=strength, max_iter=_MOST_ITERATIONS)
    # Several threads would add numbers in another order, and for so few inputs they are slower than one thread.
    with threadpool_limits(1, "blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows, used)
        weights = (model.coef_ / scale).T
        constants = model.intercept_ - mean @ weights
    if n_classes == 2:
        # Of two classes, scikit-learn returns the numbers of the second class. The numbers of the first class are 0.
        weights = np.column_stack([np.zeros(len(weights)), weights])
        constants = np.concatenate([[0.0], constants])
    return _rounded(constants), _rounded(weights)


def _rounded(values: np.ndarray) -> np.ndarray:
    """Return numbers with _DIGITS significant digits. Further digits depend on the type of the processor."""
    return np.array([float(f"{value:.{_DIGITS - 1}e}") for value in values.ravel()]).reshape(values.shape)
