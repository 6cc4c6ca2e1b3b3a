"""DriverHistories: a driver's past as serving knows it, fresh and bounded, and equal to the one that was trained on."""

import asyncio
import threading
import time
from datetime import datetime

import numpy as np
import pytest
from histories import add_sessions, session_row
from present import presents_read
from sqlalchemy import delete, event, insert, text, update
from sqlalchemy.exc import OperationalError
from sqlmodel import col

from zap.db.engine import write_transaction
from zap.db.history import driver_histories
from zap.db.history.driver_histories import DriverHistories
from zap.db.history.history_store import read_history
from zap.db.tables import ChargingSession
from zap.errors import DatabaseUnavailable
from zap.logs import REQUEST_ID
from zap.ml.cells import to_seconds
from zap.ml.driver_columns import PastSession
from zap.ml.history import clean_history, population_history
from zap.ml.history_columns import past_columns
from zap.ml.history_matrix import mix_of, past_features
from zap.ml.user_history import UserHistory

TYPES = ("A", "B")
NOW = to_seconds(datetime.fromisoformat("2024-03-01T12:00:00"))
MIX = (0.5, 0.5)


def features(history):
    return np.array(history.features(NOW, MIX)).tobytes()


@pytest.fixture
def patient(monkeypatch):
    """Nothing grows old in this test."""
    monkeypatch.setattr(driver_histories, "FRESH_SECONDS", 1000)


@pytest.fixture
def statements(engine):
    """What was asked of the database."""
    asked = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        asked.append(statement)

    return asked


def test_it_works(engine, patient):
    add_sessions(engine, session_row(charger_type="B"), session_row(start="2024-02-02T10:00:00"), session_row("other"))
    histories = DriverHistories(engine)

    assert histories.known("u", NOW, TYPES) is None
    past = histories.read("u", NOW, TYPES)

    assert past.sessions == 2
    assert histories.known("u", NOW, TYPES) is past


def test_it_is_the_past_that_was_trained_on_to_the_bit(engine):
    random = np.random.default_rng(3)
    rows = []
    for place in range(400):
        start = datetime.fromtimestamp(1.7e9 + int(random.integers(0, 600)) * 3600)  # noqa: DTZ006 - wall time
        end = datetime.fromtimestamp(start.timestamp() + int(random.integers(0, 3)) * 3600)  # noqa: DTZ006
        rows.append(
            session_row(
                [f"u{place % 7}", "NULL", "n/a", "\u00a0"][place % 13 % 4] if place % 9 else None,
                ["A", "B", "C", " A", None, "n/a", "C\u200b", "NULL", "\u00a0B"][int(random.integers(0, 9))],
                start.isoformat(),
                charging_end_time=end if place % 5 else None,
                energy_consumed_kwh=float(random.uniform(-5, 50)) if place % 4 else None,
                charging_duration_hours=float(random.uniform(0, 3)) if place % 3 else None,
                state_of_charge_start=float(random.uniform(-10, 130)),
            )
        )
    add_sessions(engine, *rows)
    frame = clean_history(read_history(engine)).frame
    trained = past_features(frame, TYPES, mix_of(frame, TYPES))
    kinds = (frame["charging_start_time"].to_numpy(), frame["charger_type"], TYPES)
    population = population_history(*kinds)
    presents = presents_read(engine, frame, TYPES, population)

    for histories in (DriverHistories(engine), DriverHistories(engine)):
        for place in random.permutation(len(frame)):
            row = frame.iloc[place]
            user = row["user_id"] if isinstance(row["user_id"], str) else None
            at = to_seconds(row["charging_start_time"].to_pydatetime())
            past = histories.known(user, at, TYPES) or histories.read(user, at, TYPES)
            values = [*past.features(at, population.mix(at - 15 * 60)), *presents[place]]
            assert np.array(values).tobytes() == trained[place].tobytes(), row


@pytest.mark.parametrize("user_id", [None, "", " ", "nobody", "NULL", "n/a", "nan", "-"])
def test_a_driver_whom_the_history_does_not_have_has_no_past(engine, user_id):
    # Another program may have stored a word for nothing as a user; a training does not take it for a driver.
    add_sessions(engine, *[session_row(name) for name in ("u0", "u1", "NULL", "n/a", "nan", "-")])

    assert DriverHistories(engine).read(user_id, NOW, TYPES).sessions == 0
    assert set(clean_history(read_history(engine)).frame["user_id"].dropna()) == {"u0", "u1"}


def test_sessions_that_start_then_or_later_are_not_known(engine):
    starts = ("2024-02-01T10:00:00", "2024-03-01T12:00:00", "2024-03-05T12:00:00")
    add_sessions(engine, *[session_row(start=start) for start in starts])
    histories = DriverHistories(engine)

    for _ in range(2):
        assert histories.read("u", NOW, TYPES).sessions == 1
        assert histories.read("u", NOW + 1, TYPES).sessions == 2
        assert histories.read("u", NOW + 10_000_000, TYPES).sessions == 3


