"""From a cleaned history to a fitted model and what it is worth."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from zap.errors import UnusableHistory
from zap.ml.evaluation import ScoredRows, evaluate, over_windows, rows_to_score
from zap.ml.features import MATRIX_COLUMNS
from zap.ml.history import History, past_sessions, population_history
from zap.ml.model import ChargerTypeModel, Rounds, known_categories
from zap.ml.user_history import PastSession, PopulationHistory, history_columns, walk

TEST_SHARE = 0.1
# Below this a test part of 10 % says nothing at all.
FEWEST_SESSIONS = 50
# Rolling windows test one after the other on as many sessions as the last test part has; none tests on the first half.
_MOST_WINDOWS = 5
_FIRST_TESTED = 0.5
# Sessions that are turned into PastSession at a time.
_CHUNK = 50_000


@dataclass(frozen=True)
class Split:
    """The cleaned sessions in time order; from `first` on `n_train` are trained on, and the next `n_test` tested on.

    Attributes:
        frame: all sessions. Those before `first` are nothing but the drivers' past.
        matrix: what was known of the driver of each, `past_matrix(frame, types, mix of the training part)`. In the room
            in front a fit writes MATRIX_COLUMNS of the sessions that it trains on; of the others nothing is there.
        types: the charger types among those to train on, sorted.
        test_share: the share to test on, of which `n_test` is the count.
    """

    frame: pd.DataFrame
    matrix: np.ndarray
    types: tuple[str, ...]
    first: int
    n_train: int
    n_test: int
    test_share: float = TEST_SHARE

    @property
    def trained(self) -> slice:
        """The places of the sessions to train on."""
        return slice(self.first, self.first + self.n_train)

    @property
    def tested(self) -> slice:
        """The places of the sessions to test on."""
        return slice(self.first + self.n_train, self.first + self.n_train + self.n_test)

    @property
    def train(self) -> pd.DataFrame:
        return self.frame.iloc[self.trained]

    @property
    def test(self) -> pd.DataFrame:
        return self.frame.iloc[self.tested]

    @property
    def train_types(self) -> np.ndarray:
        """The charger type of each session to train on: many of few texts, not a text each."""
        kinds, different = pd.factorize(self.train["charger_type"])
        types: np.ndarray = different.to_numpy(dtype=object)[kinds]
        return types

    @property
    def past(self) -> np.ndarray:
        """What was known of the driver of each session: float64 of shape (len(frame), len(history_columns(types)))."""
        return _of_drivers(self.matrix)

    @property
    def train_past(self) -> np.ndarray:
        return self.past[self.trained]

    @property
    def test_past(self) -> np.ndarray:
        return self.past[self.tested]


def split_by_time(
    history: History,
    progress: Rounds | None = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    test_share: float = TEST_SHARE,
) -> Split:
    """The first 90 % to train, the last 10 % to test.

    Args:
        history: the cleaned sessions.
        progress: called with the sessions whose past was walked, and their number.
        since: learn from no session that started before; it stays part of its driver's past, as it is in serving.
        until: know nothing of sessions that started then or later.
        test_share: the share to test on.

    Raises:
        UnusableHistory: too few sessions, or a single charger type among those to train on.
    """
    starts = history.frame["charging_start_time"].to_numpy(dtype="datetime64[s]")
    first = 0 if since is None else int(np.searchsorted(starts, np.datetime64(since, "s")))
    end = len(starts) if until is None else int(np.searchsorted(starts, np.datetime64(until, "s")))
    frame, n = history.frame.iloc[:end], max(0, end - first)
    if n < FEWEST_SESSIONS:
        where = "in ChargingSessions" if n == len(starts) else f"of {len(starts)} lie in the window of history"
        raise UnusableHistory(
            f"{n} usable sessions {where}, at least {FEWEST_SESSIONS} are needed;"
            " zap import-history or zap sample-history adds some",
            dropped=history.dropped.as_dict(),
        )
    n_train = _rows(n, 1 - test_share)
    trained = frame.iloc[first : first + n_train]
    types = _types(trained)
    if len(types) < 2:
        raise UnusableHistory(
            f"the {n_train} sessions to train on have only one charger type, {types[0]!r}; two or more are needed",
            dropped=history.dropped.as_dict(),
        )
    matrix = past_matrix(frame, types, mix_of(trained, types), progress)
    return Split(frame, matrix, types, first, n_train, n - n_train, test_share)


def rolling_windows(split: Split) -> Iterator[Split]:
    """The parts of a history on which a model can be tried: each tests on as much as `split`, after its training.

    One whose training part has a single charger type is left out. The last is `split` itself.
    """
    frame, first, n = split.frame, split.first, split.n_train + split.n_test
    for start in _window_starts(split)[:-1]:
        n_train, tested_until = _rows(n, start), _rows(n, start + split.test_share)
        trained = frame.iloc[first : first + n_train]
        types = _types(trained)
        if len(types) > 1 and tested_until > n_train:
            some = frame.iloc[: first + tested_until]
            matrix = past_matrix(some, types, mix_of(trained, types))
            yield Split(some, matrix, types, first, n_train, tested_until - n_train, split.test_share)
    yield split


def mix_of(frame: pd.DataFrame, types: Sequence[str]) -> PopulationHistory:
    """The daily mixes of the cleaned sessions that a model is trained on: it keeps them as they were then."""
    return population_history(frame["charging_start_time"].to_numpy(), frame["charger_type"], types)


def past_features(frame: pd.DataFrame, types: Sequence[str], population: PopulationHistory) -> np.ndarray:
    """What was known of the driver of each session when it started.

    Args:
        frame: cleaned sessions in time order.
        types: the charger types that are learned from.
        population: the mix of all drivers, `mix_of(the sessions to train on, types)`.

    Returns:
        float64 of shape (len(frame), len(history_columns(types))). A session without a user has no past.
    """
    return _of_drivers(past_matrix(frame, types, population))


def past_matrix(
    frame: pd.DataFrame, types: Sequence[str], population: PopulationHistory, progress: Rounds | None = None
) -> np.ndarray:
    """`past_features` with room in front for MATRIX_COLUMNS: of a million rows a copy would be a third of all memory.

    Args:
        frame: cleaned sessions in time order.
        types: the charger types that are learned from.
        population: the mix of all drivers, `mix_of(the sessions to train on, types)`.
        progress: called with the sessions done, and their number.

    Returns:
        float64 of shape (len(frame), len(MATRIX_COLUMNS) + len(history_columns(types))); nothing is written into the
        first of these.
    """
    n_types = len(types)
    matrix = np.empty((len(frame), len(MATRIX_COLUMNS) + len(history_columns(types))))
    past = _of_drivers(matrix)
    drivers = driver_codes(frame)
    # Driver by driver, in time order: one state is enough.
    order = np.argsort(drivers, kind="stable")
    rows = (row for start in range(0, len(order), _CHUNK) for row in order[start : start + _CHUNK].tolist())
    done = 0
    for _, sessions in groupby(_in_order(frame, drivers, order, types), key=lambda pair: pair[0]):
        for values in walk((session for _, session in sessions), population, n_types):
            past[next(rows)] = values
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
    model, _ = fit_and_predict(split, params, n_jobs=n_jobs, progress=progress)
    return model


def fit_and_predict(
    split: Split, params: Mapping[str, Any] | None = None, *, n_jobs: int, progress: Rounds | None = None
) -> tuple[ChargerTypeModel, np.ndarray]:
    """The same, and its probabilities for the rows it was trained on; shape (n_train, classes)."""
    model = ChargerTypeModel(**(params or {}), n_jobs=n_jobs)
    probabilities = model.fit_predict_proba(
        split.train,
        split.train["charger_type"],
        past=split.matrix[split.trained],
        categories=known_categories(split.frame),
        progress=progress,
    )
    return model, probabilities


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
            progress(len(tried), len(_window_starts(split)))
    return over_windows(tried)


def _of_drivers(matrix: np.ndarray) -> np.ndarray:
    """The history columns of a matrix."""
    return matrix[:, len(MATRIX_COLUMNS) :]


def _scored(split: Split, model: ChargerTypeModel) -> ScoredRows:
    probabilities = model.predict_proba(split.test, split.test_past)
    mix = split.train["charger_type"].value_counts(normalize=True).reindex(split.types).to_numpy()
    drivers = driver_codes(split.frame)
    return rows_to_score(
        list(split.types),
        split.test["charger_type"].tolist(),
        drivers[split.tested],
        several_types=np.isin(drivers[split.tested], _drivers_of_several_types(split.frame, drivers)),
        past=split.test_past,
        mix=mix,
        probabilities=probabilities,
    )


def _drivers_of_several_types(frame: pd.DataFrame, drivers: np.ndarray) -> np.ndarray:
    """The codes of the drivers who have used more than one type."""
    kinds, types = pd.factorize(frame["charger_type"])
    owners = pd.unique(drivers * len(types) + kinds) // len(types)
    return owners[pd.Series(owners).duplicated().to_numpy()]


def _in_order(
    frame: pd.DataFrame, drivers: np.ndarray, order: np.ndarray, types: Sequence[str]
) -> Iterator[tuple[int, PastSession]]:
    for start in range(0, len(order), _CHUNK):
        some = order[start : start + _CHUNK]
        yield from zip(drivers[some].tolist(), past_sessions(frame.iloc[some], types), strict=True)


def _window_starts(split: Split) -> list[float]:
    """Where the tested parts of the rolling windows begin, as shares of the sessions."""
    starts = [1 - split.test_share * place for place in range(_MOST_WINDOWS, 0, -1)]
    return [start for start in starts if start >= _FIRST_TESTED - 1e-9]


def _types(frame: pd.DataFrame) -> tuple[str, ...]:
    return tuple(sorted(frame["charger_type"].unique().tolist()))


def _rows(n: int, share: float) -> int:
    return int(round(n * share, 6))
