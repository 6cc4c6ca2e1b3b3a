"""The reproduction of a model version: train it again and compare the trees, or report what has changed."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine

from zap.db.history.history_store import read_history
from zap.db.runs.training_runs import read_run
from zap.db.versions.model_registry import read_version
from zap.errors import NotFound
from zap.ml.charger_types import places_of_types
from zap.ml.code_version import code_version, libraries
from zap.ml.fingerprint import RowsFingerprint, rows_fingerprint
from zap.ml.history import clean_history
from zap.ml.model import ChargerTypeModel
from zap.ml.population_history import PopulationHistory
from zap.ml.training import Split, mix_of, past_matrix
from zap.progress import Progress


def reproduce(engine: Engine, number: int, progress: Progress) -> dict[str, Any]:
    """Train a version again on the rows that it was trained on, and compare the trees. Nothing is stored.

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


def trained_rows(frame: pd.DataFrame, stored: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[int, int]:
    """Return where the training sessions of a version begin and end in the present history.

    Sessions in this range whose types the version did not learn count in the drivers' histories only.

    Args:
        frame: the cleaned history.
        stored: the version, as `read_version` returns it.
        options: the options of its training.

    Returns:
        The place of the first session, and the place after the last one.
    """
    starts = frame["charging_start_time"].to_numpy(dtype="datetime64[s]")
    since = options.get("history_from")
    first = int(np.searchsorted(starts, np.datetime64(datetime.fromisoformat(since), "s"))) if since else 0
    learned = first + np.flatnonzero(frame["charger_type"].iloc[first:].isin(stored["classes"]).to_numpy())
    n = stored["trained_samples"]
    end = int(learned[n - 1]) + 1 if n <= len(learned) else len(frame)
    last = np.datetime64(stored["trained_until"], "s")
    # Several sessions may have started in one second with the last training session, and some of them may have been
    # test sessions. A session that was added later must not push the last training session out of the range, because
    # the training session would then be reported as missing.
    below, upto = (int(np.searchsorted(starts, last, side)) for side in ("left", "right"))
    return first, min(max(end, below + 1), upto)


def _trees(frame: pd.DataFrame, first: int, stored: dict[str, Any], progress: Progress) -> str:
    types = stored["classes"]
    progress("features", 0, 1)
    split = learned_again(frame, types, types, first, len(frame))
    progress("fit", 0, 1)
    model = ChargerTypeModel(**stored["hyper_parameters"])
    model.fit_in_place(
        split.train,
        split.train["charger_type"],
        split.matrix[split.trained],
        categories=stored["contract"]["categories"],
        progress=lambda done, total, log_loss=None, /: progress("fit", done, total, log_loss),
    )
    return model.scorer_.digest()


def learned_again(  # noqa: PLR0913, PLR0917
    frame: pd.DataFrame,
    types: Sequence[str],
    judged: Sequence[str],
    first: int,
    end: int,
    n_test: int = 0,
    population: PopulationHistory | None = None,
) -> Split:
    """Return the split of a version's training, with the types that were learned and tested then.

    Args:
        frame: the cleaned history.
        types: the charger types of the version.
        judged: the types of the version, and the types that occur in its test sessions only.
        first: the place of the first session to train on.
        end: the place after the last session to train on.
        n_test: the most sessions after `end` to test on.
        population: the mix of types of the version. Default: the mix of the sessions to train on.
    """
    places = places_of_types(frame, first, judged)
    rows = np.arange(len(frame)) if places is None else places
    begun, trained = (int(np.searchsorted(rows, place)) for place in (first, end))
    n_test = min(n_test, len(rows) - trained)
    if places is not None:
        places = places[: trained + n_test]
    some = frame.iloc[: int(rows[trained + n_test - 1]) + 1] if trained + n_test else frame.iloc[:0]
    population = population or mix_of(frame.iloc[rows[begun:trained]], types)
    matrix = past_matrix(some, types, population, places=places)
    return Split(some, matrix, tuple(types), begun, trained - begun, n_test, places=places)


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


def _changed(then: dict[str, str], now: dict[str, str]) -> dict[str, dict[str, str | None]]:
    names = sorted({*then, *now})
    return {name: {"then": then.get(name), "now": now.get(name)} for name in names if then.get(name) != now.get(name)}
