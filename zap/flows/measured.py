"""What a training measures of a new version beside its scores: importances, usual values, and the tested sessions."""

from typing import Any

import numpy as np

from zap.ml.fingerprint import rows_fingerprint
from zap.ml.importances import measured_importances
from zap.ml.model import ChargerTypeModel
from zap.ml.training import Split
from zap.ml.usual_values import usual_values


def measured(model: ChargerTypeModel, split: Split) -> dict[str, Any]:
    """Return what is stored with the scores of a version, under the names of `model_registry.MEASURED`.

    Args:
        model: the model that was fitted to the training part.
        split: the history.
    """
    starts = split.test["charging_start_time"].to_numpy(dtype="datetime64[s]")
    return {
        "importances": measured_importances(model, split),
        "usual_values": usual_values(split.matrix[split.trained], model.columns_, model.contract_["categories"]),
        "tested": {
            "sessions": split.n_test,
            "from": str(np.datetime_as_string(starts[0])),
            "until": str(np.datetime_as_string(starts[-1])),
            "sha256": rows_fingerprint(split.test).sha256,
        },
    }
