"""The check of golden rows: a loaded model version must answer stored requests as it did after its training."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from zap.errors import DamagedModel
from zap.ml.cells import to_seconds
from zap.ml.driver_columns import PastSession
from zap.ml.features import FEATURES
from zap.ml.inference import Predictor
from zap.ml.population_now import Present
from zap.ml.user_history import UserHistory
from zap.sentences import say

# Another machine's `exp` and `pow` may differ in the last bits.
_TOLERANCE = 1e-9


def check_golden(predictor: Predictor, columns: Sequence[str], number: int, golden: Mapping[str, Any]) -> None:
    """Raise DamagedModel if a predictor answers a golden row differently from when it was stored.

    Args:
        predictor: on the loaded model.
        columns: the names of the model's columns, for the message.
        number: the number of the golden row, for the message.
        golden: the golden row, one of `golden.golden_rows`.

    Raises:
        DamagedModel: a number of the feature row, or a probability, differs.
    """
    past = [
        PastSession(start, code, end, *(math.nan if value is None else value for value in numbers))
        for start, code, end, *numbers in golden["past"]
    ]
    # The golden rows of an older zap have no present.
    present = [math.nan if value is None else value for value in golden.get("present", ())]
    features, probabilities = scored(predictor, golden["request"], past, present)
    stored = [math.nan if value is None else float(value) for value in golden["features"]]
    for name, found, expected in zip(columns, features, stored, strict=True):
        if not (math.isclose(found, expected, rel_tol=_TOLERANCE) or (math.isnan(found) and math.isnan(expected))):
            raise _differs(say("feature {name} of golden row {number}", name=name, number=number), found, expected)
    for name, expected in golden["probabilities"].items():
        if abs(probabilities[name] - expected) > _TOLERANCE:
            raise _differs(
                say("probability of {name!r} of golden row {number}", name=name, number=number),
                probabilities[name],
                expected,
            )


def scored(
    predictor: Predictor, request: Mapping[str, Any], past: Sequence[PastSession], present: Sequence[float]
) -> tuple[list[float], dict[str, float]]:
    """Return the feature row and the probabilities for the request of a golden row, given its past and its present.

    If `present` is empty, the present is not known.
    """
    history = UserHistory(len(predictor.types))
    for session in past:
        history.observe(session)
    # A feature that was added after the training is missing.
    values = {**{feature.name: None for feature in FEATURES}, **request}
    values["charging_start_time"] = datetime.fromisoformat(request["charging_start_time"])
    at = predictor.asked_at(to_seconds(values["charging_start_time"]))
    answer = predictor.answer(values, history, Present(at, present) if present else None)
    return np.frombuffer(answer.features, dtype="<f8").tolist(), answer.probabilities


def _differs(what: str, found: float, stored: float) -> DamagedModel:
    return DamagedModel(
        say(
            "the {what} is {found!r} with this code and was {stored!r} when it was trained; promote or"
            " train another version, or go back to the code that trained it",
            what=what,
            found=found,
            stored=stored,
        )
    )
