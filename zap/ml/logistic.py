"""Logistic: a logistic regression on the logarithms of a driver's shares of types, as plain numbers.

Its inputs are the logarithms of the shares in SHARES, and these logarithms times log(1 + the driver's sessions): the
more sessions a driver has, the more the shares say. `zap/ml/logistic_fit.py` fits it with scikit-learn.

The answer for one row is bit-identical to the answer for a matrix. Logarithms and powers come from Python's `math` in
both cases, because NumPy computes them differently for long arrays on some machines. The products are added one after
the other in both cases, because a product of matrices adds them in an order that depends on the machine.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from zap.errors import DamagedModel
from zap.sentences import say

# The columns by type whose logarithms are the inputs.
SHARES = ("share", "share_time_of_day", "share_recent", "share_near")
SESSIONS = "sessions"
# Shares of a driver are never 0. Shares from elsewhere may be, and the logarithm of 0 is infinite.
_LEAST = 1e-12
# Up to this number of classes, written-out Python code scores one row in less time than NumPy.
_FEW_CLASSES = 5
# How many rows are computed at a time, so that their numbers stay in the processor's cache.
_CHUNK = 4096


class Logistic:
    """A fitted logistic regression for drivers with a past. Any thread may use it.

    Args:
        shares: the places in a row of the columns of SHARES, each for all classes.
        sessions: the place of the number of sessions.
        constants: the constant of each class.
        weights: the weight of each input for each class, of shape (2 * len(shares), classes).
        names: the columns by type whose places are in `shares`. A version of an older code may have other columns.
    """

    def __init__(
        self,
        shares: Sequence[int],
        sessions: int,
        constants: Sequence[float],
        weights: Sequence[Sequence[float]],
        names: Sequence[str] = SHARES,
    ) -> None:
        self._shares, self._sessions, self._names = list(shares), sessions, list(names)
        self._constants, self._weights = np.array(constants, dtype=np.float64), np.array(weights, dtype=np.float64)
        # The constants are the weights of an input that is always 1.
        self._of_inputs = np.vstack([self._constants, self._weights])
        few = len(self._constants) <= _FEW_CLASSES
        self._scores = _written_out(self._shares, sessions, self._of_inputs) if few else self._many_scores

    @classmethod
    def from_data(cls, data: Mapping[str, Any], columns: Sequence[str], classes: Sequence[str]) -> Self:
        """Return the logistic regression that was stored as data.

        Args:
            data: the result of the method `data`.
            columns: the names of the columns of a row.
            classes: the charger types.

        Raises:
            DamagedModel: a part of the data or a column is missing, or the numbers do not fit the classes.
        """
        k = len(classes)
        try:
            shares = [columns.index(f"{name}[{type_}]") for name in data["shares"] for type_ in classes]
            found = cls(shares, columns.index(SESSIONS), data["constants"], data["weights"], data["shares"])
            numbers = found._of_inputs
            if numbers.shape != (1 + 2 * len(shares), k) or not np.isfinite(numbers).all():
                raise ValueError(f"its numbers are not finite, or have the wrong shape {numbers.shape}")
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedModel(
                say(
                    "the logistic regression of the artefact cannot be used: {error}; train again with this code",
                    error=error,
                )
            ) from error
        return found

    def data(self) -> dict[str, Any]:
        """Return the logistic regression as data that JSON can hold."""
        return {
            "shares": self._names,
            "constants": self._constants.tolist(),
            "weights": self._weights.tolist(),
        }

    def score_row(self, row: Sequence[float]) -> list[float]:
        """Return the probabilities of the classes for one row of all columns."""
        scores = self._scores(row)
        largest = max(scores)
        powers = [math.exp(score - largest) for score in scores]
        total = 0.0
        # Not the function `sum`: in newer versions of Python, it adds more exactly than NumPy does.
        for power in powers:
            total += power
        return [power / total for power in powers]

    def _many_scores(self, row: Sequence[float]) -> list[float]:
        logs, times = _logs([row[place] for place in self._shares]), _log_sessions(row[self._sessions])
        # `accumulate` adds one product after the other.
        products = np.array([1.0, *logs, *[one * times for one in logs]])[:, None] * self._of_inputs
        found: list[float] = np.add.accumulate(products)[-1].tolist()
        return found

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Return probabilities of shape (n, classes) for a float64 matrix of n rows, bit-identical to `score_row`."""
        found = np.empty((len(matrix), len(self._constants)))
        for start in range(0, len(matrix), _CHUNK):
            found[start : start + _CHUNK] = self._score(matrix[start : start + _CHUNK])
        return found

    def _score(self, matrix: np.ndarray) -> np.ndarray:
        inputs = _log_inputs(matrix, self._shares, self._sessions)
        scores = np.tile(self._constants, (len(matrix), 1))
        for place, weights in enumerate(self._weights):
            scores = scores + inputs[:, place, None] * weights
        away = scores - scores.max(axis=1, keepdims=True)
        powers = np.array([*map(math.exp, away.ravel().tolist())]).reshape(away.shape)
        total = np.zeros(len(matrix))
        for column in powers.T:
            total = total + column
        return np.asarray(powers / total[:, None])


