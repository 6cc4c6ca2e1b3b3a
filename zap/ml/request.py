"""One request for a prediction: its JSON read strictly, every bad field found at once.

What a field may hold stands in FEATURES; whether it must be there follows from the model version that serves (its
contract). Between the two the database may fill in what it knows about a driver and a vehicle.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from zap.errors import InvalidRequest, MalformedJson
from zap.ml.features import FEATURES, KNOWN_ONLY_AFTER, NOT_YET_CHOSEN, NUMBERS, Feature

_LARGEST_ID = 2**63 - 1
_LONGEST_TEXT = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TEXT = Annotated[str, Meta(max_length=_LONGEST_TEXT, pattern=r"^[^\x00-\x1f\x7f]*$")]
_BY_NAME = {feature.name: feature for feature in FEATURES}

USER_ID = "user_id"
VEHICLE_ID = "vehicle_id"
FIELDS = (*_BY_NAME, USER_ID, VEHICLE_ID)

# The one-hot column of the earlier service, e.g. "user type Commuter" or "user_type_Commuter".
_OLD_USER_TYPE = "user_type_"


def _wire_type(feature: Feature) -> Any:
    if feature.kind != "number":
        return _TEXT
    if feature.minimum_excluded:
        return Annotated[float, Meta(gt=feature.minimum, le=feature.maximum)]
    return Annotated[float, Meta(ge=feature.minimum, le=feature.maximum)]


_Body = msgspec.defstruct(
    "_Body",
    [
        *((feature.name, _wire_type(feature) | None | UnsetType, UNSET) for feature in FEATURES),
        (USER_ID, _TEXT | None | UnsetType, UNSET),
        (VEHICLE_ID, Annotated[int, Meta(ge=0, le=_LARGEST_ID)] | None | UnsetType, UNSET),
    ],
    forbid_unknown_fields=True,
)
_decoder = msgspec.json.Decoder(_Body, strict=True)


@dataclass(frozen=True)
class Request:
    """A body that was read.

    Attributes:
        text: the JSON as the client sent it.
        values: the fields that were sent and are usable; None where null was sent.
        errors: the fields that are not, each with a JSON pointer and what to do.
    """

    text: str
    values: dict[str, Any]
    errors: list[dict[str, str]]


def parse_request(body: bytes, wall_time: Callable[[datetime], datetime]) -> Request:
    """Read a body. Bad fields are collected in `errors`, to be raised together with those that are missing.

    Args:
        body: one JSON object.
        wall_time: turns a time with an offset into the drivers' wall time.

    Raises:
        MalformedJson: the body is no JSON document.
        InvalidRequest: it is one, but no object.
    """
    try:
        text = body.decode()
        fields = _decoder.decode(body)
    except msgspec.ValidationError:
        values, errors = _collect(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(body, error) from None
    else:
        values = {name: value for name in FIELDS if (value := getattr(fields, name)) is not UNSET}
        # The decoder takes the last of two fields with one name.
        sent_once = json.loads(text, object_pairs_hook=len) == len(values)
        values, errors = (values, []) if sent_once else _collect(text)
    _read_time(values, errors, wall_time)
    return Request(text, values, errors)


def complete_request(request: Request, facts: Mapping[str, Any], contract: Mapping[str, Any]) -> dict[str, Any]:
    """A value for each of FEATURES, None where missing: from the request, else from what the database knows.

    Args:
        request: what the client sent.
        facts: what the database knows of the driver and the vehicle; used only for fields that were left out.
        contract: `ChargerTypeModel.contract_` of the version that serves.

    Raises:
        InvalidRequest: all errors of the request, those of type and range and those of this contract.
    """
    errors = list(request.errors)
    bad = {error["pointer"] for error in errors}
    complete: dict[str, Any] = {}
    for feature in FEATURES:
        name, need = feature.name, contract["fields"][feature.name]
        known = contract["categories"].get(name, ())
        sent = name in request.values
        value = request.values[name] if sent else _usable(feature, facts.get(name), known)
        complete[name] = value
        if feature.context or need == "ignored" or pointer(name) in bad:
            continue
        if value is None and not sent and name not in facts:
            errors.append(_error(name, f"is required: {feature.description}{_in_range(feature)}"))
        elif value is None and need == "required":
            why = "null is not accepted" if sent else "is required, and the database has no usable value of it"
            errors.append(_error(name, f"{why}: the history that this model learned from has no missing ones"))
        elif feature.kind == "category" and value is not None and value not in known:
            errors.append(_error(name, f"is {value!r}, not one of those in the history: {', '.join(known)}"))
    if errors:
        raise InvalidRequest(errors)
    return complete


def request_schema(contract: Mapping[str, Any] | None) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a request body; without a contract nothing is marked as required."""
    needs: Mapping[str, str] = contract["fields"] if contract else {}
    properties: dict[str, Any] = {}
    required = []
    for feature in FEATURES:
        need = "nullable" if feature.context else needs.get(feature.name, "nullable")
        schema = _field_schema(feature, contract, ignored=need == "ignored")
        if need != "required":
            schema["type"] = [schema["type"], "null"]
        if contract and need != "ignored" and not feature.context:
            required.append(feature.name)
        properties[feature.name] = schema
    properties[USER_ID] = {
        "type": ["string", "null"],
        "maxLength": _LONGEST_TEXT,
        "description": "the driver; one that the database knows fills in fields that are left out",
        "examples": ["User_1"],
    }
    properties[VEHICLE_ID] = {
        "type": ["integer", "null"],
        "minimum": 0,
        "maximum": _LARGEST_ID,
        "description": "the vehicle; one that the database knows fills in fields that are left out",
        "examples": [1],
    }
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def example_request(contract: Mapping[str, Any] | None) -> dict[str, Any]:
    """A body that the version with this contract answers with 200."""
    known: Mapping[str, Any] = contract["categories"] if contract else {}
    needs: Mapping[str, str] = contract["fields"] if contract else {}
    example = {}
    for feature in FEATURES:
        values = known.get(feature.name, ())
        if needs.get(feature.name) != "ignored":
            example[feature.name] = values[0] if values and feature.example not in values else feature.example
    return example


