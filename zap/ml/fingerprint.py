"""Fingerprints of the training rows and the code of a model version, for a later comparison."""

import ast
import hashlib
import json
import platform
from collections.abc import Container, Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from zap import __version__
from zap.ml.cells import PAST_NUMBERS
from zap.ml.features import FEATURES

_LIBRARIES = ("lightgbm", "numpy", "pandas", "scikit-learn", "scipy", "joblib")
# The modules of this folder that cannot change the result of a training with given sessions and hyper-parameters, each
# with the reason.
# A module that is not named here is part of the hash, so a new module cannot be forgotten.
NOT_DECIDING = {
    "__init__": "is empty",
    "artefact": "describes and checks a fitted model",
    "baselines": "predicts without a model",
    "contributions": "explains a fitted model",
    "evaluation": "measures a fitted model",
    "export": "writes the file of a fitted model",
    "fingerprint": "compares trainings",
    "folds": "belongs to the search, whose hyper-parameters the version stores",
    "gate": "decides whether a version serves",
    "golden": "stores answers of a fitted model",
    "inference": "answers with a fitted model",
    "intervals": "measures a fitted model",
    "memory": "frees memory",
    "race": "belongs to the search, whose hyper-parameters the version stores",
    "sample": "makes histories",
    "scores": "measures a fitted model",
    "tuning": "searches hyper-parameters, which the version stores",
    "verdict": "judges a fitted model",
}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


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


def libraries() -> dict[str, str]:
    """Return the versions of the libraries that a training uses, and the type of the machine."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
        "machine": f"{platform.system()} {platform.machine()}",
    }


@cache
def code_version() -> str:
    """Return the version of zap, with a hash of the modules that decide what is learned.

    Comments, docstrings and the layout of the code do not count. The hash does not depend on the version of Python.
    """
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in NOT_DECIDING:
            code.update(f"{path.stem}: {_code(ast.parse(path.read_bytes()))}\n".encode())
    return f"{__version__}+{code.hexdigest()[:12]}"


def _code(node: Any) -> str:
    """Return a syntax tree as text, without docstrings.

    `ast.dump` is not used, because the empty fields that it shows differ between versions of Python.
    """
    if isinstance(node, list):
        return f"[{','.join(map(_code, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name in node._fields:
        value: Any = getattr(node, name, None)
        if name == "body" and isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            value = value[1:]
        if value not in (None, []):
            fields.append(f"{name}={_code(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


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
