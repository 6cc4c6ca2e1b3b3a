"""From a cleaned history to a fitted model and what it is worth."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from zap.errors import UnusableHistory
from zap.ml.evaluation import ScoredRows, evaluate, over_windows, rows_to_score
from zap.ml.history import History, past_sessions, population_history
from zap.ml.model import ChargerTypeModel, Rounds, known_categories
from zap.ml.user_history import PastSession, history_columns, walk

TEST_SHARE = 0.1
# Below this a test part of 10 % says nothing at all.
FEWEST_SESSIONS = 50
# Where the rolling windows begin: each is trained on all sessions before, and tested on the next TEST_SHARE.
WINDOW_STARTS = (0.5, 0.6, 0.7, 0.8, 0.9)
# Sessions that are turned into PastSession at a time.
_CHUNK = 50_000


@dataclass(frozen=True)
class Split:
    """The cleaned sessions in time order; the first `n_train` are trained on, the next `n_test` tested on.

    Attributes:
        frame: all sessions.
        past: what was known of the driver of each, `past_features(frame, types, n_train)`.
        types: the charger types among those to train on, sorted.
    """

    frame: pd.DataFrame
    past: np.ndarray
    types: tuple[str, ...]
    n_train: int
    n_test: int

    @property
    def train(self) -> pd.DataFrame:
        return self.frame.iloc[: self.n_train]

    @property
    def test(self) -> pd.DataFrame:
        return self.frame.iloc[self.n_train : self.n_train + self.n_test]

    @property
    def train_past(self) -> np.ndarray:
        return self.past[: self.n_train]

    @property
    def test_past(self) -> np.ndarray:
        return self.past[self.n_train : self.n_train + self.n_test]


def split_by_time(history: History, progress: Rounds | None = None) -> Split:
    """The first 90 % to train, the last 10 % to test.

    Args:
        history: the cleaned sessions.
        progress: called with the sessions whose past was walked, and their number.

    Raises:
        UnusableHistory: too few sessions, or a single charger type among those to train on.
    """
    frame = history.frame
    if len(frame) < FEWEST_SESSIONS:
        raise UnusableHistory(
            f"{len(frame)} usable sessions in ChargingSessions, at least {FEWEST_SESSIONS} are needed;"
            " zap import-history or zap sample-history adds some",
            dropped=history.dropped.as_dict(),
        )
    n_train = _rows(frame, 1 - TEST_SHARE)
    types = _types(frame, n_train)
    if len(types) < 2:
        raise UnusableHistory(
            f"the {n_train} sessions to train on have only one charger type, {types[0]!r}; two or more are needed",
            dropped=history.dropped.as_dict(),
        )
    return Split(frame, past_features(frame, types, n_train, progress), types, n_train, len(frame) - n_train)


def rolling_windows(split: Split) -> Iterator[Split]:
    """The parts of a history on which a model can be tried: up to five, each testing on the 10 % after its training.

    One whose training part has a single charger type is left out. The last is `split` itself.
    """
    frame = split.frame
    for start in WINDOW_STARTS[:-1]:
        n_train = _rows(frame, start)
        types = _types(frame, n_train)
        if len(types) > 1:
            tested_until = _rows(frame, start + TEST_SHARE)
            some = frame.iloc[:tested_until]
            yield Split(some, past_features(some, types, n_train), types, n_train, tested_until - n_train)
    yield split


def past_features(
    frame: pd.DataFrame, types: Sequence[str], n_train: int, progress: Rounds | None = None
) -> np.ndarray:
    """What was known of the driver of each session when it started.

    Args:
        frame: cleaned sessions in time order.
        types: the charger types that are learned from.
        n_train: how many are trained on. The mix of all drivers is counted on them only: a model keeps it as it was
            when it was trained.
        progress: called with the sessions done, and their number.

    Returns:
        float64 of shape (len(frame), len(history_columns(types))). A session without a user has no past.
    """
    n_types = len(types)
    known = frame.iloc[:n_train]
    population = population_history(known["charging_start_time"].to_numpy(), known["charger_type"].tolist(), types)
    matrix = np.empty((len(frame), len(history_columns(types))))
    drivers = driver_codes(frame)
    # Driver by driver, in time order: one state is enough.
    order = np.argsort(drivers, kind="stable")
    rows = iter(order.tolist())
    done = 0
    for _, sessions in groupby(_in_order(frame, drivers, order, types), key=lambda pair: pair[0]):
        for values in walk((session for _, session in sessions), population, n_types):
            matrix[next(rows)] = values
            done += 1
            if progress and done % _CHUNK == 0:
                progress(done, len(frame))
    return matrix


def driver_codes(frame: pd.DataFrame) -> np.ndarray:
    """For each session the code of its user; a session without a user has a code of its own, below zero.

    The codes of the first rows do not depend on the rows that follow: the same driver has one code in all windows.
    """
    codes, _ = pd.factorize(frame["user_id"])
    alone = codes < 0
    codes[alone] = -1 - np.arange(alone.sum())
    return codes


def fit(
    split: Split, params: Mapping[str, Any] | None = None, *, n_jobs: int, progress: Rounds | None = None
) -> ChargerTypeModel:
    """A model of the training part. What may be asked of it are the categories of the whole history, not of a part."""
    return ChargerTypeModel(**(params or {}), n_jobs=n_jobs).fit(
        split.train,
        split.train["charger_type"],
        past=split.train_past,
        categories=known_categories(split.frame),
        progress=progress,
    )


def score(split: Split, model: ChargerTypeModel) -> dict[str, Any]:
    """The evaluation of `model` on the test part, beside what guessing scores there."""
    return evaluate(_scored(split, model))


def score_windows(split: Split, model: ChargerTypeModel, progress: Rounds | None = None) -> dict[str, Any]:
    """The evaluation over the rolling windows, each with a model of its own, as `model` was made on the last."""
    params = {name: value for name, value in model.get_params().items() if name != "n_jobs"}
    tried = []
    # One after the other: each window has a matrix of its own.
    for window in rolling_windows(split):
        fitted = model if window is split else fit(window, params, n_jobs=model.n_jobs)
        tried.append((window.n_train, _scored(window, fitted)))
        if progress:
            progress(len(tried), len(WINDOW_STARTS))
    return over_windows(tried)


def train_predictions(split: Split, model: ChargerTypeModel) -> np.ndarray:
    """The model's probabilities for the rows it was trained on; shape (n_train, classes)."""
    return model.predict_proba(split.train, split.train_past)


