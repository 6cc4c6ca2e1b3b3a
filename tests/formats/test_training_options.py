"""The options of a training: strict reading, all bad fields at once, and storing as they were sent."""

import json
import math
from datetime import datetime, timedelta

import pytest
from conftest import EXAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st

from zap.errors import InvalidRequest, MalformedJson
from zap.formats.body_model import body_schemas
from zap.formats.json_body import LONGEST_TEXT
from zap.formats.training_options import (
    HYPER_PARAMETERS,
    TrainingOptions,
)
from zap.ml.column_groups import GROUPS
from zap.ml.model import ChargerTypeModel
from zap.ml.training import TEST_SHARE
from zap.settings import Settings

SCHEMAS = body_schemas(TrainingOptions)
SCHEMA, PARAMETERS = SCHEMAS["TrainingOptions"], SCHEMAS["HyperParameters"]
LONDON = Settings(timezone="Europe/London").wall_time
WHOLE = {
    "history_from": "2026-01-01",
    "history_to": "2026-03-02T18:30:00",
    "test_share": 0.2,
    "estimator": "lightgbm",
    "hyper_parameters": {"n_estimators": 50, "learning_rate": 0.1},
    "tune": True,
    "tune_seed": 7,
    "windows": True,
    "nested": True,
    "promote": "if_better",
    "note": "after the move to the new tariff",
}


def parse(fields):
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return TrainingOptions.parse(body, LONDON)


def errors(fields):
    with pytest.raises(InvalidRequest) as caught:
        parse(fields)
    return {error["pointer"]: error["detail"] for error in caught.value.details["errors"]}


def test_it_works():
    assert parse(WHOLE) == TrainingOptions(
        history_from=datetime.fromisoformat("2026-01-01T00:00:00"),
        history_to=datetime.fromisoformat("2026-03-02T18:30:00"),
        test_share=0.2,
        estimator="lightgbm",
        hyper_parameters={"n_estimators": 50, "learning_rate": 0.1},
        tune=True,
        tune_seed=7,
        windows=True,
        nested=True,
        promote="if_better",
        note="after the move to the new tariff",
    )


@pytest.mark.parametrize("body", [b"", b" \n\t", b"{}", b'{"hyper_parameters": {}}'])
def test_an_empty_body_gives_the_defaults(body):
    assert parse(body) == TrainingOptions()
    assert parse(body).as_dict() == {}


def test_the_default_options():
    assert dict(TrainingOptions()) == {
        "history_from": None,
        "history_to": None,
        "test_share": TEST_SHARE,
        "estimator": "blend",
        "hyper_parameters": {},
        "tune": False,
        "tune_seed": None,
        "windows": False,
        "nested": False,
        "promote": "always",
        "note": None,
    }


# Refused options.


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"{", "Expecting"), (b"tune", "Expecting"), (b'{"note": "\xff"}', "UTF-8 at byte 10"), (b"[" * 9999, "deeply")],
)
def test_a_body_that_is_not_json_is_refused(body, said):
    with pytest.raises(MalformedJson, match=said):
        parse(body)


@pytest.mark.parametrize("body", ["null", "[]", "[{}]", '"always"', "0.2", "true"])
def test_a_body_that_is_not_an_object_is_refused_with_advice(body):
    assert "no body, or one JSON object" in errors(body.encode())["#"]


def test_every_bad_field_is_reported_at_once():
    found = errors(
        {
            "history_from": "yesterday",
            "history_to": 20260101,
            "test_share": 0.9,
            "estimator": "forest",
            "hyper_parameters": {"num_leaves": 1, "trees": 4, "learning_rate": None},
            "tune": "yes",
            "tune_seed": 2.5,
            "windows": 1,
            "promote": "maybe",
            "note": ["a"],
            "force": True,
        }
    )

    assert set(found) == {
        "#/history_from",
        "#/history_to",
        "#/test_share",
        "#/estimator",
        "#/hyper_parameters/num_leaves",
        "#/hyper_parameters/trees",
        "#/hyper_parameters/learning_rate",
        "#/tune",
        "#/tune_seed",
        "#/windows",
        "#/promote",
        "#/note",
        "#/force",
    }
    assert found["#/history_from"] == "is 'yesterday'; must be a date or a time such as 2026-03-02"
    assert found["#/hyper_parameters/num_leaves"] == "is 1; must be 2 to 4,096 leaves"
    assert found["#/estimator"] == "must be one of blend, lightgbm"
    assert found["#/promote"] == "must be one of always, if_better, trial, never"
    assert found["#/tune_seed"] == "must be a whole number, 0 to 2,147,483,647, not 2.5"
    assert found["#/windows"] == "must be true or false, not a number"