CHANGES = {
    "added": insert(ChargingSession).values(session_row(charger_type="B", start="2024-02-20T10:00:00")),
    "ended": update(ChargingSession).values(charging_end_time=datetime.fromisoformat("2024-02-01T11:00:00")),
    "corrected": update(ChargingSession).values(charger_type="B"),
    "taken away": delete(ChargingSession).where(col(ChargingSession.user_id) == "u"),
    "given to another driver": update(ChargingSession).values(user_id="v"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_anybody_changes_counts_once_the_state_is_old(engine, monkeypatch, change):
    add_sessions(engine, session_row(energy_consumed_kwh=20.0))
    histories = DriverHistories(engine)
    before = features(histories.read("u", NOW, TYPES))
    with write_transaction(engine) as connection:
        connection.execute(change)

    assert features(histories.known("u", NOW, TYPES)) == before
    monkeypatch.setattr(driver_histories, "FRESH_SECONDS", 0)
    assert histories.known("u", NOW, TYPES) is None
    after = features(histories.read("u", NOW, TYPES))

    assert after != before
    assert after == features(DriverHistories(engine).read("u", NOW, TYPES))


def test_a_fresh_state_asks_the_database_nothing_and_an_old_one_asks_once(engine, monkeypatch, statements):
    add_sessions(engine, session_row())
    histories = DriverHistories(engine)
    histories.read("u", NOW, TYPES)
    statements.clear()

    histories.known("u", NOW, TYPES)
    assert statements == []
    monkeypatch.setattr(driver_histories, "FRESH_SECONDS", 0)
    histories.read("u", NOW, TYPES)

    (asked,) = [one for one in statements if "SELECT" in one]
    assert "user_id" in asked.partition("WHERE")[2]


def test_the_question_for_a_driver_is_answered_by_the_index(sqlite_engine):
    with sqlite_engine.connect() as connection:
        plan = connection.execute(
            text("""EXPLAIN QUERY PLAN SELECT * FROM "ChargingSessions" WHERE user_id = 'u'""")
        ).all()

    assert "USING INDEX ix_ChargingSessions_user_id_charging_start_time" in str(plan)


def test_forgetting_a_driver_makes_the_next_request_read_again(engine, patient):
    add_sessions(engine, session_row())
    histories = DriverHistories(engine)
    histories.read("u", NOW, TYPES)
    add_sessions(engine, session_row(start="2024-02-03T10:00:00"))

    histories.forget(["u", "nobody"])

    assert histories.known("u", NOW, TYPES) is None
    assert histories.read("u", NOW, TYPES).sessions == 2
    assert histories.known("u", NOW, TYPES).sessions == 2


def test_what_was_forgotten_while_it_was_read_is_not_remembered(engine, patient):
    # A report is committed after the driver's rows were read and before their state is kept.
    add_sessions(engine, session_row())
    histories = DriverHistories(engine)
    reported = threading.Event()

    @event.listens_for(engine, "after_cursor_execute")
    def report(_connection, _cursor, statement, *_):
        if "user_id" in statement and "SELECT" in statement and not reported.is_set():
            reported.set()
            histories.forget(["u"])

    histories.read("u", NOW, TYPES)

    assert reported.is_set()
    assert histories.known("u", NOW, TYPES) is None


GARBAGE = [
    "2024-02-01", "yesterday", "2024-02-01 10:00:00+01:00", "2024-02-01 10:00:00Z", "2024-13-01 10:00:00",
    "2024-02-01 25:00:00", "2024-02-01 10", "2460341.5", "now", "", " 2024-02-01 10:00:00", "2024-02-01 10:00:00 ",
    "2024-02-31 10:00:00", "2024-02-01 10:61:00",
]  # fmt: skip
READABLE = ["2024-02-01T10:00", "2024-02-01 10:00", "2024-02-01 10:00:00.5", "2024-02-29 23:59:59"]


def test_the_sessions_that_a_training_uses_are_those_of_the_past(sqlite_engine):
    with write_transaction(sqlite_engine) as connection:
        for start in [*GARBAGE, *READABLE]:
            connection.exec_driver_sql(
                'INSERT INTO "ChargingSessions" (user_id, charger_type, charging_start_time) VALUES (?, ?, ?)',
                ("u", "A", start),
            )

    assert len(clean_history(read_history(sqlite_engine)).frame) == len(READABLE)
    assert DriverHistories(sqlite_engine).read("u", NOW, TYPES).sessions == len(READABLE)


def test_those_behind_others_that_wait_in_vain_are_refused(engine):
    histories = DriverHistories(engine)

    async def ask():
        waiting = [asyncio.create_task(histories.threads.run(time.sleep, 0.5)) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(DatabaseUnavailable):
            await histories.threads.run(histories.read, "u", NOW, TYPES, until=time.monotonic() + 0.2)
        await asyncio.gather(*waiting)
        return await histories.threads.run(histories.read, "u", NOW, TYPES)

    assert asyncio.run(ask()).sessions == 0
    histories.close()


def test_a_reading_that_fails_leaves_nothing_behind(sqlite_engine):
    histories = DriverHistories(sqlite_engine)
    with sqlite_engine.begin() as connection:
        connection.execute(text('ALTER TABLE "ChargingSessions" RENAME TO gone'))

    with pytest.raises(OperationalError):
        histories.read("u", NOW, TYPES)

    assert histories._readings == {}
    assert histories.known("u", NOW, TYPES) is None


def test_no_more_states_are_kept_than_it_says(engine, patient, monkeypatch):
    monkeypatch.setattr(driver_histories, "MOST_STATES", 3)
    add_sessions(engine, *[session_row(f"u{number}") for number in range(5)])
    histories = DriverHistories(engine)

    for user in ("u0", "u1", "u2"):
        histories.read(user, NOW, TYPES)
    histories.known("u0", NOW, TYPES)
    histories.read("u3", NOW, TYPES)

    # Of the four, u1 was asked about longest ago.
    assert [histories.known(f"u{number}", NOW, TYPES) is None for number in range(4)] == [False, True, False, False]


def test_two_versions_with_other_types_do_not_share_a_state(engine, patient):
    add_sessions(engine, session_row(charger_type="B"), session_row(charger_type="C", start="2024-02-02T10:00:00"))
    histories = DriverHistories(engine)

    for types in (TYPES, ("A", "B", "C"), ("B", "C")):
        assert histories.known("u", NOW, types) is None
        past = histories.read("u", NOW, types)
        assert histories.known("u", NOW, types) is past
        columns = dict(zip(past_columns(types), past.features(NOW, [0.5] * len(types)), strict=True))
        assert columns["types_used"] == len(set(types) - {"A"})


def test_many_threads_see_the_same(engine, patient):
    starts = [f"2024-02-{place % 28 + 1:02d}T10:00:00" for place in range(90)]
    add_sessions(engine, *[session_row(f"u{place % 3}", start=start) for place, start in enumerate(starts)])
    alone = {user: features(DriverHistories(engine).read(user, NOW, TYPES)) for user in ("u0", "u1", "u2")}
    histories = DriverHistories(engine)
    wrong = []

    def ask(seed):
        random = np.random.default_rng(seed)
        for _ in range(50):
            user = f"u{random.integers(3)}"
            if random.random() < 0.3:
                histories.forget([user])
            past = histories.known(user, NOW, TYPES) or histories.read(user, NOW, TYPES)
            if features(past) != alone[user]:
                wrong.append(user)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


@pytest.mark.parametrize("warm", [False, True])
def test_many_moments_of_a_driver_are_read_in_one_walk(engine, patient, monkeypatch, warm):
    # Each result equals the result of `read` for that moment alone, with equal starts too. Later reads do not
    # change it.
    starts = [f"2024-02-{day:02d}T{hour:02d}:00:00" for day in range(1, 7) for hour in (8, 8, 18)]
    ends = [start.replace("T08", "T19") if place % 3 else None for place, start in enumerate(starts)]
    add_sessions(
        engine,
        *[
            session_row(
                f"u{place % 2}",
                "AB C"[place % 4],
                start,
                charging_end_time=end and datetime.fromisoformat(end),
                energy_consumed_kwh=float(place),
                state_of_charge_start=float(place),
            )
            for place, (start, end) in enumerate(zip(starts, ends, strict=True))
        ],
    )
    moments = [to_seconds(datetime.fromisoformat(start)) + more for start in reversed(starts) for more in (0, 1)]
    asked = [(user, at) for at in [*moments, NOW, 0] for user in ("u0", "u1", "nobody", None)]
    histories = DriverHistories(engine)
    if warm:
        histories.read_many(asked, TYPES)
    read, parsed = driver_histories.read_past_session, []
    monkeypatch.setattr(driver_histories, "read_past_session", lambda *row: parsed.append(1) or read(*row))

    found = histories.read_many(asked, TYPES)

    assert len(parsed) <= 2 * len(starts)
    alone = DriverHistories(engine)
    for (user, at), history in zip(asked, found, strict=True):
        expected = alone.read(user, at, TYPES)
        assert history.sessions == expected.sessions
        assert np.array(history.features(at, MIX)).tobytes() == np.array(expected.features(at, MIX)).tobytes()


def test_a_copy_and_its_original_do_not_change_each_other():
    original = UserHistory(2)
    sessions = [PastSession(n * 3_600, n % 2, n * 3_600 + 60, 1.0 + n, 2.0, 30.0, 40.0) for n in range(30)]
    for one in sessions[:20]:
        original.observe(one)
    before = features(original)

    copied = original.copy()
    for one in sessions[20:]:
        copied.observe(one)

    assert features(original) == before
    for one in sessions[20:]:
        original.observe(one)
    assert features(original) == features(copied)


def test_what_is_asked_in_a_thread_belongs_to_the_request_in_the_log(engine):
    histories = DriverHistories(engine)

    async def ask():
        REQUEST_ID.set("mine")
        return await histories.threads.run(REQUEST_ID.get)

    assert asyncio.run(ask()) == "mine"
    histories.close()
