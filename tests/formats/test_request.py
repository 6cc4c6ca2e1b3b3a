"""The JSON of a request: strict reading, all bad fields at once, completion by facts of the database."""

import json
from datetime import UTC, datetime

import pytest

from zap.errors import InvalidRequest, MalformedJson
from zap.formats.request import NAMES, complete_request, example_request, parse_request, request_schema
from zap.ml.features import FEATURES
from zap.settings import Settings

GOOD = {
    "state_of_charge_start": 30.5,
    "distance_driven_km": 120,
    "temperature_c": 15.0,
    "battery_capacity_kwh": 64.0,
    "vehicle_age_years": 2.5,
    "user_type": "Commuter",
}


def contract(**needs):
    fields = {feature.name: "required" for feature in FEATURES} | needs
    return {
        "fields": fields,
        "categories": {"user_type": ["Commuter", "Casual Driver"], "vehicle_model": ["Leaf"]},
    }


def parse(fields):
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return parse_request(body, Settings(timezone="Europe/London").wall_time)


NOW = datetime.fromisoformat("2026-03-02T18:30:00")


def complete(fields, facts=None, **needs):
    return complete_request(parse(fields), facts or {}, contract(**needs), NOW)


def errors(fields, facts=None, **needs):
    with pytest.raises(InvalidRequest) as caught:
        complete(fields, facts, **needs)
    return {error["pointer"]: error["detail"] for error in caught.value.details["errors"]}


def test_it_works():
    values = complete(GOOD)

    assert values == GOOD | {"vehicle_model": None, "charging_start_time": NOW}


@pytest.mark.parametrize(("fields", "explain"), [({}, False), ({"explain": False}, False), ({"explain": True}, True)])
def test_a_wish_for_an_explanation_is_no_value(fields, explain):
    request = parse(GOOD | fields)

    assert request.explain is explain
    assert request.values == parse(GOOD).values
    assert json.loads(request.text) == GOOD | fields


@pytest.mark.parametrize("value", ["yes", None, 1, [True]])
def test_a_wish_for_an_explanation_is_true_or_false(value):
    (error,) = errors(GOOD | {"explain": value}).items()

    assert error[0] == "#/explain"
    assert error[1].startswith("must be true or false, not ")


def test_the_text_is_kept_as_it_was_sent():
    body = b'{ "user_type":\t"Commuter" , "temperature_c":1e1}\n'

    assert parse(body).text == body.decode()


def test_a_field_that_appears_twice_is_refused_even_with_good_values():
    body = json.dumps(GOOD)[:-1].encode() + b', "temperature_c": 3}'

    assert parse(json.dumps(GOOD).encode()).errors == []
    assert errors(body) == {"#/temperature_c": "appears more than once"}


@pytest.mark.parametrize(
    "twice",
    [
        r'"user_id": "a:b", "user_id": "c"',
        r'"user_id": "c", "user_id": "a:b"',
        r'"user_id": "\u003a", "user_id": "\u003a"',
        r'"user_id": "x", "user_id": "\u003a"',
        r'"user_id": null, "user_id": ":"',
        r'"user_id": "\":", "user_id": "::"',
        r'"user_id": "x", "user\u005fid": "x"',
    ],
)
def test_a_field_that_appears_twice_is_found_in_any_text(twice):
    found = parse(f"{{{twice}}}".encode()).errors

    assert found == [{"pointer": "#/user_id", "detail": "appears more than once"}]


@pytest.mark.parametrize("user_id", [":", "a:b::", r"\u003a", r"\":\"", r"\\:"])
def test_colons_and_escapes_in_texts_are_no_fields(user_id):
    assert parse(f'{{"user_id": "{user_id}"}}'.encode()).errors == []


def test_a_field_that_appears_twice_hides_no_other_error():
    body = json.dumps(GOOD | {"state_of_charge_start": 152})[:-1].encode() + b', "temperature_c": {"a": 1, "a": 2}}'

    assert errors(body).keys() == {"#/state_of_charge_start", "#/temperature_c"}
    assert (
        "not an object"
        in errors(json.dumps(GOOD)[:-1].replace("30.5", '{"a": 1, "a": 2}').encode() + b"}")["#/state_of_charge_start"]
    )


