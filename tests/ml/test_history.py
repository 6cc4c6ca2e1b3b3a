"""Raw sessions, users and vehicles become one validated frame, and everything unusable is counted."""

import numpy as np
import pandas as pd
import pytest
from conftest import EXAMPLES
from histories import SESSION, USER, VEHICLE, raw
from hypothesis import given, settings
from hypothesis import strategies as st

from zap.ml.cells import PAST_COLUMNS, PAST_NUMBERS, read_past_session, read_wall_time
from zap.ml.driver_columns import PastSession
from zap.ml.features import FEATURES, NUMBERS
from zap.ml.history import RawHistory, clean_history, past_sessions, population_history


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
    assert set(history.frame) == {
        *("session_id", "user_id", "vehicle_id", "charger_type", "charging_end_time"),
        *(feature.name for feature in (*FEATURES, *PAST_NUMBERS)),
    }
    assert first["charging_end_time"] == pd.Timestamp("2024-01-01 12:00:00")
    assert (first["energy_consumed_kwh"], first["charging_duration_hours"]) == (11.0, 1.5)
    undated = {"user_type": 2, "battery_capacity_kwh": 2, "vehicle_age_years": 2}
    assert history.dropped.as_dict() == {"rows": {}, "values": {}, "strangers": {}, "undated": undated}


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
        ("energy_consumed_kwh", -0.1, "outside 0 to 1,000 kWh"),
        ("energy_consumed_kwh", 1000.1, "outside 0 to 1,000 kWh"),
        ("energy_consumed_kwh", "much", "not a number"),
        ("charging_duration_hours", -1, "outside 0 to 8,784 hours"),
        ("charging_duration_hours", 8784.1, "outside 0 to 8,784 hours"),
        ("charging_end_time", "2024-01-01 09:59:59", "before the start"),
        ("charging_end_time", "noon", "not readable"),
        ("charging_end_time", "2024-01-01T12:00:00Z", "not readable"),
    ],
)
def test_a_value_that_cannot_be_true_is_missing_and_counted(column, value, reason):
    history = clean({column: value}, {})

    assert history.frame[column].isna().tolist() == [True, False]
    assert history.dropped.as_dict()["values"] == {column: {reason: 1}}


@pytest.mark.parametrize(
    "column",
    ["state_of_charge_start", "distance_driven_km", "temperature_c", "charging_end_time", "energy_consumed_kwh"],
)
def test_a_hole_stays_a_hole_and_is_not_counted_as_dropped(column):
    history = clean({column: None})

    assert history.frame[column].isna().all()
    assert history.dropped.as_dict()["values"] == {}


def test_the_ends_of_a_range_belong_to_it():
    least = {"state_of_charge_start": 0, "temperature_c": -60, "charging_end_time": SESSION["charging_start_time"]}
    most = {"state_of_charge_start": 100.0, "energy_consumed_kwh": 1000, "charging_duration_hours": 8784}
    frame = clean(least, most).frame

    assert frame["state_of_charge_start"].tolist() == [0.0, 100.0]
    assert frame["temperature_c"].tolist() == [-60.0, 15.0]
    assert frame["charging_end_time"].iloc[0] == frame["charging_start_time"].iloc[0]
    assert frame[["energy_consumed_kwh", "charging_duration_hours"]].iloc[1].tolist() == [1000.0, 8784.0]


def test_tables_without_the_columns_known_after_a_session_are_a_history():
    tables = raw({})
    after = ["charging_end_time", "energy_consumed_kwh", "charging_duration_hours"]

    history = clean_history(RawHistory(tables.users, tables.vehicles, tables.sessions.drop(columns=after)))

    assert history.frame[after].isna().all(axis=None)
    dropped = history.dropped.as_dict()
    assert (dropped["rows"], dropped["values"], dropped["strangers"]) == ({}, {}, {})


def test_a_session_without_any_vehicle_is_counted():
    history = clean({"vehicle_id": None}, vehicles=[VEHICLE | {"user_id": "another"}])

    assert history.frame["battery_capacity_kwh"].isna().all()
    assert history.dropped.unmatched == {"sessions without a vehicle": 1}


def test_sessions_of_unknown_users_and_vehicles_are_kept_and_counted():
    history = clean({"user_id": "unknown", "vehicle_id": 99}, {"user_id": None, "vehicle_id": None})

    assert history.frame[["user_type", "vehicle_model", "battery_capacity_kwh"]].isna().all(axis=None)
    assert history.dropped.unmatched == {
        "sessions without a vehicle": 1,
        "sessions without a user": 1,
        "sessions of a user that Users lacks": 1,
        "sessions of a vehicle that Vehicles lacks": 1,
    }