def _scored(split: Split, model: ChargerTypeModel) -> ScoredRows:
    probabilities = model.predict_proba(split.test, split.test_past)
    mix = split.train["charger_type"].value_counts(normalize=True).reindex(split.types).to_numpy()
    drivers = driver_codes(split.frame)
    types_of_driver = split.frame["charger_type"].groupby(drivers).transform("nunique").to_numpy()
    tested = slice(split.n_train, split.n_train + split.n_test)
    return rows_to_score(
        list(split.types),
        split.test["charger_type"].tolist(),
        drivers[tested],
        several_types=types_of_driver[tested] > 1,
        past=split.test_past,
        mix=mix,
        probabilities=probabilities,
    )


def _in_order(
    frame: pd.DataFrame, drivers: np.ndarray, order: np.ndarray, types: Sequence[str]
) -> Iterator[tuple[int, PastSession]]:
    for start in range(0, len(order), _CHUNK):
        some = order[start : start + _CHUNK]
        yield from zip(drivers[some].tolist(), past_sessions(frame.iloc[some], types), strict=True)


def _types(frame: pd.DataFrame, n_train: int) -> tuple[str, ...]:
    return tuple(sorted(frame["charger_type"].iloc[:n_train].unique().tolist()))


def _rows(frame: pd.DataFrame, share: float) -> int:
    return int(round(len(frame) * share, 6))
