"""What the app reports of charging sessions: its JSON read strictly, every bad field of every session found at once.

A session is reported when it starts and again when it ends; what a report leaves out, or gives as null, is not known
yet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from zap.errors import InvalidRequest
from zap.ml.cells import PAST_NUMBERS
from zap.ml.features import FEATURES, Feature
from zap.ml.json_body import (
    LARGEST_ID,
    LONGEST_TEXT,
    Expected,
    error_at,
    in_range,
    kind_of,
    load_json,
    malformed,
    number_schema,
    plain_name,
    read_fields,
    read_time,
    unknown_field,
    wrong_id,
    wrong_number,
    wrong_text,
    wrong_time,
)

MOST_SESSIONS = 1000
# As in history files: every JSON reader keeps whole numbers up to here exact, and the database can count on above.
_LARGEST_SESSION_ID = 2**53
_EXAMPLE_ID = 1_000_001

SESSION_ID = "session_id"
VEHICLE_ID = "vehicle_id"
START = "charging_start_time"
END = "charging_end_time"
# What a session that the database does not know yet must come with.
NEEDED_AT_FIRST = ("user_id", "charger_type", START)

_TEXTS = {
    "user_id": ("the driver", "User_1"),
    "charging_station_id": ("the station", "Station_391"),
    "charging_station_location": ("where the station is", "Houston"),
    "charger_type": ("the charger type that is used", "Level 2"),
}
_TIMES = {
    START: ("start of the session", "2026-03-02T18:30:00"),
    END: ("end of the session, not before its start", "2026-03-02T20:00:00"),
}
_OF_THE_START = ("state_of_charge_start", "distance_driven_km", "temperature_c")
_NUMBERS = {
    feature.name: feature
    for feature in (
        *PAST_NUMBERS,
        Feature("charging_rate_kw", "number", "average power", 16.3, "kW", 0, 2000),
        Feature("charging_cost_usd", "number", "price", 8.5, "USD", 0, 10_000),
        *(feature for feature in FEATURES if feature.name in _OF_THE_START),
        Feature("state_of_charge_end", "number", "charge of the battery at the end", 68.5, "%", 0, 100),
    )
}
_DURATION = "charging_duration_hours"
FIELDS = (SESSION_ID, VEHICLE_ID, *_TEXTS, *_TIMES, *_NUMBERS)

_NOT_TAKEN = frozenset({"time_of_day", "day_of_week", "timestamp"})
_OF_THE_DRIVER = frozenset({"user_type", "vehicle_model", "battery_capacity_kwh", "vehicle_age_years"})
_WANTED = f"a session as a JSON object, or a list of 1 to {MOST_SESSIONS:,} of them"
_WANTED_IN_LIST = "a session as a JSON object"
# Longer than any clock is ever put back by.
_BEFORE_ANY_CHANGE = timedelta(hours=3)


@dataclass(frozen=True)
class SessionReport:
    """What a report says of one session.

    Attributes:
        session_id: which session.
        values: the other fields that are known, by name.
        place: where in the body it stands, for JSON pointers.
        latest_start: the latest wall time at which it can have started, given its end.
        earliest_end: the earliest at which it can have ended, given its start.
    """

    session_id: int
    values: dict[str, Any]
    place: tuple[int, ...]
    latest_start: datetime | None
    earliest_end: datetime | None


@dataclass(frozen=True)
class Report:
    """A body that was read.

    Attributes:
        sessions: those whose session_id is usable.
        errors: the fields that are not usable, each with a JSON pointer and what to do.
    """

    sessions: list[SessionReport]
    errors: list[dict[str, str]]


def parse_report(body: bytes, wall_time: Callable[[datetime], datetime]) -> Report:
    """Read a body. Bad fields are collected in `errors`, to be raised together with those that are missing.

    Args:
        body: one JSON object, or a list of them.
        wall_time: turns a time with an offset into the drivers' wall time.

    Raises:
        MalformedJson: the body is no JSON document.
        InvalidRequest: it is one, but neither an object nor a list of 1 to MOST_SESSIONS elements.
    """
    document = _load(body)
    if not isinstance(document, list):
        places: list[tuple[tuple[int, ...], Any]] = [((), document)]
    elif 1 <= len(document) <= MOST_SESSIONS:
        places = [((place,), fields) for place, fields in enumerate(document)]
    else:
        raise InvalidRequest([error_at((), f"holds {len(document):,} sessions; send {_WANTED}")])
    report = Report([], [])
    first: dict[int, tuple[int, ...]] = {}
    for place, fields in places:
        if isinstance(document, list) and not isinstance(fields, dict):
            report.errors.append(error_at(place, f"is {kind_of(fields)}; send {_WANTED_IN_LIST}"))
            continue
        session = _read_session(fields, place, report.errors, wall_time)
        if session is None:
            continue
        if (same := first.setdefault(session.session_id, place)) != place:
            detail = f"is {session.session_id}, as in element {same[0]}; send each session once"
            report.errors.append(error_at((*place, SESSION_ID), detail))
        else:
            report.sessions.append(session)
    return report


def session_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a body."""
    needed = "needed when the session is not known yet"
    properties: dict[str, Any] = {
        SESSION_ID: _id_schema(
            "integer", _LARGEST_SESSION_ID, "which session; the same at its start and its end", _EXAMPLE_ID
        ),
        VEHICLE_ID: _id_schema(["integer", "null"], LARGEST_ID, "the vehicle, as numbered in this database", 1),
    }
    for name, (description, example) in _TEXTS.items():
        properties[name] = {
            "type": ["string", "null"],
            "minLength": 1,
            "maxLength": LONGEST_TEXT,
            "description": f"{description}; {needed}" if name in NEEDED_AT_FIRST else description,
            "examples": [example],
        }
    for name, (description, example) in _TIMES.items():
        zone = "ISO 8601; a time with an offset is turned into wall time in ZAP_TIMEZONE"
        properties[name] = {
            "type": ["string", "null"],
            "description": f"{description}, {zone}{f'; {needed}' if name in NEEDED_AT_FIRST else ''}",
            "examples": [example],
        }
    for feature in _NUMBERS.values():
        properties[feature.name] = {
            "type": ["number", "null"],
            "description": f"{feature.description}{in_range(feature)}",
            "examples": [feature.example],
            **number_schema(feature),
        }
    session = {
        "type": "object",
        "description": "one session; what is left out or null is not known (yet) and erases nothing",
        "properties": properties,
        "required": [SESSION_ID],
        "additionalProperties": False,
    }
    several = {"type": "array", "items": session, "minItems": 1, "maxItems": MOST_SESSIONS}
    return {"oneOf": [session, several]}


