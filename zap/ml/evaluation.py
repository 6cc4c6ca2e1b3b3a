"""The scores of a model, beside the scores of the baselines on the same sessions.

`zap/ml/baselines.py` defines the baselines, `zap/ml/scores.py` computes and compares scores, and `zap/ml/intervals.py`
computes the uncertainty of a score. The verdict on a model is `better` if the model is certainly better than every
baseline, `worse` if it is certainly worse than one baseline, and `not_shown` otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from zap.ml.baselines import baseline_probabilities
from zap.ml.calibration import BINS, bin_places, calibration_of
from zap.ml.history_columns import driver_column
from zap.ml.intervals import effective_drivers, statistic_interval
from zap.ml.scores import Scores, compare, weighted_f1
from zap.ml.slices import SLICES, slice_places
from zap.ml.unseen import align
from zap.ml.verdict import verdict_of
from zap.sentences import phrase, say

_BY_SESSION = ("unseen", "starts", "drivers", "earlier", "types_used")
# The sessions that decide a verdict, in words.
LAST_PART = phrase("the last part")
WINDOWS = phrase("the rolling windows")
NESTED_WINDOWS = phrase("the rolling windows, each with a search of its own")


@dataclass(frozen=True)
class ScoredRows:
    """The n sessions that are scored, with the probabilities of the model and of the baselines.

    Attributes:
        classes: the charger types: the types of the model, then the types that only the test sessions have.
        labels: n codes into `classes`, the types that the drivers used.
        unseen: n booleans: whether the used type was never seen in training.
        starts: n starts, datetime64[s].
        drivers: n codes of the drivers, from `training.witness_codes`.
        earlier: the number of earlier sessions of each driver.
        types_used: the number of types in these earlier sessions.
        probabilities: the probabilities of the model, of shape (n, classes).
        baselines: the probabilities of each baseline, of shape (n, classes).
        parts: the probabilities of each part of the model alone, of shape (n, classes); {} without parts.
    """

    classes: list[str]
    labels: np.ndarray
    unseen: np.ndarray
    starts: np.ndarray
    drivers: np.ndarray
    earlier: np.ndarray
    types_used: np.ndarray
    probabilities: np.ndarray
    baselines: Mapping[str, np.ndarray]
    parts: Mapping[str, np.ndarray]

    @cached_property
    def model_scores(self) -> Scores:
        return Scores(self.labels, self.probabilities)

    @cached_property
    def baseline_scores(self) -> dict[str, Scores]:
        return {name: Scores(self.labels, one) for name, one in self.baselines.items()}

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, inside: np.ndarray) -> "ScoredRows":
        """Return the sessions for which `inside` is true."""
        some = {name: getattr(self, name)[inside] for name in ("labels", *_BY_SESSION, "probabilities")}
        baselines, parts = (
            {name: one[inside] for name, one in group.items()} for group in (self.baselines, self.parts)
        )
        return replace(self, **some, baselines=baselines, parts=parts)


def rows_to_score(  # noqa: PLR0913
    classes: list[str],
    used: Sequence[str],
    *,
    starts: np.ndarray,
    drivers: np.ndarray,
    past: np.ndarray,
    mix: np.ndarray,
    exponents: np.ndarray,
    trained_on: int,
    probabilities: np.ndarray,
    parts: Mapping[str, np.ndarray],
) -> ScoredRows:
    """Return the test sessions with the probabilities of the baselines.

    Args:
        classes: the k charger types of the model.
        used: the n types that the drivers used.
        starts: n starts.
        drivers: n codes of the drivers.
        past: the history columns of the n sessions, as `history_matrix.past_features` returns them.
        mix: the share of each of the k types in the training sessions.
        exponents: the exponents of the pooled shares, from `baselines.fit_exponents` on the training sessions.
        trained_on: the number of training sessions.
        probabilities: the probabilities of the model, of shape (n, k).
        parts: the probabilities of each part of the model alone, of shape (n, k).
    """
    k = len(classes)
    every = [*classes, *sorted(set(used) - set(classes))]
    codes = {name: code for code, name in enumerate(every)}
    labels = np.array([codes[name] for name in used], dtype=np.int64)
    baselines = baseline_probabilities(past, mix.tolist(), exponents)
    return ScoredRows(
        every,
        labels,
        unseen=labels >= k,
        starts=np.asarray(starts, dtype="datetime64[s]"),
        drivers=drivers,
        earlier=past[:, driver_column("sessions", k)],
        types_used=past[:, driver_column("types_used", k)],
        probabilities=align(probabilities, classes, every, trained_on),
        baselines={name: align(one, classes, every, trained_on) for name, one in baselines.items()},
        parts={name: align(one, classes, every, trained_on) for name, one in parts.items()},
    )


def evaluate(rows: ScoredRows, seen_until: datetime | None = None) -> dict[str, Any]:
    """Return the scores of the model and of the baselines on the test sessions.

    Args:
        rows: the test part.
        seen_until: the start of the newest session that the search for hyper-parameters has seen. Only later sessions
            decide the verdict.
    """
    scores = rows.model_scores
    comparison = _comparison(rows)
    return {
        "test_f1_score": scores.weighted_f1,
        "test_f1_interval": f1_interval(rows),
        "macro_f1": scores.macro_f1,
        "accuracy": scores.accuracy,
        "log_loss": scores.log_loss,
        "per_class": scores.per_class(rows.classes),
        "confusion_matrix": scores.confusion.tolist(),
        "classes": rows.classes,
        "parts": _parts(rows),
        **comparison,
        "calibration": calibration(rows),
        **_slices(rows),
        "windows": None,
        **_verdict(_judged(rows, comparison, LAST_PART, seen_until)),
    }


def over_windows(
    windows: Sequence[tuple[int, ScoredRows]], seen_until: datetime | None = None, *, nested: bool = False
) -> dict[str, Any]:
    """Return the scores over rolling windows: for each window, and for the sessions of all windows together.

    Args:
        windows: for each window the number of its training sessions, and its test sessions.
        seen_until: the start of the newest session that the search for hyper-parameters has seen. Only later sessions
            decide the verdict.
        nested: whether each window has its own search on its own training part.
    """
    pooled = _pool([rows for _, rows in windows])
    comparison = _comparison(pooled)
    what, seen_until = (NESTED_WINDOWS, None) if nested else (WINDOWS, seen_until)
    return {
        "each": [
            {
                "trained_samples": n_train,
                "test_samples": len(rows),
                **rows.model_scores.as_dict(),
                "parts": _parts(rows),
                "baselines": _baselines(rows),
            }
            for n_train, rows in windows
        ],
        **pooled.model_scores.as_dict(),
        "test_samples": len(pooled),
        "parts": _parts(pooled),
        **comparison,
        **_slices(pooled),
        **_verdict(_judged(pooled, comparison, what, seen_until)),
    }


def with_windows(scores: Mapping[str, Any], windows: dict[str, Any]) -> dict[str, Any]:
    """Return the scores of `evaluate` with the verdict of the rolling windows: a single test part can be lucky."""
    judged = {name: windows[name] for name in ("verdict", "beats_baseline", "judged")}
    return {**scores, "windows": windows, **judged}


def f1_interval(rows: ScoredRows) -> list[float] | None:
    """Return the 95 % interval of the weighted F1 over drivers; None with too few effective drivers."""
    predictions = rows.model_scores.predicted
    types = np.arange(len(rows.classes))
    # One column at a time: with many sessions and types, all columns together would take gigabytes.
    columns = chain(
        ((rows.labels == code) & (predictions == code) for code in types),
        (rows.labels == code for code in types),
        (predictions == code for code in types),
    )

    return statistic_interval(columns, rows.drivers, lambda sums: weighted_f1(*np.split(sums, 3, axis=1)))


def calibration(rows: ScoredRows) -> dict[str, Any]:
    """Return how well the confidence matches the accuracy, as `calibration_of` defines it."""
    confidence = rows.probabilities.max(axis=1)
    right = rows.model_scores.predicted == rows.labels
    places = bin_places(confidence)
    sums = (np.bincount(places, weights, minlength=BINS) for weights in (None, confidence, right))
    return calibration_of(*sums)


def _verdict(judged: dict[str, Any]) -> dict[str, Any]:
    return {"verdict": judged["verdict"], "beats_baseline": judged["verdict"] == "better", "judged": judged}


def _judged(
    rows: ScoredRows, comparison: Mapping[str, Any], sessions_of: str, seen_until: datetime | None
) -> dict[str, Any]:
    """Return the verdict and the figures that it follows from.

    Args:
        rows: the scored sessions.
        comparison: the result of `_comparison(rows)`.
        sessions_of: the name of these sessions in words.
        seen_until: the start of the newest session that the search has seen. Only later sessions decide.
    """
    unseen = np.ones(len(rows), dtype=bool) if seen_until is None else rows.starts > np.datetime64(seen_until, "s")
    if not unseen.all():
        sessions_of = say("the sessions of {sessions} that the search has not seen", sessions=sessions_of)
        rows = rows.only(unseen)
    if not len(rows):
        return {"sessions_of": sessions_of, "sessions": 0, "verdict": "not_shown"}
    if not unseen.all():
        comparison = _comparison(rows)
    return {
        "sessions_of": sessions_of,
        "sessions": len(rows),
        "from": rows.starts.min().item().isoformat(),
        "until": rows.starts.max().item().isoformat(),
        "past_known": bool((rows.earlier > 0).any()),
        "weighted_f1": rows.model_scores.weighted_f1,
        "log_loss": rows.model_scores.log_loss,
        **comparison,
        "verdict": verdict_of(comparison["baseline_differences"]),
    }


def _comparison(rows: ScoredRows) -> dict[str, Any]:
    """Return the scores of the baselines, the best baseline by each score, and the differences to the model."""
    baselines = _baselines(rows)
    best = min(baselines, key=lambda name: baselines[name]["log_loss"])
    found = compare(rows.model_scores, rows.baseline_scores, rows.drivers)
    differences = {name: one._asdict() for name, one in found.items()}
    return {
        "baselines": baselines,
        "best_baseline": best,
        "best_baseline_by_f1": max(baselines, key=lambda name: baselines[name]["weighted_f1"]),
        "baseline_differences": differences,
        "log_loss_difference": differences[best]["log_loss_difference"],
        "log_loss_difference_interval": differences[best]["interval"],
        "effective_drivers": round(effective_drivers(rows.drivers), 1),
        "unseen_type_sessions": int(rows.unseen.sum()),
    }


def _baselines(rows: ScoredRows) -> dict[str, dict[str, float]]:
    return {name: one.as_dict() for name, one in rows.baseline_scores.items()}


def _parts(rows: ScoredRows) -> dict[str, dict[str, float]]:
    """Return the scores of each part of the model alone."""
    return {name: Scores(rows.labels, one).as_dict() for name, one in rows.parts.items()}


def _slices(rows: ScoredRows) -> dict[str, Any]:
    """Return the scores by the amount of history that each driver had at the start of the session."""
    places = {
        "by_earlier_sessions": slice_places("by_earlier_sessions", rows.earlier),
        "by_types_used": slice_places("by_types_used", rows.types_used),
    }
    return {
        group: {name: _slice(rows, places[group] == place) for place, name in enumerate(slices)}
        for group, slices in SLICES.items()
    }


def _slice(rows: ScoredRows, inside: np.ndarray) -> dict[str, Any] | None:
    """Return the scores on the sessions for which `inside` is true; None if there are none."""
    if not inside.any():
        return None
    some = rows.only(inside)
    # The macro F1 is left out: on few sessions it is mostly noise.
    scores = {"model": some.model_scores.as_dict(), **_baselines(some)}
    shown = {name: {score: one[score] for score in ("weighted_f1", "log_loss")} for name, one in scores.items()}
    return {"sessions": len(some), **shown.pop("model"), "baselines": shown}


def _pool(windows: Sequence[ScoredRows]) -> ScoredRows:
    """Return the sessions of several windows as one set of sessions."""
    every = list(dict.fromkeys(name for rows in windows for name in rows.classes))

    labels = [np.array([every.index(name) for name in rows.classes])[rows.labels] for rows in windows]
    return replace(
        windows[0],
        classes=every,
        labels=np.concatenate(labels),
        **{name: np.concatenate([getattr(rows, name) for rows in windows]) for name in _BY_SESSION},
        probabilities=np.concatenate([align(rows.probabilities, rows.classes, every) for rows in windows]),
        baselines=_pool_by_name([rows.baselines for rows in windows], windows, every),
        parts=_pool_by_name([rows.parts for rows in windows], windows, every),
    )


def _pool_by_name(
    found: Sequence[Mapping[str, np.ndarray]], windows: Sequence[ScoredRows], every: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return the probabilities of each baseline or part, for the sessions of all windows.

    A part that a window lacks is left out: its training rows had too few drivers with a past.

    Args:
        found: for each window the probabilities by name.
        windows: the windows.
        every: the types of the returned columns.
    """
    return {
        name: np.concatenate([align(one[name], rows.classes, every) for one, rows in zip(found, windows, strict=True)])
        for name in found[0]
        if all(name in one for one in found)
    }
