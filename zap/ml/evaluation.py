"""How good a model is, beside what guessing scores on the same sessions.

Guessing is not one thing: always the usual mix of types (the prior), or the driver's own usual mix, overall, by time of
day, or with the recent counting more. Intervals resample drivers, not sessions: the sessions of one driver are alike,
and resampling them singly would make every interval too narrow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
)

from zap.ml.user_history import driver_column, type_columns

RESAMPLES = 1000
# Resamples of fewer drivers say too often that all is well: of models no better than guessing, they let 15 % of those
# tested on three drivers through, and 8 % of those on six, where 2.5 % are meant to pass.
FEWEST_DRIVERS = 10
# The driver's smoothed shares, and the columns of the history that hold them.
SHARES = {
    "driver_share": "share",
    "driver_share_time_of_day": "share_time_of_day",
    "driver_share_recent": "share_recent",
}
BASELINES = ("prior", *SHARES)
# By how many earlier sessions the driver had.
_SLICES = {"0": (0, 0), "1-4": (1, 4), "5-19": (5, 19), "20+": (20, np.inf)}
_BINS = 10
# The least probability that a log loss charges for: a type that training never saw has probability 0.
_FLOOR = 1e-15


@dataclass(frozen=True)
class ScoredRows:
    """The sessions that a score is about, and what the model and each way of guessing say of them.

    Attributes:
        classes: charger types, those of the model first, then any that only the test sessions have.
        labels: n codes into `classes`.
        drivers: n codes.
        earlier: how many earlier sessions each driver had.
        several_types: whether the driver of each has used more than one type in the whole history.
        probabilities: the model's, of shape (n, classes).
        guesses: for each of BASELINES the same.
    """

    classes: list[str]
    labels: np.ndarray
    drivers: np.ndarray
    earlier: np.ndarray
    several_types: np.ndarray
    probabilities: np.ndarray
    guesses: dict[str, np.ndarray]


def rows_to_score(  # noqa: PLR0913
    classes: list[str],
    used: Sequence[str],
    drivers: np.ndarray,
    *,
    several_types: np.ndarray,
    past: np.ndarray,
    mix: np.ndarray,
    probabilities: np.ndarray,
) -> ScoredRows:
    """Test rows with what guessing says of them.

    Args:
        classes: the k charger types of the model.
        used: the n types that were used.
        drivers: n codes.
        several_types: n, whether the driver has used more than one type.
        past: the history columns of each, as `training.past_features` gives them.
        mix: the share of each of the k types among the training sessions.
        probabilities: the model's, of shape (n, k).
    """
    k = len(classes)
    every = [*classes, *sorted(set(used) - set(classes))]
    codes = {name: code for code, name in enumerate(every)}
    guesses = {name: past[:, type_columns(column, k)] for name, column in SHARES.items()}
    guesses["prior"] = np.tile(mix, (len(used), 1))
    return ScoredRows(
        every,
        np.array([codes[name] for name in used], dtype=np.int64),
        drivers,
        past[:, driver_column("sessions", k)],
        several_types,
        _widened(probabilities, every),
        {name: _widened(guesses[name], every) for name in BASELINES},
    )


def evaluate(rows: ScoredRows) -> dict[str, Any]:
    """Scores of the model, and of guessing, on the same sessions."""
    model = rows.probabilities
    scores = _scores(rows, model)
    return {
        "test_f1_score": scores["weighted_f1"],
        "test_f1_interval": f1_interval(rows, model),
        "macro_f1": scores["macro_f1"],
        "accuracy": float(accuracy_score(rows.labels, model.argmax(axis=1))),
        "log_loss": scores["log_loss"],
        "per_class": _per_class(rows, model),
        "confusion_matrix": _confusion(rows, model).tolist(),
        "classes": rows.classes,
        **_comparison(rows, scores),
        "calibration": calibration(rows, model),
        **_slices(rows),
        "windows": None,
    }


def over_windows(windows: Sequence[tuple[int, ScoredRows]]) -> dict[str, Any]:
    """Scores over rolling windows: of each, and of all their sessions together.

    Args:
        windows: for each how many sessions its model was trained on, and what it was tested on.
    """
    pooled = _pool([rows for _, rows in windows])
    scores = _scores(pooled, pooled.probabilities)
    return {
        "each": [
            {
                "trained_samples": n_train,
                "test_samples": len(rows.labels),
                **_scores(rows, rows.probabilities),
                "baselines": _baselines(rows),
            }
            for n_train, rows in windows
        ],
        **scores,
        "test_samples": len(pooled.labels),
        **_comparison(pooled, scores),
        **_slices(pooled),
    }


def with_windows(scores: Mapping[str, Any], windows: dict[str, Any]) -> dict[str, Any]:
    """The scores of `evaluate`, judged over rolling windows: those of one part can be luck."""
    return {**scores, "windows": windows, "beats_baseline": windows["beats_baseline"]}


def f1_interval(rows: ScoredRows, probabilities: np.ndarray) -> list[float] | None:
    """95 % of the weighted F1 over resampled drivers; None with fewer than FEWEST_DRIVERS."""
    k = len(rows.classes)
    cells = rows.labels * k + probabilities.argmax(axis=1)
    places, n_drivers = _places(rows)
    counts = np.zeros((n_drivers, k * k))
    np.add.at(counts, (places, cells), 1)
    resampled = _resample(counts)
    if resampled is None:
        return None
    matrices = resampled.reshape(-1, k, k)
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    support, predicted = matrices.sum(axis=2), matrices.sum(axis=1)
    f1 = np.divide(2 * hits, support + predicted, out=np.zeros_like(hits), where=support + predicted > 0)
    return _percentiles((f1 * support).sum(axis=1) / support.sum(axis=1))


def difference_interval(rows: ScoredRows, model: np.ndarray, guess: np.ndarray) -> list[float] | None:
    """95 % of the model's log loss less the guess's over resampled drivers; None with fewer than FEWEST_DRIVERS."""
    losses = log_losses(rows, model) - log_losses(rows, guess)
    places, _ = _places(rows)
    sums = np.column_stack([np.bincount(places, weights=losses), np.bincount(places)])
    resampled = _resample(sums)
    return None if resampled is None else _percentiles(resampled[:, 0] / resampled[:, 1])


def calibration(rows: ScoredRows, probabilities: np.ndarray) -> dict[str, Any]:
    """How far the probability of the predicted type can be taken at its word.

    The expected calibration error (Naeini et al., 2015) is the mean over sessions of |accuracy - mean confidence| of
    their bin, of ten equally wide bins of confidence. Bins without sessions are left out.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == rows.labels
    places = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    bins = [
        {
            "from": place / _BINS,
            "to": (place + 1) / _BINS,
            "sessions": int(inside.sum()),
            "mean_confidence": float(confidence[inside].mean()),
            "accuracy": float(right[inside].mean()),
        }
        for place in range(_BINS)
        if (inside := places == place).any()
    ]
    gaps = [one["sessions"] * abs(one["accuracy"] - one["mean_confidence"]) for one in bins]
    return {"expected_calibration_error": float(sum(gaps) / len(rows.labels)), "bins": bins}


