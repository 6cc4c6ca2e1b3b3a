"""FittedModel: what a training found, as plain data. All that answering needs, without what training needs."""

import hashlib
import io
import pickle
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from zap.errors import DamagedModel
from zap.ml.features import FEATURES, MATRIX_COLUMNS
from zap.ml.user_history import PopulationHistory, history_columns

# What the pickle of an estimator calls to make it again; its arguments are all that is read here.
MADE_BY = ("zap.ml.model", "restored")
# Differing features that an error names.
_SHOWN = 5


@dataclass(frozen=True)
class FittedModel:
    """A model version's own part of an answer.

    Attributes:
        hyper_parameters: LightGBM's.
        features: the names of the columns of a request, FEATURES when it was trained.
        classes: the charger types, sorted; the order of all probabilities.
        contract: what a request must carry: for each field `required`, `nullable` or `ignored`, and the known values
            of each category.
        columns: the names of the columns that the trees see: MATRIX_COLUMNS and `history_columns(classes)`.
        population: the mixes of types on the days of the training rows.
        cold_weight: the trees' weight for drivers without a past, 0 to 1; the rest is the mix's.
        trees: LightGBM's text of the booster.
    """

    hyper_parameters: Mapping[str, Any]
    features: tuple[str, ...]
    classes: tuple[str, ...]
    contract: Mapping[str, Any]
    columns: tuple[str, ...]
    population: PopulationHistory
    cold_weight: float
    trees: str

    def state(self) -> dict[str, Any]:
        """All of it in Python's own types, as the artefact holds it."""
        return {**vars(self), "population": self.population.counts}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "FittedModel":
        """What `state` gave."""
        return cls(**{**state, "population": PopulationHistory(state["population"], len(state["classes"]))})

    @classmethod
    def from_bytes(cls, artefact: bytes, digest: str) -> "FittedModel":
        """The model in an artefact, once its bytes are those that were stored.

        Of the pickle only plain data is read: nothing in it is ever called.

        Raises:
            DamagedModel: the digest differs, or the artefact was made for other features than this code has.
        """
        if sha256(artefact) != digest:
            raise DamagedModel(
                f"the artefact's SHA-256 is {sha256(artefact)}, stored was {digest}; promote or train another version"
            )
        try:
            fitted = cls.from_state(_PlainData(io.BytesIO(zlib.decompress(artefact))).load())
        except Exception as error:  # a pickle that was made for other code may fail in any way
            raise DamagedModel(f"the artefact does not load with these packages ({error}); train again") from error
        _check_features(fitted)
        return fitted


def _check_features(fitted: FittedModel) -> None:
    expected = [*(feature.name for feature in FEATURES), *booster_columns(len(fitted.classes))]
    found = [*fitted.features, *_feature_names(fitted.trees)]
    if found != expected:
        differing = sorted(set(expected).symmetric_difference(found)) or ["in another order"]
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        raise DamagedModel(
            f"the artefact was trained on other features ({', '.join(differing[:_SHOWN])}{more});"
            " train again with this code"
        )


class _PlainData(pickle.Unpickler):
    """Reads of a pickled estimator what it was made of."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == MADE_BY:
            return lambda state: state
        return _refuse(f"it holds {module}.{name}")


def _refuse(why: str) -> NoReturn:
    raise pickle.UnpicklingError(why)


def category_codes(contract: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """For each category feature the code of every known value."""
    known = contract["categories"]
    return {name: {value: code for code, value in enumerate(values)} for name, values in known.items()}


def booster_columns(n_classes: int) -> list[str]:
    """The names that the booster's columns have."""
    # LightGBM refuses brackets and other characters in names, and charger types are data: here they are numbered.
    past = history_columns([str(kind) for kind in range(n_classes)])
    return [*MATRIX_COLUMNS, *(name.replace("[", "_").replace("]", "") for name in past)]


def _feature_names(trees: str) -> list[str]:
    head = trees.partition("feature_names=")[2].partition("\n")[0]
    return head.split(" ")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
