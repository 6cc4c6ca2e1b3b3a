"""LongPasts: a driver with thousands of sessions is answered to the bit as trained, from few rows, and read once."""

import asyncio
import shutil
import time
from datetime import datetime, timedelta

import numpy as np
import pytest
from databases import postgresql_database, shared_database, shared_name
from histories import add_sessions
from present import presents_read
from sqlalchemy import delete, event, update
from sqlmodel import col

from zap.db.engine import create_engine, write_transaction
from zap.db.history import driver_histories, long_pasts
from zap.db.history.driver_histories import DriverHistories
from zap.db.history.history_store import read_history
from zap.db.schema import upgrade
from zap.db.tables import ChargingSession
from zap.errors import DatabaseUnavailable
from zap.ml.cells import to_seconds
from zap.ml.history import clean_history
from zap.ml.history_matrix import mix_of, past_features

TYPES = ("A", "B")
MIX = (0.5, 0.5)
BEGIN = datetime.fromisoformat("2020-01-01T00:00:00")
NOW = to_seconds(datetime.fromisoformat("2024-03-01T12:00:00"))
N = 3000


def made_up(n=N, driver="u"):
    """So many sessions of one driver, some of which start together, some of types that are not learned."""
    random = np.random.default_rng(5)
    hours = np.sort(random.integers(0, 30_000, n)).tolist()
    return [
        {
            "user_id": driver,
            "charger_type": ["A", "B", "C", None][int(random.integers(0, 4))],
            "charging_start_time": BEGIN + timedelta(hours=hour),
            "charging_end_time": BEGIN + timedelta(hours=hour + int(random.integers(0, 5))) if place % 5 else None,
            "energy_consumed_kwh": float(random.uniform(-5, 50)) if place % 4 else None,
            "charging_duration_hours": float(random.uniform(0, 3)) if place % 3 else None,
            "state_of_charge_start": float(random.uniform(-10, 130)),
            "distance_driven_km": float(random.uniform(0, 300)),
        }
        for place, hour in enumerate(hours)
    ]


def features(history, at=NOW):
    return np.array(history.features(at, MIX)).tobytes()


def fill(url):
    upgrade(url)
    engine = create_engine(url)
    add_sessions(engine, *made_up(), *made_up(20, "other"))
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, made_once, tmp_path):
    """Yield the URL of a copy of a database with these sessions."""
    if request.param == "sqlite":
        made = made_once("long-pasts", lambda folder: fill(f"sqlite:///{folder / 'zap.sqlite'}"))
        yield f"sqlite:///{shutil.copy(made / 'zap.sqlite', tmp_path / 'zap.sqlite')}"
        return
    request.getfixturevalue("postgresql_server")
    made_once("long-pasts-postgresql", lambda _: fill(shared_database("long-pasts")))
    with postgresql_database(shared_name("long-pasts")) as url:
        yield url


@pytest.fixture
def read_rows(engine, monkeypatch):
    """Return a growing list: the number of rows of each read of a long past."""
    real, read = long_pasts.read_past_session, []
    monkeypatch.setattr(long_pasts, "read_past_session", lambda *row: read.append(1) or real(*row))
    return read


def by_the_short_way(engine, monkeypatch, at=NOW):
    """The past as one read of all rows gives it."""
    with monkeypatch.context() as patched:
        patched.setattr(driver_histories, "LONG", 10**9)
        return features(DriverHistories(engine).read("u", at, TYPES), at)


def test_it_works(engine, monkeypatch):
    # The reading may take longer than a state is fresh.
    monkeypatch.setattr(driver_histories, "FRESH_SECONDS", 1000)
    histories = DriverHistories(engine)

    past = histories.read("u", NOW, TYPES)

    assert features(past) == by_the_short_way(engine, monkeypatch)
    assert histories.known("u", NOW, TYPES) is past
    assert histories._long.knows("u")
    assert not histories._long.knows("other")


def test_it_is_the_past_that_was_trained_on_to_the_bit(engine):
    frame = clean_history(read_history(engine)).frame
    population = mix_of(frame, TYPES)
    trained = past_features(frame, TYPES, population)
    presents = presents_read(engine, frame, TYPES, population)

    def row(place, history):
        mix = population.mix(starts[place] - 15 * 60)
        return np.array([*history.features(starts[place], mix), *presents[place]])

    histories = DriverHistories(engine)
    starts = frame["charging_start_time"].to_numpy().astype("datetime64[s]").astype(np.int64).tolist()
    users = frame["user_id"].tolist()

    together = histories.read_many(list(zip(users, starts, strict=True)), TYPES)
    alone = np.random.default_rng(1).integers(0, len(frame), 60).tolist()

    for place, history in [*enumerate(together)][::4]:
        assert row(place, history).tobytes() == trained[place].tobytes()
    for place in alone:
        history = histories.read(users[place], starts[place], TYPES)
        assert row(place, history).tobytes() == trained[place].tobytes()


def test_the_second_read_reads_few_rows_whatever_it_asks(engine, read_rows):
    histories = DriverHistories(engine)
    histories.read("u", NOW, TYPES)
    assert len(read_rows) == N
    read_rows.clear()

    histories.read("u", NOW, TYPES)
    assert len(read_rows) <= 2 * long_pasts.STEP
    read_rows.clear()
    histories.read("u", to_seconds(BEGIN) + 9_000 * 3600, TYPES)
    assert len(read_rows) <= 4 * long_pasts.STEP