def example_reports() -> dict[str, dict[str, Any]]:
    """Two bodies, by what they tell: a session that starts, and the same when it ends."""
    texts = {name: example for name, (_, example) in _TEXTS.items()}
    start = {SESSION_ID: _EXAMPLE_ID, **texts, START: _TIMES[START][1]}
    start |= {name: _NUMBERS[name].example for name in _OF_THE_START}
    # The whole session again: so it is answered whether its start was reported or not.
    end = start | {END: _TIMES[END][1]} | {name: feature.example for name, feature in _NUMBERS.items()}
    return {"a session that starts": start, "the same session when it ends": end}


def _load(body: bytes) -> Any:
    try:
        text = body.decode()
        # The stricter of two readers: NaN, which Python's lets pass, is no JSON.
        msgspec.json.decode(body)
    except msgspec.ValidationError:
        pass  # A number too large for 64 bits is JSON; its field says what is wrong.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(body, error, _WANTED) from None
    return load_json(text, _WANTED)


def _read_session(
    fields: Any, place: tuple[int, ...], errors: list[dict[str, str]], wall_time: Callable[[datetime], datetime]
) -> SessionReport | None:
    """One session, None where its session_id is not usable; its errors are added to `errors`."""
    expected = Expected(_WANTED if place == () else _WANTED_IN_LIST, FIELDS, _wrong_value, _unknown_field)
    values = read_fields(fields, expected, errors, place)
    known: dict[str, Any] = {
        name: float(value) if name in _NUMBERS else value for name, value in values.items() if value is not None
    }
    moments = {}
    for name in _TIMES:
        if name not in known:
            continue
        time = read_time(known[name], wall_time)
        if time is None:
            errors.append(error_at((*place, name), wrong_time(known.pop(name))))
        else:
            moments[name], known[name] = time
    if SESSION_ID not in fields:
        errors.append(error_at((*place, SESSION_ID), "is required: which session this is"))
    start, end = moments.get(START), moments.get(END)
    if start is not None and end is not None and _is_reversed(start, end, known):
        errors.append(error_at((*place, END), f"is {known[END]}, before the start of the session, {known[START]}"))
    if start is not None and end is not None and start.tzinfo is not None and end.tzinfo is not None:
        # Clocks that are put back or forward make another duration than the one that passed.
        known.setdefault(_DURATION, (end - start).total_seconds() / 3600)
    session_id = known.pop(SESSION_ID, None)
    if session_id is None:
        return None
    return SessionReport(
        session_id,
        known,
        place,
        latest_start=_put_back(end, known[END], wall_time) if end else None,
        earliest_end=_put_forward(start, known[START], wall_time) if start else None,
    )


