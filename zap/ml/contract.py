"""The contract of a model: which fields a request must have, learned from the training rows; and checks of the rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from zap.ml.features import CATEGORIES, FEATURES
from zap.ml.pasts import check_frame

# The known values of each category feature.
Categories = Mapping[str, Sequence[str]]


def check_rows(frame: pd.DataFrame, used: Sequence[str] | pd.Series) -> None:
    """Raise an error if training rows lack a column or a charger type.

    Raises:
        TypeError: the rows are not a DataFrame.
        ValueError: a column or a charger type is missing; the message names it.
    """
    check_frame(frame, "X")
    if len(used) != len(frame):
        raise ValueError(f"there are {len(used)} charger types for {len(frame)} rows; give one for each row")
    if missing := [feature.name for feature in FEATURES if feature.name not in frame]:
        raise ValueError(f"the frame has no column {', '.join(missing)}; give all of FEATURES, empty where unknown")
    types = pd.unique(pd.Series(used, dtype=object))
    if wrong := [one for one in types if not isinstance(one, str)]:
        raise ValueError(f"charger types are texts, but one is {wrong[0]!r}; leave out the rows without a type")


def check_order(frame: pd.DataFrame) -> None:
    """Raise ValueError if training rows are not in order of start."""
    starts = frame["charging_start_time"].to_numpy()
    if (starts[1:] < starts[:-1]).any():
        raise ValueError("the rows are not in order of charging_start_time; sort X, y and the matrix by it")


def coded_types(used: Sequence[str] | pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the different charger types of n training rows, sorted, and for each row the code of its type.

    Raises:
        ValueError: there are fewer than two types.
    """
    # A million rows have only a few different types, so each type is read once.
    places, different = pd.factorize(np.asarray(used, dtype=object), use_na_sentinel=False)
    types, ranks = np.unique(different.astype(str), return_inverse=True)
    if len(types) < 2:
        raise ValueError(f"two or more charger types are needed; the sessions have only {types.tolist()}")
    return types, ranks[places]


def learned_contract(frame: pd.DataFrame, categories: Categories | None = None) -> dict[str, Any]:
    """Return the contract of cleaned training rows.

    Args:
        frame: the rows.
        categories: the known values of each category feature. Default: the values in the rows.

    Returns:
        `fields`: for each field `required`, `nullable` or `ignored`; `categories`: the known values of each category.
    """
    return {"fields": _fields(frame), "categories": dict(categories or known_categories(frame))}


def known_categories(frame: pd.DataFrame) -> dict[str, list[str]]:
    """Return the sorted values of each category feature in a cleaned frame."""
    return {feature.name: sorted(frame[feature.name].dropna().unique().tolist()) for feature in CATEGORIES}


def _fields(frame: pd.DataFrame) -> dict[str, str]:
    """Return for each field whether a request must have it, from the missing values of the cleaned training rows.

    If a column had no missing value in training, the trees have not learned how to treat a missing value, so a request
    must have the field. A column without any value in training is ignored.
    """
    fields = {}
    for feature in FEATURES:
        missing = frame[feature.name].isna()
        fields[feature.name] = "ignored" if missing.all() else "nullable" if missing.any() else "required"
    return fields
