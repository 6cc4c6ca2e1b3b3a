"""Reports of sessions: strict reading, all bad fields of all sessions at once."""

import json
import re
import time
from datetime import datetime

import pytest
from histories import START

from zap.errors import InvalidRequest, MalformedJson
from zap.formats.body_model import body_schemas
from zap.formats.session_report import (
    FIELDS,
    MOST_SESSIONS,
    ChargingSession,
    example_reports,
    parse_report,
    report_schema,
)
from zap.settings import Settings

at = datetime.fromisoformat
NUMBERS = {
    # Negative where the vehicle feeds the grid.
    "energy_consumed_kwh": (-1000, 1000),
    "charging_duration_hours": (0, 8784),
    "charging_rate_kw": (-2000, 2000),
    "charging_cost_usd": (-10_000, 10_000),
    "state_of_charge_start": (0, 100),
    "state_of_charge_end": (0, 100),
    "distance_driven_km": (0, 2000),
    "temperature_c": (-60, 60),
}
TEXTS = ("user_id", "charger_type", "charging_station_id", "charging_station_location")
TIMES = ("charging_start_time", "charging_end_time")


def parse(document):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse_report(body, Settings(timezone="Europe/London").wall_time)


def errors(document):
    return {error["pointer"]: error["detail"] for error in parse(document).errors}


def one(document):
    report = parse(document)
    assert report.errors == []
    (session,) = report.sessions
    return session


def test_it_works():
    session = one(START | {"energy_consumed_kwh": 12})

    assert session.session_id == 7
    assert session.values == {
        "user_id": "U",
        "charger_type": "Level 2",
        "charging_start_time": at("2026-03-02 18:30"),
        "energy_consumed_kwh": 12.0,
    }


def test_a_list_is_read_in_its_order():
    report = parse([START | {"session_id": number} for number in (3, 1, 2)])

    assert report.errors == []
    assert [(session.session_id, session.place) for session in report.sessions] == [(3, (0,)), (1, (1,)), (2, (2,))]


def test_null_means_not_known():
    assert one(dict.fromkeys(FIELDS) | {"session_id": 7}).values == {}


def test_every_field_is_accepted():
    texts = dict.fromkeys(TEXTS, "x")
    numbers = {name: highest for name, (_, highest) in NUMBERS.items()}
    times = dict.fromkeys(TIMES, "2026-03-02T18:30:00")
    whole = {"session_id": 0, "vehicle_id": 2**63 - 1} | texts | numbers | times

    assert set(whole) == set(FIELDS)
    assert one(whole).values.keys() == set(FIELDS) - {"session_id"}


def test_the_examples_are_accepted():
    start, end = example_reports().values()

    assert one(start).session_id == one(end).session_id
    assert "charging_end_time" not in start
    assert "charging_end_time" in end


def test_every_bad_field_of_every_session_is_found_at_once():
    found = errors(
        [
            START | {"temperature_c": 73, "charger_type": "\n"},
            START | {"session_id": 8},
            {"charger_type": 3, "colour": "red"},
            7,
            START | {"session_id": "-9", "charging_end_time": "soon"},
        ]
    )

    assert set(found) == {
        "#/0/temperature_c",
        "#/0/charger_type",
        "#/2/session_id",
        "#/2/charger_type",
        "#/2/colour",
        "#/3",
        "#/4/session_id",
        "#/4/charging_end_time",
    }
    assert found["#/0/temperature_c"] == "is 73; must be -60 to 60 °C"
    assert found["#/2/session_id"].startswith("is required")


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_has_a_range(name):
    lowest, highest = NUMBERS[name]

    assert one(START | {name: lowest}).values[name] == lowest
    for outside in (lowest - 0.1, highest + 0.1, 10**40, 1e308):
        assert "must be" in errors(START | {name: outside})[f"#/{name}"]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["15", True, [15], {"value": 15}])
def test_a_number_is_a_json_number(name, value):
    assert "must be a number" in errors(START | {name: value})[f"#/{name}"]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("value", ["a\x00", "a\n", "a\x85", "x" * 501, 3, True, [], {}, "\ud800"])
def test_a_text_is_short_and_printable(name, value):
    assert errors(START | {name: value}).keys() == {f"#/{name}"}


def test_a_driver_is_kept_to_the_letter():
    # The database decides whether an older history has the driver in this form.
    text = "x" * 497 + " é "

    assert one(START | {"user_id": text}).values["user_id"] == text


BAD_IDS = [
    *(
        1.0,
        1.5,
        True,
        -1,
        2**53 + 1,
        10**40,
        [],
        {},
        None,
        "",
        " ",
        "a ",
        " a",
        "a  b",
        "a\n",
        "a\x00",
        "a\u200b",
        "-1",
    ),
    *("x" * 65, "null", "N/A", "-", "\ud800", "a\u00a0b"),
]


