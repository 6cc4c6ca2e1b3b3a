"""Strict reading of reports of charging sessions. All bad fields of all sessions are reported at once.

The app reports a session when it starts and again when it ends. A field that is left out or null is not known yet.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field, PlainValidator, ValidationError, ValidationInfo, create_model

from zap.errors import InvalidRequest
from zap.formats.body_model import BodyModel, Name, explained, limits
from zap.formats.json_body import (
    TIME_PATTERN,
    error_at,
    kind_of,
    load_json,
    plain_name,
    read_session_time,
    wrong_id,
    wrong_session_time,
    wrong_text,
)
from zap.formats.session_ids import SESSION_TEXT, read_session_id, wrong_session_id
from zap.formats.values import (
    FIRST_YEAR,
    LARGEST_ID,
    LARGEST_SESSION_ID,
    LAST_YEAR,
    LONGEST_SESSION,
    LONGEST_SESSION_TEXT,
    LONGEST_TEXT,
)
from zap.ml.cells import is_nothing, plain_id, plain_text
from zap.ml.features import FACTS, MANUAL_USER, MEASURED, NUMBERS, STATION, Feature

MOST_SESSIONS = 1000
_EXAMPLE_ID = 1_000_001
_EXAMPLE_TEXT = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"

SESSION_ID = "session_id"
USER_ID = "user_id"
VEHICLE_ID = "vehicle_id"
PREDICTION_ID = "prediction_id"
STATION_ID = "charging_station_id"
START = "charging_start_time"
END = "charging_end_time"
# The fields that a report must have if the database does not know the session yet.
NEEDED_AT_FIRST = (USER_ID, "charger_type", START)

_TEXTS = {
    USER_ID: ("the driver", MANUAL_USER),
    **{one.name: (one.description, one.example) for one in (*STATION, *MEASURED) if one.kind == "category"},
}
_TIMES = {
    START: ("start of the session", "2026-03-02T18:30:00"),
    **{one.name: (one.description, one.example) for one in MEASURED if one.kind == "time"},
}
_OF_THE_START = tuple(one.name for one in NUMBERS if one.table == "ChargingSessions")
# A vehicle that feeds the grid has negative values here. They are stored, and count as missing in a training.
_FED_BACK = ("energy_consumed_kwh", "charging_rate_kw", "charging_cost_usd")


def _as_reported(number: Feature) -> Feature:
    """Return a number with the range of its reports."""
    if number.name not in _FED_BACK:
        return number
    said = f"{number.description}, negative if the vehicle feeds the grid"
    return replace(number, minimum=-number.maximum, description=said)


# The last of MEASURED, the charge at the end, comes after the charge at the start.
_NUMBERS = {
    one.name: _as_reported(one)
    for one in (*MEASURED[:-1], *NUMBERS, MEASURED[-1])
    if one.kind == "number" and one.table == "ChargingSessions"
}
_DURATION = "charging_duration_hours"
FIELDS = (SESSION_ID, VEHICLE_ID, *_TEXTS, *_TIMES, *_NUMBERS)

_NOT_TAKEN = frozenset({"time_of_day", "day_of_week", "timestamp"})
_WANTED = f"a session as a JSON object, or a list of 1 to {MOST_SESSIONS:,} of them"
_YEARS = f", ISO 8601, in the years {FIRST_YEAR} to {LAST_YEAR}"
_ZONE = f"{_YEARS}; a time with an offset is converted to wall time in ZAP_TIMEZONE"
TOO_LONG = "which is more than a year after the start of the session"
# No clock change is larger than this.
_BEFORE_ANY_CHANGE = timedelta(hours=3)


class _Moment(NamedTuple):
    """A time as it was sent, and its wall time."""

    sent: datetime
    wall: datetime


def _read_moment(text: Any, info: ValidationInfo) -> _Moment | None:
    if wrong := wrong_text(text):
        raise ValueError(wrong)
    wall_time: Any = info.context
    time = read_session_time(text, wall_time)
    if time is None and not is_nothing(text):
        raise ValueError(wrong_session_time(text))
    return None if time is None else _Moment(*time)


_NUMBER = Annotated[int, Field(ge=0, le=LARGEST_SESSION_ID)]
_TEXT = Annotated[str, Field(min_length=1, max_length=LONGEST_SESSION_TEXT, pattern=SESSION_TEXT)]


def _read_session_id(value: Any) -> int | str:
    if wrong := wrong_session_id(value):
        raise ValueError(wrong)
    return read_session_id(value) if isinstance(value, str) else int(value)


def _read_name(text: str, info: ValidationInfo) -> str | None:
    """Return the form in which a text is stored; None if it means that the value is missing.

    The driver stays as sent, because an older history may have the driver in this form; see `named_drivers`.
    """
    if is_nothing(text):
        return None
    if info.field_name == USER_ID:
        return text
    return plain_id(text) if info.field_name == STATION_ID else plain_text(text)


def _said(name: str, description: str, example: Any, **schema: Any) -> Any:
    needed = "; needed when the session is not known yet" if name in NEEDED_AT_FIRST else ""
    return Field(description=f"{description}{needed}", examples=[example], json_schema_extra=schema)


class _Session(BodyModel):
    """One session; a field that is left out or null is not known (yet) and erases no stored value.

    Only a `prediction_id` of null removes the answer that an earlier report has named.
    A text such as NULL or n/a counts as null.
    """

    WANTED = _WANTED

    session_id: Annotated[
        int | str,
        PlainValidator(_read_session_id, json_schema_input_type=_NUMBER | _TEXT),
        Field(
            description="the id of the session, equal in the reports of its start and its end: a whole number, or a"
            " text such as a UUID; a text of digits means the number",
            examples=[_EXAMPLE_ID, _EXAMPLE_TEXT],
        ),
    ]
    vehicle_id: (
        Annotated[
            int,
            Field(ge=0, le=LARGEST_ID, examples=[1], description="the vehicle: its vehicle_id in this database"),
            explained(wrong_id),
        ]
        | None
    ) = None
    prediction_id: (
        Annotated[
            int,
            Field(
                ge=0,
                le=LARGEST_ID,
                examples=[1],
                description="the answer that the driver got before this session: its prediction_id in the reply of"
                " /predict. If it is left out, a known session keeps its answer; null removes it",
            ),
            explained(wrong_id),
        ]
        | None
    ) = None

    @classmethod
    def unknown(cls, *names: str) -> str:
        plain = plain_name(names[-1])
        if plain in _NOT_TAKEN:
            return f"is not accepted: it follows from {START}"
        if plain in FACTS:
            return (
                "is not accepted: it belongs to the driver or the vehicle, not to a session. Send it in each request"
                " for a prediction, or import it once (zap import-history)"
            )
        return super().unknown(*names)


_NAME = Annotated[Name, AfterValidator(_read_name)]
_TIME = Annotated[_Moment, PlainValidator(_read_moment, json_schema_input_type=str)]
_KNOWN_LATER = {
    **{name: Annotated[_NAME, _said(name, *said)] for name, said in _TEXTS.items()},
    **{
        name: Annotated[_TIME, _said(name, said + _ZONE, example, maxLength=LONGEST_TEXT, pattern=TIME_PATTERN)]
        for name, (said, example) in _TIMES.items()
    },
    **{name: Annotated[float, *limits(number)] for name, number in _NUMBERS.items()},
}
ChargingSession: type[_Session] = create_model(
    "ChargingSession",
    __base__=_Session,
    __doc__=_Session.__doc__,
    **{name: (kind | None, None) for name, kind in _KNOWN_LATER.items()},  # type: ignore[call-overload]
)


@dataclass(frozen=True)
class SessionReport:
    """The report of one session.

    Attributes:
        session_id: the id of the session, a number or a text.
        values: the other known fields, by name.
        words: the fields whose text means that the value is missing, each with this text.
        texts: the other texts of names, as they were sent, by field.
        names_answer: whether the report has the field prediction_id.
        prediction_id: the value of this field.
        place: the place of the session in the body, for JSON pointers.
        latest_start: the latest possible wall time of the start, given the end; None without an end.
        earliest_end: the earliest possible wall time of the end, given the start; None without a start.
    """

    session_id: int | str
    values: dict[str, Any]
    words: dict[str, str]
    texts: dict[str, str]
    names_answer: bool
    prediction_id: int | None
    place: tuple[int, ...]
    latest_start: datetime | None
    earliest_end: datetime | None


@dataclass(frozen=True)
class Report:
    """A body that was read.

    Attributes:
        sessions: the sessions with a usable session_id.
        errors: the errors of the other fields, each with a JSON pointer and a detail that says what to do.
    """

    sessions: list[SessionReport]
    errors: list[dict[str, str]]


def parse_report(body: bytes, wall_time: Callable[[datetime], datetime]) -> Report:
    """Read a body. Collect the errors of bad fields, so that they are raised together with the missing fields.

    Args:
        body: one JSON object, or a list of objects.
        wall_time: converts a time with an offset to the drivers' wall time.

    Raises:
        MalformedJson: the body is not JSON.
        InvalidRequest: the body is neither an object nor a list of 1 to MOST_SESSIONS elements.
    """
    document = load_json(body, _WANTED)
    if not isinstance(document, list):
        places: list[tuple[tuple[int, ...], Any]] = [((), document)]
    elif 1 <= len(document) <= MOST_SESSIONS:
        places = [((place,), fields) for place, fields in enumerate(document)]
    else:
        raise InvalidRequest([error_at((), f"holds {len(document):,} sessions; send {_WANTED}")])
    report = Report([], [])
    first: dict[int | str, tuple[int, ...]] = {}
    for place, fields in places:
        if isinstance(document, list) and not isinstance(fields, dict):
            report.errors.append(error_at(place, f"is {kind_of(fields)}; send a session as a JSON object"))
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


def report_schema(session: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a body, given the schema of one session."""
    return {"oneOf": [session, {"type": "array", "items": session, "minItems": 1, "maxItems": MOST_SESSIONS}]}