@pytest.mark.parametrize("name", WHOLE)
def test_null_is_not_accepted(name):
    assert set(errors({name: None})) == {f"#/{name}"}


@pytest.mark.parametrize(
    ("fields", "place", "meant"),
    [
        ({"history_form": "2026-01-01"}, "#/history_form", "history_from"),
        ({"Hyper-Parameters": {}}, "#/Hyper-Parameters", "hyper_parameters"),
        ({"hyper_parameters": {"num_leafs": 7}}, "#/hyper_parameters/num_leafs", "num_leaves"),
    ],
)
def test_a_similar_name_gets_a_suggestion(fields, place, meant):
    assert meant in errors(fields)[place]


def test_the_number_of_threads_is_not_an_option():
    assert set(errors({"hyper_parameters": {"n_jobs": 4}})) == {"#/hyper_parameters/n_jobs"}


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"tune": true, "tune": false}', "#/tune"),
        (b'{"hyper_parameters": {"num_leaves": 7, "num_leaves": 9}}', "#/hyper_parameters/num_leaves"),
        (b'{"history_from": "2026-01-01", "history_from": "2026-01-02"}', "#/history_from"),
    ],
)
def test_a_field_that_appears_twice_is_refused(body, place):
    assert errors(body) == {place: "appears more than once"}


@pytest.mark.parametrize("value", ["50", True, None, [50]])
@pytest.mark.parametrize("parameter", HYPER_PARAMETERS, ids=lambda parameter: parameter.name)
def test_a_hyper_parameter_is_a_number(parameter, value):
    assert set(errors({"hyper_parameters": {parameter.name: value}})) == {f"#/hyper_parameters/{parameter.name}"}