@pytest.mark.parametrize("value", BAD_IDS)
def test_a_bad_session_id_is_refused(value):
    assert errors(START | {"session_id": value}).keys() == {"#/session_id"}


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (2**53, 2**53),
        ("3f2504e0-4f89-41d3-9a0c-0305e82c3301", "3f2504e0-4f89-41d3-9a0c-0305e82c3301"),
        ("CP1/2024:7 *é", "CP1/2024:7 *é"),
        ("x" * 64, "x" * 64),
        ("1e3", "1e3"),
        ("1.0", "1.0"),
        # A text of digits is the number, so that a client may send the one or the other.
        ("12", 12),
        ("0012", 12),
        (str(2**53), 2**53),
        # Not every JSON reader would keep this number.
        (str(2**53 + 1), str(2**53 + 1)),
        ("9" * 64, "9" * 64),
        ("١٢", "١٢"),
    ],
)
def test_a_session_id_is_a_number_or_a_text(sent, read):
    assert one(START | {"session_id": sent}).session_id == read


def test_a_number_and_its_text_are_one_session():
    assert errors([START, START | {"session_id": "7"}]).keys() == {"#/1/session_id"}


def test_the_schema_takes_the_texts_that_are_taken():
    session = body_schemas(ChargingSession)["ChargingSession"]
    number, words = session["properties"]["session_id"]["anyOf"]

    assert (number["type"], number["minimum"], number["maximum"]) == ("integer", 0, 2**53)
    assert (words["type"], words["minLength"], words["maxLength"]) == ("string", 1, 64)
    assert re.search(words["pattern"], "3f2504e0 4f89")
    assert [bad for bad in ("a ", " a", "a  b", "a\tb", "\x00") if re.search(words["pattern"], bad)] == []


@pytest.mark.parametrize("value", ["1", 1.0, True, -1, 2**63])
def test_a_vehicle_id_is_a_whole_number(value):
    assert errors(START | {"vehicle_id": value}).keys() == {"#/vehicle_id"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("time_of_day", "is not accepted"),
        ("Day of Week", "is not accepted"),
        ("user_type", "belongs to the driver or the vehicle, not to a session. Send it in each request"),
        ("Battery Capacity (kWh)", "belongs to the driver or the vehicle"),
        ("Charging Rate (kW)", "charging_rate_kw"),
        ("energy_consumed_kw", "energy_consumed_kwh"),
        ("timestamp", "is not accepted"),
        ("colour", "is not a field; /docs lists the fields"),
    ],
)
def test_an_unknown_field_is_refused_with_a_hint(name, hint):
    assert hint in errors(START | {name: 1})[f"#/{name}"]


def test_a_field_that_appears_twice_is_refused_even_with_good_values():
    body = json.dumps([START])[:-2].encode() + b', "user_id": "V"}]'

    assert errors(body) == {"#/0/user_id": "appears more than once"}


def test_a_session_id_that_appears_twice_in_one_object_is_one_error():
    assert errors(b'{"session_id": 1, "session_id": 2}') == {"#/session_id": "appears more than once"}


def test_one_session_is_reported_once_in_a_body():
    found = errors([START, START | {"session_id": 8}, START, START | {"temperature_c": 73}])

    assert found.keys() == {"#/2/session_id", "#/3/session_id", "#/3/temperature_c"}
    assert found["#/2/session_id"] == "is 7, as in element 0; send each session once"


@pytest.mark.parametrize(
    ("sent", "wall"),
    [
        ("2026-07-01T12:00:00Z", "2026-07-01T13:00:00"),
        ("2026-01-01T12:00:00+05:00", "2026-01-01T07:00:00"),
        ("2026-07-01T12:00:00", "2026-07-01T12:00:00"),
        ("2026-07-01 12:00:00.75", "2026-07-01T12:00:00"),
    ],
)
@pytest.mark.parametrize("name", TIMES)
def test_a_time_with_an_offset_becomes_wall_time(name, sent, wall):
    assert one({"session_id": 7, name: sent}).values[name] == at(wall)