def example_reports() -> dict[str, dict[str, Any]]:
    """Return two example bodies by name: the report of a start, and the report of the end of that session."""
    texts = {name: example for name, (_, example) in _TEXTS.items()}
    start = {SESSION_ID: _EXAMPLE_ID, **texts, START: _TIMES[START][1]}
    start |= {name: _NUMBERS[name].example for name in _OF_THE_START}
    # The second body has all fields, so that it is accepted even if the start was not reported.
    end = start | {END: _TIMES[END][1]} | {name: feature.example for name, feature in _NUMBERS.items()}
    return {"a session that starts": start, "the same session when it ends": end}


def _read_session(
    fields: Any, place: tuple[int, ...], errors: list[dict[str, str]], wall_time: Callable[[datetime], datetime]
) -> SessionReport | None:
    """Return one session, or None if its session_id is not usable. Add its errors to `errors`."""
    bad: set[str | int] = set()
    try:
        session = ChargingSession.model_validate(fields, context=wall_time)
    except ValidationError as refused:
        bad = ChargingSession.add_errors(refused, errors, place)
        usable = {name: value for name, value in fields.items() if name not in bad}
        # A session without a usable id is read too, because its times may have an error.
        session = ChargingSession.model_validate({SESSION_ID: 0, **usable}, context=wall_time)
    known = {name: value for name, value in session if value is not None}
    start, end = known.get(START), known.get(END)
    known |= {name: known[name].wall for name in _TIMES if name in known}
    if start and end and _is_reversed(start, end):
        errors.append(error_at((*place, END), f"is {end.wall}, which is before the start of the session, {start.wall}"))
    elif start and end and end.wall - start.wall > LONGEST_SESSION:
        errors.append(error_at((*place, END), f"is {end.wall}, {TOO_LONG}, {start.wall}"))
    if start and end and start.sent.tzinfo is not None and end.sent.tzinfo is not None:
        # The difference of the wall times is wrong if the clocks change during the session.
        known.setdefault(_DURATION, (end.sent - start.sent).total_seconds() / 3600)
    session_id, prediction_id = known.pop(SESSION_ID), known.pop(PREDICTION_ID, None)
    if SESSION_ID in bad:
        return None
    return SessionReport(
        session_id,
        known,
        {name: text for name, text in fields.items() if isinstance(text, str) and is_nothing(text)},
        {name: fields[name] for name in _TEXTS if name in known},
        PREDICTION_ID in session.model_fields_set,
        prediction_id,
        place,
        latest_start=_put_back(end, wall_time) if end else None,
        earliest_end=_put_forward(start, wall_time) if start else None,
    )


