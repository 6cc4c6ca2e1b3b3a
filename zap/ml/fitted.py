"""FittedModel: the result of a training as plain data. A server reads it without the packages that training needs."""

import hashlib
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zap.errors import DamagedModel
from zap.ml.cells import Spellings
from zap.ml.features import CATEGORIES, FEATURES, MATRIX_COLUMNS
from zap.ml.history_columns import history_columns
from zap.ml.population_history import PopulationHistory
from zap.sentences import say

# The number of the artefact's form. A new field that has a default does not need a new form.
_FORMAT = 1
# The level of the compression. A higher level makes the artefact 5 % smaller, but takes twice the time.
_LEVEL = 3
# How many differing features an error names.
_SHOWN = 5
# How many characters of a library's error the message of DamagedModel quotes.
_LONGEST_ERROR = 200


@dataclass(frozen=True)
class FittedModel:
    """The result of a training: the data that a model version needs to predict.

    Attributes:
        hyper_parameters: the parameters of LightGBM.
        features: the names of FEATURES at the time of the training.
        classes: the charger types, sorted; the order of all probabilities.
        contract: what a request must carry: for each field `required`, `nullable` or `ignored`, and the known values
            of each category.
        columns: the names of the columns that the trees read: `computed_columns` at the time of the training.
        population: the mixes of types on the days of the training rows.
        cold_weight: the weight of the trees for drivers without a past, 0 to 1; the mix has the rest.
        scorer: the data of the scorer, which `scorer.read_scorer` reads.
    """

    hyper_parameters: Mapping[str, Any]
    features: tuple[str, ...]
    classes: tuple[str, ...]
    contract: Mapping[str, Any]
    columns: tuple[str, ...]
    population: PopulationHistory
    cold_weight: float
    scorer: Mapping[str, Any]

    @property
    def asked_before(self) -> int | None:
        """Return how many minutes before a session its driver asks; None if the version knows no present."""
        minutes: int | None = self.hyper_parameters.get("asked_before")
        return minutes

    @property
    def delay(self) -> int:
        """Return how many minutes after their start sessions are stored."""
        minutes: int = self.hyper_parameters.get("delay", 0)
        return minutes

    def to_bytes(self) -> bytes:
        """Return the artefact: compressed JSON. `from_bytes` reads each number back with equal bits.

        Raises:
            ValueError: a number of the model is NaN or infinite.
        """
        data = {"format": _FORMAT, **vars(self), "population": self.population.counts}
        # JSON in ASCII can hold every text, and it keeps the order of keys.
        text = json.dumps(data, allow_nan=False, separators=(",", ":"), default=_plain)
        return zlib.compress(text.encode("ascii"), _LEVEL)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "FittedModel":
        """Return the model from the JSON of an artefact.

        A feature that this code has and the model does not know becomes an ignored field of the contract. A field of
        this class that the JSON does not have gets its default.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: this code cannot read the JSON, or it has an unknown field.
        """
        number, fields = data["format"], {name: value for name, value in data.items() if name != "format"}
        if number != _FORMAT:
            raise ValueError(f"its form is {number}, and this code reads form {_FORMAT}")
        counts = {int(day): count for day, count in fields["population"].items()}
        known = {
            **{name: tuple(fields[name]) for name in ("features", "classes", "columns")},
            "population": PopulationHistory(counts, len(fields["classes"])),
            "contract": _with_new_features(fields["contract"]),
        }
        return cls(**{**fields, **known})

    @classmethod
    def from_older(cls, state: Mapping[str, Any]) -> "FittedModel":
        """Return the model from the fields of an older model file, which an earlier zap stored as a pickle."""
        fields = {name: value for name, value in state.items() if name != "trees"}
        return cls.from_data({"format": 1, **fields, "scorer": {"kind": "lightgbm", "trees": state["trees"]}})

    @classmethod
    def from_bytes(cls, artefact: bytes, digest: str) -> "FittedModel":
        """Return the model in an artefact, after a check of its digest.

        Args:
            artefact: the bytes of the artefact.
            digest: the SHA-256 that is stored for the artefact.

        Raises:
            DamagedModel: the digest differs, the artefact cannot be read, or its features differ from FEATURES.
        """
        if sha256(artefact) != digest:
            raise DamagedModel(
                say(
                    "the artefact's SHA-256 is {found}, but {digest} is stored; promote or train another version",
                    found=sha256(artefact),
                    digest=digest,
                )
            )
        try:
            fitted = cls.from_data(json.loads(zlib.decompress(artefact)))
        # These are the errors of bytes that are not an artefact, and of JSON with other fields.
        except (zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            # /health/ready and promotions show this text. It is cut, because some errors quote all unreadable bytes.
            said = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
            raise DamagedModel(
                say("the artefact cannot be read by this code ({said}); train again", said=said)
            ) from error
        _check_features(fitted)
        return fitted


def _plain(value: Any) -> Any:
    """Return a number or an array of NumPy as JSON can hold it. Searches of scikit-learn set such hyper-parameters.

    Raises:
        TypeError: the value has another type.
    """
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"an artefact cannot hold {value!r}, which is no number, text or list")


