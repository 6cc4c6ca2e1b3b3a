"""The artefact of a model version: the description of its features, and the check before the version serves."""

import struct
from collections.abc import Mapping
from typing import Any

from zap.errors import DamagedModel
from zap.ml.features import FEATURES
from zap.ml.fitted import FittedModel
from zap.ml.golden_check import check_golden
from zap.ml.inference import Predictor
from zap.sentences import phrase, say

_DTYPES = {"number": "float64", "category": "category", "time": "datetime64[s]"}
# These parts of a feature may change. If a change of them alters an answer, the golden rows show it.
_ONLY_TOLD = frozenset({"unit", "minimum", "maximum", "description"})


def describe_features(model: FittedModel) -> list[dict[str, Any]]:
    """Return the features that the model takes, in order.

    Each feature has its name, its dtype, its unit and range or its known values, and whether a request must have it.
    """
    needs, known = model.contract["fields"], model.contract["categories"]
    described = []
    for feature in FEATURES:
        if feature.name not in model.features:
            # The feature was added after the training.
            continue
        one: dict[str, Any] = {"name": feature.name, "dtype": _DTYPES[feature.kind], "in_requests": needs[feature.name]}
        if feature.kind == "number":
            one |= {"unit": feature.unit, "minimum": feature.minimum, "maximum": feature.maximum}
        elif feature.kind == "category":
            one["categories"] = list(known[feature.name])
        described.append(one)
    return described


def check_artefact(model: FittedModel, described: Mapping[str, Any]) -> None:
    """Raise DamagedModel if this code reads the model differently from the code that trained it.

    Args:
        model: the loaded model.
        described: the description that is stored with the model: `features`, `columns`, `classes`, `golden`. A part
            is None if an older zap stored the model without it.

    Raises:
        DamagedModel: says which part differs.
    """
    try:
        features = describe_features(model)
        for what, found in (
            ("features", [feature["name"] for feature in features]),
            ("columns", model.columns),
            ("classes", model.classes),
        ):
            stored = described[what]
            if stored is not None:
                expected = [one["name"] for one in stored] if what == "features" else stored
                _compare_names(what, list(found), expected)
        for feature, stored in zip(features, described["features"] or (), strict=False):
            _compare_feature(feature, stored)
        predictor = Predictor(model, 0)
        for number, golden in enumerate(described["golden"] or [], start=1):
            check_golden(predictor, model.columns, number, golden)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        raise DamagedModel(
            say("the artefact and the description that is stored with it do not match: {error!r}", error=error)
        ) from error


def _compare_names(what: str, found: list[str], stored: list[str]) -> None:
    if found == stored:
        return
    gone, new = [name for name in stored if name not in found], [name for name in found if name not in stored]
    if gone and new:
        differing = say("without {gone} and with {new}", gone=", ".join(gone), new=", ".join(new))
    elif gone or new:
        template = phrase("without {names}") if gone else phrase("with {names}")
        differing = say(template, names=", ".join(gone or new))
    else:
        differing = say("their order differs")
    raise DamagedModel(
        say(
            "the {what} of the artefact differ from the {what} that are stored with it: {differing}; promote or train"
            " another version",
            what=what,
            differing=differing,
        )
    )


def _compare_feature(found: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Raise DamagedModel if the name, dtype, need or known values of a feature differ from the stored ones."""
    for what in sorted({*found, *stored} - _ONLY_TOLD):
        if found.get(what) != stored.get(what):
            raise DamagedModel(
                say(
                    "{what} of the feature {feature} is {found!r} with this code and was {stored!r} when it was stored;"
                    " promote or train another version",
                    what=what,
                    feature=found["name"],
                    found=found.get(what),
                    stored=stored.get(what),
                )
            )