def _field_schema(feature: Feature, contract: Mapping[str, Any] | None, *, ignored: bool) -> dict[str, Any]:
    note = "; the production model learned nothing from it: accepted, logged and ignored" if ignored else ""
    schema: dict[str, Any] = {
        "type": "number" if feature.kind == "number" else "string",
        "description": f"{feature.description}{_in_range(feature)}{note}",
        "examples": [feature.example],
    }
    if feature.kind == "number":
        schema["exclusiveMinimum" if feature.minimum_excluded else "minimum"] = feature.minimum
        schema["maximum"] = feature.maximum
    elif feature.kind == "category":
        schema["maxLength"] = _LONGEST_TEXT
    known = contract["categories"].get(feature.name) if contract else None
    if known and not feature.context:
        schema["enum"] = [*known, None] if contract and contract["fields"][feature.name] == "nullable" else known
        schema["examples"] = [known[0]]
    return schema


def _malformed(body: bytes, error: Exception) -> MalformedJson:
    if not body.strip():
        return MalformedJson("the body is empty; send one JSON object")
    if isinstance(error, RecursionError):
        return MalformedJson("the body is nested too deeply; send one flat JSON object")
    if isinstance(error, UnicodeDecodeError):
        return MalformedJson(f"the body is not UTF-8 at byte {error.start}")
    return MalformedJson(str(error))


