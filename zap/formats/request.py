"""Strict reading of one request for a prediction. All bad fields are reported at once.

FEATURES defines the values of a field. The contract of the model version in production defines the required fields. The
database may fill in facts about the driver and the vehicle that a request leaves out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from zap.errors import InvalidRequest, MalformedJson
from zap.formats.json_body import (
    APPEARS_TWICE,
    BROKEN_NAME,
    LONGEST_NAME,
    REPEATED,
    TEXT_PATTERN,
    TIME_PATTERN,
    error_at,
    in_range,
    is_unicode,
    kind_of,
    load_json,
    malformed,
    names_are_unique,
    number_schema,
    plain_name,
    pointer,
    read_session_time,
    shown_name,
    suggested,
    unknown_field,
    without_bom,
    wrong_id,
    wrong_number,
    wrong_session_time,
    wrong_text,
)
from zap.formats.values import CONTROL_CHARACTERS, LARGEST_ID, LONGEST_TEXT
from zap.ml.cells import Spellings, is_nothing
from zap.ml.features import FACTS, FEATURES, KNOWN_ONLY_AFTER, MANUAL_USER, NOT_YET_CHOSEN, NUMBERS, Feature
from zap.sentences import say

_WANTED = say("one flat JSON object")
_TEXT = Annotated[str, Meta(max_length=LONGEST_TEXT, pattern=rf"^[^{CONTROL_CHARACTERS}]*\Z")]
_TEXT_SCHEMA = {"maxLength": LONGEST_TEXT, "pattern": TEXT_PATTERN}
_BY_NAME = {feature.name: feature for feature in FEATURES}

START = "charging_start_time"
USER_ID = "user_id"
VEHICLE_ID = "vehicle_id"
# Whether the reply has an explanation. It is a wish of the client, no fact about the session.
EXPLAIN = "explain"
# The type of each field's value in a file.
FIELDS: dict[str, type] = {
    **{name: float if feature.kind == "number" else str for name, feature in _BY_NAME.items()},
    USER_ID: str,
    VEHICLE_ID: int,
}
# All names that a request may have.
NAMES: dict[str, type] = {**FIELDS, EXPLAIN: bool}

# When a request may leave out a fact, by the table that has it. Reports of sessions add no rows to these tables.
_UNLESS_STORED = {
    "Users": "; required unless the table Users has the driver or the owner of the vehicle",
    "Vehicles": "; required unless the table Vehicles has the vehicle, or exactly one vehicle of the driver",
}
_COMPLETE = say("the training history of this model has no missing values")
# The prefix of a one-hot column of the earlier service, e.g. "user type Commuter" or "user_type_Commuter".
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
        (EXPLAIN, bool | UnsetType, UNSET),
    ],
    forbid_unknown_fields=True,
)
_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(_Body, strict=True)


@dataclass(frozen=True)
class Request:
    """A body that was read.

    Attributes:
        text: the JSON as the client sent it.
        values: the usable fields; None where the client sent null.
        errors: the errors of the other fields, each with a JSON pointer and a detail that says what to do.
        explain: whether the client wants an explanation.
    """

    text: str
    values: dict[str, Any]
    errors: list[dict[str, str]]
    explain: bool = False


def parse_request(body: bytes, wall_time: Callable[[datetime], datetime], *, hints: bool = True) -> Request:
    """Read a body. Collect the errors of bad fields, so that `complete_request` raises them with the missing fields.

    Args:
        body: one JSON object, with or without a byte order mark.
        wall_time: converts a time with an offset to the drivers' wall time.
        hints: whether the error of an unknown field suggests a field; a suggestion takes time.

    Raises:
        MalformedJson: the body is not JSON.
        InvalidRequest: the body is not an object.
    """
    body = without_bom(body)
    try:
        text = body.decode()
        fields = _decoder.decode(body)
    except msgspec.ValidationError:
        values, errors = _collect(text, hints=hints)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(body, error, _WANTED) from None
    else:
        values = {name: value for name in NAMES if (value := getattr(fields, name)) is not UNSET}
        values, errors = (values, []) if is_each_once(body, fields) else _collect(text, hints=hints)
    read_start(values, errors, wall_time)
    explain: bool = values.pop(EXPLAIN, False)
    return Request(text, values, errors, explain)


def is_each_once(text: bytes, decoded: msgspec.Struct) -> bool:
    """Return whether each field appears once in the text of a decoded body. The decoder takes the last value."""
    if b"\\" in text:
        return names_are_unique(text)
    # Without escapes, all quotes of the text are around its names and values, and a repeated name adds two quotes.
    return text.count(b'"') == _encode(decoded).count(b'"')


def read_start(values: dict[str, Any], errors: list[dict[str, str]], wall_time: Callable[[datetime], datetime]) -> None:
    """Replace the text of the start, if a start is given, by its wall time. Add an error if the text is not a time."""
    text = values.get(START)
    if text is None:
        return
    time = read_session_time(text, wall_time)
    if time is None and is_nothing(text):
        values[START] = None
    elif time is None:
        del values[START]
        errors.append(error_at((START,), wrong_session_time(text)))
    else:
        values[START] = time[1]


def complete_request(
    request: Request, facts: Mapping[str, Any], contract: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """Return a value for each of FEATURES, None where missing: from the request, or else from the database.

    Args:
        request: the request that was read.
        facts: the facts of the database about the driver and the vehicle; used only for fields that were left out.
        contract: `ChargerTypeModel.contract_` of the version in production.
        now: the wall time that replaces a missing start.

    Raises:
        InvalidRequest: the request has errors. The exception lists all of them: of types, of ranges, and of the
            contract.
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
            errors.append(error_at((name,), _required(feature, facts, request.values)))
        elif value is None and need == "required":
            why = (
                say("null is not accepted") if sent else say("is required, and the database has no usable value for it")
            )
            errors.append(error_at((name,), f"{why}: {_COMPLETE}"))
        elif feature.kind == "category" and value is not None and value not in known:
            complete[name] = None if is_nothing(value) else _spellings(tuple(known)).meant(value)
            if complete[name] is None and (wrong := _wrong_category(value, known, need)):
                errors.append(error_at((name,), wrong))
    if errors:
        raise InvalidRequest(errors)
    return complete | {START: complete[START] or now}