def test_one_reply_lists_a_hundred_errors_and_says_how_many_more():
    with pytest.raises(InvalidRequest, match=r"250 errors: .* and 150 more") as caught:
        complete(GOOD | {f"field {number}": 1 for number in range(250)})

    assert len(caught.value.details["errors"]) == 100


def test_every_bad_field_is_found_at_once():
    found = errors({"state_of_charge_start": 152, "distance_driven_km": "far", "user_type": "Astronaut", "colour": 1})

    assert set(found) == {
        "#/state_of_charge_start",
        "#/distance_driven_km",
        "#/user_type",
        "#/colour",
        "#/temperature_c",
        "#/battery_capacity_kwh",
        "#/vehicle_age_years",
    }
    assert found["#/state_of_charge_start"] == "is 152; must be 0 to 100 %"
    assert found["#/user_type"] == "is 'Astronaut', which is not in the history; send one of: Commuter, Casual Driver"
    assert found["#/temperature_c"].startswith("is required")


@pytest.mark.parametrize("name", [feature.name for feature in FEATURES if not feature.context])
def test_null_is_accepted_only_if_the_history_had_missing_values(name):
    assert complete(GOOD | {name: None}, **{name: "nullable"})[name] is None
    assert "null is not accepted" in errors(GOOD | {name: None})[f"#/{name}"]


@pytest.mark.parametrize("name", [feature.name for feature in FEATURES if not feature.context])
def test_a_nullable_field_is_still_required(name):
    without = {key: value for key, value in GOOD.items() if key != name}

    assert errors(without, **{name: "nullable"})[f"#/{name}"].startswith("is required")


@pytest.mark.parametrize("name", [feature.name for feature in FEATURES if not feature.context])
def test_a_field_that_was_empty_in_training_may_be_left_out_and_sent(name):
    without = {key: value for key, value in GOOD.items() if key != name}

    assert complete(without, **{name: "ignored"})[name] is None
    assert complete(GOOD, **{name: "ignored"})[name] == GOOD[name]


@pytest.mark.parametrize("name", ["user_id", "vehicle_id", "vehicle_model", "charging_start_time"])
def test_context_is_never_required_and_may_be_null(name):
    complete(GOOD)
    complete(GOOD | {name: None})


@pytest.mark.parametrize(
    ("sent", "wall"),
    [
        ("2026-07-01T12:00:00Z", "2026-07-01T13:00:00"),
        ("2026-01-01T12:00:00+05:00", "2026-01-01T07:00:00"),
        ("2026-07-01T12:00:00", "2026-07-01T12:00:00"),
        ("2026-07-01 12:00:00.75", "2026-07-01T12:00:00"),
        ("2026-07-01T12:00", "2026-07-01T12:00:00"),
    ],
)
def test_a_time_with_an_offset_becomes_wall_time(sent, wall):
    assert complete(GOOD | {"charging_start_time": sent})["charging_start_time"] == datetime.fromisoformat(wall)


@pytest.mark.parametrize(
    "sent",
    [
        "2026-07-01",
        "now",
        "2026-02-30T00:00:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
    ],
)
def test_a_text_that_is_not_a_time_is_an_error(sent):
    assert "ISO 8601" in errors(GOOD | {"charging_start_time": sent})["#/charging_start_time"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("state of charge start", "state_of_charge_start"),
        ("distance driven km", "distance_driven_km"),
        ("battery capacity kwh", "battery_capacity_kwh"),
        ("Temperature (C)", "temperature_c"),
        ("user type Commuter", "user_type"),
        ("user type Long Distance Traveler", "user_type"),
        ("temprature_c", "temperature_c"),
        ("Distance Driven (since last charge) (km)", "distance_driven_km"),
        ("State of Charge (Start %)", "state_of_charge_start"),
    ],
)
def test_an_old_or_misspelt_name_is_answered_with_the_new_one(old, new):
    detail = errors(GOOD | {old: 1.0})[f"#/{old}"]

    assert detail.startswith("is not a field")
    assert new in detail


