"""Fingerprints: what a model was made of and what was made of it, short enough to be compared later."""

import hashlib
import json
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import lightgbm
import numpy as np
import pandas as pd

from zap import __version__
from zap.ml.cells import PAST_NUMBERS
from zap.ml.features import FEATURES

_LIBRARIES = ("lightgbm", "numpy", "pandas", "scikit-learn", "scipy", "joblib")
# What a training reads of a cleaned session. Its ids say nothing but the order, in which the rows are anyway.
_COLUMNS = (
    "user_id",
    "charger_type",
    "charging_end_time",
    *(feature.name for feature in (*FEATURES, *PAST_NUMBERS)),
)


class RowsFingerprint(NamedTuple):
    """Of some cleaned sessions in time order: the SHA-256 of all, and for each month how many, and their hash."""

    sha256: str
    months: dict[str, tuple[int, str]]


def rows_fingerprint(frame: pd.DataFrame) -> RowsFingerprint:
    """The fingerprint of all that a training reads of these sessions."""
    months = frame["charging_start_time"].to_numpy(dtype="datetime64[M]")
    names, starts, counts = np.unique(months, return_index=True, return_counts=True)
    whole = hashlib.sha256()
    parts = {}
    for name, start, count in zip(names, starts, counts, strict=True):
        part = _hash(frame.iloc[start : start + count])
        whole.update(part)
        parts[str(name)] = (int(count), part.hex()[:16])
    return RowsFingerprint(whole.hexdigest(), parts)


def trees_sha256(booster: lightgbm.Booster) -> str:
    """The SHA-256 of the trees: the tree section of the booster's text, without its parameters and what is around."""
    text = booster.model_to_string()
    trees = text[text.index("\nTree=") : text.index("end of trees")]
    return hashlib.sha256(trees.encode()).hexdigest()


def libraries() -> dict[str, str]:
    """The versions of what a training computes with, and the kind of machine."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
        "machine": f"{platform.system()} {platform.machine()}",
    }


@cache
def code_version() -> str:
    """The version of zap, and a hash of the code that turns a history into a model."""
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        code.update(path.read_bytes())
    return f"{__version__}+{code.hexdigest()[:12]}"


def _hash(frame: pd.DataFrame) -> bytes:
    rows = hashlib.sha256()
    for name in _COLUMNS:
        column = frame[name]
        if pd.api.types.is_datetime64_dtype(column):
            rows.update(column.to_numpy(dtype="datetime64[s]").astype("<i8").tobytes())
        elif column.dtype == np.float64:
            # SQLite knows no -0.0, and of what is missing the bits mean nothing.
            numbers = np.where(column.isna(), np.nan, column.to_numpy() + 0.0)
            rows.update(numbers.astype("<f8").tobytes())
        else:
            # Ids may hold any character; JSON tells where each ends, and which is missing.
            rows.update(json.dumps(column.astype(object).where(column.notna(), None).tolist()).encode())
        rows.update(b"\x1e")
    return rows.digest()
