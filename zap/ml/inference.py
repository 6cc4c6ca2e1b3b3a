"""Prediction: turn complete requests into feature rows, the scorer's probabilities, and answers."""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zap.errors import DamagedModel
from zap.ml.cells import to_seconds
from zap.ml.cold import draw_to_mix
from zap.ml.features import CATEGORIES, NUMBERS, matrix_columns
from zap.ml.fitted import FittedModel, category_codes, column_places
from zap.ml.history_columns import TYPE_CODES, share_columns
from zap.ml.population_now import Present, unknown_present
from zap.ml.scorer import read_scorer
from zap.ml.user_history import UserHistory
from zap.ml.weighted_mean import weighted_mean
from zap.sentences import say

_NUMBERS = tuple(feature.name for feature in NUMBERS)


class Answer(NamedTuple):
    """The prediction of a model version for one session.

    Attributes:
        predicted_class: the most probable charger type.
        probabilities: the probability of every charger type, in the order of the model's classes.
        model_version: the number of the model version.
        features: the scored row: little-endian float64 in the order of the model's columns.
        history_sessions: the number of the driver's earlier sessions that were known.
    """

    predicted_class: str
    probabilities: dict[str, float]
    model_version: int
    features: bytes
    history_sessions: int


class Predictor:
    """A loaded model version that predicts. Any thread may call it."""

    def __init__(self, model: FittedModel, model_version: int) -> None:
        self.model_version = model_version
        self.contract = model.contract
        self.types = model.classes
        self.columns = model.columns
        self.population = model.population
        self.asked_before, self._delay = model.asked_before, 60 * model.delay
        self.cold_weight = model.cold_weight
        codes = category_codes(model.contract)
        self._codes = [(feature.name, codes[feature.name]) for feature in CATEGORIES]
        self._places = column_places(model.columns, model.classes)
        self._sessions = model.columns.index("sessions")
        self._shares = [model.columns.index(name) for name in share_columns(model.classes)]
        self.scorer = read_scorer(model.scorer, model.columns, model.classes)
        # A scorer reads numbers in the machine's byte order, which is little-endian on all machines of LightGBM.
        self._row = struct.Struct(f"<{len(model.columns)}d")

    def asked_at(self, start: int, now: int | None = None) -> int:
        """Return the moment until which the present is known when the driver asks.

        The driver asks `asked_before` minutes before the start, but at the latest now. Then the sessions are known that
        started before the delay of reports.

        Args:
            start: the start of the session, in seconds on the wall clock since 1970-01-01.
            now: the current moment on this clock; None if the driver asked in the past.
        """
        if self.asked_before is None:
            return start
        moment = start - 60 * self.asked_before
        return (moment if now is None else min(moment, now)) - self._delay

    def known_before(self, start: int) -> int:
        """Return the moment before which a past session of the driver must have started to be known."""
        return start - self._delay

    def answer(self, values: Mapping[str, Any], history: UserHistory, present: Present | None = None) -> Answer:
        """Predict one driver's next session.

        Args:
            values: a value for each of FEATURES, None where missing; the start is never missing.
            history: the driver's sessions that started earlier.
            present: what all drivers do at the moment of asking; None if it is not known.
        """
        at = to_seconds(values["charging_start_time"])
        present = present or unknown_present(self.asked_at(at), len(self.types))
        mix = self.population.mix(present.moment)
        features = self._features(values, history, at, mix, present.values)
        probabilities = self.scorer.score_row(features)
        if not history.sessions:
            weight = self.cold_weight
            probabilities = [
                weighted_mean(found, share, weight) for found, share in zip(probabilities, mix, strict=True)
            ]
        return self._answer(features, history, probabilities)

    def answers(
        self,
        rows: Sequence[Mapping[str, Any]],
        histories: Sequence[UserHistory],
        presents: Sequence[Present],
        threads: int,
    ) -> list[Answer]:
        """Predict many sessions with one call of the scorer. Each prediction equals the result of `answer`.

        Args:
            rows: for each session a value for each of FEATURES, None where missing.
            histories: for each session the driver's earlier sessions.
            presents: for each session what all drivers do at the moment of asking.
            threads: the number of threads that the scorer may use.
        """
        if not rows:
            return []
        features = []
        for values, history, present in zip(rows, histories, presents, strict=True):
            at, mix = to_seconds(values["charging_start_time"]), self.population.mix(present.moment)
            features.append(self._features(values, history, at, mix, present.values))
        probabilities = self._score(b"".join(features), threads).tolist()
        return list(map(self._answer, features, histories, probabilities))

    def row(self, features: bytes) -> dict[str, float]:
        """Return the numbers of a scored row by column name, NaN where missing.

        Args:
            features: the stored `Answer.features`.

        Raises:
            DamagedModel: the number of values in the row differs from the number of the model's columns.
        """
        if len(features) != self._row.size:
            n = len(features) // 8
            raise DamagedModel(
                say(
                    "the stored row has {numbers} numbers, and the model has {columns} columns",
                    numbers=n,
                    columns=len(self.columns),
                )
            )
        return dict(zip(self.columns, self._row.unpack(features), strict=True))

    def explain(self, features: bytes, probabilities: Mapping[str, float]) -> dict[str, Any]:
        """Return a scored row by column name, and its probabilities computed again.

        Args:
            features: the stored `Answer.features`.
            probabilities: the stored probabilities.

        Returns:
            `features` (categories and types as texts, None where missing), `probabilities`, `computed_again`, and
            `equal`: whether both are bit-identical.

        Raises:
            DamagedModel: the number of values in the row differs from the number of the model's columns.
        """
        row = self.row(features)
        again = dict(zip(self.types, self._score(features, threads=1)[0].tolist(), strict=True))
        words = {**self.contract["categories"], **dict.fromkeys(TYPE_CODES, self.types)}
        return {
            "features": {
                name: None if math.isnan(value) else _in_words(words.get(name), value) for name, value in row.items()
            },
            "probabilities": dict(probabilities),
            "computed_again": again,
            "equal": again == dict(probabilities),
        }

    def _features(
        self,
        values: Mapping[str, Any],
        history: UserHistory,
        at: int,
        mix: Sequence[float],
        present: Sequence[float],
    ) -> bytes:
        numbers = [math.nan if (value := values[name]) is None else value for name in _NUMBERS]
        codes = [known[values[name]] for name, known in self._codes]
        if self._places is None:
            return self._row.pack(*matrix_columns(numbers, codes, at), *history.features(at, mix), *present)
        # A version of older code reads fewer columns than this code computes.
        row = [*matrix_columns(numbers, codes, at), *history.features(at, mix), *present]
        return self._row.pack(*[row[place] for place in self._places])

    def _score(self, rows: bytes, threads: int) -> np.ndarray:
        """Return probabilities of shape (n, types) for the concatenated bytes of n rows."""
        matrix = np.frombuffer(rows, dtype="<f8").astype(np.float64).reshape(-1, len(self.columns))
        cold, shares = matrix[:, self._sessions] == 0, matrix[:, self._shares]
        return draw_to_mix(self.scorer.score(matrix, threads), cold, shares, self.cold_weight)

    def _answer(self, features: bytes, history: UserHistory, probabilities: Sequence[float]) -> Answer:
        return Answer(
            self.types[probabilities.index(max(probabilities))],
            dict(zip(self.types, probabilities, strict=True)),
            self.model_version,
            features,
            history.sessions,
        )


def _in_words(names: Sequence[str] | None, value: float) -> float | str:
    if names is None:
        return value
    return names[int(value)] if value >= 0 else "another type"