def _is_reversed(start: datetime, end: datetime, walls: dict[str, Any]) -> bool:
    """Where both times have an offset the moments are compared, not the clocks, which go back once a year."""
    if start.tzinfo is not None and end.tzinfo is not None:
        return end < start
    return bool(walls[END] < walls[START])


def _put_back(end: datetime, wall: datetime, wall_time: Callable[[datetime], datetime]) -> datetime:
    """What the clock would show at `end` had it not been put back just before: a start may have been read so late."""
    return max(wall, _by_clock_of(end, -_BEFORE_ANY_CHANGE, wall_time))


def _put_forward(start: datetime, wall: datetime, wall_time: Callable[[datetime], datetime]) -> datetime:
    """What a clock that is put back just after `start` would show at it: an end may be read so early."""
    return min(wall, _by_clock_of(start, _BEFORE_ANY_CHANGE, wall_time))


def _by_clock_of(moment: datetime, away: timedelta, wall_time: Callable[[datetime], datetime]) -> datetime:
    try:
        return wall_time(moment + away).replace(microsecond=0) - away
    except OverflowError:
        return wall_time(moment).replace(microsecond=0)


def _wrong_value(name: str, value: Any) -> str | None:
    """What is wrong with a field, or None."""
    if name == SESSION_ID:
        return "is required: which session this is" if value is None else wrong_id(value, _LARGEST_SESSION_ID)
    if value is None:
        return None
    if name in _NUMBERS:
        return wrong_number(_NUMBERS[name], value)
    if name == VEHICLE_ID:
        return wrong_id(value)
    wrong = wrong_text(value)
    blank = wrong is None and name in _TEXTS and (not value or value.isspace())
    return "is blank; leave it out as long as it is not known" if blank else wrong


def _unknown_field(name: str) -> str:
    plain = plain_name(name)
    if plain in _NOT_TAKEN:
        return f"is not taken: {START} says it"
    if plain in _OF_THE_DRIVER:
        return "is not taken: it belongs to the driver or the vehicle, not to a session"
    return unknown_field(name, FIELDS)


def _id_schema(type_: str | list[str], largest: int, description: str, example: int) -> dict[str, Any]:
    return {"type": type_, "minimum": 0, "maximum": largest, "description": description, "examples": [example]}
