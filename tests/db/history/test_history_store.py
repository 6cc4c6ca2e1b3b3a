import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from conftest import EXAMPLES
from histories import NO_USERS, NO_VEHICLES, table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, make_url, select

from zap.db.engine import create_engine, write_transaction
from zap.db.history import history_store, session_upsert
from zap.db.history.history_rows import FACTS, SESSION_FACTS, SESSIONS, USERS, VEHICLES, has_history
from zap.db.history.history_store import Count, HistoryCounts, read_history, upsert_history
from zap.db.history.session_ids import TEXT_IDS
from zap.db.schema import upgrade
from zap.errors import BadHistoryFile
from zap.formats.history_ids import mixed_ids

at = datetime.fromisoformat


def sessions(*rows, columns=("user_id", "charging_start_time", "charging_station_id", "charger_type")):
    return table(*rows, columns=columns)


def store(engine, given_sessions, users=NO_USERS, vehicles=NO_VEHICLES, **options):
    return upsert_history(engine, users, vehicles, given_sessions, **options)


def rows_of(engine, table, *names):
    columns = [table.c[name] for name in names]
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(*columns).order_by(*table.primary_key.columns))]


ONE = sessions(("U", "2024-01-01 10:00", "S1", "Level 1"))


def test_it_works(engine):
    """Store a user, a vehicle and a session that refers to the vehicle."""
    counts = upsert_history(
        engine,
        table(("U", "Commuter"), columns=("user_id", "user_type")),
        table(
            ("U", "Leaf", 40.0, 2.0),
            columns=("user_id", "vehicle_model", "battery_capacity_kwh", "vehicle_age_years"),
        ),
        table(
            ("U", "Leaf", "2024-01-01 10:00", "2024-01-01 11:00", "Level 1", 12.5),
            columns=(
                "user_id",
                "vehicle_model",
                "charging_start_time",
                "charging_end_time",
                "charger_type",
                "energy_consumed_kwh",
            ),
        ),
    )

    assert counts == HistoryCounts(Count(added=1), Count(added=1), Count(added=1))
    assert rows_of(engine, USERS, "user_id", "user_type") == [("U", "Commuter")]
    assert rows_of(engine, VEHICLES, "vehicle_id", "battery_capacity_kwh", "vehicle_age_years") == [(1, 40.0, 2.0)]
    assert rows_of(
        engine,
        SESSIONS,
        "session_id",
        "vehicle_id",
        "charging_start_time",
        "charging_end_time",
        "energy_consumed_kwh",
    ) == [(-1, 1, at("2024-01-01 10:00"), at("2024-01-01 11:00"), 12.5)]


def test_has_history(engine):
    assert not has_history(engine)

    store(engine, ONE)

    assert has_history(engine)


def test_the_same_again_is_unchanged(engine):
    store(engine, ONE)

    assert store(engine, ONE).sessions == Count(unchanged=1)


def test_a_changed_value_is_updated(engine):
    store(engine, ONE)

    counts = store(engine, ONE.assign(charger_type="Level 2"))

    assert counts.sessions == Count(updated=1)
    assert rows_of(engine, SESSIONS, "session_id", "charger_type") == [(-1, "Level 2")]


def test_a_missing_value_erases_nothing(engine):
    store(engine, ONE.assign(energy_consumed_kwh=5.0, charging_station_location="Dundee"))

    counts = store(engine, ONE.assign(energy_consumed_kwh=float("nan"), charging_station_location=None))

    assert counts.sessions == Count(unchanged=1)
    assert rows_of(engine, SESSIONS, "energy_consumed_kwh", "charging_station_location") == [(5.0, "Dundee")]


@pytest.mark.parametrize(
    "key", [("V", "2024-01-01 10:00", "S1"), ("U", "2024-01-01 10:01", "S1"), ("U", "2024-01-01 10:00", "S2")]
)
def test_user_start_and_station_together_are_the_key(engine, key):
    store(engine, ONE)

    assert store(engine, sessions((*key, "Level 1"))).sessions == Count(added=1)


