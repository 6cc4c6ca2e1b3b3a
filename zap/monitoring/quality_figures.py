"""The figures of live quality, from sums: computed as an evaluation computes its figures, with the names it gives them.

The differences to an evaluation: the intervals are over groups of drivers, a bin of calibration has the confidence
that was answered (an evaluation lowers it a little if a type is unseen), and the parts of a blend are not scored.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from zap.ml.calibration import BINS, calibration_of
from zap.ml.intervals import effective_number, jackknife_interval_of, mean_intervals_of, statistic_interval_of
from zap.ml.scores import SummedScores, weighted_f1
from zap.ml.slices import SLICES
from zap.monitoring.quality_sums import FIRST_PLACES, PARTS, UNIT, Totals

# In the expected accuracy the mean confidence of a bin weighs as much as this number of sessions with outcomes.
_WEIGHT_OF_CONFIDENCE = 10


class Figures:
    """The figures of some days of one version.

    Args:
        totals: the sums of these days, with at least one scored session.
        trained_on: the number of training sessions, from which the probability of unseen types follows.
    """

    def __init__(self, totals: Totals, trained_on: int) -> None:
        self._totals = totals
        self._unseen = sorted(name for name, one in totals.unseen.items() if one[0])
        self.classes = [*totals.layout.classes, *self._unseen]
        # `unseen.with_unseen_types`, for sums: each unseen type has the probability 1 / (n + k), and the others share
        # the rest, so each log loss of a seen type grows by the same number.
        self._each = 1 / (trained_on + len(self.classes))
        self._grown = -np.log1p(-self._each * len(self._unseen))

    @property
    def sessions(self) -> int:
        """Return the number of scored sessions."""
        return self._sessions(0)

    def scores(self, predictor: int, part: int = 0) -> SummedScores:
        """Return the scores of a predictor on one of PARTS.

        Args:
            predictor: its place in the layout.
            part: the place of the part.
        """
        of_unseen = self._of_unseen(part)
        seen = self._totals.array("support")[part]
        nothing = np.zeros(len(of_unseen))
        loss = self._totals.array("log_loss")[part, predictor] * UNIT
        return SummedScores(
            np.concatenate([self._totals.array("hits")[part, predictor], nothing]),
            np.concatenate([seen, of_unseen]),
            np.concatenate([self._totals.array("predictions")[part, predictor], nothing]),
            loss + seen.sum() * self._grown - of_unseen.sum() * np.log(self._each),
        )

    def brief(self) -> dict[str, Any]:
        """Return the main scores of the model, and how many sessions have them."""
        scores = self.scores(0)
        return {
            "sessions": self.sessions,
            "weighted_f1": scores.weighted_f1,
            "macro_f1": scores.macro_f1,
            "accuracy": scores.accuracy,
            "log_loss": scores.log_loss,
            "expected_calibration_error": self.calibration()["expected_calibration_error"],
            "best_baseline": self.best_baseline,
            "log_loss_difference": float(self._differences[self._best].sum() / self.sessions),
            "effective_drivers": self.effective_drivers,
        }

    def beside_guessing(self) -> dict[str, Any]:
        """Return the main scores, the interval of the F1, and what guessing scored on the same sessions.

        What guessing scored is, for each score, from the baseline that is best in this score.
        """
        accuracies = self._of_baselines("hits").sum(axis=1) / self.sessions
        f1 = self._baseline_f1()
        counts, sessions = self._f1_counts()
        return {
            **self.brief(),
            "weighted_f1_interval": jackknife_interval_of(counts, sessions, _f1_of_counts),
            "guessing": {
                "log_loss": self.scores(1 + self._best).log_loss,
                "weighted_f1": float(f1.max()),
                "weighted_f1_by": self._names[int(f1.argmax())],
                "accuracy": float(accuracies.max()),
            },
        }

    def class_scores_of_guessing(self) -> dict[str, dict[str, float]]:
        """Return precision, recall and F1 of each type for the baseline with the highest weighted F1."""
        return self.scores(1 + int(self._baseline_f1().argmax())).per_class(self.classes)

    def full(self) -> dict[str, Any]:
        """Return the figures under the names of an evaluation."""
        scores, differences = self.scores(0), self._baseline_differences()
        baselines = self._baselines(0)
        return {
            **self.brief(),
            "weighted_f1_interval": self._f1_interval(),
            "per_class": scores.per_class(self.classes),
            "classes": self.classes,
            "confusion_matrix": self._confusion(),
            "calibration": self.calibration(),
            "baselines": baselines,
            "best_baseline_by_f1": max(baselines, key=lambda name: baselines[name]["weighted_f1"]),
            "baseline_differences": differences,
            "log_loss_difference_interval": differences[self.best_baseline]["interval"],
            "unseen_type_sessions": int(self._of_unseen(0).sum()),
            **{group: self._slices(group) for group in SLICES},
        }

    @property
    def best_baseline(self) -> str:
        """Return the name of the baseline with the lowest log loss."""
        return self._names[self._best]

    @property
    def effective_drivers(self) -> float:
        """Return the effective number of groups of drivers. With many drivers, it is lower than that of drivers."""
        return round(effective_number(self._totals.groups[:, 0]), 1)

    def group_sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Return for each group the log loss of the model minus that of the best baseline, and the sessions."""
        # Copies: a part of an array would keep the whole array in memory.
        return self._differences[self._best].copy(), self._totals.groups[:, 0].copy()

    def calibration(self) -> dict[str, Any]:
        """Return how well the confidence matches the accuracy, as `calibration_of` defines it."""
        bins = self._totals.array("bins")
        return calibration_of(bins[:, 2], bins[:, 3] * UNIT, bins[:, 4])

    @property
    def _names(self) -> Sequence[str]:
        return self._totals.layout.predictors[1:]

    @property
    def _best(self) -> int:
        """Return the place of the best baseline among the baselines."""
        return int(self._totals.array("log_loss")[0, 1:].argmin())

    def _sessions(self, part: int) -> int:
        return int(self._totals.array("support")[part].sum() + self._of_unseen(part).sum())

    def _of_unseen(self, part: int) -> np.ndarray:
        """Return the sessions of each unseen type in one of PARTS."""
        return np.array([self._totals.unseen[name][part] for name in self._unseen])

    @cached_property
    def _differences(self) -> np.ndarray:
        """Return for each baseline and group the log loss of the model minus that of the baseline."""
        losses = self._totals.groups[:, 1 : 1 + len(self._totals.layout.predictors)].T * UNIT
        differences: np.ndarray = losses[:1] - losses[1:]
        return differences

    def _baseline_differences(self) -> dict[str, dict[str, Any]]:
        used = self._totals.groups[:, 0] > 0
        sums, sessions = self._differences[:, used].T, self._totals.groups[used, 0]
        found = mean_intervals_of(sums, sessions)
        nothing: list[None] = [None] * len(self._names)
        alone, together = (nothing, nothing) if found is None else found
        means = sums.sum(axis=0) / sessions.sum()
        return {
            name: {"log_loss_difference": float(mean), "interval": one, "interval_of_all": all_}
            for name, mean, one, all_ in zip(self._names, means, alone, together, strict=True)
        }

    def _of_baselines(self, name: str) -> np.ndarray:
        """Return the hits or the predictions of the baselines for all sessions, of shape (baselines, types)."""
        return self._totals.array(name)[0, 1:]

    def _baseline_f1(self) -> np.ndarray:
        """Return the weighted F1 of each baseline. Sessions of unseen types are in the support, and are never hit."""
        support = np.broadcast_to(self._totals.array("support")[0], self._of_baselines("hits").shape)
        of_seen = weighted_f1(self._of_baselines("hits"), support, self._of_baselines("predictions"))
        share: np.ndarray = of_seen * support[0].sum() / self.sessions
        return share

    def _f1_interval(self) -> list[float] | None:
        """Return the 95 % interval of the weighted F1 over groups of drivers; None with too few of them."""
        return statistic_interval_of(*self._f1_counts(), _f1_of_counts)

    def _f1_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the hits, the support and the predictions of each group of drivers, and its sessions."""
        k = len(self._totals.layout.classes)
        groups = self._totals.groups[self._totals.groups[:, 0] > 0]
        sessions, first = groups[:, :1], groups.shape[1] - 3 * k
        support, hits, predictions = np.split(groups[:, first:], 3, axis=1)
        # The sessions of unseen types are in the support of one more type, which is never hit or predicted.
        nothing = np.zeros_like(sessions)
        unseen = sessions - support.sum(axis=1, keepdims=True)
        counts = np.concatenate([hits, nothing, support, unseen, predictions, nothing], axis=1)
        return counts, sessions[:, 0]

    def _confusion(self) -> list[list[int]]:
        """Return the sessions by used type (rows) and predicted type (columns), of all types."""
        rows = [*self._totals.array("confusion"), *(self._totals.unseen[name][len(PARTS) :] for name in self._unseen)]
        return np.pad(np.array(rows), ((0, 0), (0, len(self._unseen)))).astype(int).tolist()  # type: ignore[no-any-return]

    def _baselines(self, part: int) -> dict[str, dict[str, float]]:
        return {name: self.scores(place, part).as_dict() for place, name in enumerate(self._names, start=1)}

    def _slices(self, group: str) -> dict[str, Any]:
        """Return the scores of each slice of a group; None for a slice without sessions."""
        parts = enumerate(SLICES[group], start=FIRST_PLACES[group])
        return {name: self._slice(part) if self._sessions(part) else None for part, name in parts}

    def _slice(self, part: int) -> dict[str, Any]:
        shown = {
            name: {"weighted_f1": one["weighted_f1"], "log_loss": one["log_loss"]}
            for name, one in {"model": self.scores(0, part).as_dict(), **self._baselines(part)}.items()
        }
        return {"sessions": self._sessions(part), **shown.pop("model"), "baselines": shown}


def _f1_of_counts(sums: np.ndarray) -> np.ndarray:
    """Return the weighted F1 of each row of hits, support and predictions."""
    return weighted_f1(*np.split(sums, 3, axis=1))


def expected_accuracy(answers: Totals | None, matured: Totals | None) -> dict[str, Any] | None:
    """Return the accuracy that answers are expected to have, before their outcomes come; None without answers.

    It is the mean over all answers of the accuracy that earlier answers of equal confidence had: in each bin of
    confidence the share of right answers among the matured outcomes, in which the mean confidence of the answers weighs
    as much as ten sessions. This is the confidence-based performance estimation of NannyML (CBPE), for the accuracy.

    Args:
        answers: the sums of the days of the answers.
        matured: the sums of the days whose outcomes are final; None without such days.
    """
    if answers is None or not (count := answers.array("bins")[:, 0]).any():
        return None
    confidence = answers.array("bins")[:, 1] * UNIT
    sessions, right = (np.zeros(BINS),) * 2 if matured is None else matured.array("bins")[:, [2, 4]].T
    mean = np.divide(confidence, count, out=np.zeros(BINS), where=count > 0)
    accuracy = (right + _WEIGHT_OF_CONFIDENCE * mean) / (sessions + _WEIGHT_OF_CONFIDENCE)
    return {
        "answers": int(count.sum()),
        "mean_confidence": float(confidence.sum() / count.sum()),
        "expected_accuracy": float((count * accuracy).sum() / count.sum()),
        "corrected_by_sessions": int(sessions.sum()),
    }