def _collect(text: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Field by field what is usable and what is not, for a body that the strict decoder refused."""
    try:
        # Python's own int() refuses thousands of digits; such a number is out of every range here anyway.
        fields = json.loads(
            text,
            parse_int=lambda digits: int(digits) if len(digits) < 30 else math.inf,
            object_pairs_hook=_object,
        )
    except (RecursionError, ValueError) as error:
        raise _malformed(text.encode(), error) from None
    if not isinstance(fields, dict):
        raise InvalidRequest([{"pointer": "#", "detail": f"is {_kind(fields)}; send one flat JSON object"}])
    if not _is_unicode("".join(fields)):
        raise MalformedJson("the name of a field holds half of a surrogate pair")
    values, errors = {}, []
    repeated = fields.names if isinstance(fields, Repeated) else ()
    for name, value in fields.items():
        wrong = "is there more than once" if name in repeated else _wrong_value(name, value)
        if wrong:
            errors.append(_error(name, wrong))
        else:
            values[name] = value
    return values, errors


class Repeated(dict[str, Any]):
    """An object that holds some names more than once; which of the values is meant nobody can tell."""

    names: frozenset[str]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Repeated:
    fields = dict(pairs)
    if len(fields) == len(pairs):
        return fields
    times = Counter(name for name, _ in pairs)
    repeated = Repeated(fields)
    repeated.names = frozenset(name for name in fields if times[name] > 1)
    return repeated


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _wrong_value(name: str, value: Any) -> str | None:
    """What is wrong with a field, or None."""
    if name not in FIELDS:
        return _unknown_field(name)
    if value is None:
        return None
    feature = _BY_NAME.get(name)
    if feature in NUMBERS:
        return _wrong_number(feature, value)
    if name != VEHICLE_ID:
        return _wrong_text(value)
    if type(value) is not int:
        return f"must be a whole number, not {value if isinstance(value, float) else _kind(value)}"
    return None if 0 <= value <= _LARGEST_ID else f"must be 0 to {_LARGEST_ID}"


def _wrong_number(feature: Feature, value: Any) -> str | None:
    if type(value) not in {int, float}:
        return f"must be a number{_in_range(feature)}, not {_kind(value)}"
    return None if feature.inside(value) else f"is {value}; must be {feature.range}"


def _wrong_text(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"must be a string, not {_kind(value)}"
    if len(value) > _LONGEST_TEXT:
        return f"has {len(value)} characters; at most {_LONGEST_TEXT} are accepted"
    if not _is_unicode(value):
        return "holds half of a surrogate pair"
    return "holds a control character" if _CONTROL.search(value) else None


def _unknown_field(name: str) -> str:
    plain = _plain(name)
    if plain in FIELDS:
        return f"is not a field; it is called {plain} now"
    if plain in KNOWN_ONLY_AFTER or plain in NOT_YET_CHOSEN:
        return "is not a field: nobody knows it yet when the driver asks"
    if plain.startswith(_OLD_USER_TYPE):
        return 'is not a field; it is called user_type now and holds the type itself, e.g. "Commuter"'
    # Histories put remarks and units in brackets behind their names.
    close = get_close_matches(_plain(re.sub(r"\([^)]*\)", "", name)), FIELDS, n=1, cutoff=0.7)
    return f"is not a field; did you mean {close[0]}?" if close else "is not a field; /docs lists those that are"


def _plain(name: str) -> str:
    return re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")


def _read_time(values: dict[str, Any], errors: list[dict[str, str]], wall_time: Callable[[datetime], datetime]) -> None:
    name = "charging_start_time"
    text = values.get(name)
    if text is None:
        return
    try:
        if len(text) < len("2026-03-02T18:30"):
            raise ValueError
        values[name] = wall_time(datetime.fromisoformat(text)).replace(microsecond=0)
    except (ValueError, OverflowError, OSError):
        del values[name]
        errors.append(_error(name, f"is {text!r}; must be an ISO 8601 date and time such as 2026-03-02T18:30:00"))


def _usable(feature: Feature, value: Any, known: Any) -> Any:
    """What the database holds, under the rules of the cleaned history: out of range or unknown is missing."""
    if value is None or (feature.kind == "category" and value not in known):
        return None
    return None if feature.kind == "number" and _wrong_number(feature, value) else value


def _in_range(feature: Feature) -> str:
    return f", {feature.range}" if feature.kind == "number" else ""


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    return {bool: "true or false", str: "a string", list: "a list"}.get(type(value), "a number")


def pointer(name: str) -> str:
    return "#/" + name.replace("~", "~0").replace("/", "~1")


def _error(name: str, detail: str) -> dict[str, str]:
    return {"pointer": pointer(name), "detail": detail}
