"""Golden rows: requests whose answers are stored beside a model version, for every load to be compared with."""

import math
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from zap.ml.artefact import scored
from zap.ml.features import FEATURES
from zap.ml.fitted import FittedModel
from zap.ml.history import past_sessions
from zap.ml.inference import Predictor
from zap.ml.training import Split, driver_codes

# They lie evenly over the training part, each with so many of the driver's last sessions before it.
_ROWS = 8
_PAST = 20


def golden_rows(model: FittedModel, split: Split) -> list[dict[str, Any]]:
    """Requests from the training part with the driver's past, the row that was scored, and what was answered."""
    predictor = Predictor(model, 0)
    places = np.unique(np.linspace(split.trained.start, split.trained.stop - 1, _ROWS).astype(int))
    drivers, starts = driver_codes(split.frame), split.frame["charging_start_time"].to_numpy()
    golden = []
    for place in places.tolist():
        row = split.frame.iloc[place]
        earlier = np.flatnonzero((drivers[:place] == drivers[place]) & (starts[:place] < starts[place]))
        past = past_sessions(split.frame.iloc[earlier[-_PAST:]], split.types)
        request = {feature.name: _plain(row[feature.name]) for feature in FEATURES}
        features, probabilities = scored(predictor, request, past)
        golden.append(
            {
                "request": request,
                "past": [[_plain(value) for value in session] for session in past],
                "features": [_plain(value) for value in features],
                "probabilities": probabilities,
            }
        )
    return golden


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, pd.Timestamp | datetime):
        return value.isoformat()
    if pd.isna(value):
        return None
    plain = value.item() if isinstance(value, np.generic) else value
    # A power over next to no time; JSON has no word for it.
    return str(plain) if isinstance(plain, float) and math.isinf(plain) else plain
