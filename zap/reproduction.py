"""The reproduction of a model version: the same rows give the same trees, or it says what changed."""

import time
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine

from zap.db.history_store import read_history
from zap.db.model_registry import read_version
from zap.db.training_runs import read_run
from zap.errors import NotFound
from zap.ml.fingerprint import RowsFingerprint, code_version, libraries, rows_fingerprint, trees_sha256
from zap.ml.history import clean_history
from zap.ml.model import ChargerTypeModel
from zap.ml.training import mix_of, past_features
from zap.progress import Progress


def reproduce(engine: Engine, number: int, progress: Progress) -> dict[str, Any]:
    """Train a version again on the rows that it was trained on, and compare the trees. Nothing is stored.

    Returns:
        `reproduced`, and what is another now: `changed_months` of the history (then there is nothing to compare),
        `code_version`, `libraries`, each as it was and as it is.

    Raises:
        NotFound: there is no such version, or it is older than what this needs.
    """
    stored = read_version(engine, number)
    if stored["trees_sha256"] is None:
        raise NotFound(f"version {number} is older than the fingerprints that it would be compared by")
    begin = time.perf_counter()
    progress("read", 0, 1)
    frame = clean_history(read_history(engine)).frame
    first, end = _trained_rows(frame, stored, read_run(engine, stored["run_id"])["options"] or {})
    rows = rows_fingerprint(frame.iloc[:end])
    same_rows = rows.sha256 == stored["rows_sha256"]
    trees = _trees(frame.iloc[:end], first, stored, progress) if same_rows else None
    return {
        "model_version": number,
        "reproduced": trees == stored["trees_sha256"],
        "trees_sha256": {"then": stored["trees_sha256"], "now": trees},
        "rows_sha256": {"then": stored["rows_sha256"], "now": rows.sha256},
        "changed_months": _changed_months(stored["rows_by_month"], rows),
        "code_version": _changed({"zap": stored["code_version"]}, {"zap": code_version()}),
        "libraries": _changed(stored["libraries"], libraries()),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def _trained_rows(frame: pd.DataFrame, stored: dict[str, Any], options: dict[str, Any]) -> tuple[int, int]:
    """Where the sessions that it was trained on begin and end in the history of today."""
    starts = frame["charging_start_time"].to_numpy(dtype="datetime64[s]")
    since = options.get("history_from")
    first = int(np.searchsorted(starts, np.datetime64(datetime.fromisoformat(since), "s"))) if since else 0
    last = np.datetime64(stored["trained_until"], "s")
    # Of sessions that started with the last one some may have been tested on. One that was added since must not push
    # the last one out: it would be told as missing.
    below, upto = (int(np.searchsorted(starts, last, side)) for side in ("left", "right"))
    return first, min(max(first + stored["trained_samples"], below + 1), upto)


def _trees(frame: pd.DataFrame, first: int, stored: dict[str, Any], progress: Progress) -> str:
    trained = frame.iloc[first:]
    types = stored["classes"]
    progress("features", 0, 1)
    past = past_features(frame, types, mix_of(trained, types))[first:]
    progress("fit", 0, 1)
    model = ChargerTypeModel(**stored["hyper_parameters"]).fit(
        trained,
        trained["charger_type"],
        past=past,
        categories=stored["contract"]["categories"],
        progress=lambda done, total, log_loss=None, /: progress("fit", done, total, log_loss),
    )
    return trees_sha256(model.booster_)


def _changed_months(then: dict[str, list[Any]], now: RowsFingerprint) -> dict[str, dict[str, int]]:
    """The months whose sessions are others now, with their numbers."""
    nothing = (0, "")
    months = sorted({*then, *now.months})
    return {
        month: {"then": then.get(month, nothing)[0], "now": now.months.get(month, nothing)[0]}
        for month in months
        if tuple(then.get(month, nothing)) != now.months.get(month, nothing)
    }


def _changed(then: dict[str, str], now: dict[str, str]) -> dict[str, dict[str, str | None]]:
    names = sorted({*then, *now})
    return {name: {"then": then.get(name), "now": now.get(name)} for name in names if then.get(name) != now.get(name)}
