"""Scores of probabilities, computed from the counts of a confusion matrix and the log losses; and comparisons."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from zap.ml.intervals import mean_intervals

# The trees may give a known type the probability 0. Its log loss would be infinite, so the probability is raised.
_FLOOR = 1e-15


class SummedScores:
    """The scores of a model or of a baseline, from the sums over sessions.

    Args:
        hits: for each type the number of sessions in which it was used and predicted.
        support: the number of sessions that used the type.
        predictions: the number of sessions for which the type was predicted.
        log_loss: the sum of the log losses of all sessions in nats.
    """

    def __init__(self, hits: np.ndarray, support: np.ndarray, predictions: np.ndarray, log_loss: float) -> None:
        self._hits, self._support, self._predictions, self._log_loss = hits, support, predictions, log_loss
        self._f1 = _ratio(2 * hits, support + predictions)

    @property
    def accuracy(self) -> float:
        return float(self._hits.sum() / self._support.sum())

    @property
    def weighted_f1(self) -> float:
        return float(weighted_f1(self._hits, self._support, self._predictions))

    @property
    def macro_f1(self) -> float:
        """Return the mean F1 of the types that drivers used in these sessions."""
        return float(self._f1[self._support > 0].mean())

    @property
    def log_loss(self) -> float:
        return float(self._log_loss / self._support.sum())

    def as_dict(self) -> dict[str, float]:
        return {"weighted_f1": self.weighted_f1, "macro_f1": self.macro_f1, "log_loss": self.log_loss}

    def per_class(self, classes: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return precision, recall, F1 and the number of sessions of each type. A division by 0 gives 0."""
        precision, recall = _ratio(self._hits, self._predictions), _ratio(self._hits, self._support)
        return {
            name: {"precision": float(p), "recall": float(r), "f1": float(f1), "support": int(n)}
            for name, p, r, f1, n in zip(classes, precision, recall, self._f1, self._support, strict=True)
        }


class Scores(SummedScores):
    """The scores of a model or of a baseline on n sessions of k types.

    Args:
        labels: n codes of the types that the drivers used.
        probabilities: float64 of shape (n, k).

    Attributes:
        predicted: n codes of the types with the highest probability.
        confusion: the numbers of sessions, of shape (k, k): a row for each used type, a column for each predicted type.
        log_losses: the log loss of each session in nats.
    """

    def __init__(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        k = probabilities.shape[1]
        self.predicted: np.ndarray = probabilities.argmax(axis=1)
        self.confusion = np.bincount(labels * k + self.predicted, minlength=k * k).reshape(k, k)
        self.log_losses = log_losses(probabilities[np.arange(len(labels)), labels])
        of_types = np.diagonal(self.confusion), self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        super().__init__(*of_types, self.log_losses.sum())


def log_losses(chosen: np.ndarray) -> np.ndarray:
    """Return the log losses in nats, from the probabilities of the types that the drivers used."""
    losses: np.ndarray = -np.log(np.maximum(chosen, _FLOOR))
    return losses


class Difference(NamedTuple):
    """The log loss of a model minus the log loss of a reference on the same sessions.

    Attributes:
        log_loss_difference: the mean over sessions, in nats.
        interval: the 95 % interval over drivers; None with too few effective drivers.
        interval_of_all: a wider interval that holds for all differences at once; None with too few effective drivers.
    """

    log_loss_difference: float
    interval: list[float] | None
    interval_of_all: list[float] | None


def compare(model: Scores, references: Mapping[str, Scores], drivers: np.ndarray) -> dict[str, Difference]:
    """Return the model's log loss minus the log loss of each reference, with intervals over drivers.

    Args:
        model: the scores of a model.
        references: the scores of the baselines, or of the version in production, on the same n sessions.
        drivers: n codes of the drivers.
    """
    losses = [model.log_losses - one.log_losses for one in references.values()]
    found = mean_intervals(np.column_stack(losses), drivers)
    nothing: list[None] = [None] * len(references)
    alone, together = (nothing, nothing) if found is None else found
    return {
        name: Difference(float(loss.mean()), one, all_)
        for name, loss, one, all_ in zip(references, losses, alone, together, strict=True)
    }


def weighted_f1(hits: np.ndarray, support: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return the weighted F1, from counts with one column for each type.

    Args:
        hits: the numbers of correctly predicted sessions, of shape (..., k).
        support: the numbers of sessions that used the type.
        predictions: the numbers of sessions for which the type was predicted.
    """
    f1 = _ratio(2 * hits, support + predictions)
    mean: np.ndarray = (f1 * support).sum(axis=-1) / np.maximum(support.sum(axis=-1), 1)
    return mean


def _ratio(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return counts / totals; 0 where the total is 0."""
    ratio: np.ndarray = np.divide(counts, totals, out=np.zeros(totals.shape), where=totals > 0)
    return ratio
