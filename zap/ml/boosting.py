"""Boosting: fit LightGBM's trees to a matrix, and report progress."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import lightgbm
import numpy as np

from zap.ml.column_groups import gain_factors
from zap.ml.features import CATEGORIES
from zap.ml.fitted import booster_columns
from zap.ml.larger_children import to_larger_children
from zap.ml.missing import binned, few_holes
from zap.ml.trees import Trees, of_all_classes

# A fit has one thread for each _ROWS_PER_THREAD rows. With fewer rows for a thread, threads wait longer for each other
# than they compute; beside a busy server they wait many times longer. The trees do not depend on the number of threads.
_ROWS_PER_THREAD = 20_000
# The shortest time between two reports of progress. Reports take at most 1 / _TOLD_SHARE of the time.
_TOLD_SECONDS = 0.2
_TOLD_SHARE = 100
# The parameters of ChargerTypeModel that are no parameters of LightGBM.
_NOT_OF_LIGHTGBM = ("estimator", "asked_before", "delay", "left_out")


class BoostingProgress(Protocol):
    """A callback for progress: a finished number, the total number, and in boosting the mean training log loss."""

    def __call__(self, done: int, total: int, log_loss: float | None = None, /) -> None: ...


def boost(
    params: Mapping[str, Any],
    matrix: np.ndarray,
    codes: np.ndarray,
    n_classes: int,
    progress: BoostingProgress | None = None,
) -> tuple[Trees, np.ndarray]:
    """Fit a booster to a matrix of n rows and the n codes of their classes.

    Returns:
        The trees, and their probabilities for the n rows, bit-identical to `Trees.score`: shape (n, n_classes).
    """
    threads = min(params["n_jobs"], -(-len(matrix) // _ROWS_PER_THREAD))
    lightgbm_params = settings(params, n_classes, threads)
    columns, rows = few_holes(matrix)
    categories = [feature.name for feature in CATEGORIES]
    trained = lightgbm.train(
        lightgbm_params,
        binned(matrix, codes, lightgbm_params, booster_columns(n_classes), categories, columns),
        callbacks=[_told(progress)] if progress else [],
        keep_training_booster=True,
    )
    found = _training_probabilities(trained)
    # The booster is read from its text, so that it is bit-identical to the booster that a server loads.
    trees = Trees(to_larger_children(trained.model_to_string(), columns), matrix.shape[1], n_classes)
    if len(rows):
        found[rows] = trees.score(matrix[rows], params["n_jobs"])
    return trees, found


def settings(params: Mapping[str, Any], n_classes: int, threads: int) -> dict[str, Any]:
    """Return LightGBM's parameters for a booster.

    Args:
        params: the parameters of ChargerTypeModel.
        n_classes: the number of charger types.
        threads: the number of threads; the trees do not depend on it.
    """
    binary = n_classes == 2
    return {
        "objective": "binary" if binary else "multiclass",
        **({} if binary else {"num_class": n_classes}),
        **{name: value for name, value in params.items() if name not in _NOT_OF_LIGHTGBM},
        **gain_factors(params["left_out"], n_classes),
        "n_jobs": threads,
        # LightGBM draws a share of the rows only if bagging_freq says how often to draw.
        **({"bagging_freq": 1} if params["subsample"] < 1 else {}),
        # Equal rows, seed, library versions and machine type give equal trees.
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def _training_probabilities(booster: lightgbm.Booster) -> np.ndarray:
    """Return the probabilities of a booster for its training rows, of shape (n, classes)."""
    seen: list[np.ndarray] = []

    def see(found: np.ndarray, _data: Any) -> tuple[str, float, bool]:
        seen.append(of_all_classes(found))
        return "", 0.0, False

    # LightGBM passes these probabilities only to a metric function.
    booster.eval_train(see)
    return seen[0]


def _told(progress: BoostingProgress) -> Callable[[Any], None]:
    """Return a LightGBM callback that reports the progress of the boosting, rarely enough to cost little time."""
    next_at = 0.0

    def after_round(env: Any) -> None:
        nonlocal next_at
        done, total = env.iteration + 1, env.end_iteration
        begin = time.monotonic()
        if done == total or begin >= next_at:
            ((_, _, log_loss, _),) = env.model.eval_train()
            progress(done, total, float(log_loss))
            # For a million rows, computing the loss takes about a tenth of the time of a round.
            next_at = begin + max(_TOLD_SECONDS, _TOLD_SHARE * (time.monotonic() - begin))

    return after_round
