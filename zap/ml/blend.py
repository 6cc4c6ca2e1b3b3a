"""Blend: the scorer that takes the weighted mean of LightGBM's trees and a logistic regression on the drivers' shares.

The trees find effects of several columns together. The logistic regression has few weights, so it overfits less where
the shares of a driver decide nearly everything.
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Self

import lightgbm
import numpy as np

from zap.errors import DamagedModel
from zap.ml.logistic import SESSIONS, Logistic
from zap.ml.trees import Trees
from zap.ml.weighted_mean import weighted_mean
from zap.sentences import say


class Blend:
    """Trees and a logistic regression as one scorer, which any thread may use.

    For a driver without a past the probabilities are those of the trees.

    Attributes:
        booster: the LightGBM booster of the trees.
        weight: the weight of the logistic regression, 0 to 1; the trees have the rest.

    Args:
        trees: the trees.
        logistic: the logistic regression; None if the training rows had too few drivers with a past.
        weight: the weight of the logistic regression.
        columns: the number of columns of a row.
        sessions: the place of the number of sessions in a row.
    """

    def __init__(self, trees: Trees, logistic: Logistic | None, weight: float, columns: int, sessions: int) -> None:
        self.booster: lightgbm.Booster = trees.booster
        self.weight = weight if logistic else 0.0
        self._trees, self._logistic = trees, logistic
        self._row, self._sessions = struct.Struct(f"{columns}d"), sessions

    @classmethod
    def from_data(cls, data: Mapping[str, Any], columns: Sequence[str], classes: Sequence[str]) -> Self:
        """Return the blend that was stored as data; `Scorer.from_data` defines the arguments and errors."""
        return cls.beside(Trees.from_data(data, columns, classes), data, columns, classes)

    @classmethod
    def beside(cls, trees: Trees, data: Mapping[str, Any], columns: Sequence[str], classes: Sequence[str]) -> Self:
        """Return the blend of trees and the logistic regression that `data` has, with its weight."""
        logistic = None if data["logistic"] is None else Logistic.from_data(data["logistic"], columns, classes)
        weight = data["weight"]
        if type(weight) is not float or not 0 <= weight <= 1:
            raise DamagedModel(
                say("the weight of the logistic regression is {weight!r}, not from 0 to 1; train again", weight=weight)
            )
        return cls(trees, logistic, weight, len(columns), columns.index(SESSIONS))

    def with_trees(self, trees: Trees) -> Self:
        """Return the blend with other trees."""
        return type(self)(trees, self._logistic, self.weight, self._row.size // 8, self._sessions)

    def data(self) -> dict[str, Any]:
        """Return the data of the trees and of the logistic regression, and its weight."""
        return {**self._trees.data(), **self.of_logistic()}

    def of_logistic(self) -> dict[str, Any]:
        """Return the data of the logistic regression, and its weight."""
        return {"weight": self.weight, "logistic": self._logistic.data() if self._logistic else None}

    def digest(self) -> str:
        """Return the SHA-256 of the trees, of the logistic regression and of its weight."""
        learned = json.dumps([self._trees.digest(), self.of_logistic()], sort_keys=True)
        return hashlib.sha256(learned.encode()).hexdigest()

    def score_row(self, row: bytes) -> list[float]:
        """Return the probabilities of the classes for one row.

        Args:
            row: one float64 number for each column, in the machine's byte order. The length is not checked.
        """
        found = self._trees.score_row(row)
        if self._logistic is None or self.weight == 0:
            return found
        values = self._row.unpack(row)
        if values[self._sessions] == 0:
            return found
        weight = self.weight
        other = self._logistic.score_row(values)
        return [weighted_mean(one, tree, weight) for one, tree in zip(other, found, strict=True)]

    def score(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        """Return probabilities of shape (n, classes) for a float64 matrix of shape (n, columns)."""
        return self.mixed(self._trees.score(matrix, threads), matrix)

    def mixed(self, found: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Mix the trees' probabilities for a matrix with those of the logistic regression, in place. Return them."""
        if self._logistic is not None and self.weight > 0:
            warm = matrix[:, self._sessions] != 0
            found[warm] = weighted_mean(self._logistic.score(matrix[warm]), found[warm], self.weight)
        return found

    def score_parts(self, matrix: np.ndarray, threads: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the result of `score`, and the probabilities of trees, logistic regression and blend, by name.

        For drivers without a past, all results have the probabilities of the trees. Each result is an array of its own.
        """
        trees = self._trees.score(matrix, threads)
        found = self.mixed(trees.copy(), matrix)
        parts = {"trees": trees}
        if self._logistic is not None:
            alone, warm = trees.copy(), matrix[:, self._sessions] != 0
            alone[warm] = self._logistic.score(matrix[warm])
            parts["logistic"] = alone
        return found, {**parts, "blend": found.copy()}