def test_groups_of_columns_are_left_out_by_their_names():
    asked = {"hyper_parameters": {"left_out": ["temperature", "time"]}}

    assert parse(asked).hyper_parameters == asked["hyper_parameters"]
    assert parse(asked).as_dict() == asked
    assert PARAMETERS["properties"]["left_out"]["items"]["enum"] == list(GROUPS)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("temperature", 'must be a list of groups of columns, such as ["temperature"], not a string'),
        (None, "must be a list of groups"),
        (["weather"], "there is no group of columns 'weather'; the groups are charge_and_distance, temperature,"),
        ([["time"]], "there is no group of columns ['time']"),
        (["time"] * 99, "has 99 groups; there are only"),
    ],
)
def test_what_is_no_list_of_groups_is_refused_with_the_known_groups(value, said):
    assert said in errors({"hyper_parameters": {"left_out": value}})["#/hyper_parameters/left_out"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("parameter", HYPER_PARAMETERS, ids=lambda parameter: parameter.name)
def test_a_number_such_as_nan_is_refused_with_its_place(parameter, value):
    with pytest.raises(MalformedJson, match=f"at #/hyper_parameters/{parameter.name}, which is not a number in JSON"):
        parse({"hyper_parameters": {parameter.name: value}})


@pytest.mark.parametrize("parameter", HYPER_PARAMETERS, ids=lambda parameter: parameter.name)
def test_a_hyper_parameter_that_is_a_count_is_a_whole_number(parameter):
    value = float(parameter.maximum)

    if isinstance(parameter.example, int):
        said = errors({"hyper_parameters": {parameter.name: value}})[f"#/hyper_parameters/{parameter.name}"]
        assert said.startswith("must be a whole number")
    else:
        assert parse({"hyper_parameters": {parameter.name: value}}).hyper_parameters == {parameter.name: value}


@pytest.mark.parametrize("value", [-2, 2**31, "7"])
def test_an_error_names_the_whole_range(value):
    said = errors({"test_share": value, "hyper_parameters": {one.name: value for one in HYPER_PARAMETERS}})

    assert "0.01 to 0.5" in said["#/test_share"]
    for parameter in HYPER_PARAMETERS:
        assert f"{parameter.minimum} to {parameter.maximum:,}" in said[f"#/hyper_parameters/{parameter.name}"]
    for detail in said.values():
        assert detail.rstrip() == detail
        assert " ," not in detail


@pytest.mark.parametrize("value", [-1, 2**31, 7.0, "7", True, None, [7]])
def test_the_seed_of_a_search_is_a_whole_number(value):
    assert set(errors({"tune": True, "tune_seed": value})) == {"#/tune_seed"}
    assert parse({"tune": True, "tune_seed": 0}).tune_seed == 0


@pytest.mark.parametrize("fields", [{"tune_seed": 7}, {"tune_seed": 7, "tune": False}])
def test_a_seed_without_a_search_is_refused(fields):
    assert errors(fields) == {"#/tune_seed": "is the seed of a search; send tune: true too"}


def test_a_number_of_many_digits_is_out_of_range_like_any_other():
    assert errors(b'{"hyper_parameters": {"n_estimators": ' + b"9" * 5000 + b"}}").keys() == {
        "#/hyper_parameters/n_estimators"
    }


def test_a_note_is_a_line_of_text():
    assert parse({"note": "é" * LONGEST_TEXT}).note == "é" * LONGEST_TEXT
    assert f"at most {LONGEST_TEXT}" in errors({"note": "é" * (LONGEST_TEXT + 1)})["#/note"]
    assert "control character" in errors({"note": "two\nlines"})["#/note"]
    assert "surrogate" in errors(rb'{"note": "\ud800"}')["#/note"]


# The window of history.


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-03-02", "2026-03-02T00:00:00"),
        ("2026-03-02T18:30", "2026-03-02T18:30:00"),
        ("2026-03-02 18:30:05", "2026-03-02T18:30:05"),
        ("2026-03-02T18:30:05.999", "2026-03-02T18:30:05"),
        ("2026-03-02T18:30:00Z", "2026-03-02T18:30:00"),
        # In summer the drivers' clocks are an hour ahead.
        ("2026-07-02T18:30:00Z", "2026-07-02T19:30:00"),
        ("2026-07-02T18:30:00-05:00", "2026-07-03T00:30:00"),
    ],
)
@pytest.mark.parametrize("name", ["history_from", "history_to"])
def test_a_moment_is_wall_time(name, text, meant):
    assert getattr(parse({name: text}), name) == datetime.fromisoformat(meant)


@pytest.mark.parametrize(
    "text",
    ["", "2026", "2026-03", "2026-02-30", "02.03.2026", "2026-03-02T25:00:00", "18:30", "0001-01-01T00:00+23:00"],
)
def test_a_text_that_is_not_a_moment_is_refused(text):
    assert f"is {text!r}" in errors({"history_to": text})["#/history_to"]


@pytest.mark.parametrize("until", ["2026-01-01", "2025-12-31T23:59:59"])
def test_an_empty_window_is_refused(until):
    assert "must be after history_from" in errors({"history_from": "2026-01-01", "history_to": until})["#/history_to"]


def test_a_window_may_be_open_on_either_side_and_as_short_as_a_second():
    assert parse({"history_from": "2026-01-01"}).history_to is None
    assert parse({"history_to": "2026-01-01"}).history_from is None
    short = parse({"history_from": "2026-01-01", "history_to": "2026-01-01T00:00:01"})
    assert short.history_to - short.history_from == timedelta(seconds=1)


# Stored options that are read again.


def moments():
    return st.none() | st.datetimes().map(lambda moment: moment.replace(microsecond=0))


def values_of(parameter):
    low, high = parameter.minimum, parameter.maximum
    if isinstance(parameter.example, int):
        return st.integers(low, high)
    return st.floats(low, high, exclude_min=parameter.minimum_excluded)


ANY_OPTIONS = (
    st.builds(
        TrainingOptions.model_construct,
        history_from=moments(),
        history_to=moments(),
        test_share=st.floats(0.01, 0.5),
        hyper_parameters=st.fixed_dictionaries(
            {}, optional={parameter.name: values_of(parameter) for parameter in HYPER_PARAMETERS}
        ),
        tune=st.booleans(),
        tune_seed=st.none() | st.integers(0, 2**31 - 1),
        windows=st.booleans(),
        promote=st.sampled_from(["always", "if_better", "trial", "never"]),
        note=st.none() | st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=LONGEST_TEXT),
    )
    .filter(lambda one: None in {one.history_from, one.history_to} or one.history_from < one.history_to)
    .filter(lambda one: one.tune or one.tune_seed is None)
)


