"""The parts of a frame's matrix: the columns in natural units, and the history columns of drivers without a past."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from zap.ml.driver_columns import DAY
from zap.ml.features import CATEGORIES, FEATURES, NUMBERS, build_features
from zap.ml.fitted import category_codes
from zap.ml.history_columns import history_columns, present_places
from zap.ml.pasts import numbers, wall_times
from zap.ml.population_history import PopulationHistory
from zap.ml.user_history import UserHistory


def with_wall_times(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with starts as datetime64; starts that are texts are converted."""
    if pd.api.types.is_datetime64_dtype(frame["charging_start_time"].dtype):
        return frame
    return frame.assign(charging_start_time=wall_times(frame))


def natural_columns(frame: pd.DataFrame, contract: Mapping[str, Any], out: np.ndarray | None = None) -> np.ndarray:
    """Return the columns MATRIX_COLUMNS of n rows in natural units: float64 of shape (n, columns).

    Args:
        frame: the rows. Only the column `vehicle_model` may be absent; then all its values are missing.
        contract: the contract of the model.
        out: an array for the result. Default: a new array.

    Raises:
        ValueError: a column is absent or has a value of a wrong type, or a row has no start.
    """
    absent = [feature.name for feature in FEATURES if feature.name not in frame]
    frame = frame.assign(**{name: None for name in absent if name == "vehicle_model"})
    if needed := [name for name in absent if name not in frame]:
        raise ValueError(f"the frame has no column {', '.join(needed)}; add it, empty where a value is unknown")
    codes = category_codes(contract)
    columns: dict[str, np.ndarray] = {"charging_start_time": wall_times(frame)}
    for feature in CATEGORIES:
        # Equal texts become one Python object, instead of one object for each row.
        places, different = pd.factorize(frame[feature.name])
        columns[feature.name] = np.array([*map(codes[feature.name].spelling, different), None], dtype=object)[places]
    for feature in NUMBERS:
        columns[feature.name] = feature.masked(numbers(frame[feature.name]))
    return build_features(columns, codes, out)


def past_of_new_drivers(
    frame: pd.DataFrame, classes: Sequence[str], population: PopulationHistory, lag: int
) -> np.ndarray:
    """Return the history columns of n rows as if all drivers were new: float64 of shape (n, history columns).

    The columns of the present are missing. The shares of a new driver are the mix of types on the days before the
    moment that lies `lag` minutes before the start of the row.
    """
    new = UserHistory(len(classes))
    asked = wall_times(frame) - np.timedelta64(lag, "m")
    days, places = np.unique(asked.astype("datetime64[D]"), return_inverse=True)
    starts = (days.astype(np.int64) * DAY).tolist()
    n_past = present_places(len(classes)).start
    known = np.array([new.features(start, population.mix(start)) for start in starts], dtype=np.float64)
    past = np.full((len(frame), len(history_columns(classes))), np.nan)
    past[:, :n_past] = known.reshape(-1, n_past)[places]
    return past
