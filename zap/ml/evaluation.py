"""How good a model is, beside what guessing scores on the same sessions.

Guessing is not one thing: always the usual mix (the prior), or the driver's own usual mix. Intervals resample drivers,
not sessions: the sessions of one driver are alike, and resampling them singly would make every interval too narrow.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)

RESAMPLES = 1000
# Resamples of fewer drivers say too often that all is well: of models no better than guessing, they let 15 % of those
# tested on three drivers through, and 8 % of those on six, where 2.5 % are meant to pass.
FEWEST_DRIVERS = 10
# How many sessions of the driver's own the usual mix weighs as much as.
PRIOR_WEIGHT = 1.0
# The least probability that a log loss charges for: a type that training never saw has probability 0.
_FLOOR = 1e-15


@dataclass(frozen=True)
class TestRows:
    """The sessions that a score is about.

    Attributes:
        classes: charger types, those of the model first, then any that only the test sessions have.
        labels: n codes into `classes`.
        drivers: n codes; sessions without a driver have one of their own each.
    """

    classes: list[str]
    labels: np.ndarray
    drivers: np.ndarray


def evaluate(history: pd.DataFrame, n_train: int, classes: list[str], probabilities: np.ndarray) -> dict[str, Any]:
    """Scores of `probabilities` on the sessions after the first `n_train`, and of guessing on the same.

    Args:
        history: cleaned sessions in time order.
        n_train: how many of them the model was trained on.
        classes: the model's charger types, the columns of `probabilities`.
        probabilities: of shape (len(history) - n_train, len(classes)).
    """
    rows = _test_rows(history, n_train, classes)
    model = _widen(probabilities, rows)
    guesses = {
        "prior": prior(history, n_train, rows.classes),
        "driver_share": driver_share(history, n_train, rows.classes),
    }
    scores = _scores(rows, model)
    baselines = {name: _scores(rows, guess) for name, guess in guesses.items()}
    best = min(baselines, key=lambda name: baselines[name]["log_loss"])
    interval = difference_interval(rows, model, guesses[best])
    return {
        "test_f1_score": scores["weighted_f1"],
        "test_f1_interval": f1_interval(rows, model),
        "macro_f1": scores["macro_f1"],
        "accuracy": float(accuracy_score(rows.labels, model.argmax(axis=1))),
        "log_loss": scores["log_loss"],
        "per_class": _per_class(rows, model),
        "confusion_matrix": _confusion(rows, model).tolist(),
        "classes": rows.classes,
        "baselines": baselines,
        "best_baseline": best,
        "log_loss_difference": scores["log_loss"] - baselines[best]["log_loss"],
        "log_loss_difference_interval": interval,
        "beats_baseline": interval is not None and interval[1] < 0,
    }


def prior(history: pd.DataFrame, n_train: int, classes: list[str]) -> np.ndarray:
    """The share of each type among the training sessions, for each test session: shape (n_test, len(classes))."""
    shares = history["charger_type"].iloc[:n_train].value_counts(normalize=True)
    return np.tile(shares.reindex(classes, fill_value=0.0).to_numpy(), (len(history) - n_train, 1))


def driver_share(history: pd.DataFrame, n_train: int, classes: list[str]) -> np.ndarray:
    """The driver's smoothed share of past types: (count_k + w * prior_k) / (n + w), w = PRIOR_WEIGHT.

    Point in time: the past of a session are the driver's sessions that started strictly earlier, also those in the
    test period. A driver without a past gets the prior.
    """
    used = pd.DataFrame(
        {name: (history["charger_type"] == name).to_numpy(dtype=np.float64) for name in classes},
        index=history.index,
    )
    drivers = history["user_id"]
    before = used.groupby(drivers).cumsum() - used
    # Sessions with equal starts do not see each other: each of them has the past of the first.
    past = before.groupby([drivers, history["charging_start_time"]]).transform("first").fillna(0.0).to_numpy()[n_train:]
    weighted = PRIOR_WEIGHT * prior(history, n_train, classes)
    shares: np.ndarray = (past + weighted) / (past.sum(axis=1, keepdims=True) + PRIOR_WEIGHT)
    return shares


def f1_interval(rows: TestRows, probabilities: np.ndarray) -> list[float] | None:
    """95 % of the weighted F1 over resampled drivers; None with fewer than FEWEST_DRIVERS."""
    k = len(rows.classes)
    cells = rows.labels * k + probabilities.argmax(axis=1)
    counts = np.zeros((rows.drivers.max() + 1, k * k))
    np.add.at(counts, (rows.drivers, cells), 1)
    resampled = _resample(counts)
    if resampled is None:
        return None
    matrices = resampled.reshape(-1, k, k)
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    support, predicted = matrices.sum(axis=2), matrices.sum(axis=1)
    f1 = np.divide(2 * hits, support + predicted, out=np.zeros_like(hits), where=support + predicted > 0)
    return _percentiles((f1 * support).sum(axis=1) / support.sum(axis=1))


def difference_interval(rows: TestRows, model: np.ndarray, guess: np.ndarray) -> list[float] | None:
    """95 % of the model's log loss less the guess's over resampled drivers; None with fewer than FEWEST_DRIVERS."""
    losses = _losses(rows, model) - _losses(rows, guess)
    sums = np.column_stack([np.bincount(rows.drivers, weights=losses), np.bincount(rows.drivers)])
    resampled = _resample(sums)
    return None if resampled is None else _percentiles(resampled[:, 0] / resampled[:, 1])


def _resample(per_driver: np.ndarray) -> np.ndarray | None:
    """Sums over RESAMPLES draws of as many drivers with replacement; shape (RESAMPLES, columns)."""
    drivers = len(per_driver)
    if drivers < FEWEST_DRIVERS:
        return None
    random = np.random.default_rng(42)
    even = np.full(drivers, 1 / drivers)
    return np.stack([random.multinomial(drivers, even) @ per_driver for _ in range(RESAMPLES)])


def _percentiles(values: np.ndarray) -> list[float]:
    return [float(value) for value in np.percentile(values, [2.5, 97.5])]


def _test_rows(history: pd.DataFrame, n_train: int, classes: list[str]) -> TestRows:
    test = history.iloc[n_train:]
    every = [*classes, *sorted(set(test["charger_type"]) - set(classes))]
    drivers, _ = pd.factorize(test["user_id"])
    alone = drivers < 0
    drivers[alone] = drivers.max() + 1 + np.arange(alone.sum())
    labels = pd.Categorical(test["charger_type"], categories=every).codes.astype(np.int64)
    return TestRows(every, labels, drivers)


def _widen(probabilities: np.ndarray, rows: TestRows) -> np.ndarray:
    """Columns of zeros for the types that training never saw."""
    extra = len(rows.classes) - probabilities.shape[1]
    return np.pad(probabilities, ((0, 0), (0, extra)))


def _losses(rows: TestRows, probabilities: np.ndarray) -> np.ndarray:
    chosen = probabilities[np.arange(len(rows.labels)), rows.labels]
    losses: np.ndarray = -np.log(np.clip(chosen, _FLOOR, 1.0))
    return losses


def _scores(rows: TestRows, probabilities: np.ndarray) -> dict[str, float]:
    guessed = probabilities.argmax(axis=1)
    # Every type counts in every mean, so that the scores of a model and of a guess are about the same types.
    codes = np.arange(len(rows.classes))
    f1 = {
        mean: float(f1_score(rows.labels, guessed, labels=codes, average=mean, zero_division=0))
        for mean in ("weighted", "macro")
    }
    return {
        "weighted_f1": f1["weighted"],
        "macro_f1": f1["macro"],
        "log_loss": float(_losses(rows, probabilities).mean()),
    }


def _confusion(rows: TestRows, probabilities: np.ndarray) -> np.ndarray:
    codes = np.arange(len(rows.classes))
    return np.asarray(confusion_matrix(rows.labels, probabilities.argmax(axis=1), labels=codes))


def _per_class(rows: TestRows, probabilities: np.ndarray) -> dict[str, dict[str, float]]:
    columns = precision_recall_fscore_support(
        rows.labels, probabilities.argmax(axis=1), labels=np.arange(len(rows.classes)), zero_division=0
    )
    return {
        name: {"precision": float(p), "recall": float(r), "f1": float(f1), "support": int(n)}
        for name, p, r, f1, n in zip(rows.classes, *columns, strict=True)
    }