@given(ANY_OPTIONS)
def test_stored_options_are_read_back(options):
    # A run stores its options; the training process reads them again.
    kept = json.loads(json.dumps(options.as_dict(), allow_nan=False))

    assert TrainingOptions.read(kept, LONDON) == options
    assert parse(kept) == options
    # Only options that differ from the defaults are stored.
    plain = TrainingOptions()
    assert set(kept) == {
        name for name in TrainingOptions.model_fields if getattr(options, name) != getattr(plain, name)
    }


def test_only_options_that_differ_from_the_defaults_are_stored():
    assert parse(WHOLE).as_dict() == WHOLE | {"history_from": "2026-01-01T00:00:00"}
    assert parse({"tune": False, "promote": "always", "test_share": 0.1, "note": ""}).as_dict() == {"note": ""}


def test_stored_options_are_a_copy():
    options = parse(WHOLE)

    options.as_dict()["hyper_parameters"]["n_estimators"] = 1

    assert options.hyper_parameters["n_estimators"] == 50


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(st.sampled_from([*WHOLE, "num_leaves", "n_estimators"]) | st.text(max_size=9), inside)
    ),
    max_leaves=12,
)


@settings(max_examples=EXAMPLES)
@given(ANY_JSON | st.dictionaries(st.sampled_from([*WHOLE]), ANY_JSON))
def test_any_body_is_read_or_refused_with_an_error(fields):
    try:
        options = parse(fields)
    except (InvalidRequest, MalformedJson):
        return
    assert parse(options.as_dict()) == options


# The schema.


def test_the_hyper_parameters_are_those_of_the_model_with_its_defaults():
    defaults = {parameter.name: parameter.example for parameter in HYPER_PARAMETERS}

    params = ChargerTypeModel().get_params()
    assert defaults == {
        name: value
        for name, value in params.items()
        if name not in ("estimator", "asked_before", "delay", "left_out", "n_jobs")
    }
    assert params["estimator"] == TrainingOptions().estimator


def test_the_schema_has_every_option_with_its_default():
    properties = SCHEMA["properties"]

    assert set(properties) == set(TrainingOptions.model_fields) == set(WHOLE)
    told = {name: one["default"] for name, one in properties.items() if "default" in one}
    plain = TrainingOptions()
    named = ("test_share", "estimator", "tune", "windows", "nested", "promote")
    assert told == {name: getattr(plain, name) for name in named}
    assert all(one["description"] for one in properties.values())
    assert (properties["test_share"]["minimum"], properties["test_share"]["maximum"]) == (0.01, 0.5)
    assert properties["estimator"]["enum"] == ["blend", "lightgbm"]
    assert properties["promote"]["enum"] == ["always", "if_better", "trial", "never"]
    assert properties["note"]["maxLength"] == LONGEST_TEXT
    assert not SCHEMA["additionalProperties"]
    assert not PARAMETERS["additionalProperties"]
    assert properties["hyper_parameters"]["$ref"] == "#/components/schemas/HyperParameters"
    assert "required" not in SCHEMA
    json.dumps(SCHEMA, allow_nan=False)


@pytest.mark.parametrize("name", ["test_share", "tune_seed", *(parameter.name for parameter in HYPER_PARAMETERS)])
def test_the_bounds_of_the_schema_are_those_that_are_read(name):
    parameters = PARAMETERS["properties"]
    nested = name in parameters
    schema = parameters[name] if nested else SCHEMA["properties"][name]
    step = 1 if schema["type"] == "integer" else 1e-6
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema["maximum"]

    def accepted(value):
        try:
            parse({"hyper_parameters": {name: value}} if nested else {"tune": True, name: value})
        except InvalidRequest:
            return False
        return True

    assert accepted(low) == ("minimum" in schema)
    assert accepted(low + step)
    assert not accepted(low - step)
    assert accepted(high)
    assert not accepted(high + step)


@pytest.mark.parametrize(
    "fields", [{"nested": True}, {"nested": True, "tune": True}, {"nested": True, "windows": True}]
)
def test_a_search_in_each_window_needs_a_search_and_windows(fields):
    assert errors(fields) == {"#/nested": "needs tune and windows, because it is a search in each window"}