@pytest.mark.parametrize(
    "key",
    [(None, "2024-01-01 10:00", "S1"), ("U", "2024-01-01 10:00", None), (None, "2024-01-01 10:00", None)],
)
def test_a_session_with_missing_parts_of_its_key_is_found_again(engine, key):
    # NULL equals nothing in SQL. Here a missing part of a key equals a missing part.
    row = sessions((*key, "Level 1"))
    store(engine, row)

    assert store(engine, row).sessions == Count(unchanged=1)


def test_a_missing_station_is_another_key_than_any_station(engine):
    store(engine, ONE)

    assert store(engine, ONE.assign(charging_station_id=None)).sessions == Count(added=1)


def test_of_rows_with_one_id_the_later_holds_value_by_value(engine):
    both = pd.concat(
        [ONE.assign(energy_consumed_kwh=5.0, temperature_c=1.0), ONE.assign(energy_consumed_kwh=6.0)],
        ignore_index=True,
    ).assign(session_id=7)

    assert store(engine, both).sessions == Count(added=1, repeated=1)
    assert rows_of(engine, SESSIONS, "energy_consumed_kwh", "temperature_c") == [(6.0, 1.0)]


def test_a_session_id_is_the_key_where_there_is_one(engine):
    # The session_id decides even if the stored session has another user or another start.
    store(engine, ONE.assign(session_id=7))

    assert store(engine, ONE.assign(session_id=7, user_id="V")).sessions == Count(updated=1)
    later = sessions(("V", "2024-02-02 12:00", "S1", "Level 1")).assign(session_id=7)
    assert store(engine, later).sessions == Count(updated=1)
    assert rows_of(engine, SESSIONS, "session_id", "user_id", "charging_start_time") == [
        (7, "V", at("2024-02-02 12:00"))
    ]


def test_sessions_with_different_ids_may_agree_in_all_else(engine):
    twins = pd.concat([ONE, ONE], ignore_index=True).assign(session_id=[1, 2])

    assert store(engine, twins).sessions == Count(added=2)
    assert store(engine, twins).sessions == Count(unchanged=2)


def test_of_twins_without_id_the_first_is_completed(engine):
    store(engine, pd.concat([ONE, ONE], ignore_index=True).assign(session_id=[4, 3]))

    store(engine, ONE.assign(temperature_c=5.0))

    assert rows_of(engine, SESSIONS, "session_id", "temperature_c") == [(3, 5.0), (4, None)]


def test_sessions_without_ids_take_none_that_the_app_may_use(engine):
    # The app chooses numbers from 0 up, and it may report an old session after a new one.
    store(engine, ONE.assign(session_id=41))
    days = sessions(*(("U", f"2024-01-0{day} 10:00", "S1", "Level 1") for day in (3, 2)))

    assert store(engine, days).sessions == Count(added=2)
    assert store(engine, days.assign(charging_station_id="S2")).sessions == Count(added=2)
    # The numbers of one import are in order of time.
    assert rows_of(engine, SESSIONS, "session_id", "charging_start_time") == [
        (-4, at("2024-01-02 10:00")),
        (-3, at("2024-01-03 10:00")),
        (-2, at("2024-01-02 10:00")),
        (-1, at("2024-01-03 10:00")),
        (41, at("2024-01-01 10:00")),
    ]
    with engine.begin() as connection:
        connection.execute(insert(SESSIONS), {"user_id": "by another program"})
    assert rows_of(engine, SESSIONS, "session_id")[-1] == (42,)


def test_ids_are_in_order_across_chunks_and_only_new_sessions_take_them(engine, monkeypatch):
    monkeypatch.setattr(session_upsert, "CHUNK", 2)
    days = sessions(*(("U", f"2024-01-0{day} 10:00", "S1", "A") for day in range(1, 8)))
    store(engine, days[1:2])

    assert store(engine, days[::-1]).sessions == Count(added=6, unchanged=1)
    starts = [start.day for _, start in rows_of(engine, SESSIONS, "session_id", "charging_start_time")]
    assert starts == [1, 3, 4, 5, 6, 7, 2]


def test_what_a_removed_session_left_is_not_that_of_a_new_one(engine):
    store(engine, ONE.assign(user_type="Commuter"))
    with engine.begin() as connection:
        connection.execute(delete(SESSIONS))

    store(engine, ONE)

    assert rows_of(engine, SESSIONS, "session_id") == [(-2,)]
    assert kept(engine) == {-1: ("Commuter", None, None, None)}


