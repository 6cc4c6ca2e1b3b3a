"""The learned weights of a model: its parts learn from the earlier training rows, and are tested on the later rows."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from zap.ml.boosting import boost
from zap.ml.cold import is_cold, mixes, witnessed_weight
from zap.ml.logistic_fit import chosen_strength, fit_logistic
from zap.ml.population_now import PRESENT_COLUMNS
from zap.ml.trees import Trees
from zap.ml.unseen import with_unseen_types
from zap.ml.weighted_mean import best_weights

# The weights are tested on the last rows, which are this share of all rows. The parts learn from the rows before them.
# Both groups of rows have at most _MOST_ROWS rows, the rows that are nearest to the other group.
_TEST_SHARE = 0.2
_MOST_ROWS = 10_000
# If fewer test rows than this have a driver without a past, all drivers of the test rows count as new, so that there
# are enough test rows.
_FEWEST_COLD = 20
# On seven real histories, a weight of 1/3 was on average better than the trees alone. A learned weight is moved
# towards 1/3, as if the best weights of histories had this mean and this standard deviation. The variance of a learned
# weight is at least the variance of histories if there are at most PRIOR_DRIVERS effective drivers.
PRIOR_WEIGHT = 1 / 3
PRIOR_DEVIATION = 0.12
PRIOR_DRIVERS = 10
# A smaller weight changes answers little, but the logistic regression takes a third of the time of an answer. The
# trees then answer alone.
LEAST_WEIGHT = 0.05


class Weights(NamedTuple):
    """The learned weights.

    Attributes:
        cold: the weight of the trees for drivers without a past, 0 to 1; the mix has the rest.
        logistic: the weight of the logistic regression in the blend for drivers with a past, 0 to 1; the trees have the
            rest.
        strength: the strength of the logistic regression, `logistic_fit.chosen_strength`.
    """

    cold: float
    logistic: float
    strength: float


def learned_weights(  # noqa: PLR0913, PLR0917
    params: Mapping[str, Any],
    frame: pd.DataFrame,
    matrix: np.ndarray,
    codes: np.ndarray,
    n_classes: int,
    as_new: Callable[[pd.DataFrame], np.ndarray],
) -> Weights:
    """Return the weights of the parts of a model.

    Both weights are tested with one set of trees, which learn from the earlier rows. If the earlier rows have a single
    type, the weight for drivers without a past is 0, and the weight of the logistic regression is PRIOR_WEIGHT.

    Args:
        params: the parameters of ChargerTypeModel.
        frame: n training rows, in order of start; the column `user_id` names the drivers.
        matrix: the matrix of the rows.
        codes: the codes of their types.
        n_classes: the number of types.
        as_new: returns the matrix of some rows of the frame, as if their drivers had no past.
    """
    cut = round(len(codes) * (1 - _TEST_SHARE))
    earlier = slice(max(0, cut - _MOST_ROWS), cut)
    strength = chosen_strength(matrix[earlier], codes[earlier], n_classes)
    if len(np.unique(codes[earlier])) < 2:
        return Weights(0.0, PRIOR_WEIGHT, strength)
    trees, _ = boost(params, matrix[earlier], codes[earlier], n_classes)
    tested = _Tested(trees, matrix, codes, earlier, n_classes, params["n_jobs"])
    cold = _cold_weight(tested, frame, cut, as_new)
    return Weights(cold, _logistic_weight(tested, frame, cut, strength), strength)


class _Tested(NamedTuple):
    """Trees of the earlier rows, and the rows that they are tested on."""

    trees: Trees
    matrix: np.ndarray
    codes: np.ndarray
    earlier: slice
    n_classes: int
    threads: int

    def chances(self, found: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the probability of the type that the driver used, for each of these rows."""
        chances: np.ndarray = np.take_along_axis(found, self.codes[rows, None], axis=1)[:, 0]
        return chances

    def of_trees(self, asked: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the trees' probability of the type that the driver used.

        Args:
            asked: the matrix of the rows.
            rows: the places of the rows.
        """
        learned = self.codes[self.earlier]
        seen = np.isin(np.arange(self.n_classes), learned)
        found = with_unseen_types(self.trees.score(asked, self.threads), seen, len(learned))
        return self.chances(found, rows)


def _cold_weight(tested: _Tested, frame: pd.DataFrame, cut: int, as_new: Callable[[pd.DataFrame], np.ndarray]) -> float:
    """Return the weight of the trees for drivers without a past."""
    matrix = tested.matrix
    cold = (cut + np.flatnonzero(is_cold(matrix[cut:], tested.n_classes)))[:_MOST_ROWS]
    asked = matrix[cold]
    if len(cold) < _FEWEST_COLD:
        cold = np.arange(cut, len(tested.codes))[:_MOST_ROWS]
        # The present does not depend on the driver, so a new driver has these columns too.
        present = slice(-len(PRESENT_COLUMNS) * tested.n_classes, None)
        asked = as_new(frame.iloc[cold])
        asked[:, present] = matrix[cold, present]
    shares = tested.chances(mixes(asked, tested.n_classes), cold)
    return witnessed_weight(tested.of_trees(asked, cold), shares, _drivers(frame.iloc[cold]))


def _logistic_weight(tested: _Tested, frame: pd.DataFrame, cut: int, strength: float) -> float:
    """Return the weight of the logistic regression for drivers with a past."""
    matrix, earlier = tested.matrix, tested.earlier
    warm = (cut + np.flatnonzero(~is_cold(matrix[cut:], tested.n_classes)))[:_MOST_ROWS]
    logistic = fit_logistic(matrix[earlier], tested.codes[earlier], tested.n_classes, strength)
    if logistic is None or not len(warm):
        return PRIOR_WEIGHT
    asked = matrix[warm]
    chances = tested.chances(logistic.score(asked), warm)
    return drawn_weight(chances, tested.of_trees(asked, warm), _drivers(frame.iloc[warm]))


def drawn_weight(logistic: np.ndarray, trees: np.ndarray, drivers: np.ndarray) -> float:
    """Return the weight of the logistic regression that fits the drivers' sessions, moved towards PRIOR_WEIGHT.

    The more the best weight differs between bootstrap draws, and the fewer effective drivers there are
    (`intervals.effective_drivers`), the nearer the result is to PRIOR_WEIGHT. The best weight and PRIOR_WEIGHT are
    weighted by their precisions. A result below LEAST_WEIGHT becomes 0.

    Args:
        logistic: for each of n sessions, the logistic regression's probability of the type that the driver used.
        trees: for each of n sessions, the trees' probability of that type.
        drivers: n codes from 0 to n_drivers - 1; each code occurs.
    """
    # `intervals.py` is not used here, because a change of the intervals would change the version of the training code.
    sessions = np.bincount(drivers).astype(np.float64)
    effective = sessions.sum() ** 2 / (sessions**2).sum()
    best = best_weights(logistic, trees, drivers)
    # The draws of few drivers can agree by chance, so the variance has a second part, which is small for many drivers.
    prior = PRIOR_DEVIATION**2
    variance = best.var() + prior * PRIOR_DRIVERS / effective
    weight = float((best.mean() * prior + PRIOR_WEIGHT * variance) / (prior + variance))
    return weight if weight >= LEAST_WEIGHT else 0.0


def _drivers(frame: pd.DataFrame) -> np.ndarray:
    """Return the drivers of n rows as codes without gaps. Each row without a user counts as a driver of its own."""
    if "user_id" not in frame:
        return np.arange(len(frame))
    codes, users = pd.factorize(frame["user_id"])
    alone = codes < 0
    codes[alone] = len(users) + np.arange(alone.sum())
    return codes