def complete_decoder(contract: Mapping[str, Any]) -> msgspec.json.Decoder[Any]:
    """Return a decoder that accepts only bodies that need no facts from the database under a contract.

    If no field appears twice in an accepted body, the decoded values equal the result of `complete_request`, with UNSET
    for an optional field that was left out.
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
    absent = None | UnsetType
    fields += [(USER_ID, absent, UNSET), (VEHICLE_ID, absent, UNSET), (EXPLAIN, bool | UnsetType, UNSET)]
    body = msgspec.defstruct("_CompleteBody", fields, kw_only=True, forbid_unknown_fields=True)
    return msgspec.json.Decoder(body, strict=True)


def request_schema(contract: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a request body. Without a contract no field is required.

    Only the fields that every client must send are required. The description says when the other fields may be left
    out.
    """
    needs: Mapping[str, str] = contract["fields"] if contract else {}
    properties: dict[str, Any] = {}
    required = []
    for feature in FEATURES:
        need = "nullable" if feature.context else needs.get(feature.name, "nullable")
        schema = _field_schema(feature, contract, ignored=need == "ignored")
        if need != "required":
            schema["type"] = [schema["type"], "null"]
        if contract and need != "ignored" and not feature.context and feature.name not in FACTS:
            required.append(feature.name)
        properties[feature.name] = schema
    properties[USER_ID] = {
        "type": ["string", "null"],
        **_TEXT_SCHEMA,
        "description": "the driver; the prediction uses the driver's past sessions. zap takes fields that are left out"
        " from the tables Users and Vehicles, if they have the driver",
        "examples": [MANUAL_USER],
    }
    properties[VEHICLE_ID] = {
        "type": ["integer", "null"],
        "minimum": 0,
        "maximum": LARGEST_ID,
        "description": "the vehicle; zap takes fields that are left out from the tables Vehicles and Users, if Vehicles"
        " has the vehicle",
        "examples": [1],
    }
    properties[EXPLAIN] = {
        "type": "boolean",
        "description": "whether the reply has an explanation. It changes neither the prediction nor what is stored with"
        " it; default: false",
        "examples": [False],
    }
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def example_request(contract: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a body that a version with this contract answers with 200."""
    known: Mapping[str, Any] = contract["categories"] if contract else {}
    needs: Mapping[str, str] = contract["fields"] if contract else {}
    example = {}
    for feature in FEATURES:
        values = known.get(feature.name, ())
        if needs.get(feature.name) != "ignored":
            example[feature.name] = values[0] if values and feature.example not in values else feature.example
    return example


def _required(feature: Feature, facts: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Return the error for a field that was left out."""
    description, why = f"{feature.description}{in_range(feature)}", _unknown_to_database(feature, facts, values)
    if why is None:
        return say("is required: {description}", description=description)
    return say("is required, because {why}: {description}", why=why, description=description)


def _unknown_to_database(feature: Feature, facts: Mapping[str, Any], values: Mapping[str, Any]) -> str | None:
    """Return in words why the database did not give a fact; None if the request names no driver and no vehicle."""
    driver: Any = values.get(USER_ID)
    vehicle = values.get(VEHICLE_ID)
    if feature.name not in FACTS or driver is vehicle is None:
        return None
    if vehicle is not None and (feature.table == "Vehicles" or driver is None):
        if facts and feature.table == "Users":
            return say("the table Users does not have the owner of the vehicle {vehicle}", vehicle=vehicle)
        return say("the table Vehicles does not have the vehicle {vehicle}", vehicle=vehicle)
    if feature.table == "Users":
        return say("the table Users does not have the driver {driver!r}", driver=shown_name(driver))
    return say(
        "the table Vehicles has no vehicle, or several vehicles, of the driver {driver!r}", driver=shown_name(driver)
    )


def _field_schema(feature: Feature, contract: Mapping[str, Any] | None, *, ignored: bool) -> dict[str, Any]:
    note = ""
    if ignored:
        note = "; accepted, logged and ignored, because its column was empty when the production model was trained"
    elif feature.name in FACTS and not feature.context:
        note = _UNLESS_STORED[feature.table]
    schema: dict[str, Any] = {
        "type": "number" if feature.kind == "number" else "string",
        "description": f"{feature.description}{in_range(feature)}{note}",
        "examples": [feature.example],
    }
    if feature.kind == "number":
        schema |= number_schema(feature)
    else:
        schema |= _TEXT_SCHEMA if feature.kind == "category" else {"maxLength": LONGEST_TEXT, "pattern": TIME_PATTERN}
    known = contract["categories"].get(feature.name) if contract else None
    if known and not feature.context:
        # No `enum`: the next training may learn other values, and generated clients must not refuse them.
        schema["examples"] = list(known)
    return schema


def _collect(text: str, *, hints: bool) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return the usable fields and the errors of a body that the strict decoder refused."""
    fields = load_json(text, _WANTED)
    if not isinstance(fields, dict):
        raise InvalidRequest([error_at((), say("is {kind}; send {wanted}", kind=kind_of(fields), wanted=_WANTED))])
    if not is_unicode("".join(fields)):
        raise MalformedJson(BROKEN_NAME)
    values: dict[str, Any] = {}
    errors: list[dict[str, str]] = []
    for name, value in fields.items():
        if name not in NAMES and len(errors) >= InvalidRequest.SHOWN:
            # A reply shows only the first errors; this error is only counted.
            errors.append(errors[-1])
        elif value is REPEATED:
            errors.append(error_at((name,), APPEARS_TWICE))
        elif name not in NAMES:
            said = suggested(name, len(errors), unknown_request_field) if hints else say("is not a field")
            errors.append(error_at((name,), said))
        elif wrong := _wrong_value(name, value):
            errors.append(error_at((name,), wrong))
        else:
            values[name] = value
    return values, errors


def _wrong_value(name: str, value: Any) -> str | None:
    """Return why the value of a field is not accepted, or None."""
    if name == EXPLAIN:
        return None if isinstance(value, bool) else say("must be true or false, not {kind}", kind=kind_of(value))
    if value is None:
        return None
    feature = _BY_NAME.get(name)
    if feature in NUMBERS:
        return wrong_number(feature, value)
    return wrong_id(value) if name == VEHICLE_ID else wrong_text(value)


def unknown_request_field(name: str) -> str:
    """Return the error for a name that is not a field of a request, with a suggestion if there is one."""
    if len(name) > LONGEST_NAME:
        return unknown_field(name, NAMES)
    plain = plain_name(name)
    if plain in KNOWN_ONLY_AFTER or plain in NOT_YET_CHOSEN:
        return say("is not a field: it is not known yet when the driver asks")
    if plain.startswith(_OLD_USER_TYPE):
        return 'is not a field; it is called user_type now and holds the type itself, e.g. "Commuter"'
    return unknown_field(name, NAMES)


def _wrong_category(value: str, known: Sequence[str], need: str) -> str | None:
    """Return why a text that means no known value is not accepted, or None."""
    if not is_nothing(value):
        return say(
            "is {value!r}, which is not in the history; send one of: {known:s}", value=value, known=", ".join(known)
        )
    if need == "required":
        return say(
            "is {value!r}, which counts as null, and null is not accepted: {complete}", value=value, complete=_COMPLETE
        )
    return None


# A fleet may have a vehicle model that a version has not learned, and then each of its requests asks.
@lru_cache(maxsize=32)
def _spellings(known: tuple[str, ...]) -> Spellings:
    return Spellings(known)


def _usable(feature: Feature, value: Any, known: Sequence[str]) -> Any:
    """Return a fact of the database; None if it is out of range or unknown, as in the cleaned history."""
    if value is None:
        return None
    if feature.kind == "category" and value not in known:
        return _spellings(tuple(known)).meant(value)
    return None if feature.kind == "number" and wrong_number(feature, value) else value