CHANGES = {
    "an old one corrected": update(ChargingSession).where(col(ChargingSession.session_id) == 100),
    "a new one corrected": update(ChargingSession).where(col(ChargingSession.session_id) == N - 3),
    "all corrected": update(ChargingSession),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_anybody_changes_counts(engine, monkeypatch, change):
    histories = DriverHistories(engine)
    before = features(histories.read("u", NOW, TYPES))
    with write_transaction(engine) as connection:
        connection.execute(change.values(charger_type="B", state_of_charge_start=77.5))

    after = features(histories.read("u", NOW, TYPES))

    assert after != before
    assert after == by_the_short_way(engine, monkeypatch)


@pytest.mark.parametrize("hours", [5, 15_000, 36_000])
def test_sessions_that_are_added_and_taken_away_count(engine, monkeypatch, hours):
    histories = DriverHistories(engine)
    before = features(histories.read("u", NOW, TYPES))
    add_sessions(engine, made_up(1)[0] | {"charging_start_time": BEGIN + timedelta(hours=hours), "charger_type": "B"})

    added = features(histories.read("u", NOW, TYPES))
    with write_transaction(engine) as connection:
        connection.execute(delete(ChargingSession).where(col(ChargingSession.session_id) > N + 20))
    taken = features(histories.read("u", NOW, TYPES))

    assert added != before
    assert taken == before


def test_a_change_is_read_from_where_it_is(engine, read_rows):
    histories = DriverHistories(engine)
    histories.read("u", NOW, TYPES)
    read_rows.clear()

    add_sessions(engine, made_up(1)[0] | {"charging_start_time": BEGIN + timedelta(hours=31_000)})
    histories.read("u", NOW, TYPES)

    assert len(read_rows) <= 2 * long_pasts.STEP


def test_many_steps_become_fewer_and_longer_ones(engine, monkeypatch):
    monkeypatch.setattr(long_pasts, "_MOST_STEPS", 3)
    histories = DriverHistories(engine)

    for _ in range(2):
        assert features(histories.read("u", NOW, TYPES)) == by_the_short_way(engine, monkeypatch)
        assert 1 <= len(histories._long._pasts["u"].steps) <= 3


def test_texts_in_other_forms_are_ordered_as_a_training_orders_them(sqlite_engine, monkeypatch):
    add_sessions(sqlite_engine, *made_up())
    with write_transaction(sqlite_engine) as connection:
        for number in range(0, N, 7):
            connection.exec_driver_sql(
                "UPDATE \"ChargingSessions\" SET charging_start_time = replace(charging_start_time, ' ', 'T')"
                " WHERE session_id = ?",
                (number,),
            )
        connection.exec_driver_sql("UPDATE \"ChargingSessions\" SET charging_start_time = 'soon' WHERE session_id = 9")
    histories = DriverHistories(sqlite_engine)
    early = to_seconds(BEGIN) + 9_000 * 3600

    for at in (NOW, early):
        assert features(histories.read("u", at, TYPES), at) == by_the_short_way(sqlite_engine, monkeypatch, at)


def test_no_more_drivers_are_kept_than_it_says(engine, monkeypatch):
    monkeypatch.setattr(long_pasts, "_MOST_DRIVERS", 1)
    add_sessions(engine, *made_up(1200, "second"))
    histories = DriverHistories(engine)

    histories.read_many([("u", NOW), ("second", NOW), ("other", NOW)], TYPES)

    assert [histories._long.knows(user) for user in ("u", "second", "other")] == [False, True, False]


def test_requests_for_one_driver_share_a_read(engine, monkeypatch):
    asked = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        if statement.startswith("SELECT") and "ChargingSessions" in statement:
            asked.append(statement)

    histories = DriverHistories(engine)
    early = to_seconds(BEGIN) + 9_000 * 3600

    async def ask(user):
        until = time.monotonic() + 60
        moments = [NOW, early] * 20
        found = await asyncio.gather(*(histories.past(user, at, TYPES, until) for at in moments))
        return list(zip(moments, found, strict=True))

    short = asyncio.run(ask("other"))
    assert len(asked) == 1
    long = asyncio.run(ask("u"))
    histories.close()

    assert {at: history.sessions for at, history in short}[NOW] == 16
    for at, history in long[:2]:
        assert features(history, at) == by_the_short_way(engine, monkeypatch, at)
    assert len({id(history) for _, history in long}) == 2
    assert histories._waiting == histories._flying == {}


def test_who_waits_for_a_long_past_is_refused_in_time_and_the_next_finds_it(engine, monkeypatch):
    monkeypatch.setattr(long_pasts, "_REST", 20)
    histories = DriverHistories(engine)

    async def story():
        begun = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            await histories.past("u", NOW, TYPES, begun + 0.1)
        refused = time.monotonic() - begun
        # Others are answered meanwhile, and whoever asks next waits for the same read.
        other = await histories.past("other", NOW, TYPES, time.monotonic() + 60)
        found = await histories.past("u", NOW, TYPES, time.monotonic() + 60)
        return refused, other, found

    refused, other, found = asyncio.run(story())
    histories.close()

    assert refused < 1
    assert other.sessions == 16
    assert found.sessions > 2000


def test_an_end_does_not_wait_for_a_long_past(engine, monkeypatch):
    monkeypatch.setattr(long_pasts, "_REST", 1000)
    histories = DriverHistories(engine)

    async def story():
        with pytest.raises(DatabaseUnavailable):
            await histories.past("u", NOW, TYPES, time.monotonic() + 0.2)
        begun = time.monotonic()
        await asyncio.to_thread(histories.close)
        return time.monotonic() - begun

    assert asyncio.run(story()) < 10