@pytest.mark.parametrize(
    "sent", ["2026-07-01", "now", "2026-02-30T00:00:00", "0001-01-01T00:00:00+14:00", "2101-01-01T00:00:00"]
)
@pytest.mark.parametrize("name", TIMES)
def test_a_text_that_is_not_a_time_is_an_error(name, sent):
    assert "ISO 8601" in errors({"session_id": 7, name: sent})[f"#/{name}"]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-03-02T18:30:00", "2026-03-02T18:29:59"),
        # The moments decide, although the clock goes forward during the session.
        ("2026-03-29T00:30:00+00:00", "2026-03-29T01:20:00+01:00"),
        ("2026-07-01T12:00:00", "2026-07-01T10:59:59Z"),
    ],
)
def test_an_end_before_the_start_is_refused(start, end):
    found = errors(START | {"charging_start_time": start, "charging_end_time": end})

    assert list(found) == ["#/charging_end_time"]
    assert "before the start" in found["#/charging_end_time"]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-03-02T18:30:00", "2026-03-02T18:30:00"),
        # The clock goes back during the session: the wall times are 01:50 and 01:10.
        ("2026-10-25T01:50:00+01:00", "2026-10-25T01:10:00+00:00"),
    ],
)
def test_an_end_at_the_start_or_after_a_clock_change_is_accepted(start, end):
    assert errors(START | {"charging_start_time": start, "charging_end_time": end}) == {}


def test_an_end_bounds_the_wall_time_of_the_start():
    # The night of 25 October: at 02:00 the clock goes back to 01:00.
    in_that_night = one({"session_id": 7, "charging_end_time": "2026-10-25T01:10:00Z"})
    in_another = one({"session_id": 7, "charging_end_time": "2026-10-26T01:10:00Z"})
    of_the_wall = one({"session_id": 7, "charging_end_time": "2026-10-25T01:10:00"})

    assert in_that_night.latest_start == at("2026-10-25 02:10")
    assert in_another.latest_start == at("2026-10-26 01:10")
    assert of_the_wall.latest_start == at("2026-10-25 01:10")
    assert one({"session_id": 7, "charging_start_time": "2026-10-25T00:50:00Z"}).earliest_end == at("2026-10-25 00:50")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"  ", b"{", b"{}{}", b"nonsense", b'{"user_id": "\xff"}', b"\xef\xbb\xbf\xef\xbb\xbf{}",
            b'{"session_id": NaN}',
        b'{"session_id": 1, "temperature_c": Infinity}', b"[" * 20_000, b'{"x": ' * 20_000, b'[{"\\ud800": 1}]',
        b'{"session_id": 99999999999999999999999, "\\ud800": 1}',
    ],
)  # fmt: skip
def test_a_body_that_is_not_json_is_malformed(body):
    with pytest.raises(MalformedJson):
        parse(body)


@pytest.mark.parametrize("body", [b"[]", b"null", b"3", b'"text"', b"true", b"1e999", b"9" * 5000])
def test_a_body_that_is_neither_a_session_nor_a_list_is_refused(body):
    with pytest.raises(InvalidRequest) as caught:
        parse(body)

    assert [error["pointer"] for error in caught.value.details["errors"]] == ["#"]


def test_more_than_a_thousand_are_refused():
    many = [{"session_id": number} for number in range(MOST_SESSIONS + 1)]

    assert len(parse(many[:-1]).sessions) == 1000
    with pytest.raises(InvalidRequest) as caught:
        parse(many)
    assert "holds 1,001 sessions" in caught.value.details["errors"][0]["detail"]


def test_two_megabytes_of_unknown_fields_are_refused_quickly():
    fields = {f"charging_{number}_time": 1 for number in range(75_000)}
    started = time.process_time()

    assert len(parse(fields).errors) == 75_001
    assert time.process_time() - started < 3


def test_the_schema_agrees_with_the_reader():
    session, several = report_schema(body_schemas(ChargingSession)["ChargingSession"])["oneOf"]

    assert set(session["properties"]) == {*FIELDS, "prediction_id"}
    assert session["required"] == ["session_id"]
    assert session["additionalProperties"] is False
    assert several["items"] == session
    assert (several["minItems"], several["maxItems"]) == (1, MOST_SESSIONS)
    for name, (lowest, highest) in NUMBERS.items():
        field = session["properties"][name]
        assert (field["type"], field["minimum"], field["maximum"]) == (["number", "null"], lowest, highest)
    for name in TEXTS[:2] + TIMES[:1]:
        assert "needed when the session is not known yet" in session["properties"][name]["description"]


def test_the_duration_over_a_clock_change_is_the_elapsed_time():
    night = {"charging_start_time": "2026-10-25T01:30:00+01:00", "charging_end_time": "2026-10-25T01:10:00+00:00"}

    session = one(START | night)

    assert session.values["charging_end_time"] < session.values["charging_start_time"]
    assert session.values["charging_duration_hours"] == pytest.approx(40 / 60)
    # A reported duration wins, and between naive times a clock change is not known.
    assert one(START | night | {"charging_duration_hours": 0.5}).values["charging_duration_hours"] == 0.5
    assert "charging_duration_hours" not in one(START | {"charging_end_time": "2026-03-02T20:00:00"}).values