def _comparison(rows: ScoredRows, scores: Mapping[str, float]) -> dict[str, Any]:
    """The model beside the best way of guessing."""
    baselines = _baselines(rows)
    best = min(baselines, key=lambda name: baselines[name]["log_loss"])
    interval = difference_interval(rows, rows.probabilities, rows.guesses[best])
    return {
        "baselines": baselines,
        "best_baseline": best,
        "log_loss_difference": scores["log_loss"] - baselines[best]["log_loss"],
        "log_loss_difference_interval": interval,
        "beats_baseline": interval is not None and interval[1] < 0,
    }


def _baselines(rows: ScoredRows) -> dict[str, dict[str, float]]:
    return {name: _scores(rows, guess) for name, guess in rows.guesses.items()}


def _slices(rows: ScoredRows) -> dict[str, Any]:
    """The scores by what was known of the drivers, and by what they are like."""
    return {
        "by_earlier_sessions": {
            name: _slice(rows, (rows.earlier >= fewest) & (rows.earlier <= most))
            for name, (fewest, most) in _SLICES.items()
        },
        "by_types_used": {"one": _slice(rows, ~rows.several_types), "several": _slice(rows, rows.several_types)},
    }


def _slice(rows: ScoredRows, inside: np.ndarray) -> dict[str, Any] | None:
    """The scores on some of the sessions; None where there is none."""
    if not inside.any():
        return None
    some = ScoredRows(
        rows.classes,
        rows.labels[inside],
        rows.drivers[inside],
        rows.earlier[inside],
        rows.several_types[inside],
        rows.probabilities[inside],
        {name: guess[inside] for name, guess in rows.guesses.items()},
    )
    # No macro F1: types that none of these drivers uses would count as missed.
    scores = {name: _scores(some, one) for name, one in {"model": some.probabilities, **some.guesses}.items()}
    shown = {name: {score: one[score] for score in ("weighted_f1", "log_loss")} for name, one in scores.items()}
    return {"sessions": len(some.labels), **shown.pop("model"), "baselines": shown}


