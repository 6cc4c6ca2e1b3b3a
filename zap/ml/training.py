"""Training: split a cleaned history by time, compute the pasts, fit a model, and score it."""

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from zap.errors import UnusableHistory
from zap.ml.baselines import fit_exponents
from zap.ml.boosting import BoostingProgress, boost
from zap.ml.charger_types import TypeBounds, in_order, learned_types, places_of_types
from zap.ml.contract import known_categories
from zap.ml.driver_codes import witness_codes
from zap.ml.evaluation import ScoredRows, evaluate, over_windows, rows_to_score
from zap.ml.history import History
from zap.ml.history_columns import present_places
from zap.ml.history_matrix import fill_present, history_part, mix_of, past_matrix
from zap.ml.left_out_types import LeftOutTypes
from zap.ml.model import ChargerTypeModel
from zap.ml.population_now import ASKED_BEFORE_MINUTES
from zap.sentences import say

TEST_SHARE = 0.1
# With fewer sessions a test part of 10 % means nothing.
FEWEST_SESSIONS = 50
# Each rolling window tests on as many sessions as the last test part has; no window tests on the first half.
_MOST_WINDOWS = 5
_FIRST_TESTED = 0.5
_BOUNDS = TypeBounds()
_NOTHING_LEFT_OUT = LeftOutTypes(0, 0, {}, {})


@dataclass(frozen=True)
class Split:
    """The cleaned sessions in time order, with a training part and a test part that follows it.

    Sessions of charger types that are not learned (`zap/ml/charger_types.py`) are in neither part and have no row.

    Attributes:
        frame: all sessions.
        matrix: the history columns of each row, `past_matrix(frame, types, mix of the training part)`. The columns in
            front of them are empty: a fit writes MATRIX_COLUMNS of the training rows there.
        types: the charger types of the training part, sorted.
        train_start: the first training row. Earlier rows serve only as the drivers' past.
        n_train, n_test: the number of training rows from `train_start` on, and the number of test rows after them.
        test_share: the share of the test part, from which `n_test` follows.
        places: the place in the frame of each row; None if every session has a row.
        left_out: the types that are not learned; a rolling window does not count them.
        asked_before: how many minutes before the start of a session its driver asks; None for a version that knows no
            present.
        delay: how many minutes after their start sessions are stored.
    """

    frame: pd.DataFrame
    matrix: np.ndarray
    types: tuple[str, ...]
    train_start: int
    n_train: int
    n_test: int
    test_share: float = TEST_SHARE
    places: np.ndarray | None = None
    left_out: LeftOutTypes = _NOTHING_LEFT_OUT
    asked_before: int | None = ASKED_BEFORE_MINUTES
    delay: int = 0

    @property
    def trained(self) -> slice:
        """Return the training rows."""
        return slice(self.train_start, self.train_start + self.n_train)

    @property
    def tested(self) -> slice:
        """Return the test rows."""
        return slice(self.train_start + self.n_train, self.train_start + self.n_train + self.n_test)

    @property
    def trained_end(self) -> int:
        """Return the place in the frame after the last training session."""
        return self.end_of(self.trained)

    @property
    def train(self) -> pd.DataFrame:
        return self.frame.iloc[self.in_frame(self.trained)]

    @property
    def test(self) -> pd.DataFrame:
        return self.frame.iloc[self.in_frame(self.tested)]

    def in_frame(self, rows: slice) -> slice | np.ndarray:
        """Return the places of rows in the frame."""
        return rows if self.places is None else self.places[rows]

    def end_of(self, rows: slice) -> int:
        """Return the place in the frame after the last of these rows."""
        return rows.stop if self.places is None else int(self.places[rows.stop - 1]) + 1

    @property
    def train_types(self) -> np.ndarray:
        """Return the charger type of each training session; equal types are one Python object."""
        codes, different = pd.factorize(self.train["charger_type"])
        types: np.ndarray = different.to_numpy(dtype=object)[codes]
        return types

    @property
    def past(self) -> np.ndarray:
        """Return the history columns of each row: float64 of shape (len(matrix), len(history_columns(types)))."""
        return history_part(self.matrix)

    @property
    def present(self) -> np.ndarray:
        """Return the columns of the present of each row, which are the last history columns."""
        return self.past[:, present_places(len(self.types))]

    @property
    def train_past(self) -> np.ndarray:
        return self.past[self.trained]

    @property
    def test_past(self) -> np.ndarray:
        return self.past[self.tested]