def _written_out(
    shares: Sequence[int], sessions: int, of_inputs: np.ndarray
) -> Callable[[Sequence[float]], list[float]]:
    """Return a function from one row of all columns to the scores of the classes.

    Its code has a line for each input, and all weights as numbers, because loops take about twice as long. Python adds
    the products of a class from left to right.

    Args:
        shares: the places of the shares.
        sessions: the place of the number of sessions.
        of_inputs: the constant of each class, and then the weights of each input, of shape (1 + inputs, classes).
    """
    logs, products = [f"log_{place}" for place in shares], [f"product_{place}" for place in shares]
    lines = [
        f"{log} = log(share if (share := row[{place}]) > least else least)"
        for log, place in zip(logs, shares, strict=True)
    ]
    lines += [f"times = log_sessions(row[{sessions}])"]
    lines += [f"{product} = {log} * times" for product, log in zip(products, logs, strict=True)]
    inputs = [*logs, *products]
    scores = [
        " + ".join([repr(constant), *(f"{one} * {weight!r}" for one, weight in zip(inputs, weights, strict=True))])
        for constant, *weights in of_inputs.T.tolist()
    ]
    names: dict[str, Any] = {"log": math.log, "log_sessions": _log_sessions, "least": _LEAST}
    code = "\n  ".join(["def scores(row):", *lines, f"return [{', '.join(scores)}]"])
    exec(code, names)  # noqa: S102 - whatever the artefact holds, the code has only its numbers
    found: Callable[[Sequence[float]], list[float]] = names["scores"]
    return found


def log_inputs(matrix: np.ndarray, shares: Sequence[int], sessions: int) -> np.ndarray:
    """Return the inputs of n rows, of shape (n, 2 * len(shares)).

    Args:
        matrix: float64 of n rows of all columns.
        shares: the places of the shares.
        sessions: the place of the number of sessions.
    """
    found = np.empty((len(matrix), 2 * len(shares)))
    for start in range(0, len(matrix), _CHUNK):
        found[start : start + _CHUNK] = _log_inputs(matrix[start : start + _CHUNK], shares, sessions)
    return found


def _log_inputs(matrix: np.ndarray, shares: Sequence[int], sessions: int) -> np.ndarray:
    logs = np.array(_logs(matrix[:, shares].ravel().tolist())).reshape(len(matrix), len(shares))
    times = np.array([*map(_log_sessions, matrix[:, sessions].tolist())])
    return np.concatenate([logs, logs * times[:, None]], axis=1)


def _logs(shares: Iterable[float]) -> list[float]:
    """Return the logarithms of shares. A missing share counts as the least share."""
    return [math.log(share if share > _LEAST else _LEAST) for share in shares]  # noqa: FURB136 - max keeps NaN


def _log_sessions(sessions: float) -> float:
    return math.log1p(sessions) if sessions > 0 else 0.0