def _pool(windows: Sequence[ScoredRows]) -> ScoredRows:
    """The sessions of several windows as if they were of one."""
    every = list(dict.fromkeys(name for rows in windows for name in rows.classes))

    def placed(rows: ScoredRows, probabilities: np.ndarray) -> np.ndarray:
        wide = np.zeros((len(probabilities), len(every)))
        wide[:, [every.index(name) for name in rows.classes]] = probabilities
        return wide

    return ScoredRows(
        every,
        np.concatenate([np.array([every.index(name) for name in rows.classes])[rows.labels] for rows in windows]),
        np.concatenate([rows.drivers for rows in windows]),
        np.concatenate([rows.earlier for rows in windows]),
        np.concatenate([rows.several_types for rows in windows]),
        np.concatenate([placed(rows, rows.probabilities) for rows in windows]),
        {name: np.concatenate([placed(rows, rows.guesses[name]) for rows in windows]) for name in BASELINES},
    )


def _places(rows: ScoredRows) -> tuple[np.ndarray, int]:
    """The drivers of the rows numbered from 0 without gaps, and how many there are."""
    different, places = np.unique(rows.drivers, return_inverse=True)
    return places, len(different)


def _resample(per_driver: np.ndarray) -> np.ndarray | None:
    """Sums over RESAMPLES draws of as many drivers with replacement; shape (RESAMPLES, columns)."""
    drivers = len(per_driver)
    if drivers < FEWEST_DRIVERS:
        return None
    return np.stack([draw.astype(np.float64) @ per_driver for draw in _draws(drivers)])


@lru_cache(maxsize=1)
def _draws(drivers: int) -> np.ndarray:
    """How often each driver is drawn, of shape (RESAMPLES, drivers): the same for all that is said of some sessions."""
    random = np.random.default_rng(42)
    # Of fewer than 256 none can be drawn more often than a byte holds, and of more none ever will be.
    draws = np.empty((RESAMPLES, drivers), dtype=np.uint8)
    for draw in draws:
        draw[:] = np.bincount(random.integers(drivers, size=drivers), minlength=drivers)
    return draws


def _percentiles(values: np.ndarray) -> list[float]:
    return [float(value) for value in np.percentile(values, [2.5, 97.5])]


def _widened(probabilities: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Columns of zeros for the types that training never saw."""
    return np.pad(probabilities, ((0, 0), (0, len(classes) - probabilities.shape[1])))


def log_losses(rows: ScoredRows, probabilities: np.ndarray) -> np.ndarray:
    chosen = probabilities[np.arange(len(rows.labels)), rows.labels]
    losses: np.ndarray = -np.log(np.clip(chosen, _FLOOR, 1.0))
    return losses


def _scores(rows: ScoredRows, probabilities: np.ndarray) -> dict[str, float]:
    # Every type counts in every mean, so that the scores of a model and of a guess are about the same types.
    k = len(rows.classes)
    counts = np.bincount(rows.labels * k + probabilities.argmax(axis=1), minlength=k * k).reshape(k, k)
    support = counts.sum(axis=1)
    either = support + counts.sum(axis=0)
    f1 = np.divide(2.0 * np.diagonal(counts), either, out=np.zeros(k), where=either > 0)
    return {
        "weighted_f1": float(np.average(f1, weights=support)),
        "macro_f1": float(np.average(f1)),
        "log_loss": float(log_losses(rows, probabilities).mean()),
    }


def _confusion(rows: ScoredRows, probabilities: np.ndarray) -> np.ndarray:
    codes = np.arange(len(rows.classes))
    return np.asarray(confusion_matrix(rows.labels, probabilities.argmax(axis=1), labels=codes))


def _per_class(rows: ScoredRows, probabilities: np.ndarray) -> dict[str, dict[str, float]]:
    columns = precision_recall_fscore_support(
        rows.labels, probabilities.argmax(axis=1), labels=np.arange(len(rows.classes)), zero_division=0
    )
    return {
        name: {"precision": float(p), "recall": float(r), "f1": float(f1), "support": int(n)}
        for name, p, r, f1, n in zip(rows.classes, *columns, strict=True)
    }
