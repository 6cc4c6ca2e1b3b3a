"""What the monitors of a version compare with: its training drivers, and the scores that its test promises."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine

from zap.db.history.history_store import read_history
from zap.db.monitoring.monitor_states import Kind
from zap.db.runs.training_runs import read_run
from zap.db.versions.model_registry import load_version, read_version, version
from zap.flows.trained_sessions import tested_again
from zap.ml.baselines import fit_exponents
from zap.ml.driver_columns import DAY
from zap.ml.features import MATRIX_COLUMNS
from zap.ml.history import clean_history
from zap.ml.history_columns import driver_column
from zap.ml.matrix import natural_columns
from zap.ml.model import ChargerTypeModel
from zap.ml.training import Split
from zap.monitoring.driver_means import brier
from zap.monitoring.harm import promised
from zap.monitoring.harm_days import group_of
from zap.monitoring.watched import Rows, answer_values, reference_of_version, request_values, week_of


def references_of(split: Split, model: ChargerTypeModel, evaluation: Mapping[str, Any]) -> dict[Kind, dict[str, Any]]:
    """Return the references of a version, as JSON values.

    Args:
        split: the sessions that the model was trained and tested on.
        model: the model.
        evaluation: the scores of the model; empty for a version without scores. An older zap did not store
            `pooled_exponents` in them, so these are then fitted again.

    Returns:
        For drift `features`, which is None if the training has too few drivers. For harm the `limits` by window, and
        the `baseline` with the `mix` and the `exponents` that its probabilities follow from.
    """
    probabilities = model.probabilities(model.matrix(split.test, split.test_past))
    return {
        "drift": _of_drift(split, model, probabilities),
        "harm": _of_harm(split, model, probabilities, evaluation),
    }


def find_references(engine: Engine, number: int) -> dict[Kind, dict[str, Any]]:
    """Return the references of a version that an older zap has trained, from the sessions in the present history.

    Raises:
        NotFound: there is no such version.
        DamagedModel: its artefact cannot be used.
        UnusableHistory: the history has none of the sessions that the version was trained or tested on.
    """
    stored = read_version(engine, number)
    model = ChargerTypeModel.from_fitted(load_version(engine, version(engine, number)))
    options = read_run(engine, stored["run_id"])["options"] or {}
    split = tested_again(clean_history(read_history(engine)).frame, stored, options, model)
    return references_of(split, model, stored["evaluation"] or {})


def _of_drift(split: Split, model: ChargerTypeModel, probabilities: np.ndarray) -> dict[str, Any]:
    sessions = split.test_past[:, driver_column("sessions", len(split.types))]
    answered = model.classes_[probabilities.argmax(axis=1)]
    requests = request_values(
        natural_columns(split.train, model.contract_), MATRIX_COLUMNS, model.contract_["categories"]
    )
    trained = _rows(split.train, requests)
    reference = reference_of_version(trained, _rows(split.test, answer_values(sessions, answered.tolist())))
    return {"features": reference and reference.to_plain()}


def _rows(sessions: pd.DataFrame, columns: Mapping[str, Any]) -> Rows:
    """Return the rows of the sessions that name a driver."""
    named = np.flatnonzero(sessions["user_id"].notna().to_numpy())
    codes, _ = pd.factorize(sessions["user_id"].iloc[named])
    of_named = {
        name: [one[row] for row in named] if isinstance(one, list) else one[named] for name, one in columns.items()
    }
    return Rows(of_named, codes, week_of(_seconds(sessions)[named]))


def _of_harm(
    split: Split, model: ChargerTypeModel, probabilities: np.ndarray, evaluation: Mapping[str, Any]
) -> dict[str, Any]:
    types, test = pd.Index(model.classes_), split.test
    named = np.flatnonzero(test["user_id"].notna().to_numpy())
    groups = np.array([group_of(driver) for driver in test["user_id"].iloc[named]], dtype=np.int64)
    scores = brier(probabilities, types.get_indexer(pd.Index(test["charger_type"])))
    codes = types.get_indexer(pd.Index(split.train["charger_type"]))
    mix = np.bincount(codes, minlength=len(types)) / len(codes)
    exponents = evaluation.get("pooled_exponents") or fit_exponents(split.train_past, codes, len(types)).tolist()
    return {
        "limits": {
            str(window): limit
            for window, limit in promised(_seconds(test)[named] // DAY, groups, scores[named]).items()
        },
        "baseline": evaluation.get("best_baseline", "prior"),
        "mix": mix.tolist(),
        "exponents": exponents,
    }


def _seconds(sessions: pd.DataFrame) -> np.ndarray:
    return sessions["charging_start_time"].to_numpy(dtype="datetime64[s]").astype(np.int64)
