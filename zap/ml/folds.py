"""The folds of a search: a booster learns from earlier sessions, and each round is tested on later sessions."""

import math
from collections.abc import Mapping
from threading import Lock
from typing import Any

import lightgbm
import numpy as np
from scipy.special import logsumexp
from sklearn.model_selection import TimeSeriesSplit

from zap.ml.boosting import settings
from zap.ml.cold import is_cold
from zap.ml.features import CATEGORIES
from zap.ml.fitted import booster_columns
from zap.ml.missing import without_rare_holes

_FOLDS = 4
# Each fold tests on an eighth of the sessions, and learns from all sessions before that part.
_FOLD_SHARE = 0.125
# Boosting stops after some rounds without a lower log loss; with a small learning rate, after more rounds.
_LONGEST = 600
_PATIENCE = 1.5
_LEAST_PATIENCE = 20


class Fold:
    """Rows to learn from, and later rows to test on.

    Threads may share a fold. The rows are put into LightGBM's bins once for each value of `min_child_samples`, because
    LightGBM drops columns on which no leaf of that size can split. Boosters share the bins.

    Attributes:
        rows: the number of training rows.
        tested: the number of test rows.

    Args:
        matrix: float64 of shape (n, columns).
        codes: n codes of charger types.
        n_classes: the number of charger types.
        train: the places of the training rows, in time order.
        test: the places of the test rows.
    """

    def __init__(
        self, matrix: np.ndarray, codes: np.ndarray, n_classes: int, train: np.ndarray, test: np.ndarray
    ) -> None:
        self.rows, self.tested = len(train), len(test)
        self._matrix, self._codes, self._n_classes = matrix, codes, n_classes
        self._train, self._test = train, test
        seen = np.isin(codes[test], codes[train])
        self._tested = test[seen]
        self._weight, self._unseen = _unseen_types(seen, len(train), n_classes, len(np.unique(codes[train])))
        self._binned: dict[int, tuple[lightgbm.Dataset, lightgbm.Dataset]] = {}
        self._lock = Lock()

    @property
    def teaches(self) -> bool:
        """Return whether the training rows have two or more types, and the test rows one of these types."""
        return len(self._tested) > 0 and len(np.unique(self._codes[self._train])) > 1

    def newest(self, rows: int) -> "Fold":
        """Return a fold with only the newest training rows, or this fold if a model cannot learn from them."""
        some = Fold(self._matrix, self._codes, self._n_classes, self._train[-rows:], self._test)
        return some if rows < self.rows and some.teaches else self

    def log_losses(self, params: Mapping[str, Any], rounds: int | None, at_least: int = 0) -> list[float]:
        """Return the mean log loss on the test rows after each round of boosting, on one thread.

        Args:
            params: the parameters of ChargerTypeModel; `n_estimators` is not read.
            rounds: the number of rounds; None: stop early, after some rounds without a lower log loss.
            at_least: the number of rounds before early stopping may act.
        """
        learned, tested = self._datasets(params)
        booster = lightgbm.Booster(_settings(params, self._n_classes), learned)
        booster.add_valid(tested, "later")
        patience = max(_LEAST_PATIENCE, math.ceil(_PATIENCE / params["learning_rate"]))
        losses: list[float] = []
        best = 0
        while len(losses) < (max(_LONGEST, at_least) if rounds is None else rounds):
            booster.update()
            losses.append(self._weight * float(booster.eval_valid()[0][2]) + self._unseen)
            best = len(losses) - 1 if losses[-1] < losses[best] else best
            if rounds is None and len(losses) - 1 - best >= patience and len(losses) >= at_least:
                break
        return losses

    def boosted(self, params: Mapping[str, Any]) -> lightgbm.Booster:
        """Return a booster that has learned from the training rows, on one thread.

        Args:
            params: the parameters of ChargerTypeModel.
        """
        learned, _ = self._datasets(params)
        booster = lightgbm.Booster(_settings(params, self._n_classes), learned)
        for _ in range(params["n_estimators"]):
            booster.update()
        return booster

    def tested_rows(self, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the test rows of seen types as a booster of this fold reads them, and their places in the matrix.

        Args:
            most: the largest number of rows; by default all. If there are more rows, the returned rows are evenly
                distributed in time.
        """
        places = self._tested[:: 1 if most is None else -(-len(self._tested) // most)]
        return without_rare_holes(self._matrix[places], self._matrix[self._train]), places

    def losses(self, booster: lightgbm.Booster, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return the log loss of each row that `tested_rows` returns, on one thread."""
        scores = np.asarray(booster.predict(rows, raw_score=True, num_threads=1))
        return self.losses_of_scores(scores.reshape(len(rows), -1), places)

    def losses_of_scores(self, scores: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return the log loss of each row from its scores. With two types, it is the score of the second type."""
        if scores.shape[1] == 1:
            scores = np.column_stack([np.zeros(len(scores)), scores])
        losses: np.ndarray = logsumexp(scores, axis=1) - scores[np.arange(len(scores)), self._codes[places]]
        return losses

    def mean(self, losses: np.ndarray) -> float:
        """Return the mean log loss of all test rows from the losses of the rows of seen types."""
        return self._weight * float(losses.mean()) + self._unseen

    def _datasets(self, params: Mapping[str, Any]) -> tuple[lightgbm.Dataset, lightgbm.Dataset]:
        with self._lock:
            key = params["min_child_samples"]
            if key not in self._binned:
                learned_rows = self._matrix[self._train]
                tested_rows = without_rare_holes(self._matrix[self._tested], learned_rows)
                learned = self._dataset(learned_rows, self._codes[self._train], params, None)
                tested = self._dataset(tested_rows, self._codes[self._tested], params, learned)
                self._binned[key] = learned, tested
            return self._binned[key]

    def _dataset(
        self, rows: np.ndarray, codes: np.ndarray, params: Mapping[str, Any], reference: lightgbm.Dataset | None
    ) -> lightgbm.Dataset:
        return lightgbm.Dataset(
            rows,
            codes,
            reference=reference,
            feature_name=booster_columns(self._n_classes),
            categorical_feature=[feature.name for feature in CATEGORIES],
            params=_settings(params, self._n_classes),
        ).construct()


def time_folds(matrix: np.ndarray, codes: np.ndarray, n_classes: int) -> list[Fold]:
    """Return the folds of n rows in time order, the oldest first, without folds that cannot teach a model.

    Drivers without a past are left out of the test rows if other drivers exist there, because the predictions for them
    are blended with the mix.
    """
    splits = TimeSeriesSplit(n_splits=_FOLDS, test_size=max(1, int(len(codes) * _FOLD_SHARE))).split(matrix)
    warm = ~is_cold(matrix, n_classes)
    folds = (
        Fold(matrix, codes, n_classes, train, test[warm[test]] if warm[test].any() else test) for train, test in splits
    )
    return [fold for fold in folds if fold.teaches]


def _unseen_types(seen: np.ndarray, rows: int, n_classes: int, n_seen: int) -> tuple[float, float]:
    """Return the factor for the mean log loss of seen types, and the term to add.

    A type that training never saw gets the probability 1 / (rows + n_classes). The other types give up this probability
    in proportion. The booster itself would give an unseen type a probability near 0.

    Args:
        seen: for each test row, whether its type is in the training rows.
        rows: the number of training rows.
        n_classes: the number of types.
        n_seen: the number of types in the training rows.
    """
    one = 1 / (rows + n_classes)
    share = float(seen.mean())
    return share, (1 - share) * -math.log(one) + share * -math.log1p(-(n_classes - n_seen) * one)


def _settings(params: Mapping[str, Any], n_classes: int) -> dict[str, Any]:
    """Return LightGBM's parameters for a booster on one thread. `Fold.log_losses` counts the rounds itself."""
    return {name: value for name, value in settings(params, n_classes, 1).items() if name != "n_estimators"}
