"""Transactions that are whole, the clock that all see, and locks of processes."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from filelock import Timeout
from sqlalchemy import func, insert, inspect, make_url, select, text
from sqlalchemy.exc import OperationalError
from sqlmodel import col

from zap.db.engine import (
    background_transactions,
    bounds_of,
    create_engine,
    database_now,
    process_lock,
    write_transaction,
)
from zap.db.schema import upgrade
from zap.db.tables import User, utc_now


def users(engine):
    with engine.connect() as connection:
        return list(connection.scalars(select(col(User.user_id)).order_by(col(User.user_id))))


def test_making_an_engine_makes_no_file(tmp_path):
    create_engine(f"sqlite:///{tmp_path / 'zap.sqlite'}").dispose()
    assert not list(tmp_path.iterdir())


def test_sqlite_survives_a_power_cut_and_keeps_its_foreign_keys(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'zap.sqlite'}")
    with engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    engine.dispose()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


def test_sqlite_synchronous_can_be_set(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'zap.sqlite'}", sqlite_synchronous="NORMAL")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
    engine.dispose()


def test_a_new_file_that_somebody_else_writes_to_is_waited_for(tmp_path):
    # The workers of a server start together after an upgrade. SQLite itself refuses this at once.
    file = tmp_path / "zap.sqlite"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE one (two)")
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO one VALUES (1)")
    threading.Timer(0.3, lambda: other.execute("COMMIT")).start()
    engine = create_engine(f"sqlite:///{file}")

    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT two FROM one").scalar() == 1

    engine.dispose()
    other.close()


def test_write_transaction_commits(engine):
    with write_transaction(engine) as connection:
        connection.execute(insert(User), {"user_id": "a"})
    assert users(engine) == ["a"]


def test_write_transaction_rolls_back_whole(engine):
    with pytest.raises(ZeroDivisionError), write_transaction(engine) as connection:  # noqa: PT012
        connection.execute(insert(User), {"user_id": "a"})
        1 / 0  # noqa: B018
    assert users(engine) == []


def test_write_transaction_rolls_back_tables_too(engine):
    with pytest.raises(ZeroDivisionError), write_transaction(engine) as connection:  # noqa: PT012
        connection.execute(text("CREATE TABLE half (way integer)"))
        1 / 0  # noqa: B018
    assert "half" not in inspect(engine).get_table_names()


def test_write_transactions_that_read_first_wait_for_each_other(tmp_path):
    # On SQLite a transaction that reads first and then writes would fail.
    url = f"sqlite:///{tmp_path / 'zap.sqlite'}"
    upgrade(url)
    engine = create_engine(url)

    def add_one_user(_number):
        with write_transaction(engine) as connection:
            there = connection.scalar(select(func.count()).select_from(User))
            connection.execute(insert(User), {"user_id": f"{there:03}"})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add_one_user, range(40)))
    assert users(engine) == [f"{number:03}" for number in range(40)]
    engine.dispose()


def test_each_transaction_in_the_background_is_committed_or_rolled_back(engine):
    transaction = background_transactions(engine)

    with transaction() as connection:
        connection.execute(insert(User), {"user_id": "a"})
    assert users(engine) == ["a"]
    with pytest.raises(ZeroDivisionError), transaction() as connection:  # noqa: PT012
        connection.execute(insert(User), {"user_id": "b"})
        1 / 0  # noqa: B018
    with transaction() as connection:
        connection.execute(insert(User), {"user_id": "c"})

    assert users(engine) == ["a", "c"]


def test_between_two_in_the_background_the_lock_is_free_for_a_while(sqlite_engine):
    transaction, free, ended = background_transactions(sqlite_engine), [], None
    for number in range(20):
        with transaction() as connection:
            if ended is not None:
                free.append(time.monotonic() - ended)
            connection.execute(insert(User), {"user_id": str(number)})
        ended = time.monotonic()

    # Three of those after which somebody who waits looks again.
    assert min(free) > 0.0003


def test_others_who_write_get_their_turn_between_two_in_the_background(sqlite_engine):
    other = create_engine(sqlite_engine.url.render_as_string())
    over, theirs, ours = threading.Event(), [], 0

    def write():
        while not over.is_set():
            with write_transaction(other) as connection:
                connection.execute(insert(User), {"user_id": f"theirs {len(theirs)}"})
            theirs.append(1)

    writing = threading.Thread(target=write)
    writing.start()
    transaction, end = background_transactions(sqlite_engine), time.monotonic() + 1
    while time.monotonic() < end:
        with transaction() as connection:
            connection.execute(insert(User), {"user_id": f"ours {ours}"})
            time.sleep(0.002)
        ours += 1
    during = len(theirs)
    over.set()
    writing.join()
    other.dispose()

    assert ours > 10
    assert during > ours / 2


def test_a_process_lock_is_held_by_one_and_of_one_database(tmp_path):
    engine, other = (create_engine(f"sqlite:///{tmp_path / name}.sqlite") for name in ("one", "other"))

    with process_lock(engine, "training", timeout=0):
        with pytest.raises(Timeout):
            process_lock(engine, "training", timeout=0).acquire()
        with process_lock(other, "training", timeout=0):
            pass
    with process_lock(engine, "training", timeout=0):
        pass


def test_postgresql_has_no_process_lock(empty_postgresql_url):
    # The processes that use PostgreSQL are on several machines.
    assert process_lock(create_engine(empty_postgresql_url), "training", timeout=0) is None


def test_the_clock_of_the_database_is_utc(engine):
    with engine.connect() as connection:
        now = database_now(connection)

    assert now.utcoffset() == timedelta(0)
    assert abs(now - utc_now()) < timedelta(seconds=60)


@pytest.mark.parametrize(("options", "shown"), [("", "5s"), ("?options=-c%20lock_timeout%3D2s", "2s")])
def test_patience_on_postgresql_unless_the_url_says_otherwise(empty_postgresql_url, options, shown):
    engine = create_engine(empty_postgresql_url + options)

    with engine.connect() as connection:
        assert connection.scalar(text("SHOW lock_timeout")) == shown
    engine.dispose()


def test_who_waits_for_another_writer_takes_next_to_nothing_of_a_core(sqlite_engine):
    holder = create_engine(sqlite_engine.url.render_as_string())
    with holder.connect().execution_options(immediate=True) as other, other.begin():
        began, cpu = time.monotonic(), time.thread_time()
        with pytest.raises(OperationalError), write_transaction(sqlite_engine):
            pass
        share = (time.thread_time() - cpu) / (time.monotonic() - began)
    holder.dispose()

    # Every 0.1 ms it was 17 %.
    assert share < 0.06


def test_two_that_write_without_a_pause_take_turns(sqlite_engine):
    other = create_engine(sqlite_engine.url.render_as_string())
    over, longest, times = threading.Event(), [0.0, 0.0], [0, 0]

    def write(number, engine):
        while not over.is_set():
            began = time.monotonic()
            with write_transaction(engine) as connection:
                connection.execute(insert(User), {"user_id": f"{number} {times[number]}"})
            longest[number] = max(longest[number], time.monotonic() - began)
            times[number] += 1

    threads = [threading.Thread(target=write, args=pair) for pair in enumerate((sqlite_engine, other))]
    for thread in threads:
        thread.start()
    time.sleep(2)
    over.set()
    for thread in threads:
        thread.join()
    other.dispose()

    assert max(longest) < 1
    assert min(times) > max(times) / 4


@pytest.mark.parametrize("shutdown", [False, True])
def test_a_wait_for_postgresql_ends_in_time(empty_postgresql_url, monkeypatch, shutdown):
    # The wait ends even if the server's own limits have no effect, for example behind a proxy that stalls.
    monkeypatch.setattr("zap.db.engine._ANSWER_SECONDS", 60 if shutdown else 1)
    engine = create_engine(empty_postgresql_url, serves=True)
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW statement_timeout")) == "30s"
        begun = time.monotonic()
        if shutdown:
            threading.Timer(0.3, bounds_of(engine).hurry).start()
        with pytest.raises(OperationalError, match="did not answer in time"):
            connection.execute(text("SELECT pg_sleep(20)"))
        assert time.monotonic() - begun < 10
    engine.dispose()


def test_a_transaction_that_does_not_wait_for_the_disk_leaves_the_connection_as_it_was(engine):
    sqlite = engine.dialect.name == "sqlite"
    asked = "PRAGMA synchronous" if sqlite else "SHOW synchronous_commit"

    def durability(connection):
        return connection.exec_driver_sql(asked).scalar_one()

    with write_transaction(engine, durable=False) as connection:
        inside = durability(connection)
    with pytest.raises(ZeroDivisionError), write_transaction(engine, durable=False) as connection:
        raise ZeroDivisionError
    with write_transaction(engine) as connection:
        after = durability(connection)

    # 1 is NORMAL, and 2 is FULL.
    assert (inside, after) == ((1, 2) if sqlite else ("off", "on"))


def test_a_connection_that_was_made_while_no_writes_were_allowed_is_not_kept(empty_postgresql_url):
    url = make_url(empty_postgresql_url)
    change = f'ALTER DATABASE "{url.database}" SET default_transaction_read_only = '
    engine = create_engine(empty_postgresql_url)
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(False), autocommit=True) as admin:
        admin.execute(f"{change}on")
        # Two readers at once open two connections. Each of them goes back to the pool.
        with engine.connect() as first, engine.connect() as second:
            assert first.scalar(text("SELECT 1")) == second.scalar(text("SELECT 1")) == 1
        admin.execute(f"{change}off")

    with engine.begin() as one, engine.begin() as another:
        one.execute(text("CREATE TABLE one (n int)"))
        another.execute(text("CREATE TABLE another (n int)"))
    engine.dispose()
