"""The counts of answered requests and of reported sessions."""

import math

import numpy as np
import pytest

from zap.formats import request, session_report
from zap.monitoring.data_quality import REQUEST_FIELDS, SESSION_FIELDS, request_counts, session_counts

CONTRACT = {
    "fields": {
        "state_of_charge_start": "ignored",
        "distance_driven_km": "nullable",
        "temperature_c": "nullable",
        "battery_capacity_kwh": "required",
        "vehicle_age_years": "nullable",
        "user_type": "nullable",
        "vehicle_model": "nullable",
        "charging_start_time": "required",
    },
    "categories": {"user_type": ["Commuter"], "vehicle_model": ["Nissan LEAF"]},
}
WHOLE = {
    "distance_driven_km": 120.0,
    "temperature_c": 15.0,
    "battery_capacity_kwh": 64.0,
    "vehicle_age_years": 2.5,
    "user_type": "Commuter",
    "vehicle_model": "Nissan LEAF",
    "charging_start_time": "2030-01-07T18:30:00",
    "user_id": "somebody",
    "vehicle_id": 7,
}
# A scored row has no column of the driver, the vehicle and the start.
SCORED = {name: 1.0 for name in WHOLE if name in CONTRACT["fields"] and name != "charging_start_time"} | {
    "sessions": 3.0
}


def columns(row):
    return {name: np.array([value]) for name, value in row.items()}


def counted(sent, **scored):
    found = request_counts([sent], CONTRACT, columns(SCORED | scored))
    assert found.pop(("", "answered")) == 1
    return dict(found)


def test_the_fields_are_those_of_the_routes():
    assert set(REQUEST_FIELDS) == set(request.FIELDS)
    # A session is not added without these, and is not counted before its end.
    needed = {session_report.SESSION_ID, session_report.END, *session_report.NEEDED_AT_FIRST}
    assert set(SESSION_FIELDS) == set(session_report.FIELDS) - needed


def test_a_whole_request_has_nothing_to_count():
    assert counted(WHOLE) == {}


@pytest.mark.parametrize(
    ("change", "scored", "found"),
    [
        ({"temperature_c": None}, math.nan, {("temperature_c", "null"): 1}),
        ({"user_type": "n/a"}, math.nan, {("user_type", "null"): 1}),
        ({"user_id": " "}, math.nan, {("user_id", "null"): 1}),
        ({"vehicle_model": "Nissan  leaf"}, 0.0, {}),
        ({"vehicle_model": "Unheard Of"}, math.nan, {("vehicle_model", "unknown"): 1}),
        ({"state_of_charge_start": None}, math.nan, {}),
    ],
)
def test_what_was_sent(change, scored, found):
    assert counted(WHOLE | change, **dict.fromkeys(change, scored)) == found


def test_a_field_that_was_left_out_is_missing_or_was_completed():
    few = {name: value for name, value in WHOLE.items() if name in {"user_id", "temperature_c"}}
    missing = {"distance_driven_km": math.nan, "vehicle_model": math.nan}

    assert counted(few, **missing) == {
        ("", "completed"): 1,
        ("battery_capacity_kwh", "completed"): 1,
        ("vehicle_age_years", "completed"): 1,
        ("user_type", "completed"): 1,
        ("distance_driven_km", "missing"): 1,
        ("vehicle_model", "missing"): 1,
        ("charging_start_time", "missing"): 1,
        ("vehicle_id", "missing"): 1,
    }


def test_a_driver_without_a_known_session_is_unknown():
    without = {name: value for name, value in WHOLE.items() if name != "user_id"}

    assert counted(WHOLE, sessions=0.0) == {("user_id", "unknown"): 1}
    assert request_counts([without], CONTRACT, columns({"sessions": 0.0}))["user_id", "missing"] == 1
    assert request_counts([without], CONTRACT, columns({"sessions": 0.0}))["user_id", "unknown"] == 0


@pytest.mark.parametrize("text", ["{old: 1}", None, 3, []])
def test_a_logged_text_of_an_older_program_is_only_an_answer(text):
    assert request_counts([text], CONTRACT, {}) == {("", "answered"): 1}


def test_a_session_is_counted_when_its_end_is_stored():
    start = {"charging_start_time": 1, "temperature_c": 5.0, "vehicle_id": 7}
    end = start | {"charging_end_time": 2, "energy_consumed_kwh": 3.0}

    assert session_counts([(None, start)], [7]) == {("", "added"): 1}
    found = session_counts([(start, end)], [7])
    assert found.pop(("", "ended")) == 1
    assert found.pop(("vehicle_id", "unknown")) == 1
    assert set(found) == {
        (name, "missing")
        for name in SESSION_FIELDS
        if name not in {"temperature_c", "vehicle_id", "energy_consumed_kwh"}
    }
    assert session_counts([(end, end)], [7]) == {}
    both = session_counts([(None, end)], [])
    assert (both["", "added"], both["", "ended"], both["vehicle_id", "unknown"]) == (1, 1, 0)
