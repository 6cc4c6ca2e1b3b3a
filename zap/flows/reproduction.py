"""The reproduction of a model version: train it again and compare what was learned, or report what has changed."""

import time
from typing import Any

import pandas as pd
from sqlalchemy import Engine

from zap.db.history.history_store import read_history
from zap.db.runs.training_runs import read_run
from zap.db.versions.model_registry import read_version
from zap.errors import NotFound
from zap.flows.trained_sessions import learned_again, trained_rows
from zap.ml.code_version import code_version, libraries
from zap.ml.estimator import stored_parameters
from zap.ml.fingerprint import changed_months, rows_fingerprint
from zap.ml.history import clean_history
from zap.ml.model import ChargerTypeModel
from zap.progress import Progress


def reproduce(engine: Engine, number: int, progress: Progress) -> dict[str, Any]:
    """Train a version again on the rows that it was trained on, and compare what was learned. Nothing is stored.

    `trees_sha256` is the digest of the scorer. The digest of a blend also covers its logistic regression.

    Returns:
        `reproduced`, and the changes since the training, each with its value then and now: `changed_months` of the
        history (if a month has changed, the version is not trained again), `code_version`, `libraries`.

    Raises:
        NotFound: there is no such version, or it is older than the fingerprints that the comparison needs.
    """
    stored = read_version(engine, number)
    if stored["trees_sha256"] is None:
        raise NotFound(f"version {number} has no fingerprints, because an older zap trained it; train a new version")
    begin = time.perf_counter()
    progress("read", 0, 1)
    frame = clean_history(read_history(engine)).frame
    first, end = trained_rows(frame, stored, read_run(engine, stored["run_id"])["options"] or {})
    rows = rows_fingerprint(frame.iloc[:end], stored["contract"]["fields"])
    same_rows = rows.sha256 == stored["rows_sha256"]
    trees = _trees(frame.iloc[:end], first, stored, progress) if same_rows else None
    return {
        "model_version": number,
        "reproduced": trees == stored["trees_sha256"],
        "trees_sha256": {"then": stored["trees_sha256"], "now": trees},
        "rows_sha256": {"then": stored["rows_sha256"], "now": rows.sha256},
        "changed_months": changed_months(stored["rows_by_month"], rows),
        "code_version": _changed({"zap": stored["code_version"]}, {"zap": code_version()}),
        "libraries": _changed(stored["libraries"], libraries()),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def _trees(frame: pd.DataFrame, first: int, stored: dict[str, Any], progress: Progress) -> str:
    types = stored["classes"]
    progress("features", 0, 1)
    model = ChargerTypeModel(**stored_parameters(stored["hyper_parameters"]))
    split = learned_again(frame, types, types, first, len(frame), asked_before=model.asked_before, delay=model.delay)
    progress("fit", 0, 1)
    model.fit_in_place(
        split.train,
        split.train["charger_type"],
        split.matrix[split.trained],
        categories=stored["contract"]["categories"],
        progress=lambda done, total, log_loss=None, /: progress("fit", done, total, log_loss),
    )
    return model.scorer_.digest()


def _changed(then: dict[str, str], now: dict[str, str]) -> dict[str, dict[str, str | None]]:
    names = sorted({*then, *now})
    return {name: {"then": then.get(name), "now": now.get(name)} for name in names if then.get(name) != now.get(name)}