def _with_new_features(contract: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contract of a model. A feature that the model does not know is an ignored field of it."""
    ignored = {feature.name: "ignored" for feature in FEATURES}
    nothing: dict[str, list[str]] = {feature.name: [] for feature in CATEGORIES}
    return {
        **contract,
        "fields": ignored | contract["fields"],
        "categories": nothing | contract["categories"],
    }


def computed_columns(classes: Sequence[str]) -> list[str]:
    """Return the names of the columns that this code computes for a model of these charger types, in order."""
    return [*MATRIX_COLUMNS, *history_columns(classes)]


def column_places(columns: Sequence[str], classes: Sequence[str]) -> list[int] | None:
    """Return the places of a model's columns in `computed_columns`; None if the model reads all columns in order."""
    computed = computed_columns(classes)
    return None if list(columns) == computed else [computed.index(name) for name in columns]


def _check_features(fitted: FittedModel) -> None:
    """Raise DamagedModel if this code no longer has a feature or a column that the model was trained on."""
    known = [*(feature.name for feature in FEATURES), *computed_columns(fitted.classes)]
    gone = [name for name in dict.fromkeys((*fitted.features, *fitted.columns)) if name not in known]
    if gone:
        names = ", ".join(gone[:_SHOWN])
        if len(gone) > _SHOWN:
            names = say("{names:s} and {more:d} more", names=names, more=len(gone) - _SHOWN)
        raise DamagedModel(
            say("the artefact was trained on other features ({names}); train again with this code", names=names)
        )


class Codes(dict[Any, float]):
    """The codes of the known values of a category. Another spelling of a value has its code, and other values have NaN.

    Args:
        values: the known values, in the order of their codes.
    """

    def __init__(self, values: Sequence[str]) -> None:
        super().__init__({value: code for code, value in enumerate(values)})
        self._spellings = Spellings(values)
        self[None] = math.nan

    def __missing__(self, value: Any) -> float:
        return self.get(self.spelling(value), math.nan)

    def spelling(self, value: Any) -> Any:
        """Return the known value that a value means, or the value itself if it means no known value."""
        if value in self or not isinstance(value, str):
            return value
        meant = self._spellings.meant(value)
        return value if meant is None else meant


def category_codes(contract: Mapping[str, Any]) -> dict[str, Codes]:
    """Return for each category feature the code of every known value."""
    return {name: Codes(values) for name, values in contract["categories"].items()}


def booster_columns(n_classes: int) -> list[str]:
    """Return the column names that LightGBM gets."""
    # LightGBM refuses some characters in names, such as brackets. A charger type may have any character, so a name has
    # the type's code instead.
    past = history_columns([str(code) for code in range(n_classes)])
    return [*MATRIX_COLUMNS, *(name.replace("[", "_").replace("]", "") for name in past)]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
