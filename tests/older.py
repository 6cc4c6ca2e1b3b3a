"""Model versions of an earlier zap, which knew no present: its artefacts had neither these columns nor parameters."""

import re
from dataclasses import replace

from zap.ml.fitted import FittedModel, booster_columns, sha256
from zap.ml.history_columns import present_columns
from zap.ml.model import ChargerTypeModel


def older_version(model):
    """Return the version that an earlier zap would have trained, from a model that was fitted without a present.

    The columns of the present are the last ones, so leaving them out changes no column of a tree.
    """
    assert model.asked_before is None
    fitted = model.fitted()
    gone = len(present_columns(fitted.classes))
    text = fitted.scorer["trees"]
    names = booster_columns(len(fitted.classes))
    text = re.sub(r"(?m)^max_feature_idx=.*$", f"max_feature_idx={len(names) - gone - 1}", text)
    for name in ("feature_names", "feature_infos"):
        text = re.sub(rf"(?m)^{name}=(.*)$", lambda line: " ".join(line[0].split(" ")[:-gone]), text)
    hidden = ("asked_before", "left_out")
    return replace(
        fitted,
        hyper_parameters={name: value for name, value in fitted.hyper_parameters.items() if name not in hidden},
        columns=fitted.columns[:-gone],
        scorer={**fitted.scorer, "trees": text},
    )


def older_model(model):
    """Return the estimator of `older_version`, read from its artefact."""
    artefact = older_version(model).to_bytes()
    return ChargerTypeModel.from_fitted(FittedModel.from_bytes(artefact, sha256(artefact)))
