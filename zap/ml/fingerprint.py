"""The fingerprint of the training rows of a model version, for a later comparison."""

import hashlib
import json
from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from zap.ml.cells import PAST_NUMBERS
from zap.ml.features import FEATURES


class RowsFingerprint(NamedTuple):
    """The fingerprint of cleaned sessions in time order.

    Attributes:
        sha256: the SHA-256 of all sessions.
        months: for each month the number of its sessions, and their hash.
    """

    sha256: str
    months: dict[str, tuple[int, str]]


def rows_fingerprint(frame: pd.DataFrame, known: Container[str] | None = None) -> RowsFingerprint:
    """Return the fingerprint of the columns that a training reads from these sessions.

    Args:
        frame: cleaned sessions in time order.
        known: the features that existed when the version was trained, so that later features do not change its
            fingerprint. Default: all of FEATURES.
    """
    features = (feature.name for feature in FEATURES if known is None or feature.name in known)
    # The ids of sessions are not hashed: they only decide the order of the rows, and the hash depends on this order.
    past = (feature.name for feature in PAST_NUMBERS)
    columns = ("user_id", "charger_type", "charging_end_time", *features, *past)
    months = frame["charging_start_time"].to_numpy(dtype="datetime64[M]")
    names, starts, counts = np.unique(months, return_index=True, return_counts=True)
    whole = hashlib.sha256()
    parts = {}
    for name, start, count in zip(names, starts, counts, strict=True):
        part = _hash(frame.iloc[start : start + count], columns)
        whole.update(part)
        parts[str(name)] = (int(count), part.hex()[:16])
    return RowsFingerprint(whole.hexdigest(), parts)


def changed_months(then: Mapping[str, list[Any]], now: RowsFingerprint) -> dict[str, dict[str, int]]:
    """Return the months whose sessions have changed, with their numbers of sessions then and now.

    Args:
        then: `rows_by_month` of the version.
        now: the fingerprint of these rows in the present history.
    """
    nothing = (0, "")
    months = sorted({*then, *now.months})
    return {
        month: {"then": then.get(month, nothing)[0], "now": now.months.get(month, nothing)[0]}
        for month in months
        if tuple(then.get(month, nothing)) != now.months.get(month, nothing)
    }


def _hash(frame: pd.DataFrame, columns: Iterable[str]) -> bytes:
    rows = hashlib.sha256()
    for name in columns:
        column = frame[name]
        if pd.api.types.is_datetime64_dtype(column):
            rows.update(column.to_numpy(dtype="datetime64[s]").astype("<i8").tobytes())
        elif column.dtype == np.float64:
            # SQLite stores -0.0 as 0.0, and NaN has several bit patterns: both are made uniform before they are hashed.
            numbers = np.where(column.isna(), np.nan, column.to_numpy() + 0.0)
            rows.update(numbers.astype("<f8").tobytes())
        else:
            # Ids may contain any character. In JSON the end of each id and a missing id are unambiguous.
            rows.update(json.dumps(column.astype(object).where(column.notna(), None).tolist()).encode())
        rows.update(b"\x1e")
    return rows.digest()