def test_a_session_without_a_vehicle_has_the_drivers_only_vehicle():
    assert clean({"vehicle_id": None}).frame["vehicle_model"].tolist() == ["Leaf"]


def test_a_driver_with_two_vehicles_has_no_only_vehicle():
    second = VEHICLE | {"vehicle_id": 2, "vehicle_model": "Kona"}

    assert clean({"vehicle_id": None}, vehicles=[VEHICLE, second]).frame["vehicle_model"].isna().all()


def test_the_owner_of_the_vehicle_supplies_the_user_type_but_not_the_past():
    history = clean({"user_id": None}, {"user_id": " ", "vehicle_id": 99})

    assert history.frame["user_id"].isna().all()
    assert history.frame["user_type"].tolist()[:1] == ["Commuter"]
    assert history.frame["user_type"].isna().tolist() == [False, True]
    assert history.dropped.unmatched == {
        "sessions without a user": 1,
        "sessions of a vehicle that Vehicles lacks": 1,
    }


def test_the_user_that_a_session_names_is_its_user_whoever_owns_the_vehicle():
    users = [USER, {"user_id": "u2", "user_type": "Casual Driver"}]

    frame = clean({"user_id": "u2", "vehicle_id": 1}, users=users).frame

    assert frame[["user_id", "user_type", "vehicle_model"]].iloc[0].tolist() == ["u2", "Casual Driver", "Leaf"]


# The facts about its driver and its vehicle that a session keeps.

FACTS = {"user_type": "Student", "vehicle_model": "Leaf", "battery_capacity_kwh": 38.0, "vehicle_age_years": 0.5}


def test_a_session_has_its_kept_facts_or_else_the_current_values():
    history = clean(FACTS, {}, {"vehicle_age_years": 1.5, "user_type": " "})

    assert history.frame["user_type"].tolist() == ["Student", "Commuter", "Commuter"]
    assert history.frame["battery_capacity_kwh"].tolist() == [38.0, 40.0, 40.0]
    assert history.frame["vehicle_age_years"].tolist() == [0.5, 2.0, 1.5]
    assert history.frame["vehicle_model"].tolist() == ["Leaf"] * 3
    assert history.dropped.undated == {"user_type": 2, "battery_capacity_kwh": 2, "vehicle_age_years": 1}


def test_kept_facts_need_no_user_or_vehicle_in_the_tables():
    # This holds for a session without a user, and for a driver whose second vehicle came later.
    second = VEHICLE | {"vehicle_id": 2, "vehicle_model": "Kona"}

    history = clean(
        FACTS | {"user_id": None, "vehicle_id": None},
        FACTS | {"vehicle_id": None},
        vehicles=[VEHICLE, second],
    )

    assert history.frame[list(FACTS)].to_dict("records") == [FACTS, FACTS]
    assert history.dropped.undated == {}


def test_kept_facts_are_checked_like_current_values():
    # An impossible kept value counts as missing. The current value does not replace it: it may differ.
    history = clean({"vehicle_age_years": 51.0, "battery_capacity_kwh": "big"}, {"user_type": " Student "})

    assert history.frame["vehicle_age_years"].isna().tolist() == [True, False]
    assert history.frame["battery_capacity_kwh"].isna().tolist() == [True, False]
    assert history.frame["user_type"].tolist() == ["Commuter", "Student"]
    assert history.dropped.as_dict()["values"] == {
        "vehicle_age_years": {"outside 0 to 50 years": 1},
        "battery_capacity_kwh": {"not a number": 1},
    }
    assert history.dropped.undated == {"user_type": 1, "battery_capacity_kwh": 1, "vehicle_age_years": 1}


def test_a_fact_that_is_neither_kept_nor_current_is_missing_and_not_undated():
    history = clean({"user_id": None, "vehicle_id": None})

    assert history.frame[list(FACTS)].isna().all(axis=None)
    assert history.dropped.undated == {}


def test_an_id_is_kept_unchanged():
    # The user of a request is looked up by SQL, which compares texts exactly too.
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
    # `zap sample-history --remove` leaves this driver too.
    assert clean({"user_id": "sample-ann"}).synthetic_sessions == 0


