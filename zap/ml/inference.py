"""The one-row path: a complete request becomes features, the trees' probabilities, and an answer."""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zap.errors import DamagedModel
from zap.ml.cells import to_seconds
from zap.ml.cold import between, draw_to_mix
from zap.ml.features import CATEGORIES, NUMBERS, matrix_columns
from zap.ml.fitted import FittedModel, category_codes
from zap.ml.trees import Trees
from zap.ml.user_history import TYPE_CODES, UserHistory

_NUMBERS = tuple(feature.name for feature in NUMBERS)


class Answer(NamedTuple):
    """What a version says about one session.

    Attributes:
        predicted_class: the most probable charger type.
        probabilities: of every charger type, in the order of the model's classes.
        model_version: the version that answered.
        features: the float64 row that was scored, little-endian, in the order of the model's columns.
        history_sessions: how many earlier sessions of the driver were known.
    """

    predicted_class: str
    probabilities: dict[str, float]
    model_version: int
    features: bytes
    history_sessions: int


class Predictor:
    """A model version, ready to answer; any thread may ask."""

    def __init__(self, model: FittedModel, model_version: int) -> None:
        self.model_version = model_version
        self.contract = model.contract
        self.types = model.classes
        self.columns = model.columns
        self._population = model.population
        self._cold_weight = model.cold_weight
        codes = category_codes(model.contract)
        self._codes = [(feature.name, codes[feature.name]) for feature in CATEGORIES]
        self._trees = Trees(model.trees, len(model.columns), len(model.classes))
        # LightGBM reads numbers in the machine's order, which is this one wherever it is built for.
        self._row = struct.Struct(f"<{len(model.columns)}d")

    def answer(self, values: Mapping[str, Any], history: UserHistory) -> Answer:
        """Answer for one driver's next session.

        Args:
            values: one for each of FEATURES, None where missing; the start is there.
            history: the driver's sessions that started earlier, of `types`.
        """
        at = to_seconds(values["charging_start_time"])
        mix = self._population.mix(at)
        features = self._features(values, history, at, mix)
        probabilities = self._trees.score_row(features)
        if not history.sessions:
            weight = self._cold_weight
            probabilities = [between(found, share, weight) for found, share in zip(probabilities, mix, strict=True)]
        return self._answer(features, history, probabilities)

    def answers(
        self, rows: Sequence[Mapping[str, Any]], histories: Sequence[UserHistory], threads: int
    ) -> list[Answer]:
        """What `answer` says of each of many, from one pass through the trees with so many threads."""
        if not rows:
            return []
        features = []
        for values, history in zip(rows, histories, strict=True):
            at = to_seconds(values["charging_start_time"])
            features.append(self._features(values, history, at, self._population.mix(at)))
        probabilities = self._score(b"".join(features), threads).tolist()
        return list(map(self._answer, features, histories, probabilities))

    def explain(self, features: bytes, probabilities: Mapping[str, float]) -> dict[str, Any]:
        """A scored row by name, and what the model says of it now.

        Args:
            features: `Answer.features`.
            probabilities: what was answered.

        Returns:
            `features` (categories and types in words, None where missing), `probabilities`, `computed_again`, and
            whether these are `equal` to the bit.

        Raises:
            DamagedModel: the row has not as many numbers as the model has columns.
        """
        if len(features) != self._row.size:
            n = len(features) // 8
            raise DamagedModel(f"the stored row has {n} numbers, and the model {len(self.columns)} columns")
        again = dict(zip(self.types, self._score(features, threads=1)[0].tolist(), strict=True))
        words = {**self.contract["categories"], **dict.fromkeys(TYPE_CODES, self.types)}
        return {
            "features": {
                name: None if math.isnan(value) else _in_words(words.get(name), value)
                for name, value in zip(self.columns, self._row.unpack(features), strict=True)
            },
            "probabilities": dict(probabilities),
            "computed_again": again,
            "equal": again == dict(probabilities),
        }

    def _features(self, values: Mapping[str, Any], history: UserHistory, at: int, mix: Sequence[float]) -> bytes:
        numbers = [math.nan if (value := values[name]) is None else value for name in _NUMBERS]
        codes = [known.get(values[name], math.nan) for name, known in self._codes]
        return self._row.pack(*matrix_columns(numbers, codes, at), *history.features(at, mix))

    def _score(self, rows: bytes, threads: int) -> np.ndarray:
        """Probabilities of shape (n, types) for n rows, one behind the other."""
        matrix = np.frombuffer(rows, dtype="<f8").astype(np.float64).reshape(-1, len(self.columns))
        return draw_to_mix(self._trees.score(matrix, threads), matrix, self._cold_weight)

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