def test_rows_with_and_without_id_may_come_together(engine):
    mixed = sessions(("U", "2024-01-02 10:00", "S1", "Level 1"), ("U", "2024-01-01 10:00", "S1", "Level 1")).assign(
        session_id=pd.array([None, 5], dtype="Int64")
    )

    assert store(engine, mixed).sessions == Count(added=2)
    assert store(engine, mixed).sessions == Count(unchanged=2)
    assert rows_of(engine, SESSIONS, "session_id") == [(-1,), (5,)]


# Ids that belong to other sessions, and ids that are texts.


def test_rows_with_the_id_of_another_session_are_refused(engine):
    store(engine, ONE.assign(session_id=7))
    before = rows_of(engine, SESSIONS, *SESSIONS.columns.keys())

    for row in (
        ("V", "2024-02-02 12:00", "S1", "Level 1"),
        # Nobody knows whether an unknown user is the same user.
        (None, "2024-02-02 12:00", "S1", "Level 1"),
    ):
        with pytest.raises(BadHistoryFile, match="session_id 7 is stored with the user U and the start 2024-01-01 10"):
            store(engine, sessions(row).assign(session_id=7))

    assert rows_of(engine, SESSIONS, *SESSIONS.columns.keys()) == before
    assert rows_of(engine, USERS, "user_id") == []


def test_a_session_of_nobody_is_not_that_of_the_same_id_with_another_start(engine):
    store(engine, ONE.assign(session_id=7, user_id=None))

    for user in ("U", None):
        with pytest.raises(BadHistoryFile, match="is stored with no user"):
            store(engine, sessions((user, "2024-02-02 12:00", "S1", "Level 1")).assign(session_id=7))
    assert store(engine, ONE.assign(session_id=7)).sessions == Count(updated=1)


def test_a_stored_session_without_user_and_start_takes_any(engine):
    with engine.begin() as connection:
        connection.execute(insert(SESSIONS), {"session_id": 7, "charger_type": "Level 1"})

    assert store(engine, ONE.assign(session_id=7)).sessions == Count(updated=1)


def test_texts_are_ids(engine):
    texts = sessions(*(("U", f"2024-01-0{day} 10:00", "S1", "A") for day in (2, 1, 3))).assign(
        session_text=["b", "a", None]
    )

    assert store(engine, texts).sessions == Count(added=3)
    assert store(engine, texts).sessions == Count(unchanged=3)
    assert store(engine, texts[:1].assign(charger_type="B")).sessions == Count(updated=1)
    assert rows_of(engine, TEXT_IDS, "text_id", "session_id") == [("a", -2), ("b", -1)]
    assert rows_of(engine, SESSIONS, "session_id", "charger_type") == [(-3, "A"), (-2, "A"), (-1, "B")]
    with pytest.raises(BadHistoryFile, match="session_id a is stored with the user U"):
        store(engine, texts[:1].assign(user_id="V", session_text="a"))


def test_a_text_whose_session_was_removed_keeps_its_number(engine):
    one = ONE.assign(session_text="a", user_type="Commuter")
    store(engine, one)
    with engine.begin() as connection:
        connection.execute(delete(SESSIONS))
    store(engine, ONE.assign(user_id="V"))

    assert store(engine, one.drop(columns="user_type")).sessions == Count(added=1)
    assert rows_of(engine, SESSIONS, "session_id", "user_id") == [(-2, "V"), (-1, "U")]
    assert kept(engine) == {}


def test_a_vehicle_is_a_user_and_a_model(engine):
    vehicles = table(
        ("U", "Leaf", 40.0),
        ("U", "Zoe", 52.0),
        ("V", "Leaf", 62.0),
        columns=("user_id", "vehicle_model", "battery_capacity_kwh"),
    )
    trips = ONE.assign(vehicle_model="Zoe")
    store(engine, trips, vehicles=vehicles)

    counts = store(engine, trips, vehicles=vehicles.assign(battery_capacity_kwh=[40.0, 55.0, 62.0]))

    assert counts.vehicles == Count(updated=1, unchanged=2)
    assert rows_of(engine, VEHICLES, "vehicle_id", "battery_capacity_kwh") == [
        (1, 40.0),
        (2, 55.0),
        (3, 62.0),
    ]
    assert rows_of(engine, SESSIONS, "vehicle_id") == [(2,)]


