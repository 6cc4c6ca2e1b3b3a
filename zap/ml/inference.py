"""The one-row path: a complete request becomes features, the booster's probabilities, and an answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from zap.ml.features import FEATURES, build_features
from zap.ml.model import ChargerTypeModel


@dataclass(frozen=True)
class Answer:
    """What a version says about one session.

    Attributes:
        predicted_class: the most probable charger type.
        probabilities: of every charger type, in the order of the model's classes.
        model_version: the version that answered.
    """

    predicted_class: str
    probabilities: dict[str, float]
    model_version: int


class Predictor:
    """A model version, ready to answer one request at a time."""

    def __init__(self, model: ChargerTypeModel, model_version: int) -> None:
        self.model_version = model_version
        self.contract = model.contract_
        self._model = model
        self._classes = [str(name) for name in model.classes_]
        self._codes = model.codes()

    def answer(self, values: Mapping[str, Any], now: datetime) -> Answer:
        """Answer for `values` (one for each of FEATURES, None where missing); `now` stands in for a missing start."""
        columns: dict[str, np.ndarray] = {}
        for feature in FEATURES:
            value = values[feature.name]
            if feature.kind == "number":
                columns[feature.name] = np.array([np.nan if value is None else value], dtype=np.float64)
            elif feature.kind == "time":
                columns[feature.name] = np.array([value or now], dtype="datetime64[s]")
            else:
                columns[feature.name] = np.array([value], dtype=object)
        # A second thread costs more than one row saves.
        probabilities = self._model.probabilities(build_features(columns, self._codes), threads=1)[0]
        best = int(probabilities.argmax())
        return Answer(
            self._classes[best],
            dict(zip(self._classes, probabilities.tolist(), strict=True)),
            self.model_version,
        )
