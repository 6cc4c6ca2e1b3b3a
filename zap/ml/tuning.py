"""A search for hyper-parameters on a history's own training part: randomised, over folds in time order, by log loss."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import ParameterSampler, TimeSeriesSplit

from zap.errors import UnusableHistory
from zap.ml.cold import is_cold
from zap.ml.model import ChargerTypeModel, Rounds, booster_probabilities, known_categories, train_booster
from zap.ml.training import Split

# Each fold tests on an eighth of the sessions, trained on all before it.
_FOLDS = 4
_FOLD_SHARE = 0.125
# Of a long history the newest sessions say most about those to come, and a search over all of it would take days.
_MOST_SESSIONS = 50_000
# A candidate that is worse than the best by more than this, on the folds that it has had, is given up.
_HOPELESS = 1.02
_FLOOR = 1e-15

# Tried in this order before anything is drawn: LightGBM's defaults as zap has them, and a strong regularisation that
# did better on several real histories.
_REGULARISED = {
    "n_estimators": 300,
    "num_leaves": 7,
    "learning_rate": 0.03,
    "min_child_samples": 50,
    "reg_lambda": 10.0,
}
_SPACE = {
    "n_estimators": [100, 150, 200, 300, 400, 500],
    "num_leaves": [4, 7, 15, 31, 63],
    "learning_rate": [0.02, 0.03, 0.05, 0.08],
    "colsample_bytree": [0.4, 0.6, 0.8, 1.0],
    "min_child_samples": [10, 20, 50, 100],
    "reg_alpha": [0.0, 1.0, 5.0],
    "reg_lambda": [0.0, 1.0, 5.0, 10.0, 20.0],
}


class Budget(NamedTuple):
    """What a search may take: so many candidates, the defaults among them, none begun after so many minutes."""

    trials: int = 24
    minutes: float = 15.0


@dataclass(frozen=True)
class Trial:
    """One candidate.

    Attributes:
        hyper_parameters: what it sets; the rest are the defaults. Empty for the defaults themselves.
        fold_log_losses: on the test part of each fold, in time order; fewer where it was given up.
    """

    hyper_parameters: dict[str, Any]
    fold_log_losses: list[float]

    @property
    def log_loss(self) -> float:
        """The mean over the folds that it has had."""
        return float(np.mean(self.fold_log_losses))


@dataclass(frozen=True)
class Search:
    """What a search tried, the defaults first.

    Attributes:
        trials: in the order in which they were tried.
        folds: how many folds there were.
        sessions: how many sessions they are made of.
        seconds: how long it took.
        ended_by: `trials` or `minutes`, whichever bound was met.
    """

    trials: list[Trial]
    folds: int
    sessions: int
    seconds: float
    ended_by: str

    @property
    def best(self) -> Trial:
        """Of those that were tried on all folds the one with the lowest log loss; of equals the first."""
        return min(self._finished(), key=lambda trial: trial.log_loss)

    def _finished(self) -> list[Trial]:
        return [trial for trial in self.trials if len(trial.fold_log_losses) == self.folds]

    def evidence(self) -> dict[str, Any]:
        """Everything that it found, as JSON."""
        return {
            "log_loss": self.best.log_loss,
            "default_log_loss": self.trials[0].log_loss,
            "folds": self.folds,
            "sessions": self.sessions,
            "seconds": round(self.seconds, 1),
            "ended_by": self.ended_by,
            "trials": [
                {
                    "hyper_parameters": trial.hyper_parameters,
                    "log_loss": trial.log_loss,
                    "fold_log_losses": trial.fold_log_losses,
                }
                for trial in self.trials
            ],
        }


def search(split: Split, budget: Budget, *, n_jobs: int, progress: Rounds | None = None) -> Search:
    """Try hyper-parameters on the training part of `split`; its test part is never looked at.

    A candidate that falls behind is given up before it has had all folds.

    Args:
        split: the history.
        budget: what it may take; the defaults are always tried.
        n_jobs: threads.
        progress: called with the candidates tried, and how many they may be.

    Raises:
        UnusableHistory: no fold has two charger types to train on.
    """
    begin = time.monotonic()
    model = ChargerTypeModel()
    matrix, codes = model.prepare(
        split.train,
        split.train["charger_type"],
        past=split.matrix[split.trained],
        categories=known_categories(split.frame),
    )
    matrix, codes = matrix[-_MOST_SESSIONS:], codes[-_MOST_SESSIONS:]
    folds = _folds(matrix, codes, len(model.classes_))
    if not folds:
        raise UnusableHistory(
            "no fold of the training part has two charger types to train on; there is nothing to tune"
        )
    drawn = ParameterSampler(_SPACE, n_iter=max(0, budget.trials - 2), random_state=42)
    # Folds side by side, each on a thread of its own, do not wait for each other; the threads of one fit do.
    side_by_side = Parallel(n_jobs=n_jobs, prefer="threads")
    tried: list[Trial] = []
    best: list[float] = []
    ended_by = "trials"
    for candidate in [{}, _REGULARISED, *drawn][: budget.trials]:
        if tried and time.monotonic() - begin > budget.minutes * 60:
            ended_by = "minutes"
            break
        params = ChargerTypeModel(**candidate, n_jobs=1).get_params()
        losses: list[float] = []
        while len(losses) < len(folds) and sum(losses) <= _HOPELESS * sum(best[: len(losses)] or losses):
            losses += side_by_side(
                delayed(_log_loss)(params, matrix, codes, train, test, len(model.classes_))
                for train, test in folds[len(losses) : len(losses) + n_jobs]
            )
        if len(losses) == len(folds) and (not best or sum(losses) < sum(best)):
            best = losses
        tried.append(Trial(dict(candidate), losses))
        if progress:
            progress(len(tried), budget.trials)
    return Search(tried, len(folds), len(codes), time.monotonic() - begin, ended_by)


def _folds(matrix: np.ndarray, codes: np.ndarray, n_classes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to train on and rows to test on, in time order.

    Drivers without a past are not tested on, as long as there are others: their answers are drawn towards the mix.
    """
    splits = TimeSeriesSplit(n_splits=_FOLDS, test_size=max(1, int(len(codes) * _FOLD_SHARE))).split(matrix)
    warm = ~is_cold(matrix, n_classes)
    return [
        (train, test[warm[test]] if warm[test].any() else test)
        for train, test in splits
        if len(np.unique(codes[train])) > 1
    ]


def _log_loss(  # noqa: PLR0913, PLR0917
    params: Mapping[str, Any],
    matrix: np.ndarray,
    codes: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    n_classes: int,
) -> float:
    booster = train_booster(params, matrix[train], codes[train], n_classes)
    found = booster_probabilities(booster, matrix[test], params["n_jobs"])[np.arange(len(test)), codes[test]]
    return float(-np.log(np.clip(found, _FLOOR, 1.0)).mean())