def test_a_vehicle_without_model_is_found_again(engine):
    vehicle = table(("U", None, 40.0), columns=("user_id", "vehicle_model", "battery_capacity_kwh"))
    store(engine, ONE, vehicles=vehicle)

    counts = store(engine, ONE, vehicles=vehicle)

    assert counts.vehicles == Count(unchanged=1)
    assert rows_of(engine, SESSIONS, "vehicle_id") == [(1,)]


def test_a_session_of_an_unknown_vehicle_has_none(engine):
    store(engine, ONE.assign(vehicle_model="Leaf"))

    assert rows_of(engine, SESSIONS, "vehicle_id") == [(None,)]


def test_a_vehicle_that_is_not_told_again_stays(engine):
    vehicle = table(("U", "Leaf"), columns=("user_id", "vehicle_model"))
    store(engine, ONE.assign(vehicle_model="Leaf"), vehicles=vehicle)

    assert store(engine, ONE).sessions == Count(unchanged=1)
    assert rows_of(engine, SESSIONS, "vehicle_id") == [(1,)]


def test_a_new_user_type_is_updated(engine):
    users = table(("U", "Commuter"), ("V", None), columns=("user_id", "user_type"))
    store(engine, ONE, users=users)

    counts = store(engine, ONE, users=users.assign(user_type=[None, "Casual"]))

    assert counts.users == Count(updated=1, unchanged=1)
    assert rows_of(engine, USERS, "user_id", "user_type") == [("U", "Commuter"), ("V", "Casual")]


# What a session keeps of its driver and its vehicle.


def kept(engine):
    return {session: tuple(facts) for session, *facts in rows_of(engine, SESSION_FACTS, "session_id", *FACTS)}


def test_a_session_keeps_what_is_told_of_its_driver_and_vehicle(engine):
    days = [f"2024-01-0{day} 10:00" for day in (3, 1, 2)]
    told = sessions(*(("U", day, "S1", "Level 1") for day in days)).assign(
        user_type=["C", "A", None], vehicle_age_years=[0.3, 0.1, None]
    )
    store(engine, told)

    # Its id is of its place in time, and one of which nothing is told keeps nothing.
    assert kept(engine) == {-3: ("A", None, None, 0.1), -1: ("C", None, None, 0.3)}
    read = read_history(engine).sessions.sort_values("session_id")
    assert read["user_type"].astype(object).fillna("").tolist() == ["A", "", "C"]
    assert read["vehicle_age_years"].tolist() == pytest.approx([0.1, np.nan, 0.3], nan_ok=True)


def test_sessions_with_and_without_id_keep_their_own(engine):
    mixed = sessions(
        ("U", "2024-01-02 10:00", "S1", "A"), ("U", "2024-01-01 10:00", "S1", "A"), ("U", "2024-01-03 10:00", "S1", "A")
    ).assign(session_id=pd.array([None, 5, None], dtype="Int64"), user_type=["two", "one", "three"])

    store(engine, mixed)
    assert store(engine, mixed).sessions == Count(unchanged=3)
    later = mixed.iloc[:1].assign(charging_start_time=pd.Timestamp("2024-01-09"), user_type="nine")
    assert store(engine, later).sessions == Count(added=1)

    assert {session: facts[0] for session, facts in kept(engine).items()} == {
        5: "one",
        -2: "two",
        -1: "three",
        -3: "nine",
    }


def test_a_session_that_turns_out_to_be_of_another_loses_what_it_kept_of_the_first(engine):
    named = ONE.assign(session_id=7, user_type="Commuter", vehicle_age_years=2.0)
    store(engine, named)

    store(engine, ONE.assign(session_id=7, temperature_c=3.0))
    assert kept(engine) == {7: ("Commuter", None, None, 2.0)}
    assert store(engine, ONE.assign(session_id=7, user_id="V", vehicle_age_years=5.0)).sessions == Count(updated=1)
    assert kept(engine) == {7: (None, None, None, 5.0)}


def test_what_a_removed_session_kept_is_not_that_of_a_new_one_with_its_id(engine):
    store(engine, ONE.assign(session_id=7, user_type="Commuter"))
    with engine.begin() as connection:
        connection.execute(delete(SESSIONS))

    store(engine, ONE.assign(session_id=7))

    assert kept(engine) == {}


