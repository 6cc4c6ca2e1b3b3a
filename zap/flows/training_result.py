"""The report of a training, with the fields of `TrainReply`."""

from collections.abc import Mapping
from typing import Any

import msgspec

from zap.flows.trained import Trained
from zap.flows.training_message import training_message
from zap.flows.training_report import TrainReply
from zap.formats.training_options import TrainingOptions
from zap.ml.decision import Decision

LABEL_MEANING = (
    "the charger type of a session is the type that the driver used, among the chargers that were near and free;"
    " it is not always the type that would have been best"
)


def training_report(
    trained: Trained, decision: Decision, options: TrainingOptions, phases: Mapping[str, float], model_path: str
) -> dict[str, Any]:
    """Return the report of a training as JSON, which has the fields of `TrainReply`.

    Args:
        trained: the results of the training.
        decision: whether the new version serves, and why.
        options: the options of the training.
        phases: the seconds of each phase.
        model_path: the path of the model file, as it is shown.
    """
    scores, split = trained.scores, trained.split
    report = {
        "status": "success",
        "message": training_message(trained, decision),
        "test_f1_score": scores["test_f1_score"],
        "trained_samples": split.n_train,
        "test_samples": split.n_test,
        "model_version": trained.model_version,
        "training_run": trained.run_id,
        "promotion": decision.as_dict(),
        "at_plug_in": None,
        **scores,
        "label_meaning": LABEL_MEANING,
        "dropped": trained.history.dropped.as_dict(),
        "left_out_types": split.left_out.as_dict(),
        "synthetic_sessions": trained.history.synthetic_sessions,
        "estimator": trained.model.estimator,
        "asked_before_minutes": trained.asked_before,
        "reporting": trained.reporting.as_dict(trained.asked_before),
        "logistic_weight": trained.model.scorer_.weight,
        "hyper_parameters": {**trained.model.get_params(), "left_out": list(trained.model.left_out)},
        "hyper_parameters_from": trained.chosen.source,
        "test_sessions_seen_by_search": trained.seen_by_search,
        "new_driver_weight": trained.model.cold_weight_,
        "note": options.note,
        "phases": phases,
        "model_path": model_path,
    }
    built: dict[str, Any] = msgspec.to_builtins(msgspec.convert(report, TrainReply))
    return built