anything = (
    st.none()
    | st.floats()
    | st.floats(0, 100)
    | st.integers(-(10**6), 10**6)
    | st.sampled_from(["", " ", "x", "12.5", " 7 ", "1e3", "nan", "inf", "-0", "1_0", True, False, 10**400])
)
some_moments = st.datetimes(min_value=pd.Timestamp("1900-01-01"), max_value=pd.Timestamp("2100-01-01")) | st.integers(
    0, 30
).map(lambda hours: pd.Timestamp("1969-12-31 12:00:00") + pd.Timedelta(hours=hours))
times = (
    st.sampled_from([None, "garbage", "", "2024-02-30 10:00:00", "0000-01-01 00:00:00", "2024-01-01", 5, float("nan")])
    | some_moments.map(lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S"))
    | st.tuples(
        some_moments, st.sampled_from(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S.%f", "%d.%m.%Y"])
    ).map(lambda pair: pair[0].strftime(pair[1]))
    | some_moments.map(lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S+02:00"))
)
sessions = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from([None, "u1", "u2", ""]),
        "vehicle_id": st.sampled_from([None, 1, 2]),
        "charger_type": st.sampled_from([None, "", "  ", "Level 1", " Level 1", "Level 2", "level 2", "Rapid"]),
        "charging_start_time": times,
        "state_of_charge_start": anything,
        "distance_driven_km": anything,
        "temperature_c": anything,
        "charging_end_time": times,
        "energy_consumed_kwh": anything,
        "charging_duration_hours": anything,
        "user_type": st.sampled_from([None, "", " Commuter", "Student"]),
        "vehicle_model": st.sampled_from([None, " ", "Leaf"]),
        "battery_capacity_kwh": anything,
        "vehicle_age_years": anything,
    }
)


@settings(max_examples=EXAMPLES // 2)
@given(st.lists(sessions, min_size=1, max_size=15), st.randoms(use_true_random=False))
def test_any_tables_give_a_valid_frame_in_time_order(rows, random):
    numbered = [row | {"session_id": number} for number, row in enumerate(rows)]
    shuffled = random.sample(numbered, len(numbered))

    history = clean(*numbered)

    pd.testing.assert_frame_equal(history.frame, clean(*shuffled).frame)
    assert len(history.frame) + sum(history.dropped.rows.values()) == len(rows)
    assert history.frame["charger_type"].notna().all()
    assert history.frame["charging_start_time"].is_monotonic_increasing
    assert not (history.frame["charging_end_time"] < history.frame["charging_start_time"]).any()
    for feature in (*NUMBERS, *PAST_NUMBERS):
        values = history.frame[feature.name].to_numpy()
        assert values.dtype == np.float64
        assert (np.isnan(values) | feature.inside(values)).all()


@settings(max_examples=EXAMPLES // 2)
@given(st.lists(sessions, min_size=1, max_size=15))
def test_cleaning_a_clean_history_changes_nothing(rows):
    tables = raw(*rows)
    once = clean_history(tables).frame

    # The frame contains all facts about drivers and vehicles.
    again = clean_history(RawHistory(tables.users[:0], tables.vehicles[:0], once))

    pd.testing.assert_frame_equal(again.frame, once)
    assert again.dropped.rows == {}
    assert again.dropped.as_dict()["values"] == {}


# Past sessions: made from the frame in training, and row by row in serving.


def read(**values):
    return read_past_session(SESSION | values, ["Level 1", "Level 2"])


def test_a_raw_row_becomes_a_past_session():
    start = 1_704_103_200  # 2024-01-01 10:00:00

    assert read() == PastSession(start, 1, start + 2 * 3600, 11.0, 1.5, 40.0, 120.0)
    assert read(charger_type="Rapid").type_code == -1
    assert read(charging_start_time="1969-12-31 23:59:59.9").start == -1


@pytest.mark.parametrize(
    "values",
    [{"charger_type": " "}, {"charger_type": None}, {"charging_start_time": None}, {"charging_start_time": "x"}],
)
def test_a_raw_row_that_cannot_be_used_becomes_no_past_session(values):
    assert read(**values) is None


@pytest.mark.parametrize(
    ("values", "lasted", "hours"),
    [
        ({}, 7200, 1.5),
        # The end and the duration follow from each other.
        ({"charging_duration_hours": None}, 7200, 2.0),
        ({"charging_end_time": None}, 5400, 1.5),
        ({"charging_end_time": None, "charging_duration_hours": 0}, 0, 0.0),
        ({"charging_end_time": None, "charging_duration_hours": 0.9999}, 3600, 0.9999),
        # An end before the start, or with an offset, counts as missing.
        ({"charging_end_time": "2024-01-01 09:59:59"}, 5400, 1.5),
        ({"charging_end_time": "2024-01-01 12:00:00+01:00"}, 5400, 1.5),
        ({"charging_duration_hours": -1}, 7200, 2.0),
        ({"charging_end_time": None, "charging_duration_hours": None}, None, None),
        ({"charging_end_time": "2024-01-01 09:00:00", "charging_duration_hours": 9999}, None, None),
    ],
)
def test_the_end_and_the_duration_follow_from_each_other(values, lasted, hours):
    session = read(**values)

    assert session.end == (None if lasted is None else session.start + lasted)
    assert session.duration_hours == pytest.approx(float("nan") if hours is None else hours, nan_ok=True)
    (cleaned,) = past_sessions(clean(values).frame, ["Level 1", "Level 2"])
    assert repr(cleaned) == repr(session)


@settings(deadline=None)
@given(st.lists(sessions, min_size=1, max_size=15))
def test_rows_read_one_by_one_equal_the_cleaned_frame(rows):
    # Training cleans whole tables, and serving reads a few rows. Both give bit-identical past sessions.
    numbered = [SESSION | row | {"session_id": number} for number, row in enumerate(rows)]
    types = ["Level 1", "Level 2"]

    cleaned = past_sessions(clean(*numbered).frame, types)

    read_singly = [
        (session.start, row["session_id"], session)
        for row in numbered
        if (session := read_past_session({name: row[name] for name in PAST_COLUMNS}, types))
    ]
    assert [repr(session) for session in cleaned] == [
        repr(session) for *_, session in sorted(read_singly, key=lambda one: one[:2])
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2024-01-01 10:00:00", "2024-01-01 10:00:00"),
        ("2024-01-01T10:00", "2024-01-01 10:00:00"),
        ("2024-01-01 10:00:00.999999", "2024-01-01 10:00:00"),
        ("0001-01-01 00:00:00", "0001-01-01 00:00:00"),
        ("2024-01-01 10:00:00Z", None),
        ("2024-01-01 10:00:00-05:00", None),
        ("2024-01-01", None),
        (" 2024-01-01 10:00:00", None),
        ("2024-01-01 25:00:00", None),
        ("２０２４-01-01 10:00:00", None),
        (20240101, None),
        (None, None),
    ],
)
def test_a_wall_time_has_one_form(written, meant):
    assert read_wall_time(written) == (meant and pd.Timestamp(meant).to_pydatetime())


def test_the_mix_of_all_drivers_is_of_the_sessions_of_the_days_before():
    starts = ["2024-01-01 00:00:00", "2024-01-01 23:59:59", "2024-01-01 12:00:00", "2024-01-03 10:00:00"]
    used = np.array(["B", "B", "other", "A"], dtype=object)
    population = population_history(np.array(starts, dtype="datetime64[s]"), used, ("A", "B"))

    def mix(time):
        return population.mix(int(np.datetime64(time, "s").astype(np.int64)))

    assert mix("2024-01-01 23:59:59") == [1 / 2, 1 / 2]
    # Two sessions of B, plus one added session of each type. A type that is not learned does not count.
    assert mix("2024-01-02 00:00:00") == mix("2024-01-03 23:59:59") == [1 / 4, 3 / 4]
    assert mix("2024-01-04 00:00:00") == mix("2030-01-01 00:00:00") == [2 / 5, 3 / 5]


def test_the_mix_before_1970_is_of_the_days_before_too():
    used = np.array(["A"], dtype=object)
    population = population_history(np.array(["1969-12-31 12:00:00"], dtype="datetime64[us]"), used, ("A", "B"))

    assert population.mix(-1) == [1 / 2, 1 / 2]
    assert population.mix(0) == [2 / 3, 1 / 3]


def starts_of(texts):
    """Return the starts of sessions as cleaning reads them, NaT for sessions that it leaves out."""
    tables = raw(*[{"charging_start_time": text} for text in texts])
    sessions = tables.sessions.astype({"charging_start_time": "str"})
    frame = clean_history(RawHistory(tables.users, tables.vehicles, sessions)).frame.set_index("session_id")
    return frame["charging_start_time"].reindex(range(1, len(texts) + 1)).to_numpy()


@settings(max_examples=EXAMPLES // 3)
@given(
    st.lists(
        st.none()
        | st.from_regex(r"\A[0-9]{4}-[0-3][0-9]-[0-3][0-9][ T][0-2][0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]{1,9})?)?\n?\Z")
        | some_moments.map(str),
        max_size=30,
    )
)
def test_times_read_together_equal_times_read_one_by_one(texts):
    read_together = starts_of(texts)

    assert read_together.dtype == "datetime64[s]"
    one_by_one = np.array([read_wall_time(text) for text in texts], dtype="datetime64[s]")
    assert read_together.tolist() == one_by_one.tolist()


def test_every_day_of_the_calendar_is_read_and_no_impossible_day():
    texts = [
        f"{year}-{month:02}-{day:02} 23:59:59"
        for year in ("0000", "0999", "1900", "2000", "2023", "9999")
        for month in range(14)
        for day in range(33)
    ]

    read_together = starts_of(texts)

    assert read_together.tolist() == np.array([read_wall_time(text) for text in texts], dtype="datetime64[s]").tolist()
    assert (~np.isnat(read_together)).sum() == 365 * 5 + 1
