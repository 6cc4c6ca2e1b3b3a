"""Golden rows: requests with stored predictions, which are computed again each time a model version is loaded."""

import math
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from zap.ml.driver_codes import driver_codes
from zap.ml.features import FEATURES
from zap.ml.fitted import FittedModel
from zap.ml.golden_check import scored
from zap.ml.history import past_sessions
from zap.ml.inference import Predictor
from zap.ml.training import Split

# The number of golden rows, spread evenly over the training part, and the most past sessions of a driver in one row.
_ROWS = 8
_PAST = 20


def golden_rows(model: FittedModel, split: Split) -> list[dict[str, Any]]:
    """Return requests from the training part, each with its past, present, feature row and probabilities."""
    predictor = Predictor(model, 0)
    rows = split.train_start + np.unique(np.linspace(0, split.n_train - 1, _ROWS).astype(int))
    places = np.arange(len(split.frame))[rows if split.places is None else split.places[rows]]
    drivers, starts = driver_codes(split.frame), split.frame["charging_start_time"].to_numpy()
    golden = []
    for number, place in enumerate(places.tolist()):
        row = split.frame.iloc[place]
        earlier = np.flatnonzero((drivers[:place] == drivers[place]) & (starts[:place] < starts[place]))
        past = past_sessions(split.frame.iloc[earlier[-_PAST:]], split.types)
        request = {feature.name: _plain(row[feature.name]) for feature in FEATURES}
        present = split.present[rows[number]].tolist()
        features, probabilities = scored(predictor, request, past, present)
        golden.append(
            {
                "request": request,
                "past": [[_plain(value) for value in session] for session in past],
                "present": [_plain(value) for value in present],
                "features": [_plain(value) for value in features],
                "probabilities": probabilities,
            }
        )
    return golden


def _plain(value: Any) -> Any:
    """Return a value in a type that JSON has."""
    if isinstance(value, pd.Timestamp | datetime):
        return value.isoformat()
    if pd.isna(value):
        return None
    plain = value.item() if isinstance(value, np.generic) else value
    # A power can be infinite, when the duration is almost 0; JSON has no infinity.
    return str(plain) if isinstance(plain, float) and math.isinf(plain) else plain
