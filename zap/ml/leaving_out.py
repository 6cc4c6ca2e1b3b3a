"""Leaving out groups of columns: a search tests whether its best candidate is better without a group.

A fit without each group, on each fold, would take longer than the whole race. So the contributions of each group (SHAP
values) are first taken out of the scores of the test rows. New fits leave out only the groups that are worth least.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed

from zap.ml.column_groups import group_places
from zap.ml.folds import Fold
from zap.ml.intervals import FEWEST_EFFECTIVE_DRIVERS, effective_drivers, mean_intervals
from zap.ml.model import ChargerTypeModel

# At most this many groups are left out. The first tests try this number of groups.
MOST_LEFT_OUT = 2
# The number of test rows of a fold whose contributions are computed, and how many at a time. With many types, the
# contributions of more rows would take gigabytes.
_MOST_EXPLAINED = 1000
_ROWS_AT_A_TIME = 250


class GroupTrial(NamedTuple):
    """A test of leaving out one more group.

    Attributes:
        left_out: the groups that the trees did not use; the last of them is tested.
        fold_log_losses: the log loss on each fold.
        log_loss_difference: the mean log loss of the test sessions of all folds, minus the mean before this test.
        interval: the 95 % interval of the difference over drivers, which holds for all groups at once.
    """

    left_out: list[str]
    fold_log_losses: list[float]
    log_loss_difference: float
    interval: list[float]

    @property
    def better(self) -> bool:
        """Return whether the trees are certainly better without the group: the interval lies below zero."""
        return self.interval[1] < 0


@dataclass
class LeftOut:
    """The groups of columns that a search has left out, and its reasons.

    Attributes:
        worth: for each group that the trees use, how much the log loss of the folds rises if the group's contributions
            (LightGBM's SHAP values) are taken out of the scores. The worth of a group that misleads is negative.
        trials: the tests, in order.
        taken: the last test after which a group stayed out; None if all groups are used.
    """

    worth: dict[str, float] = field(default_factory=dict)
    trials: list[GroupTrial] = field(default_factory=list)
    taken: GroupTrial | None = None

    def evidence(self) -> dict[str, Any]:
        """Return the result as JSON."""
        return {
            "worth": self.worth,
            "trials": [trial._asdict() | {"better": trial.better} for trial in self.trials],
            "left_out": self.taken.left_out if self.taken else [],
        }


class LeavingOut:
    """Test a candidate without groups of columns, on folds. The result does not depend on the number of threads.

    Args:
        folds: the folds in time order.
        drivers: the code of the driver of each row of the folds' matrix.
        n_classes: the number of charger types.
        n_jobs: the number of fits in parallel, each on one thread.

    Attributes:
        most_fits: the largest number of fits; 0 if the test rows have too few drivers for an interval.
    """

    def __init__(self, folds: Sequence[Fold], drivers: np.ndarray, n_classes: int, n_jobs: int) -> None:
        self._folds, self._n_classes = folds, n_classes
        self._rows = [fold.tested_rows() for fold in folds]
        self._drivers = np.concatenate([drivers[places] for _, places in self._rows])
        self._side_by_side = Parallel(n_jobs=n_jobs, prefer="threads", batch_size=1, pre_dispatch="n_jobs")
        enough = effective_drivers(self._drivers) >= FEWEST_EFFECTIVE_DRIVERS
        self.most_fits = (2 + MOST_LEFT_OUT) * len(folds) if enough else 0

    def run(self, values: Mapping[str, Any], until: float, tell: Callable[[int], None]) -> LeftOut:
        """Leave groups out as long as this is certainly better.

        Args:
            values: the hyper-parameters of the best candidate. Groups that it leaves out already stay out.
            until: a time of `time.monotonic`; no fit begins later.
            tell: called with the number of finished fits.
        """
        found = LeftOut()
        out = list(values.get("left_out", ()))
        if len(out) >= MOST_LEFT_OUT or time.monotonic() > until or not self.most_fits:
            return found
        boosters = self._side_by_side(delayed(fold.boosted)(_params(values, out)) for fold in self._folds)
        base = [self._losses(*one) for one in zip(self._folds, boosters, self._rows, strict=True)]
        tell(len(self._folds))
        found.worth = self._worth(boosters)
        asked = sorted(found.worth, key=lambda group: (found.worth[group], group))[:MOST_LEFT_OUT]
        while asked and len(out) < MOST_LEFT_OUT and time.monotonic() <= until:
            tried = self._tried(values, out, asked, base, len(found.worth))
            found.trials += [trial for trial, _ in tried]
            tell((1 + len(found.trials)) * len(self._folds))
            best, losses = min(tried, key=lambda one: one[0].log_loss_difference)
            if not best.better:
                break
            found.taken, out, base = best, best.left_out, losses
            asked = [group for group in asked if group not in out]
        return found

    def _tried(
        self, values: Mapping[str, Any], out: list[str], groups: list[str], base: list[np.ndarray], of: int
    ) -> list[tuple[GroupTrial, list[np.ndarray]]]:
        """Return for each group the test of leaving it out too, and the log losses of the rows of each fold.

        Args:
            values: the hyper-parameters of the candidate.
            out: the groups that are left out already.
            groups: the groups to test.
            base: the log losses before these tests.
            of: the number of groups from which `groups` were chosen.
        """
        sets = [[*out, group] for group in groups]
        fits = [(one, *fold) for one in sets for fold in zip(self._folds, self._rows, strict=True)]
        found = self._side_by_side(delayed(self._fitted)(_params(values, one), *fold) for one, *fold in fits)
        n, before = len(self._folds), np.concatenate(base)
        by_set = [found[start : start + n] for start in range(0, len(found), n)]
        # The groups that were not chosen count as differences of 0, so that the intervals hold for all groups at once.
        differences = np.zeros((len(before), of))
        for place, losses in enumerate(by_set):
            differences[:, place] = np.concatenate(losses) - before
        # With too few drivers for an interval, `run` tests nothing.
        intervals: Any = mean_intervals(differences, self._drivers)
        return [
            (
                GroupTrial(one, self._means(losses), float(differences[:, place].mean()), intervals.together[place]),
                losses,
            )
            for place, (one, losses) in enumerate(zip(sets, by_set, strict=True))
        ]

    def _worth(self, boosters: Sequence[Any]) -> dict[str, float]:
        """Return for each group that the boosters use how much the log loss rises without its contributions."""
        used = np.sum([booster.feature_importance() for booster in boosters], axis=0)
        groups = {name: places for name, places in group_places(self._n_classes).items() if used[places].any()}
        found = self._side_by_side(
            delayed(_rises)(fold, booster, groups) for fold, booster in zip(self._folds, boosters, strict=True)
        )
        return {name: float(np.mean([rises[name] for rises in found])) for name in groups}

    def _fitted(self, params: Mapping[str, Any], fold: Fold, rows: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return self._losses(fold, fold.boosted(params), rows)

    @staticmethod
    def _losses(fold: Fold, booster: Any, rows: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return fold.losses(booster, *rows)

    def _means(self, losses: list[np.ndarray]) -> list[float]:
        return [fold.mean(one) for fold, one in zip(self._folds, losses, strict=True)]


def _params(values: Mapping[str, Any], left_out: Sequence[str]) -> dict[str, Any]:
    params: dict[str, Any] = ChargerTypeModel(**{**values, "left_out": left_out}).get_params()
    return params


def _rises(fold: Fold, booster: Any, groups: Mapping[str, list[int]]) -> dict[str, float]:
    """Return for each group how much the log loss of a fold rises without the group's contributions."""
    rows, places = fold.tested_rows(_MOST_EXPLAINED)
    sums = np.zeros(1 + len(groups))
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        some = slice(start, start + _ROWS_AT_A_TIME)
        # The last column is the mean score.
        added = booster.predict(rows[some], pred_contrib=True, num_threads=1)
        added = added.reshape(len(added), -1, rows.shape[1] + 1)
        scores = added.sum(axis=2)
        without = [scores - added[:, :, columns].sum(axis=2) for columns in groups.values()]
        sums += [fold.losses_of_scores(one, places[some]).sum() for one in (scores, *without)]
    means = sums / len(rows)
    return {name: float(mean - means[0]) for name, mean in zip(groups, means[1:], strict=True)}
