"""The comparison of a new version with the version in production, on sessions that are new to both."""

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from zap.ml.driver_codes import witness_codes
from zap.ml.history_columns import present_places
from zap.ml.history_matrix import fill_present, past_features
from zap.ml.intervals import effective_drivers
from zap.ml.model import ChargerTypeModel
from zap.ml.scores import Scores, compare
from zap.ml.training import Split
from zap.ml.unseen import align

# With fewer sessions the difference between two models is mostly chance.
FEWEST_ROWS = 200


def compare_versions(
    split: Split, candidate: ChargerTypeModel, production: ChargerTypeModel, seen_until: datetime
) -> dict[str, Any]:
    """Return the log losses of two models on test sessions that are new to both, and the interval of the difference.

    If fewer than FEWEST_ROWS sessions are new to both, return only the number of these sessions.

    Args:
        split: the history that the candidate was trained on; the candidate has not seen the test part.
        candidate: the new model.
        production: the model in production.
        seen_until: the start of the newest session that either model, or the search before its training, has seen.
    """
    newer = (split.test["charging_start_time"] > seen_until).to_numpy()
    rows = split.test[newer]
    if len(rows) < FEWEST_ROWS:
        return {"sessions": len(rows)}
    classes, types = candidate.classes_.tolist(), production.classes_.tolist()
    every = list(dict.fromkeys([*classes, *types, *sorted(rows["charger_type"].unique())]))
    labels = np.array([every.index(name) for name in rows["charger_type"]], dtype=np.int64)
    new = candidate.predict_proba(rows, split.test_past[newer])
    old = production.predict_proba(rows, _past_for(production, split, newer, rows))
    new = align(new, classes, every, candidate.population_.sessions)
    old = align(old, types, every, production.population_.sessions)
    scores, served = Scores(labels, new), Scores(labels, old)
    drivers = witness_codes(split.frame)[split.in_frame(split.tested)][newer]
    return {
        "sessions": len(rows),
        "drivers": len(np.unique(drivers)),
        "effective_drivers": round(effective_drivers(drivers), 1),
        **_log_losses(scores, served),
        "interval": compare(scores, {"production": served}, drivers)["production"].interval,
        "types_of_both": _on_types_of_both(labels, new, old, np.isin(every, classes) & np.isin(every, types)),
    }


def _log_losses(candidate: Scores, production: Scores) -> dict[str, float]:
    new, old = candidate.log_loss, production.log_loss
    return {"candidate_log_loss": new, "production_log_loss": old, "difference": new - old}


def _on_types_of_both(labels: np.ndarray, new: np.ndarray, old: np.ndarray, both: np.ndarray) -> dict[str, Any] | None:
    """Return the log losses of both models on the sessions whose types both models know, without the other types.

    Args:
        labels: the n codes of the used types.
        new: the probabilities of the candidate, of shape (n, k).
        old: the probabilities of the model in production, of shape (n, k).
        both: for each of the k types, whether both models know it.

    Returns:
        None if both models know all types. If they have fewer than two types in common, there are no log losses.
    """
    inside = both[labels]
    if both.all():
        return None
    if both.sum() < 2 or not inside.any():
        return {"sessions": 0}
    left = [np.where(both, np.maximum(said[inside], np.finfo(np.float64).tiny), 0.0) for said in (new, old)]
    scores = [Scores(labels[inside], said / said.sum(axis=1, keepdims=True)) for said in left]
    return {"sessions": int(inside.sum()), **_log_losses(*scores)}


def _past_for(model: ChargerTypeModel, split: Split, newer: np.ndarray, rows: pd.DataFrame) -> np.ndarray:
    """Return the history columns of `rows`, the `newer` test sessions, for a model with other types and another mix."""
    known = split.frame["user_id"].isin(rows["user_id"].dropna()).to_numpy(copy=True)
    places = np.arange(len(split.frame))[split.in_frame(split.tested)][newer]
    known[places] = True
    some, types = split.frame[known], model.classes_.tolist()
    # The pasts need only the sessions of these drivers, but the present needs the sessions of all drivers.
    past = past_features(some, types, model.population_, model.asked_before, model.delay)[some.index.isin(rows.index)]
    present = past[:, present_places(len(types))]
    fill_present(present, split.frame, types, model.population_, places, model.asked_before, model.delay)
    return past