def test_ids_that_others_give_meanwhile_are_in_nobodys_way(engine):
    with engine.begin() as connection:
        connection.execute(insert(SESSIONS), [{"user_id": "V"}, {"user_id": "V"}])
    store(engine, ONE.assign(user_type="A"))
    with engine.begin() as connection:
        connection.execute(insert(SESSIONS), {"user_id": "V"})

    assert rows_of(engine, SESSIONS, "session_id") == [(-1,), (1,), (2,), (3,)]
    assert list(kept(engine)) == [-1]


def test_all_or_nothing(engine):
    # The sessions contain a text that the database refuses, so no user is stored either.
    users = table(("U", "Commuter"), columns=("user_id", "user_type"))

    with pytest.raises(Exception, match="no_such_column"):
        store(engine, ONE.assign(no_such_column=1.0), users=users)

    assert rows_of(engine, USERS, "user_id") == []


def test_two_imports_at_a_time_add_each_session_once(engine):
    day = sessions(*(("U", "2024-01-01 10:00", f"S{number}", "A") for number in range(2_000)))

    with ThreadPoolExecutor() as threads:
        counts = list(threads.map(lambda _: store(engine, day).sessions, range(3)))

    assert sorted(count.added for count in counts) == [0, 0, 2_000]


def test_progress_reaches_the_end_of_each_table(engine):
    seen = []

    store(
        engine,
        sessions(*(("U", "2024-01-01 10:00", f"S{number}", "A") for number in range(10_001))),
        users=table(("U",), columns=("user_id",)),
        progress=lambda *step: seen.append(step),
    )

    assert seen == [
        ("users", 1, 1),
        ("sessions", 10_000, 10_001),
        ("sessions", 10_001, 10_001),
    ]


def test_reading_gives_the_three_tables(engine):
    upsert_history(
        engine,
        table(("U", "Commuter"), columns=("user_id", "user_type")),
        table(("U", "Leaf", 40.0), columns=("user_id", "vehicle_model", "battery_capacity_kwh")),
        ONE.assign(vehicle_model="Leaf", temperature_c=-3.5),
    )

    raw = read_history(engine)

    assert raw.users.to_dict("records") == [{"user_id": "U", "user_type": "Commuter"}]
    (vehicle,) = raw.vehicles.to_dict("records")
    assert (vehicle["vehicle_id"], vehicle["battery_capacity_kwh"]) == ("1", 40.0)
    (session,) = raw.sessions.to_dict("records")
    assert session["charging_start_time"] == "2024-01-01 10:00:00"
    assert (session["session_id"], session["vehicle_id"], session["temperature_c"]) == (-1, "1", -3.5)


def test_reading_an_empty_history_gives_empty_frames(engine):
    raw = read_history(engine)

    assert (len(raw.users), len(raw.vehicles), len(raw.sessions)) == (0, 0, 0)
    assert "charging_start_time" in raw.sessions


@pytest.mark.parametrize("encoding", ["utf8", "latin1"])
def test_texts_are_read_whatever_the_connection_talks_in_and_however_long(empty_postgresql_url, encoding):
    user = {"user_id": "José", "user_type": "x" * 3_000_000}
    upgrade(empty_postgresql_url)
    engine = create_engine(make_url(empty_postgresql_url).update_query_dict({"client_encoding": encoding}))
    with engine.begin() as connection:
        connection.execute(insert(USERS), user)

    users = read_history(engine).users

    engine.dispose()
    assert users.to_dict("records") == [user]


def test_reading_sees_one_moment(engine, database_url, monkeypatch):
    # A session that is committed while the users are read is in none of the three frames.
    other = create_engine(database_url)

    read = history_store._read

    def _write_after_users(connection, table, names):
        frame = read(connection, table, names)
        if table is USERS:
            store(other, ONE)
        return frame

    monkeypatch.setattr(history_store, "_read", _write_after_users)
    raw = read_history(engine)

    assert len(raw.sessions) == 0
    assert has_history(other)
    other.dispose()


