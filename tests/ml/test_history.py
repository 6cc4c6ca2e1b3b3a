"""Raw sessions, users and vehicles become one validated frame, and everything unusable is counted."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zap.ml.cells import PAST_COLUMNS, PAST_NUMBERS, read_past_session, read_wall_time
from zap.ml.features import FEATURES, NUMBERS
from zap.ml.history import RawHistory, _wall_times, clean_history, past_sessions, population_history
from zap.ml.user_history import PastSession

SESSION = {
    "session_id": 1,
    "user_id": "u1",
    "vehicle_id": 1,
    "charger_type": "Level 2",
    "charging_start_time": "2024-01-01 10:00:00",
    "state_of_charge_start": 40.0,
    "distance_driven_km": 120.0,
    "temperature_c": 15.0,
    "charging_end_time": "2024-01-01 12:00:00",
    "energy_consumed_kwh": 11.0,
    "charging_duration_hours": 1.5,
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
    assert set(history.frame) == {
        *("session_id", "user_id", "vehicle_id", "charger_type", "charging_end_time"),
        *(feature.name for feature in (*FEATURES, *PAST_NUMBERS)),
    }
    assert first["charging_end_time"] == pd.Timestamp("2024-01-01 12:00:00")
    assert (first["energy_consumed_kwh"], first["charging_duration_hours"]) == (11.0, 1.5)
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


def test_tables_without_what_is_known_after_a_session_are_a_history_too():
    tables = raw({})
    after = ["charging_end_time", "energy_consumed_kwh", "charging_duration_hours"]

    history = clean_history(RawHistory(tables.users, tables.vehicles, tables.sessions.drop(columns=after)))

    assert history.frame[after].isna().all(axis=None)
    assert history.dropped.as_dict() == {"rows": {}, "values": {}, "strangers": {}}


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


def test_the_owner_of_the_vehicle_says_what_kind_of_driver_it_is_but_not_whose_past():
    history = clean({"user_id": None}, {"user_id": " ", "vehicle_id": 99})

    assert history.frame["user_id"].isna().all()
    assert history.frame["user_type"].tolist()[:1] == ["Commuter"]
    assert history.frame["user_type"].isna().tolist() == [False, True]
    assert history.dropped.strangers == {
        "sessions without a user": 1,
        "sessions of a vehicle that Vehicles lacks": 1,
    }


def test_the_user_that_a_session_names_is_its_user_whoever_owns_the_vehicle():
    users = [*USERS, {"user_id": "u2", "user_type": "Casual Driver"}]

    frame = clean({"user_id": "u2", "vehicle_id": 1}, users=users).frame

    assert frame[["user_id", "user_type", "vehicle_model"]].iloc[0].tolist() == ["u2", "Casual Driver", "Leaf"]


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
    }
)


@settings(deadline=None, max_examples=60)
@given(st.lists(sessions, min_size=1, max_size=15), st.randoms(use_true_random=False))
def test_whatever_the_tables_hold_the_frame_is_valid_and_its_order_is_its_own(rows, random):
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


@settings(deadline=None, max_examples=60)
@given(st.lists(sessions, min_size=1, max_size=15))
def test_cleaning_a_clean_history_changes_nothing(rows):
    tables = raw(*rows)
    once = clean_history(tables).frame

    again = clean_history(RawHistory(tables.users, tables.vehicles, once))

    pd.testing.assert_frame_equal(again.frame, once)
    assert again.dropped.rows == {}
    assert again.dropped.as_dict()["values"] == {}


# The same sessions as they are remembered: from the frame in training, row by row in serving.


def read(**values):
    return read_past_session(SESSION | values, ["Level 1", "Level 2"])


def test_a_row_is_read_as_it_is_remembered():
    start = 1_704_103_200  # 2024-01-01 10:00:00

    assert read() == PastSession(start, 1, start + 2 * 3600, 11.0, 1.5, 40.0, 120.0)
    assert read(charger_type="Rapid").kind == -1
    assert read(charging_start_time="1969-12-31 23:59:59.9").start == -1


@pytest.mark.parametrize(
    "values",
    [{"charger_type": " "}, {"charger_type": None}, {"charging_start_time": None}, {"charging_start_time": "x"}],
)
def test_a_row_that_cannot_be_used_is_not_remembered(values):
    assert read(**values) is None


@pytest.mark.parametrize(
    ("values", "lasted", "hours"),
    [
        ({}, 7200, 1.5),
        # Each follows from the other.
        ({"charging_duration_hours": None}, 7200, 2.0),
        ({"charging_end_time": None}, 5400, 1.5),
        ({"charging_end_time": None, "charging_duration_hours": 0}, 0, 0.0),
        ({"charging_end_time": None, "charging_duration_hours": 0.9999}, 3600, 0.9999),
        # An end before the start, or with an offset, is none.
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
def test_rows_read_one_by_one_are_those_of_the_cleaned_frame(rows):
    """Training cleans whole tables, serving reads a few rows: what they remember is the same to the bit."""
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
    # Two of B, and one of each type that is always added; a type that is not learned from does not count.
    assert mix("2024-01-02 00:00:00") == mix("2024-01-03 23:59:59") == [1 / 4, 3 / 4]
    assert mix("2024-01-04 00:00:00") == mix("2030-01-01 00:00:00") == [2 / 5, 3 / 5]


def test_the_mix_before_1970_is_of_the_days_before_too():
    used = np.array(["A"], dtype=object)
    population = population_history(np.array(["1969-12-31 12:00:00"], dtype="datetime64[us]"), used, ("A", "B"))

    assert population.mix(-1) == [1 / 2, 1 / 2]
    assert population.mix(0) == [2 / 3, 1 / 3]


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.none()
        | st.from_regex(r"\A[0-9]{4}-[0-3][0-9]-[0-3][0-9][ T][0-2][0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]{1,9})?)?\n?\Z")
        | some_moments.map(str),
        max_size=30,
    )
)
def test_times_that_are_read_together_are_those_that_are_read_one_by_one(texts):
    read_together = _wall_times(pd.Series(texts, dtype="str")).to_numpy()

    assert read_together.dtype == "datetime64[s]"
    one_by_one = np.array([read_wall_time(text) for text in texts], dtype="datetime64[s]")
    assert read_together.tolist() == one_by_one.tolist()


def test_every_day_of_the_calendar_is_read_and_no_other():
    texts = [
        f"{year}-{month:02}-{day:02} 23:59:59"
        for year in ("0000", "0999", "1900", "2000", "2023", "9999")
        for month in range(14)
        for day in range(33)
    ]

    read_together = _wall_times(pd.Series(texts, dtype="str")).to_numpy()

    assert read_together.tolist() == np.array([read_wall_time(text) for text in texts], dtype="datetime64[s]").tolist()
    assert (~np.isnat(read_together)).sum() == 365 * 5 + 1