@pytest.mark.parametrize("name", ["state_of_charge_end", "Charging End Time", "charging_station_id", "Charger Type"])
def test_a_value_that_is_not_known_yet_gets_no_suggestion(name):
    assert errors(GOOD | {name: 1.0})[f"#/{name}"] == "is not a field: it is not known yet when the driver asks"


def test_facts_of_the_database_fill_in_left_out_fields():
    facts = {
        "user_type": "Casual Driver",
        "battery_capacity_kwh": 40.0,
        "vehicle_age_years": 3.0,
        "vehicle_model": "Leaf",
    }
    sent = {name: GOOD[name] for name in ("state_of_charge_start", "distance_driven_km", "temperature_c")}

    assert complete(sent, facts) == sent | facts | {"charging_start_time": NOW}
    assert complete(GOOD, facts)["user_type"] == "Commuter"


def test_a_null_is_not_filled_in():
    assert (
        complete(GOOD | {"vehicle_age_years": None}, {"vehicle_age_years": 3.0}, vehicle_age_years="nullable")[
            "vehicle_age_years"
        ]
        is None
    )


@pytest.mark.parametrize("known", [None, 1500.0, -1.0])
def test_an_unusable_fact_is_missing_as_in_training(known):
    without = {name: value for name, value in GOOD.items() if name != "battery_capacity_kwh"}
    facts = {"battery_capacity_kwh": known}

    assert complete(without, facts, battery_capacity_kwh="nullable")["battery_capacity_kwh"] is None
    assert "no usable value" in errors(without, facts)["#/battery_capacity_kwh"]


def test_a_pointer_escapes_what_json_pointers_must():
    assert set(errors(GOOD | {"a/b~c": 1})) == {"#/a~1b~0c"}


@pytest.mark.parametrize("body", [b"", b"  ", b"{", b"{}{}", b"nonsense", b'{"user_type": "\xff"}', b"{'a': 1}"])
def test_a_body_that_is_not_json_is_malformed(body):
    with pytest.raises(MalformedJson):
        parse(body)


@pytest.mark.parametrize("body", [b"[]", b"null", b"3", b'"text"', b"[{}]"])
def test_json_that_is_not_an_object_is_refused(body):
    with pytest.raises(InvalidRequest, match="#"):
        parse(body)


def test_the_schema_follows_the_contract():
    schema = request_schema(contract(temperature_c="nullable", user_type="nullable", state_of_charge_start="ignored"))

    assert set(schema["properties"]) == set(NAMES)
    # The database may know the facts about the driver and the vehicle, so they are not required of every client.
    assert set(schema["required"]) == {"distance_driven_km", "temperature_c"}
    for name in ("battery_capacity_kwh", "vehicle_age_years", "user_type"):
        assert "required unless the table" in schema["properties"][name]["description"]
    assert schema["properties"]["temperature_c"]["type"] == ["number", "null"]
    assert schema["properties"]["battery_capacity_kwh"]["exclusiveMinimum"] == 0
    assert "enum" not in schema["properties"]["user_type"]
    assert schema["properties"]["user_type"]["examples"] == ["Commuter", "Casual Driver"]
    assert "ignored" in schema["properties"]["state_of_charge_start"]["description"]


def test_the_example_is_accepted_by_the_contract_that_it_was_made_for():
    for needs in ({}, {"user_type": "ignored"}, dict.fromkeys(GOOD, "ignored")):
        complete(example_request(contract(**needs)), **needs)


def test_the_default_time_zone_is_the_machines():
    moment = datetime(2026, 7, 1, 12, tzinfo=UTC)

    assert Settings().wall_time(moment) == moment.astimezone().replace(tzinfo=None)


@pytest.mark.parametrize("user_id", ["D1\n", "\nD1", "D\x001", "D1\x7f"])
def test_a_text_with_a_control_character_is_refused_wherever_it_stands(user_id):
    assert errors(GOOD | {"user_id": user_id}) == {"#/user_id": "holds a control character"}