def test_both_engines_give_the_same_columns(engine):
    # The texts contain every character that COPY or CSV treats specially; the numbers have any size, and some are
    # missing.
    texts = ["U", "", " ", 'a "b", c', "line\nline\r\nline", "NULL", "nan", "\\N", "\t", "é漢😀", "true", "12"]
    numbers = [0.1, 1e-300, -0.0, 1.7976931348623157e308, 123456789.123456789, 5e-324, 3.0]
    rows = [
        {
            "session_id": number + 1,
            "user_id": text,
            "vehicle_id": None if number % 3 else 2**63 - 1 - number,
            "charger_type": None if number % 5 == 4 else text,
            "charging_start_time": at("2024-01-01 10:00"),
            "temperature_c": None if number % 4 == 3 else numbers[number % len(numbers)],
        }
        for number, text in enumerate([*texts, None])
    ]
    with write_transaction(engine) as connection:
        connection.execute(insert(SESSIONS), rows)

    found = read_history(engine).sessions.sort_values("session_id", ignore_index=True)

    assert (found["session_id"].dtype, found["user_id"].dtype, found["temperature_c"].dtype) == ("int64", "str", float)
    for name in ("user_id", "charger_type", "vehicle_id"):
        expected = [row[name] if name != "vehicle_id" or row[name] is None else str(row[name]) for row in rows]
        assert found[name].astype(object).where(found[name].notna(), None).tolist() == expected
    numbers = [float("nan") if row["temperature_c"] is None else row["temperature_c"] + 0.0 for row in rows]
    assert list(map(repr, found["temperature_c"] + 0.0)) == list(map(repr, numbers))
    assert set(found["charging_start_time"]) == {"2024-01-01 10:00:00"}


@pytest.mark.parametrize("rows_at_a_time", [3, 10_000])
def test_cells_of_several_kinds_are_kept_as_they_were_found(legacy, monkeypatch, rows_at_a_time):
    # A column may mix texts, numbers, BLOBs and bytes that are not UTF-8, in some rows or in all rows.
    monkeypatch.setattr(history_store, "_ROWS_AT_A_TIME", rows_at_a_time)
    with legacy.begin() as connection:
        connection.execute(delete(SESSIONS))
    users = ["U", b"\x01\xff", None, "V", "W", "X", "Y"]
    temperatures = [1.5, 2.5, None, "warm", b"\xff", 2.0**62, 7.0]
    vehicles = [2**63 - 1, None, "abc", 3.5, 1, 2, 3]
    with write_transaction(legacy) as connection:
        connection.exec_driver_sql(
            'INSERT INTO "ChargingSessions" (user_id, temperature_c, vehicle_id) VALUES (?, ?, ?)',
            list(zip(users, temperatures, vehicles, strict=True)),
        )
        connection.exec_driver_sql("UPDATE \"ChargingSessions\" SET charger_type = CAST(x'4cff' AS TEXT)")

    found = read_history(legacy).sessions.astype(object)

    assert found["user_id"].where(found["user_id"].notna(), None).tolist() == users
    assert found["temperature_c"].where(found["temperature_c"].notna(), None).tolist() == temperatures
    assert found["vehicle_id"].where(found["vehicle_id"].notna(), None).tolist() == [
        None if one is None else str(one) for one in vehicles
    ]
    assert set(found["charger_type"]) == {"L\\xff"}
    # The connection reads texts as it did before.
    assert rows_of(legacy, SESSIONS, "charger_type")[0] == ("L\\xff",)


@pytest.fixture
def legacy(tmp_path):
    """A SQLite database whose cells hold what no engine would let in today."""
    url = f"sqlite:///{tmp_path / 'legacy.sqlite'}"
    upgrade(url)
    with sqlite3.connect(make_url(url).database) as connection:
        connection.executemany(
            'INSERT INTO "ChargingSessions" (charging_start_time, user_id, charging_end_time,'
            " energy_consumed_kwh, charging_station_id, charger_type) VALUES (?, 'U', 'noon', 'lots', 'S1', 'Level 1')",
            [("yesterday",), ("2024-01-01 10:00:00",)],
        )
    connection.close()
    engine = create_engine(url)
    yield engine
    engine.dispose()


def test_what_cannot_be_read_comes_through_as_it_is(legacy):
    raw = read_history(legacy)

    assert raw.sessions["charging_start_time"].tolist() == ["yesterday", "2024-01-01 10:00:00"]
    assert raw.sessions["energy_consumed_kwh"].tolist() == ["lots", "lots"]


