"""Raw sessions, users and vehicles become one validated frame, and everything unusable is counted."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zap.ml.features import FEATURES, NUMBERS
from zap.ml.history import RawHistory, clean_history

SESSION = {
    "session_id": 1,
    "user_id": "u1",
    "vehicle_id": 1,
    "charger_type": "Level 2",
    "charging_start_time": "2024-01-01 10:00:00",
    "state_of_charge_start": 40.0,
    "distance_driven_km": 120.0,
    "temperature_c": 15.0,
}
USERS = [{"user_id": "u1", "user_type": "Commuter"}]
VEHICLES = [
    {
        "vehicle_id": 1,
        "user_id": "u1",
        "vehicle_model": "Leaf",
        "battery_capacity_kwh": 40.0,
        "vehicle_age_years": 2.0,
    }
]


def raw(*sessions, users=USERS, vehicles=VEHICLES):
    rows = [SESSION | {"session_id": number + 1} | session for number, session in enumerate(sessions)]
    frames = (pd.DataFrame(table, dtype=object) for table in (users, vehicles, rows))
    return RawHistory(*frames)


def clean(*sessions, **tables):
    return clean_history(raw(*sessions, **tables))


def test_it_works():
    history = clean({}, {"user_id": "u1", "charging_start_time": "2024-01-01 09:00:00"})

    assert history.frame["session_id"].tolist() == [2, 1]
    first = history.frame.iloc[0]
    assert (first["user_type"], first["vehicle_model"], first["battery_capacity_kwh"]) == (
        "Commuter",
        "Leaf",
        40.0,
    )
    assert set(history.frame) >= {feature.name for feature in FEATURES}
    assert history.dropped.as_dict() == {"rows": {}, "values": {}, "strangers": {}}


@pytest.mark.parametrize(
    ("session", "reason"),
    [
        ({"charger_type": None}, "no charger type"),
        ({"charger_type": "  "}, "no charger type"),
        ({"charging_start_time": None}, "no readable start"),
        ({"charging_start_time": "yesterday"}, "no readable start"),
        ({"charging_start_time": "2024-13-01 00:00:00"}, "no readable start"),
        ({"charging_start_time": "2024-01-01T00:00:00+02:00"}, "no readable start"),
    ],
)
def test_a_session_that_cannot_be_used_is_left_out_and_counted(session, reason):
    history = clean({}, session)

    assert history.frame["session_id"].tolist() == [1]
    assert history.dropped.rows == {reason: 1}


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("state_of_charge_start", 152.0, "outside 0 to 100 %"),
        ("state_of_charge_start", -0.1, "outside 0 to 100 %"),
        ("distance_driven_km", 2000.1, "outside 0 to 2,000 km"),
        ("temperature_c", 73.2, "outside -60 to 60 °C"),
        ("temperature_c", float("inf"), "outside -60 to 60 °C"),
        ("temperature_c", "warm", "not a number"),
    ],
)
def test_a_value_that_cannot_be_true_is_missing_and_counted(column, value, reason):
    history = clean({column: value}, {})

    assert np.isnan(history.frame[column].iloc[0])
    assert history.dropped.as_dict()["values"] == {column: {reason: 1}}


@pytest.mark.parametrize("column", ["state_of_charge_start", "distance_driven_km", "temperature_c"])
def test_a_hole_stays_a_hole_and_is_not_counted_as_dropped(column):
    history = clean({column: None})

    assert np.isnan(history.frame[column].iloc[0])
    assert history.dropped.as_dict()["values"] == {}


def test_the_ends_of_a_range_belong_to_it():
    frame = clean({"state_of_charge_start": 0, "temperature_c": -60}, {"state_of_charge_start": 100.0}).frame

    assert frame["state_of_charge_start"].tolist() == [0.0, 100.0]
    assert frame["temperature_c"].tolist() == [-60.0, 15.0]


def test_a_session_without_any_vehicle_is_counted():
    history = clean({"vehicle_id": None}, vehicles=[VEHICLES[0] | {"user_id": "another"}])

    assert history.frame["battery_capacity_kwh"].isna().all()
    assert history.dropped.strangers == {"sessions without a vehicle": 1}


def test_strangers_are_kept_without_what_is_unknown_and_counted():
    history = clean({"user_id": "stranger", "vehicle_id": 99}, {"user_id": None, "vehicle_id": None})

    assert history.frame[["user_type", "vehicle_model", "battery_capacity_kwh"]].isna().all(axis=None)
    assert history.dropped.strangers == {
        "sessions without a vehicle": 1,
        "sessions without a user": 1,
        "sessions of a user that Users lacks": 1,
        "sessions of a vehicle that Vehicles lacks": 1,
    }


def test_a_session_without_a_vehicle_is_of_the_drivers_only_one():
    assert clean({"vehicle_id": None}).frame["vehicle_model"].tolist() == ["Leaf"]


def test_a_driver_with_two_vehicles_has_no_only_one():
    second = VEHICLES[0] | {"vehicle_id": 2, "vehicle_model": "Kona"}

    assert clean({"vehicle_id": None}, vehicles=[*VEHICLES, second]).frame["vehicle_model"].isna().all()


def test_a_session_without_a_user_is_of_its_vehicles_owner():
    history = clean({"user_id": None}, {"user_id": " ", "vehicle_id": 99})

    assert history.frame["user_id"].tolist()[:1] == ["u1"]
    assert history.frame["user_type"].tolist()[:1] == ["Commuter"]
    assert history.dropped.strangers == {
        "sessions without a user": 1,
        "sessions of a vehicle that Vehicles lacks": 1,
    }


def test_an_id_is_what_it_is_to_the_letter():
    """A request is looked up by SQL, which compares so too."""
    frame = clean({"user_id": "u1 ", "vehicle_id": None}).frame

    assert frame["user_id"].tolist() == ["u1 "]
    assert frame[["user_type", "vehicle_model"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("stored", "number"), [("12.5", 12.5), (" 7 ", 7.0), (7, 7.0), ("1_0", np.nan), (True, np.nan), (10**400, np.nan)]
)
def test_a_number_may_have_been_stored_as_text(stored, number):
    assert clean({"temperature_c": stored}).frame["temperature_c"].tolist() == pytest.approx([number], nan_ok=True)


def test_ties_are_ordered_by_session_id():
    assert clean({"session_id": 7}, {"session_id": 3}, {"session_id": 5}).frame["session_id"].tolist() == [
        3,
        5,
        7,
    ]


def test_text_is_trimmed():
    frame = clean({"charger_type": " Level 2 "}, users=[{"user_id": "u1", "user_type": " Commuter"}]).frame

    assert frame[["charger_type", "user_type"]].iloc[0].tolist() == ["Level 2", "Commuter"]


def test_empty_tables_give_an_empty_history():
    tables = raw({})

    history = clean_history(RawHistory(tables.users[:0], tables.vehicles[:0], tables.sessions[:0]))

    assert len(history.frame) == 0


def test_synthetic_sessions_are_counted():
    assert clean({"user_id": "sample-42-00001"}, {}, {"user_id": None}).synthetic_sessions == 1


anything = st.none() | st.floats() | st.integers(-(10**6), 10**6) | st.sampled_from(["", " ", "x", "12.5", "1e3"])
sessions = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from([None, "u1", "u2", ""]),
        "vehicle_id": st.sampled_from([None, 1, 2]),
        "charger_type": st.sampled_from([None, "", "Level 1", "Level 2"]),
        "charging_start_time": st.none()
        | st.just("garbage")
        | st.datetimes(min_value=pd.Timestamp("1900-01-01"), max_value=pd.Timestamp("2100-01-01")).map(
            lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S")
        ),
        "state_of_charge_start": anything,
        "distance_driven_km": anything,
        "temperature_c": anything,
    }
)


@given(st.lists(sessions, min_size=1, max_size=15), st.randoms(use_true_random=False))
def test_whatever_the_tables_hold_the_frame_is_valid_and_its_order_is_its_own(rows, random):
    numbered = [row | {"session_id": number} for number, row in enumerate(rows)]
    shuffled = random.sample(numbered, len(numbered))

    history = clean(*numbered)

    pd.testing.assert_frame_equal(history.frame, clean(*shuffled).frame)
    assert len(history.frame) + sum(history.dropped.rows.values()) == len(rows)
    assert history.frame["charger_type"].notna().all()
    assert history.frame["charging_start_time"].is_monotonic_increasing
    for feature in NUMBERS:
        values = history.frame[feature.name].to_numpy()
        assert values.dtype == np.float64
        assert (np.isnan(values) | feature.inside(values)).all()


@given(st.lists(sessions, min_size=1, max_size=15))
def test_cleaning_a_clean_history_changes_nothing(rows):
    tables = raw(*rows)
    once = clean_history(tables).frame

    again = clean_history(RawHistory(tables.users, tables.vehicles, once))

    pd.testing.assert_frame_equal(again.frame, once)
    assert again.dropped.rows == {}
