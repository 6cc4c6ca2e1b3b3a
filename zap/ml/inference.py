"""The one-row path: a complete request becomes features, the booster's probabilities, and an answer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zap.errors import DamagedModel
from zap.ml.features import FEATURES, build_features
from zap.ml.history import to_seconds
from zap.ml.model import ChargerTypeModel
from zap.ml.user_history import TYPE_CODES, UserHistory


@dataclass(frozen=True)
class Answer:
    """What a version says about one session.

    Attributes:
        predicted_class: the most probable charger type.
        probabilities: of every charger type, in the order of the model's classes.
        model_version: the version that answered.
        features: the float64 row that was scored, little-endian, in the order of the model's `columns_`.
        history_sessions: how many earlier sessions of the driver were known.
    """

    predicted_class: str
    probabilities: dict[str, float]
    model_version: int
    features: bytes
    history_sessions: int


def explain(model: ChargerTypeModel, features: bytes, probabilities: Mapping[str, float]) -> dict[str, Any]:
    """A scored row by name, and what the model says of it now.

    Args:
        model: the version that answered.
        features: `Answer.features`.
        probabilities: what was answered.

    Returns:
        `features` (categories and types in words, None where missing), `probabilities`, `computed_again`, and whether
        these are `equal` to the bit.

    Raises:
        DamagedModel: the row has not as many numbers as the model has columns.
    """
    row = np.frombuffer(features, dtype="<f8").astype(np.float64)
    if len(row) != len(model.columns_):
        raise DamagedModel(f"the stored row has {len(row)} numbers, and the model {len(model.columns_)} columns")
    again = dict(zip(model.classes_.tolist(), model.probabilities(row[None], threads=1)[0].tolist(), strict=True))
    words = {**model.contract_["categories"], **dict.fromkeys(TYPE_CODES, model.classes_.tolist())}
    return {
        "features": {
            name: None if math.isnan(value) else _in_words(words.get(name), value)
            for name, value in zip(model.columns_, row.tolist(), strict=True)
        },
        "probabilities": dict(probabilities),
        "computed_again": again,
        "equal": again == dict(probabilities),
    }


def _in_words(names: Sequence[str] | None, value: float) -> float | str:
    if names is None:
        return value
    return names[int(value)] if value >= 0 else "another type"


class Predictor:
    """A model version, ready to answer one request at a time."""

    def __init__(self, model: ChargerTypeModel, model_version: int) -> None:
        self.model_version = model_version
        self.contract = model.contract_
        self._model = model
        self.types = tuple(str(name) for name in model.classes_)
        self._codes = model.codes()

    def answer(self, values: Mapping[str, Any], history: UserHistory) -> Answer:
        """Answer for one driver's next session.

        Args:
            values: one for each of FEATURES, None where missing; the start is there.
            history: the driver's sessions that started earlier, of `types`.
        """
        at = to_seconds(values["charging_start_time"])
        past = history.features(at, self._model.population_.mix(at))
        columns: dict[str, np.ndarray] = {}
        for feature in FEATURES:
            value = values[feature.name]
            if feature.kind == "number":
                columns[feature.name] = np.array([np.nan if value is None else value], dtype=np.float64)
            elif feature.kind == "time":
                columns[feature.name] = np.array([value], dtype="datetime64[s]")
            else:
                columns[feature.name] = np.array([value], dtype=object)
        row = np.column_stack([build_features(columns, self._codes), np.array([past], dtype=np.float64)])
        # A second thread costs more than one row saves.
        probabilities = self._model.probabilities(row, threads=1)[0]
        best = int(probabilities.argmax())
        return Answer(
            self.types[best],
            dict(zip(self.types, probabilities.tolist(), strict=True)),
            self.model_version,
            row.astype("<f8").tobytes(),
            history.sessions,
        )

    def answers(self, rows: Sequence[Mapping[str, Any]], histories: Sequence[UserHistory]) -> list[Answer]:
        """What `answer` gives for each of many sessions, to the bit, with one matrix through the booster."""
        if not rows:
            return []
        starts = [to_seconds(values["charging_start_time"]) for values in rows]
        past = [
            history.features(at, self._model.population_.mix(at)) for at, history in zip(starts, histories, strict=True)
        ]
        columns: dict[str, np.ndarray] = {}
        for feature in FEATURES:
            values = [row[feature.name] for row in rows]
            kinds: dict[str, Any] = {"number": np.float64, "time": "datetime64[s]"}
            columns[feature.name] = np.array(values, dtype=kinds.get(feature.kind, object))
        matrix = np.column_stack([build_features(columns, self._codes), np.array(past, dtype=np.float64)])
        found = self._model.probabilities(matrix, threads=2)
        return [
            Answer(
                self.types[best],
                dict(zip(self.types, probabilities, strict=True)),
                self.model_version,
                row.tobytes(),
                history.sessions,
            )
            for best, probabilities, row, history in zip(
                found.argmax(axis=1).tolist(), found.tolist(), matrix.astype("<f8"), histories, strict=True
            )
        ]
