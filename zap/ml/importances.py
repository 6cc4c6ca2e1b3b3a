"""The importances of a version's columns and groups, which a training measures and stores."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from zap.ml.explained_groups import sums_by_group
from zap.ml.explanation import Explainer
from zap.ml.model import ChargerTypeModel
from zap.ml.training import Split

# The contributions are measured on this many test sessions, spread evenly. More would add seconds to a training.
MOST_SESSIONS = 200
# How many sessions are measured at a time. With many types, the values of more sessions would take much memory.
_AT_A_TIME = 100


def measured_importances(model: ChargerTypeModel, split: Split) -> dict[str, Any]:
    """Return the importance of each column and of each group of columns, as JSON can hold them.

    Args:
        model: the model that was fitted to the training part.
        split: the history with the test part.

    Returns:
        `sessions`, the number of test sessions that were used, and `columns` and `groups`, the largest contribution
        first. Each has `gain`, its share of the gain of all splits of the trees, and `contribution`, the mean absolute
        value of what it adds to the log-ratio of the predicted type and the runner-up (`explanation.py`). For a group
        the contributions of its columns are added first.
    """
    explainer = Explainer(model.classes_.tolist(), model.columns_, model.scorer_, model.cold_weight_, model.population_)
    places = np.unique(np.linspace(0, split.n_test - 1, min(MOST_SESSIONS, split.n_test)).astype(int))
    matrix = model.matrix(split.test.iloc[places], split.test_past[places])
    probabilities = model.probabilities(matrix)
    pieces = [slice(at, at + _AT_A_TIME) for at in range(0, len(places), _AT_A_TIME)]
    added = np.concatenate(
        [explainer.contrasts(matrix[some], probabilities[some], model.n_jobs).weighted for some in pieces]
    )
    gains = np.append(model.booster_.feature_importance("gain"), 0.0)
    gains = gains / max(gains.sum(), 1.0)
    by_group = sums_by_group(model.columns_, gains)
    columns = dict(zip(model.columns_, zip(gains, np.abs(added).mean(axis=0), strict=True), strict=False))
    groups = {name: (by_group[name], np.abs(one).mean()) for name, one in sums_by_group(model.columns_, added).items()}
    return {"sessions": len(places), "groups": _in_order(groups), "columns": _in_order(columns)}


def _in_order(found: Mapping[str, tuple[Any, Any]]) -> dict[str, dict[str, float]]:
    rows = sorted(found.items(), key=lambda one: -one[1][1])
    return {name: {"gain": float(gain), "contribution": float(added)} for name, (gain, added) in rows}
