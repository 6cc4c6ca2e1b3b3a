"""The users, vehicles and sessions in the rows of a history file, and numbers about them."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from zap.ml.cells import PAST_NUMBERS
from zap.ml.features import CHANGING_FACTS, FACTS, NUMBERS, USER_FACTS, VEHICLE_FACTS


def content_of(flat: pd.DataFrame) -> dict[str, Any]:
    """Return the frames of a HistoryFile and its numbers about them."""
    described = flat[[name for name in FACTS if name in flat]].notna().any(axis="columns")
    # `sessions` keeps only the columns of the file, because a column that the file does not have says nothing.
    nothing = pd.Series(None, index=flat.index, dtype="str")
    whole = flat.assign(**{name: nothing for name in ("user_id", "vehicle_model") if name not in flat})
    unnamed = whole["user_id"].isna()
    return {
        "users": _users(whole[~unnamed]),
        "vehicles": _vehicles(whole[~unnamed]),
        "sessions": flat,
        "outside": _outside(flat),
        "without_user": int((unnamed & described).sum()),
    }


def _users(flat: pd.DataFrame) -> pd.DataFrame:
    return _latest(flat, ["user_id"], [name for name in USER_FACTS if name in flat])


def _vehicles(flat: pd.DataFrame) -> pd.DataFrame:
    described = flat[[name for name in VEHICLE_FACTS if name in flat]].notna().any(axis="columns")
    values = [name for name in VEHICLE_FACTS if name in CHANGING_FACTS and name in flat]
    return _latest(flat[described], ["user_id", "vehicle_model"], values)


def _latest(rows: pd.DataFrame, key: list[str], values: list[str]) -> pd.DataFrame:
    """Return one row for each key, with the last known value of each column in order of start."""
    if not values:
        return rows[key].drop_duplicates(ignore_index=True)
    ordered = rows.sort_values("charging_start_time", kind="stable")
    return ordered.groupby(key, dropna=False)[values].last().reset_index()


def _outside(flat: pd.DataFrame) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for feature in (*NUMBERS, *PAST_NUMBERS):
        if feature.name in flat:
            values = flat[feature.name].to_numpy()
            counts[feature.name] = int((~np.isnan(values) & ~feature.inside(values)).sum())
    return dict(+counts)