def split_by_time(  # noqa: PLR0913
    history: History,
    progress: BoostingProgress | None = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    test_share: float = TEST_SHARE,
    bounds: TypeBounds = _BOUNDS,
    asked_before: int = ASKED_BEFORE_MINUTES,
    delay: int = 0,
) -> Split:
    """Split the sessions of learned charger types: by default the first 90 % for training, the last 10 % for testing.

    Args:
        history: the cleaned history.
        progress: called with the number of sessions whose past is computed, and the number of all sessions.
        since: sessions that started earlier are not learned from; they stay part of their drivers' pasts, as in
            serving.
        until: sessions that started at this time or later are ignored.
        test_share: the share of the test part.
        bounds: the bounds for learned charger types. The learned types are decided only here: windows, searches and
            comparisons use parts of this split, and a version keeps its types.
        asked_before: how many minutes before the start of a session its driver asks.
        delay: how many minutes after their start sessions are stored.

    Raises:
        UnusableHistory: there are too few sessions, or the training part has a single charger type.
    """
    starts = history.frame["charging_start_time"].to_numpy(dtype="datetime64[s]")
    first = 0 if since is None else int(np.searchsorted(starts, np.datetime64(since, "s")))
    end = len(starts) if until is None else int(np.searchsorted(starts, np.datetime64(until, "s")))
    frame, inside = history.frame.iloc[:end], max(0, end - first)
    learned, left_out = learned_types(frame["charger_type"].iloc[first:], bounds)
    n = inside - left_out.sessions

    def unusable(why: str) -> UnusableHistory:
        return UnusableHistory(why, dropped=history.dropped.as_dict(), left_out_types=left_out.as_dict())

    if inside < FEWEST_SESSIONS:
        raise unusable(_too_few(starts, inside))
    if n < FEWEST_SESSIONS:
        raise unusable(_too_few_of_learned_types(n, inside, left_out))
    places = places_of_types(frame, first, learned)
    n_train = _rows(n, 1 - test_share)
    rows = slice(first, first + n_train)
    trained = frame.iloc[rows if places is None else places[rows]]
    types = in_order(trained["charger_type"])
    if len(types) < 2:
        said = f"; {left_out.in_words()}".rstrip(".") if left_out.sessions else ""
        raise unusable(
            say(
                "the {n} training sessions have only one charger type, {type!r}; two or more are needed",
                n=n_train,
                type=types[0],
            )
            + said
        )
    asking = {"asked_before": asked_before, "delay": delay}
    matrix = past_matrix(frame, types, mix_of(trained, types), progress, places=places, **asking)
    return Split(frame, matrix, types, first, n_train, n - n_train, test_share, places, left_out, **asking)


def rolling_windows(split: Split) -> Iterator[Split]:
    """Yield the rolling windows of a history: splits with equally large test parts, each after its training part.

    A window whose training part has a single charger type is left out. The last window is `split` itself.
    """
    first, n = split.train_start, split.n_train + split.n_test
    for start in _window_starts(split)[:-1]:
        n_train, tested_until = _rows(n, start), _rows(n, start + split.test_share)
        trained = split.frame.iloc[split.in_frame(slice(first, first + n_train))]
        types = in_order(trained["charger_type"])
        if len(types) > 1 and tested_until > n_train:
            rows = slice(0, first + tested_until)
            some = split.frame.iloc[: split.end_of(rows)]
            places = None if split.places is None else split.places[rows]
            mix, asked_before = mix_of(trained, types), split.asked_before
            matrix = past_matrix(some, types, mix, places=places, asked_before=asked_before, delay=split.delay)
            n_test = tested_until - n_train
            yield replace(
                split,
                frame=some,
                matrix=matrix,
                types=types,
                n_train=n_train,
                n_test=n_test,
                places=places,
                left_out=_NOTHING_LEFT_OUT,
            )
    yield split


def fit(
    split: Split, params: Mapping[str, Any] | None = None, *, n_jobs: int, progress: BoostingProgress | None = None
) -> ChargerTypeModel:
    """Fit a model to the training part. The model knows the categories of the whole history."""
    model, _ = fit_and_predict(split, params, n_jobs=n_jobs, progress=progress)
    return model


def fit_and_predict(
    split: Split, params: Mapping[str, Any] | None = None, *, n_jobs: int, progress: BoostingProgress | None = None
) -> tuple[ChargerTypeModel, np.ndarray]:
    """Fit a model to the training part. Return the model, and its probabilities of shape (n_train, classes)."""
    asking = {"asked_before": split.asked_before, "delay": split.delay}
    model = ChargerTypeModel(**{**(params or {}), **asking}, n_jobs=n_jobs)
    probabilities = model.fit_in_place(
        split.train,
        split.train["charger_type"],
        split.matrix[split.trained],
        categories=known_categories(split.frame),
        progress=progress,
    )
    return model, probabilities


def score(split: Split, model: ChargerTypeModel, seen_until: datetime | None = None) -> dict[str, Any]:
    """Return the scores of the model and of the baselines on the test part.

    `pooled_exponents` are the exponents of the pooled shares, which live quality needs for this baseline.

    Args:
        split: the history that the model was trained on.
        model: the model.
        seen_until: the start of the newest session that the search for its hyper-parameters has seen; None without a
            search.
    """
    exponents = _exponents(split)
    return {**evaluate(_scored(split, model, exponents), seen_until), "pooled_exponents": exponents.tolist()}