def _is_reversed(start: _Moment, end: _Moment) -> bool:
    """Return whether a session ends before it starts.

    If both times have an offset, the moments are compared, because wall times go back once a year.
    """
    if start.sent.tzinfo is not None and end.sent.tzinfo is not None:
        return end.sent < start.sent
    return end.wall < start.wall


def _put_back(end: _Moment, wall_time: Callable[[datetime], datetime]) -> datetime:
    """Return the latest possible wall time of the start.

    If the clocks went back between the start and the end, it is the wall time of the end on the clock of the start.
    """
    return max(end.wall, _by_clock_of(end.sent, -_BEFORE_ANY_CHANGE, wall_time))


def _put_forward(start: _Moment, wall_time: Callable[[datetime], datetime]) -> datetime:
    """Return the earliest possible wall time of the end.

    If the clocks go back between the start and the end, it is the wall time of the start on the clock of the end.
    """
    return min(start.wall, _by_clock_of(start.sent, _BEFORE_ANY_CHANGE, wall_time))


def _by_clock_of(moment: datetime, away: timedelta, wall_time: Callable[[datetime], datetime]) -> datetime:
    """Return the wall time of a moment, with the UTC offset that is valid at another moment, `away` later."""
    return wall_time(moment + away).replace(microsecond=0) - away