def test_garbage_is_kept_until_a_value_replaces_it(legacy):
    assert store(legacy, ONE).sessions == Count(unchanged=1)

    counts = store(legacy, ONE.assign(energy_consumed_kwh=5.0, charging_end_time=pd.Timestamp("2024-01-01 11:00")))

    assert counts.sessions == Count(updated=1)
    assert read_history(legacy).sessions["energy_consumed_kwh"].tolist() == ["lots", 5.0]


some = st.sampled_from
made_sessions = st.lists(
    st.tuples(
        some([None, "U", "V"]),
        some(["2024-01-01 10:00:00", "2024-01-01 10:00:01", "2023-01-01 10:00:00"]),
        some([None, "S1", "S2"]),
        some(["Level 1", "Level 2"]),
        some([None, 1, 2, 3]),
        some([None, "Leaf", "Zoe"]),
        some([None, 1.0, 2.0]),
    ),
    max_size=12,
)


def _frames(rows):
    names = (
        "user_id",
        "charging_start_time",
        "charging_station_id",
        "charger_type",
        "session_id",
        "vehicle_model",
        "energy_consumed_kwh",
    )
    made = table(*rows, columns=names).astype({"session_id": "Int64", "energy_consumed_kwh": "float64"})
    # As in a file that is read.
    made = made.drop(index=list(mixed_ids(made, np.arange(len(made)))))
    owned = made[made["user_id"].notna()]
    return owned[["user_id"]].drop_duplicates(), owned[["user_id", "vehicle_model"]].drop_duplicates(), made


def _empty(engine):
    with engine.begin() as connection:
        for table in (SESSIONS, VEHICLES, USERS):
            connection.execute(delete(table))


def _without_ids(engine):
    """The stored sessions, without the ids that the database chose."""
    names = [column.name for column in SESSIONS.columns if column.name not in {"session_id", "vehicle_id"}]
    return sorted(map(repr, rows_of(engine, SESSIONS, *names)))


examples = settings(max_examples=EXAMPLES // 6, suppress_health_check=[HealthCheck.function_scoped_fixture])


@examples
@given(rows=made_sessions)
def test_importing_twice_adds_and_changes_nothing(engine, rows):
    _empty(engine)
    upsert_history(engine, *_frames(rows))
    before = rows_of(engine, SESSIONS, *SESSIONS.columns.keys())

    counts = upsert_history(engine, *_frames(rows))

    assert (counts.users.added, counts.vehicles.added, counts.sessions.added) == (0, 0, 0)
    assert rows_of(engine, SESSIONS, *SESSIONS.columns.keys()) == before


@examples
@given(rows=made_sessions, data=st.data())
def test_the_order_of_rows_decides_nothing(engine, rows, data):
    # This holds as long as each key appears once.
    rows = list({(row[:3], row[4]): row for row in rows}.values())
    by_id = {row[4]: row for row in rows if row[4] is not None}
    rows = [row for row in rows if row[4] is None and all(row[:3] != other[:3] for other in by_id.values())]
    rows += by_id.values()
    _empty(engine)
    upsert_history(engine, *_frames(rows))
    ordered = _without_ids(engine)
    _empty(engine)

    upsert_history(engine, *_frames(data.draw(st.permutations(rows))))

    assert _without_ids(engine) == ordered


@examples
@given(rows=made_sessions)
def test_no_row_is_lost(engine, rows):
    # Each row is added, updates a session, is unchanged, or repeats another row. Every key is found afterwards.
    _empty(engine)
    frames = _frames(rows)

    counts = upsert_history(engine, *frames).sessions

    assert counts.added + counts.updated + counts.unchanged + counts.repeated == len(frames[-1])
    assert len(rows_of(engine, SESSIONS, "session_id")) == counts.added


def test_a_start_stored_by_others_is_found(engine):
    # Another tool wrote this row beside zap.
    with engine.begin() as connection:
        connection.execute(
            insert(SESSIONS).values(user_id="U", charging_start_time=at("2024-01-01 10:00"), charging_station_id="S1")
        )

    assert store(engine, ONE).sessions == Count(updated=1)
