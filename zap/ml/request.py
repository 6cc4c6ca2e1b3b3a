"""One request for a prediction: its JSON read strictly, every bad field found at once.

What a field may hold stands in FEATURES; whether it must be there follows from the model version that serves (its
contract). Between the two the database may fill in what it knows about a driver and a vehicle.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from zap.errors import InvalidRequest
from zap.ml.features import FEATURES, KNOWN_ONLY_AFTER, NOT_YET_CHOSEN, NUMBERS, Feature
from zap.ml.json_body import (
    LARGEST_ID,
    LONGEST_TEXT,
    Expected,
    error_at,
    in_range,
    load_json,
    malformed,
    number_schema,
    plain_name,
    pointer,
    read_fields,
    read_time,
    unknown_field,
    wrong_id,
    wrong_number,
    wrong_text,
    wrong_time,
)

_WANTED = "one flat JSON object"
_TEXT = Annotated[str, Meta(max_length=LONGEST_TEXT, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
_BY_NAME = {feature.name: feature for feature in FEATURES}

START = "charging_start_time"
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
        (VEHICLE_ID, Annotated[int, Meta(ge=0, le=LARGEST_ID)] | None | UnsetType, UNSET),
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


def parse_request(body: bytes, wall_time: Callable[[datetime], datetime], *, hints: bool = True) -> Request:
    """Read a body. Bad fields are collected in `errors`, to be raised together with those that are missing.

    Args:
        body: one JSON object.
        wall_time: turns a time with an offset into the drivers' wall time.
        hints: say of an unknown field which one may be meant, which takes its time.

    Raises:
        MalformedJson: the body is no JSON document.
        InvalidRequest: it is one, but no object.
    """
    try:
        text = body.decode()
        fields = _decoder.decode(body)
    except msgspec.ValidationError:
        values, errors = _collect(text, hints=hints)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(body, error, _WANTED) from None
    else:
        values = {name: value for name in FIELDS if (value := getattr(fields, name)) is not UNSET}
        values, errors = (values, []) if _sent_once(text, values) else _collect(text, hints=hints)
    _read_time(values, errors, wall_time)
    return Request(text, values, errors)


def _sent_once(text: str, values: Mapping[str, Any]) -> bool:
    """Whether no field is there twice: the decoder takes the last of two with one name."""
    # There is a colon behind every name. Where the others stand in the texts that were decoded none is left for a
    # second name; escapes may hide some, and then the names are counted.
    in_texts = sum(value.count(":") for value in values.values() if isinstance(value, str))
    if text.count(":") == len(values) + in_texts and "\\" not in text:
        return True
    return bool(json.loads(text, object_pairs_hook=len) == len(values))


def complete_request(
    request: Request, facts: Mapping[str, Any], contract: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """A value for each of FEATURES, None where missing: from the request, else from what the database knows.

    Args:
        request: what the client sent.
        facts: what the database knows of the driver and the vehicle; used only for fields that were left out.
        contract: `ChargerTypeModel.contract_` of the version that serves.
        now: the wall time that stands in for a missing start.

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
        if feature.context or need == "ignored" or (bad and pointer(name) in bad):
            continue
        if value is None and not sent and name not in facts:
            errors.append(error_at((name,), f"is required: {feature.description}{in_range(feature)}"))
        elif value is None and need == "required":
            why = "null is not accepted" if sent else "is required, and the database has no usable value of it"
            errors.append(error_at((name,), f"{why}: the history that this model learned from has no missing ones"))
        elif feature.kind == "category" and value is not None and value not in known:
            errors.append(error_at((name,), f"is {value!r}, not one of those in the history: {', '.join(known)}"))
    if errors:
        raise InvalidRequest(errors)
    return complete | {START: complete[START] or now}


def complete_decoder(contract: Mapping[str, Any]) -> msgspec.json.Decoder[Any]:
    """A decoder of the bodies that need nothing from the database under a contract: all else it refuses.

    What `complete_request` makes of a body that it accepts, if no field is there twice, is what it gives: UNSET where
    a field that may be left out is.
    """
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for feature in FEATURES:
        need = contract["fields"][feature.name]
        wire = _wire_type(feature)
        if feature.context or need == "ignored":
            fields.append((feature.name, wire | None | UnsetType, UNSET))
            continue
        if feature.kind == "category":
            known = tuple(value for value in contract["categories"][feature.name] if wrong_text(value) is None)
            wire = Literal[known] if known else None
        fields.append((feature.name, wire | None if need == "nullable" else wire))
    nobody = None | UnsetType
    fields += [(USER_ID, nobody, UNSET), (VEHICLE_ID, nobody, UNSET)]
    body = msgspec.defstruct("_CompleteBody", fields, kw_only=True, forbid_unknown_fields=True)
    return msgspec.json.Decoder(body, strict=True)


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
        "maxLength": LONGEST_TEXT,
        "description": "the driver: the answer follows from the earlier sessions, and the database fills in what is"
        " left out",
        "examples": ["User_1"],
    }
    properties[VEHICLE_ID] = {
        "type": ["integer", "null"],
        "minimum": 0,
        "maximum": LARGEST_ID,
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
        "description": f"{feature.description}{in_range(feature)}{note}",
        "examples": [feature.example],
    }
    if feature.kind == "number":
        schema |= number_schema(feature)
    elif feature.kind == "category":
        schema["maxLength"] = LONGEST_TEXT
    known = contract["categories"].get(feature.name) if contract else None
    if known and not feature.context:
        schema["enum"] = [*known, None] if contract and contract["fields"][feature.name] == "nullable" else known
        schema["examples"] = [known[0]]
    return schema


def _collect(text: str, *, hints: bool) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Field by field what is usable and what is not, for a body that the strict decoder refused."""
    errors: list[dict[str, str]] = []
    expected = Expected(_WANTED, FIELDS, _wrong_value, unknown_request_field if hints else lambda _: "is not a field")
    return read_fields(load_json(text, _WANTED), expected, errors), errors


def _wrong_value(name: str, value: Any) -> str | None:
    """What is wrong with a field, or None."""
    if value is None:
        return None
    feature = _BY_NAME.get(name)
    if feature in NUMBERS:
        return wrong_number(feature, value)
    return wrong_id(value) if name == VEHICLE_ID else wrong_text(value)


def unknown_request_field(name: str) -> str:
    """That a name is no field of a request, and which one may be meant."""
    plain = plain_name(name)
    if plain in KNOWN_ONLY_AFTER or plain in NOT_YET_CHOSEN:
        return "is not a field: nobody knows it yet when the driver asks"
    if plain.startswith(_OLD_USER_TYPE):
        return 'is not a field; it is called user_type now and holds the type itself, e.g. "Commuter"'
    return unknown_field(name, FIELDS)


def _read_time(values: dict[str, Any], errors: list[dict[str, str]], wall_time: Callable[[datetime], datetime]) -> None:
    name = "charging_start_time"
    text = values.get(name)
    if text is None:
        return
    time = read_time(text, wall_time)
    if time is None:
        del values[name]
        errors.append(error_at((name,), wrong_time(text)))
    else:
        values[name] = time[1]


def _usable(feature: Feature, value: Any, known: Any) -> Any:
    """What the database holds, under the rules of the cleaned history: out of range or unknown is missing."""
    if value is None or (feature.kind == "category" and value not in known):
        return None
    return None if feature.kind == "number" and wrong_number(feature, value) else value