def score_at_plug_in(split: Split, model: ChargerTypeModel) -> dict[str, float] | None:
    """Return the scores on the test part of a model that knows the present at the start of each session.

    Drivers ask before they plug in, so no answer can know this present. The scores show the worth of the last minutes.
    The scored model has its own trees, and everything else of `model`.

    Args:
        split: the history that the model was trained on. The columns of its present are overwritten, and then
                restored.
        model: the model.

    Returns:
        The scores; None if the present of `model` is the present at the start, or if it knows no present.
    """
    if split.asked_before is None or not split.asked_before + split.delay:
        return None
    known = split.frame, split.types, mix_of(split.train, split.types), split.places
    try:
        fill_present(split.present, *known, asked_before=0, delay=0)
        trees, _ = boost(model.get_params(), split.matrix[split.trained], _train_codes(split), len(split.types))
        beside = copy(model)
        beside.scorer_ = model.scorer_.with_trees(trees)
        scores: dict[str, float] = _scored(split, beside, _exponents(split)).model_scores.as_dict()
        return scores
    finally:
        fill_present(split.present, *known, split.asked_before, split.delay)


def score_windows(
    split: Split,
    model: ChargerTypeModel,
    seen_until: datetime | None = None,
    *,
    search: Callable[[Split], Mapping[str, Any]] | None = None,
    progress: BoostingProgress | None = None,
) -> dict[str, Any]:
    """Return the scores over the rolling windows, each with a model of its own.

    Args:
        split: the history that the model was trained on, which is the last window.
        model: the model. The models of the other windows have its parameters, unless `search` is given.
        seen_until: the start of the newest session that the search for its hyper-parameters has seen; None without a
            search.
        search: a search for hyper-parameters on the training part of each other window. With None all windows use the
            hyper-parameters of `model`.
        progress: called with the number of finished windows, and the number of all windows.
    """
    params = {name: value for name, value in model.get_params().items() if name != "n_jobs"}
    tried = []
    # Windows are fitted one after the other, because the matrix of each window needs much memory.
    for window in rolling_windows(split):
        fitted = model
        if window is not split:
            chosen = {**search(window), "estimator": model.estimator} if search else params
            fitted = fit(window, chosen, n_jobs=model.n_jobs)
        tried.append((window.n_train, _scored(window, fitted, _exponents(window))))
        if progress:
            progress(len(tried), len(_window_starts(split)))
    return over_windows(tried, seen_until, nested=search is not None)


def _train_codes(split: Split) -> np.ndarray:
    """Return the code of the charger type of each training session."""
    codes: np.ndarray = pd.Index(split.types).get_indexer(pd.Index(split.train["charger_type"]))
    return codes


def _exponents(split: Split) -> np.ndarray:
    """Return the exponents of the pooled shares, fitted on the training part."""
    return fit_exponents(split.train_past, _train_codes(split), len(split.types))


def _scored(split: Split, model: ChargerTypeModel, exponents: np.ndarray) -> ScoredRows:
    """Return the test part with the probabilities of the model, and of baselines from the training part."""
    probabilities, parts = model.score_parts(split.test, split.test_past)
    return rows_to_score(
        list(split.types),
        split.test["charger_type"].tolist(),
        starts=split.test["charging_start_time"].to_numpy(),
        drivers=witness_codes(split.frame)[split.in_frame(split.tested)],
        past=split.test_past,
        mix=np.bincount(_train_codes(split), minlength=len(split.types)) / split.n_train,
        exponents=exponents,
        trained_on=split.n_train,
        probabilities=probabilities,
        parts=parts,
    )


def _too_few(starts: np.ndarray, n: int) -> str:
    """Return the message about too few sessions: where they were found, and what to do."""
    if n == len(starts):
        return say(
            "{n:d} usable sessions in ChargingSessions, at least {fewest} are needed; zap import-history or zap"
            " sample-history adds some",
            n=n,
            fewest=FEWEST_SESSIONS,
        )
    return say(
        "{n:d} usable sessions of {all:,} lie in the window of history, at least {fewest} are needed; the sessions"
        " start from {first} to {last}: widen history_from or history_to",
        n=n,
        all=len(starts),
        fewest=FEWEST_SESSIONS,
        first=starts[0],
        last=starts[-1],
    )


def _too_few_of_learned_types(n: int, inside: int, left_out: LeftOutTypes) -> str:
    """Return the message about too few sessions of learned types, and what to do."""
    return say(
        "{n:d} usable sessions of {inside:,} are of charger types that are learned, at least {fewest} are needed;"
        " {left_out} Give these sessions the names of types that are common, or lower ZAP_FEWEST_TYPE_SESSIONS and"
        " ZAP_LEAST_TYPE_SHARE",
        n=n,
        inside=inside,
        fewest=FEWEST_SESSIONS,
        left_out=left_out.in_words(),
    )


def _window_starts(split: Split) -> list[float]:
    """Return the starts of the test parts of the rolling windows, as shares of the sessions."""
    starts = [1 - split.test_share * place for place in range(_MOST_WINDOWS, 0, -1)]
    return [start for start in starts if start >= _FIRST_TESTED - 1e-9]


def _rows(n: int, share: float) -> int:
    return int(round(n * share, 6))
