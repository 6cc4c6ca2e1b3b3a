"""Reports of sessions: in the history whole or not at all, and the same again changes nothing."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import histories
import psycopg
import pytest
from histories import END, NO_SESSIONS, NO_USERS, NO_VEHICLES, table
from sqlalchemy import delete, event, insert, select, text, update
from sqlalchemy.exc import OperationalError

from zap.db.engine import create_engine, write_transaction
from zap.db.history.history_rows import FACTS, SESSION_FACTS, SESSIONS, USERS, VEHICLES, take_turn
from zap.db.history.history_store import read_history, upsert_history
from zap.db.history.session_ids import TEXT_IDS
from zap.db.history.session_reports import ReportedSessions, report_sessions
from zap.db.schema import upgrade
from zap.errors import InvalidRequest, SessionTaken
from zap.formats.session_report import parse_report
from zap.ml.history import clean_history
from zap.settings import Settings

at = datetime.fromisoformat
START = histories.START | {"state_of_charge_start": 30}
# When the reports come in.
NOW = datetime.fromisoformat("2026-03-02T21:00:00")


def report(engine, *sessions):
    """What becomes of sessions, each a dict of fields, after a journey through JSON."""
    document = sessions[0] if len(sessions) == 1 else list(sessions)
    wall_time = Settings(timezone="Europe/London").wall_time
    return report_sessions(engine, parse_report(json.dumps(document).encode(), wall_time), NOW)


def errors(engine, *sessions):
    before = stored(engine)
    with pytest.raises(InvalidRequest) as caught:
        report(engine, *sessions)
    assert stored(engine) == before
    return {error["pointer"]: error["detail"] for error in caught.value.details["errors"]}


def stored(engine):
    """The sessions by their ids, without what is not known and without the time of the first report."""
    hidden = {"session_id", "timestamp"}
    with engine.connect() as connection:
        rows = connection.execute(select(SESSIONS).order_by(SESSIONS.c.session_id)).mappings().all()
    return {
        row["session_id"]: {name: value for name, value in row.items() if value is not None and name not in hidden}
        for row in rows
    }


def test_it_works(engine):
    """Report the start and then the end of a session."""
    started = report(engine, START)
    ended = report(engine, END)

    assert started == ReportedSessions(1, 0, 0, frozenset({"U"}))
    assert ended == ReportedSessions(0, 1, 0, frozenset({"U"}))
    assert stored(engine) == {
        7: {
            "user_id": "U",
            "charger_type": "Level 2",
            "charging_start_time": at("2026-03-02 18:30"),
            "charging_end_time": at("2026-03-02 20:00"),
            "state_of_charge_start": 30.0,
            "energy_consumed_kwh": 24.5,
        }
    }


# What a session keeps of its driver and its vehicle.


@pytest.fixture
def known(engine):
    """A driver with a vehicle, and one with two."""
    upsert_history(
        engine,
        table(("U", "Commuter"), ("V", None), columns=("user_id", "user_type")),
        table(
            ("U", "Leaf", 40.0, 2.0),
            ("V", "Leaf", 40.0, 7.0),
            ("V", "Kona", None, 1.0),
            columns=("user_id", "vehicle_model", "battery_capacity_kwh", "vehicle_age_years"),
        ),
        NO_SESSIONS,
    )
    return engine


def kept(engine):
    """Return the stored facts of each session that has facts."""
    with engine.connect() as connection:
        rows = connection.execute(select(SESSION_FACTS).order_by(SESSION_FACTS.c.session_id)).mappings().all()
    facts = {row["session_id"]: {name: row[name] for name in FACTS if row[name] is not None} for row in rows}
    return {session: known for session, known in facts.items() if known}


OF_U = {"user_type": "Commuter", "vehicle_model": "Leaf", "battery_capacity_kwh": 40.0, "vehicle_age_years": 2.0}


def test_a_session_keeps_what_is_known_of_its_driver_and_vehicle_when_it_is_added(known):
    report(known, START)
    with known.begin() as connection:
        connection.execute(update(USERS).values(user_type="Casual"))
        connection.execute(update(VEHICLES).values(vehicle_age_years=9))
        connection.execute(insert(VEHICLES), {"user_id": "U", "vehicle_model": "Kona", "vehicle_age_years": 0})
    report(known, END)
    report(known, START | {"session_id": 8})

    # Now there are two vehicles, and the report does not name one.
    assert kept(known) == {7: OF_U, 8: {"user_type": "Casual"}}
    history = clean_history(read_history(known))
    assert history.frame[list(OF_U)].iloc[0].to_dict() == OF_U
    assert history.dropped.undated == {}


def test_what_is_kept_is_of_the_vehicle_that_is_named_and_else_of_the_only_one(known):
    report(
        known,
        START,
        START | {"session_id": 8, "user_id": "V", "vehicle_id": 3},
        START | {"session_id": 9, "user_id": "V"},
        START | {"session_id": 10, "user_id": "unknown"},
        START | {"session_id": 11, "vehicle_id": 99},
    )

    assert kept(known) == {
        7: OF_U,
        8: {"vehicle_model": "Kona", "vehicle_age_years": 1.0},
        11: {"user_type": "Commuter"},
    }


def test_a_session_whose_driver_is_corrected_keeps_nothing_of_the_first(known):
    report(known, START)

    report(known, {"session_id": 7, "user_id": "V", "vehicle_id": 2})

    assert kept(known) == {7: {"vehicle_model": "Leaf", "battery_capacity_kwh": 40.0, "vehicle_age_years": 7.0}}


def test_a_session_whose_vehicle_is_named_later_keeps_what_is_known_of_that_vehicle(known):
    # The first report names no vehicle, so the driver's only vehicle was taken.
    report(known, START)
    with known.begin() as connection:
        connection.execute(
            insert(VEHICLES), {"vehicle_id": 50, "user_id": "U", "vehicle_model": "New", "battery_capacity_kwh": 80}
        )

    report(known, {"session_id": 7, "vehicle_id": 50})

    assert kept(known) == {7: {"user_type": "Commuter", "vehicle_model": "New", "battery_capacity_kwh": 80.0}}
    frame = clean_history(read_history(known)).frame
    assert frame[["vehicle_model", "battery_capacity_kwh"]].iloc[0].tolist() == ["New", 80.0]


def test_a_session_of_long_ago_keeps_nothing_of_today(known):
    # Nobody knows the driver's and the vehicle's values at that time.
    report(known, START | {"charging_start_time": "2021-03-02T18:30:00"})

    assert kept(known) == {}
    assert clean_history(read_history(known)).dropped.undated == {
        "user_type": 1,
        "battery_capacity_kwh": 1,
        "vehicle_age_years": 1,
    }


def test_a_thousand_sessions_keep_it_with_about_as_many_statements_as_one(known):
    statements = []
    event.listen(known, "before_cursor_execute", lambda _c, _cursor, statement, *_: statements.append(statement))
    report(known, START)
    one = len(statements)
    report(known, *(START | {"session_id": 100 + number} for number in range(1000)))

    # Some statements name at most some hundred sessions.
    assert 2 * one <= len(statements) <= 2 * one + 2
    assert list(kept(known).values()) == [OF_U] * 1001


def test_the_same_again_changes_nothing(engine):
    for session in (START, END):
        report(engine, session)
        assert report(engine, session) == ReportedSessions(0, 0, 1, frozenset())
    assert report(engine, START | END) == ReportedSessions(0, 0, 1, frozenset())


def test_what_is_missing_or_null_erases_nothing(engine):
    whole = START | END | {"charging_station_id": "S", "vehicle_id": 3}
    report(engine, whole)
    before = stored(engine)

    assert report(engine, dict.fromkeys(whole) | {"session_id": 7}).unchanged == 1
    assert report(engine, {"session_id": 7}).unchanged == 1
    assert stored(engine) == before


def test_many_at_once(engine):
    report(engine, START)

    many = report(
        engine,
        START,
        *(START | {"session_id": number, "user_id": f"U{number}"} for number in (8, 9)),
    )
    mixed = report(engine, END, START | {"session_id": 10}, START | {"session_id": 9, "user_id": "U9"})

    assert (many.added, many.updated, many.unchanged, many.user_ids) == (2, 0, 1, {"U8", "U9"})
    assert (mixed.added, mixed.updated, mixed.unchanged, mixed.user_ids) == (1, 1, 1, {"U"})
    assert list(stored(engine)) == [7, 8, 9, 10]


def test_a_thousand_at_once(engine):
    sessions = [START | {"session_id": number} for number in range(1000)]

    assert report(engine, *sessions).added == 1000
    assert report(engine, *[session | {"temperature_c": 3} for session in sessions]).updated == 1000


def test_what_an_unknown_session_needs_is_told_for_all_of_them(engine):
    report(engine, START)

    found = errors(engine, END | {"session_id": 8}, END, START | {"session_id": 9}, {"session_id": 10, "user_id": "U"})

    assert set(found) == {
        "#/0/user_id",
        "#/0/charger_type",
        "#/0/charging_start_time",
        "#/3/charger_type",
        "#/3/charging_start_time",
    }
    assert found["#/0/user_id"] == "is required: session 8 is not known yet"


def test_what_is_needed_is_told_with_the_fields_that_are_bad(engine):
    found = errors(engine, {"session_id": 8, "temperature_c": 73, "charger_type": 3, "user_id": None})

    assert set(found) == {"#/temperature_c", "#/charger_type", "#/user_id", "#/charging_start_time"}
    assert "must be a string" in found["#/charger_type"]


def test_bad_fields_of_known_sessions_are_told_alone(engine):
    report(engine, START)

    assert errors(engine, END | {"temperature_c": 73}).keys() == {"#/temperature_c"}
    assert errors(engine, {"temperature_c": 73}).keys() == {"#/temperature_c", "#/session_id"}


def test_an_end_before_the_stored_start_is_refused(engine):
    report(engine, START)

    found = errors(engine, START | {"session_id": 8}, END | {"charging_end_time": "2026-03-02T18:29:59"})

    assert found == {
        "#/1/charging_end_time": "is 2026-03-02 18:29:59, before the stored start of the session, 2026-03-02 18:30:00"
    }
    assert report(engine, END | {"charging_end_time": "2026-03-02T18:30:00"}).updated == 1


def test_a_start_after_the_stored_end_is_refused(engine):
    report(engine, START | END)

    found = errors(engine, {"session_id": 7, "charging_start_time": "2026-03-02T20:00:01"})

    assert found.keys() == {"#/charging_start_time"}
    assert "after the stored end" in found["#/charging_start_time"]
    both = {"charging_start_time": "2026-03-02T20:00:01", "charging_end_time": "2026-03-02T21:00:00"}
    assert report(engine, {"session_id": 7} | both).updated == 1


def test_the_night_in_which_the_clock_goes_back_reverses_nothing(engine):
    # At 02:00 the clock went back to 01:00. The session took twenty minutes.
    report(engine, START | {"charging_start_time": "2026-10-25T01:50:00+01:00"})

    assert "#/charging_end_time" in errors(engine, {"session_id": 7, "charging_end_time": "2026-10-25T01:10:00"})
    assert report(engine, {"session_id": 7, "charging_end_time": "2026-10-25T01:10:00+00:00"}).updated == 1
    assert report(engine, {"session_id": 7, "charging_start_time": "2026-10-25T01:51:00+01:00"}).updated == 1
    assert stored(engine)[7]["charging_end_time"] == at("2026-10-25 01:10")


def test_times_that_the_database_had_reversed_before_stay_until_they_are_corrected(engine):
    with engine.begin() as connection:
        times = {"charging_start_time": at("2026-03-02 18:30"), "charging_end_time": at("2026-03-02 18:00")}
        connection.execute(insert(SESSIONS), {"session_id": 7, "user_id": "U", "charger_type": "Level 2"} | times)

    assert report(engine, {"session_id": 7, "charging_end_time": "2026-03-02T18:00:00"}).unchanged == 1
    assert report(engine, {"session_id": 7, "charging_end_time": "2026-03-02T19:00:00"}).updated == 1


@pytest.mark.parametrize("garbage", ["soon", "2026-03-02T18:30:00+01:00", "44621", ""])
def test_a_stored_time_that_is_none_is_in_nobodys_way(tmp_path, garbage):
    # A SQLite database from before zap may hold any text as a time. PostgreSQL holds only times.
    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    upgrade(url)
    engine = create_engine(url)
    report(engine, START)
    with engine.begin() as connection:
        connection.execute(text('UPDATE "ChargingSessions" SET charging_start_time = :garbage'), {"garbage": garbage})

    assert report(engine, END).updated == 1
    assert report(engine, START).updated == 1
    assert stored(engine)[7]["charging_start_time"] == at("2026-03-02 18:30")
    engine.dispose()


def test_a_corrected_driver_changes_the_past_of_both(engine):
    report(engine, START)

    corrected = report(engine, {"session_id": 7, "user_id": "V"})

    assert corrected == ReportedSessions(0, 1, 0, frozenset({"U", "V"}))
    assert stored(engine)[7]["user_id"] == "V"


def test_new_ids_continue_above_those_reported(engine):
    report(engine, START | {"session_id": 5000})
    with engine.begin() as connection:
        connection.execute(insert(SESSIONS), {"user_id": "V"})

    assert list(stored(engine)) == [5000, 5001]


def test_the_largest_id_leaves_room_for_new_ones(engine):
    report(engine, START | {"session_id": 2**53})
    with engine.begin() as connection:
        connection.execute(insert(SESSIONS), {"user_id": "V"})

    assert list(stored(engine)) == [2**53, 2**53 + 1]


# Ids of other sessions, and ids that are texts.

OTHER = {"user_id": "V", "charging_start_time": "2026-03-05T08:00:00"}
UUID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"


def test_a_session_of_another_driver_with_a_stored_id_is_refused(engine):
    report(engine, *(START | {"session_id": number} for number in (7, 8, 9)))
    before = stored(engine)

    with pytest.raises(SessionTaken) as caught:
        report(
            engine,
            START | {"session_id": 10},
            START | OTHER,
            START | OTHER | {"session_id": 8},
            END | {"session_id": 9},
        )

    assert [error["pointer"] for error in caught.value.details["errors"]] == ["#/1/session_id", "#/2/session_id"]
    assert "is 7, which is stored with the user U and the start 2026-03-02 18:30:00" in str(caught.value.details)
    assert stored(engine) == before
    # With other errors, all of them are told together.
    assert errors(engine, START | OTHER, START | {"session_id": 8, "temperature_c": 73}).keys() == {
        "#/0/session_id",
        "#/1/temperature_c",
    }


@pytest.mark.parametrize("name", OTHER)
def test_another_driver_or_another_start_alone_is_a_correction(engine, name):
    report(engine, START)

    assert report(engine, START | {name: OTHER[name]}).updated == 1


def test_a_report_is_not_of_a_session_that_nobody_is_known_of(engine):
    # A file has given this id to a session without a user.
    with engine.begin() as connection:
        connection.execute(insert(SESSIONS), {"session_id": 7, "charging_start_time": at("2025-01-01 10:00")})

    with pytest.raises(SessionTaken, match="1 session of the report has an id of another session"):
        report(engine, START)
    assert report(engine, {"session_id": 7, "charging_start_time": "2026-03-02T18:30:00"}).updated == 1
    assert report(engine, START).updated == 1


def test_a_session_of_an_import_is_never_overwritten_by_a_report(engine):
    upsert_history(
        engine, NO_USERS, NO_VEHICLES, table(("old", "2024-01-01 10:00"), columns=("user_id", "charging_start_time"))
    )

    assert [report(engine, START | {"session_id": number}).added for number in range(4)] == [1, 1, 1, 1]
    assert [row["user_id"] for row in stored(engine).values()] == ["old", "U", "U", "U", "U"]


def test_a_text_names_a_session(engine):
    named = {"session_id": UUID}

    assert report(engine, START | named).added == 1
    assert report(engine, START | named).unchanged == 1
    assert report(engine, END | named, START, START | {"session_id": "tx-2"}).updated == 1
    assert {number: row.get("energy_consumed_kwh") for number, row in stored(engine).items()} == {
        -2: None,
        -1: 24.5,
        7: None,
    }
    with pytest.raises(SessionTaken, match="has an id"):
        report(engine, START | OTHER | named)
    assert (
        errors(engine, END | {"session_id": "unknown"})["#/user_id"] == "is required: session unknown is not known yet"
    )


def test_a_text_of_digits_is_the_number(engine):
    report(engine, START)

    assert report(engine, END | {"session_id": "7"}).updated == 1


def test_a_refused_report_leaves_no_number(engine):
    errors(engine, START | {"session_id": "a", "temperature_c": 73})
    errors(engine, END | {"session_id": "a"})

    with engine.connect() as connection:
        assert connection.execute(select(TEXT_IDS)).all() == []


def test_a_text_keeps_its_number_when_another_program_removes_its_session(engine):
    report(engine, START | {"session_id": "a"})
    with engine.begin() as connection:
        connection.execute(delete(SESSIONS))

    assert report(engine, START | {"session_id": "b"}, START | {"session_id": "a", "user_id": "V"}).added == 2
    assert {number: row["user_id"] for number, row in stored(engine).items()} == {-2: "U", -1: "V"}


def test_first_reports_of_one_text_at_the_same_time_give_one_session(engine):
    together = threading.Barrier(4)

    def start(_):
        together.wait()
        return report(engine, START | {"session_id": UUID})

    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(start, range(4)))

    assert sum(outcome.added for outcome in outcomes) == 1
    assert sum(outcome.unchanged for outcome in outcomes) == 3
    assert list(stored(engine)) == [-1]


def test_an_id_that_was_removed_can_be_reported_again(engine):
    report(engine, START)
    with engine.begin() as connection:
        connection.execute(delete(SESSIONS))

    assert report(engine, START).added == 1


def test_reports_of_one_new_session_at_the_same_time_all_succeed(engine):
    together = threading.Barrier(4)

    def start(_):
        together.wait()
        return report(engine, START)

    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(start, range(4)))

    assert sum(outcome.added for outcome in outcomes) == 1
    assert sum(outcome.unchanged for outcome in outcomes) == 3


def test_a_report_between_the_look_and_the_writing_of_another_waits(engine):
    # The second report starts after the first one saw that the session is new. Both succeed.
    seen, outcomes = threading.Event(), []
    second = threading.Thread(target=lambda: outcomes.append(report(engine, START | END)))

    @event.listens_for(engine, "before_cursor_execute")
    def start_the_second(_connection, _cursor, statement, *_):
        if statement.startswith("INSERT") and not seen.is_set():
            seen.set()
            second.start()
            second.join(0.5)

    outcomes.append(report(engine, START))
    second.join()
    event.remove(engine, "before_cursor_execute", start_the_second)

    assert [(outcome.added, outcome.updated) for outcome in outcomes] == [(1, 0), (0, 1)]


def test_whoever_writes_too_long_makes_a_report_fail_whole(engine):
    with write_transaction(engine) as connection:
        take_turn(connection)
        with pytest.raises(OperationalError) as caught:
            report(engine, START)
    if engine.dialect.name == "postgresql":
        assert isinstance(caught.value.orig, psycopg.errors.LockNotAvailable)
    assert stored(engine) == {}

    assert report(engine, START).added == 1


def test_a_bad_report_waits_for_nobody(engine):
    with write_transaction(engine) as connection:
        take_turn(connection)
        assert errors(engine, START | {"temperature_c": 73}).keys() == {"#/temperature_c"}


def test_nothing_is_written_when_the_commit_fails(engine):
    report(engine, START)
    before = stored(engine)

    @event.listens_for(engine, "commit")
    def refuse(connection):
        connection.exec_driver_sql("THIS IS NO SQL")

    with pytest.raises(Exception, match="THIS IS NO SQL"):
        report(engine, END, START | {"session_id": 8})
    event.remove(engine, "commit", refuse)

    assert stored(engine) == before
