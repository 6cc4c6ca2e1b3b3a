"""Transactions that are whole, and the lock that keeps trainings one at a time."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, insert, inspect, select, text
from sqlmodel import col

from zap.db.engine import create_engine, training_lock, write_transaction
from zap.db.schema import upgrade
from zap.db.tables import User
from zap.errors import TrainingRunning

HOLD_THE_LOCK = """
import sys
from zap.db.engine import create_engine, training_lock
with training_lock(create_engine(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def users(engine):
    with engine.connect() as connection:
        return list(connection.scalars(select(col(User.user_id)).order_by(col(User.user_id))))


@pytest.fixture
def holder(database_url):
    """Another process, which holds the training lock until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, database_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


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
    """On SQLite, where a transaction that turns writer half-way would fail."""
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


@pytest.mark.usefixtures("holder")
def test_training_lock_refuses_a_second_process(engine):
    with pytest.raises(TrainingRunning), training_lock(engine):
        pass


def test_training_lock_is_free_when_its_holder_ends(engine, holder):
    holder.communicate(timeout=30)
    with training_lock(engine):
        pass


def test_training_lock_is_free_when_its_holder_is_killed(engine, holder):
    holder.kill()
    holder.wait()
    if engine.dialect.name == "postgresql":
        wait_until_the_server_noticed(engine)
    with training_lock(engine):
        pass


def test_training_lock_is_free_after_a_training_that_failed(engine):
    with pytest.raises(ZeroDivisionError), training_lock(engine):
        1 / 0  # noqa: B018
    with training_lock(engine):
        pass


@pytest.mark.usefixtures("holder")
def test_training_lock_of_another_database_is_another(tmp_path):
    other = create_engine(f"sqlite:///{tmp_path / 'other.sqlite'}")
    with training_lock(other):
        pass


def wait_until_the_server_noticed(engine):
    """The server ends a session a moment after its client's socket has closed."""
    locks = text(
        "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database "
        "WHERE locktype = 'advisory' AND datname = current_database()"
    )
    with engine.connect() as connection:
        for _ in range(500):
            if not connection.scalar(locks):
                return
            connection.execute(text("SELECT pg_sleep(0.01)"))
    pytest.fail("the server still holds the lock of a process that is gone")


@pytest.mark.parametrize(("options", "shown"), [("", "5s"), ("?options=-c%20lock_timeout%3D2s", "2s")])
def test_patience_on_postgresql_unless_the_url_says_otherwise(empty_postgresql_url, options, shown):
    engine = create_engine(empty_postgresql_url + options)

    with engine.connect() as connection:
        assert connection.scalar(text("SHOW lock_timeout")) == shown
    engine.dispose()
