"""Explanations: how much each column adds to ln(p1/p2), the log-ratio of the predicted type and the runner-up.

A prediction is the weighted mean of its parts: for drivers with a past of the trees and a logistic regression, for
other drivers of the trees and the usual mix. In each part the log-ratio is a difference of two scores, and a score is a
sum: SHAP values in the trees, products of weights and inputs in the logistic regression. The logarithm of a mean is not
the mean of the logarithms, so the weighted sum of the parts and a rest, `averaging`, are the log-ratio of the answer.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np

from zap.errors import DamagedModel
from zap.ml.blend import Blend
from zap.ml.explained_groups import USUAL_MIX, sums_by_group
from zap.ml.history_columns import share_columns
from zap.ml.inference import Predictor
from zap.ml.logistic import SESSIONS, log_inputs
from zap.ml.population_history import PopulationHistory
from zap.ml.scorer import Scorer
from zap.ml.shap_values import shap_values
from zap.sentences import say

TREES, LOGISTIC = "trees", "logistic"
# Shares are never 0, but a stored row may be damaged.
_LEAST = 1e-300
# A moment after all days.
_LATEST = 2**62


class Part(NamedTuple):
    """A part of a prediction of one row.

    Attributes:
        name: TREES, LOGISTIC or USUAL_MIX.
        weight: its weight in the prediction, 0 to 1.
        log_ratio: ln(p1/p2) of this part alone.
        groups: what each of EXPLAINED_GROUPS adds to `log_ratio`.
    """

    name: str
    weight: float
    log_ratio: float
    groups: dict[str, float]


class Explanation(NamedTuple):
    """The explanation of one prediction.

    Attributes:
        predicted: the predicted charger type.
        runner_up: the type with the second highest probability.
        log_ratio: ln(p1/p2) of these two probabilities.
        groups: what each of EXPLAINED_GROUPS adds to `log_ratio`: the weighted sum over the parts.
        averaging: the rest, so that the groups and this rest add up to `log_ratio`. It is 0 if one part has all weight.
        parts: the parts.
        columns: what each column adds to `log_ratio`, by its name.
        new_driver: whether the driver has no past.
    """

    predicted: str
    runner_up: str
    log_ratio: float
    groups: dict[str, float]
    averaging: float
    parts: tuple[Part, ...]
    columns: dict[str, float]
    new_driver: bool


class Contrasts(NamedTuple):
    """The log-ratios of n rows, taken apart.

    Attributes:
        weights: for each part n weights.
        values: for each part what each column adds to its log-ratio, of shape (n, columns + 1). The last place has what
            belongs to no column.
        log_ratio: n log-ratios of the answers.
    """

    weights: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    log_ratio: np.ndarray

    @property
    def weighted(self) -> np.ndarray:
        """Return what each column adds to the log-ratio of the answer: float64 of shape (n, columns + 1)."""
        return np.asarray(sum(self.weights[name][:, None] * values for name, values in self.values.items()))


class Explainer:
    """Explain the predictions of one model version. Any thread may use it.

    Args:
        types: the charger types, in the order of the probabilities.
        columns: the names of the columns of a row.
        scorer: the fitted scorer.
        cold_weight: the weight of the trees for drivers without a past.
        population: the mixes of types on the days of the training rows.
    """

    def __init__(
        self,
        types: Sequence[str],
        columns: Sequence[str],
        scorer: Scorer,
        cold_weight: float,
        population: PopulationHistory,
    ) -> None:
        self.types, self.columns = tuple(types), tuple(columns)
        # The share of each type in all training sessions.
        self.mix = dict(zip(self.types, population.mix(_LATEST), strict=True))
        self._scorer, self._cold_weight = scorer, cold_weight
        self._sessions = self.columns.index(SESSIONS)
        self._shares = [self.columns.index(name) for name in share_columns(self.types)]
        self._logistic = scorer.of_logistic()["logistic"] if isinstance(scorer, Blend) and scorer.weight > 0 else None

    @classmethod
    def of(cls, predictor: Predictor) -> Self:
        """Return the explainer of a loaded model version."""
        one = predictor
        return cls(one.types, one.columns, one.scorer, one.cold_weight, one.population)

    def explain(self, features: bytes, probabilities: Mapping[str, float]) -> Explanation:
        """Explain a prediction. This takes milliseconds, in which other threads may run.

        Args:
            features: the scored row, `Answer.features`.
            probabilities: the probabilities of the answer.

        Raises:
            DamagedModel: the row or the probabilities belong to another model.
        """
        row = np.frombuffer(features, dtype="<f8").astype(np.float64) if len(features) % 8 == 0 else np.empty(0)
        if len(row) != len(self.columns) or set(probabilities) != set(self.types):
            raise DamagedModel(
                say(
                    "the stored prediction has {numbers} numbers and {types} types, and the model has {columns}"
                    " columns and {model_types} types",
                    numbers=len(row),
                    types=len(probabilities),
                    columns=len(self.columns),
                    model_types=len(self.types),
                )
            )
        chances = np.array([probabilities[name] for name in self.types])
        found = self.contrasts(row[None], chances[None], threads=1)
        first, second = np.argsort(-chances, kind="stable")[:2].tolist()
        parts = tuple(
            Part(name, float(found.weights[name][0]), float(values[0].sum()), self._groups(values[0]))
            for name, values in found.values.items()
        )
        weighted, log_ratio = found.weighted[0], float(found.log_ratio[0])
        whole = any(part.weight == 1 for part in parts)
        return Explanation(
            self.types[first],
            self.types[second],
            log_ratio,
            self._groups(weighted),
            0.0 if whole else log_ratio - float(weighted.sum()),
            parts,
            dict(zip(self.columns, weighted.tolist(), strict=False)),
            bool(row[self._sessions] == 0),
        )

    def contrasts(self, matrix: np.ndarray, probabilities: np.ndarray, threads: int) -> Contrasts:
        """Take the log-ratios of n rows apart.

        Args:
            matrix: float64, n rows of the model's columns.
            probabilities: the probabilities of the answers, of shape (n, types). They say which two types are compared.
            threads: the number of threads that LightGBM may use.
        """
        n = len(matrix)
        first, second = np.argsort(-probabilities, axis=1, kind="stable")[:, :2].T
        weights, scores = self._parts(matrix, threads)
        rows = np.arange(n)
        logs = [
            np.log(np.maximum(weights[name], _LEAST))[:, None] + _log_probabilities(name, one.sum(axis=2))
            for name, one in scores.items()
        ]
        answer = np.logaddexp.reduce(np.stack(logs), axis=0)
        values = {name: one[rows, first] - one[rows, second] for name, one in scores.items()}
        return Contrasts(weights, values, answer[rows, first] - answer[rows, second])

    def _parts(self, matrix: np.ndarray, threads: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return for each part n weights, and what each column adds to the score of each type.

        The scores have the shape (n, types, columns + 1). A part that weighs nothing in all rows is left out, except
        for the trees.
        """
        cold = matrix[:, self._sessions] == 0
        weights = {TREES: np.where(cold, self._cold_weight, 1.0 - self._scorer.weight)}
        scores = {TREES: shap_values(self._scorer.booster, matrix, threads)}
        if self._logistic is not None and not cold.all():
            weights[LOGISTIC] = np.where(cold, 0.0, self._scorer.weight)
            scores[LOGISTIC] = self._of_logistic(matrix)
        if cold.any():
            weights[USUAL_MIX] = np.where(cold, 1.0 - self._cold_weight, 0.0)
            scores[USUAL_MIX] = np.zeros((len(matrix), len(self.types), len(self.columns) + 1))
            scores[USUAL_MIX][:, :, -1] = np.log(np.maximum(matrix[:, self._shares], _LEAST))
        return weights, scores

    def _of_logistic(self, matrix: np.ndarray) -> np.ndarray:
        """Return what each column adds to the scores of the logistic regression.

        The last place has the scores for the usual mix: for a driver without sessions whose shares are this mix. A
        column of a share has the difference to these scores.
        """
        data = self._logistic or {}
        names = [f"{name}[{type_}]" for name in data["shares"] for type_ in self.types]
        places = [self.columns.index(name) for name in names]
        inputs = log_inputs(matrix, places, self._sessions)
        weights = np.array(data["weights"])
        k = len(places)
        usual = np.log(list(self.mix.values()) * len(data["shares"]))
        found = np.zeros((len(matrix), len(self.types), len(self.columns) + 1))
        # Each share has two inputs: its logarithm, and the logarithm times the logarithm of the number of sessions.
        own, times = inputs[:, :k] - usual, inputs[:, k:]
        added = own[:, None] * weights[:k].T + times[:, None] * weights[k:].T
        found[:, :, places] = added
        found[:, :, -1] = np.array(data["constants"]) + usual @ weights[:k]
        return found

    def _groups(self, values: np.ndarray) -> dict[str, float]:
        return {name: float(one) for name, one in sums_by_group(self.columns, values).items()}


def _log_probabilities(name: str, scores: np.ndarray) -> np.ndarray:
    """Return the logarithms of the probabilities of a part from its scores, both of shape (n, types)."""
    if name == USUAL_MIX:
        # Its scores are logarithms of shares already.
        return scores
    away = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(away - np.log(np.exp(away).sum(axis=1, keepdims=True)))
