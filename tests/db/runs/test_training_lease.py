"""The lease of a run: it is heard of, tells how far it has come, and learns that it was ended."""

import subprocess
import sys
import threading
import time

import pytest
from servers import until
from sqlalchemy import text

from zap.db.engine import write_transaction
from zap.db.runs.dead_runs import end_lapsed_runs
from zap.db.runs.run_events import events_after
from zap.db.runs.training_lease import Lease, run_lease
from zap.db.runs.training_runs import cancel_run, claim_run, finish_run, read_run
from zap.errors import TrainingCancelled, TrainingRunning, UnusableHistory


@pytest.fixture
def run(engine):
    return claim_run(engine, "train", {})


def test_it_works(engine, run):
    with run_lease(engine, run) as lease:
        until(lambda: read_run(engine, run)["heartbeat_at"])
        first = read_run(engine, run)["heartbeat_at"]
        until(lambda: read_run(engine, run)["heartbeat_at"] > first)
        with write_transaction(engine) as connection:
            lease.check(connection)
        with lease.last_transaction() as connection:
            finish_run(connection, run, {"done": True})

    assert read_run(engine, run)["status"] == "finished"


def test_what_is_told_is_written_and_much_of_one_phase_is_one_event(engine, run):
    with run_lease(engine, run) as lease:
        lease.tell("read", 0, 1)
        lease.tell("fit", 0, 200)
        for done in range(1, 201):
            lease.tell("fit", done, 200, 1 / done)
        lease.tell("log", 0, 10)
        with lease.last_transaction() as connection:
            finish_run(connection, run, {})

    told = [data for _, data in events_after(engine, run, 0)]
    begins = [data["phase"] for data in told if data["done"] == 0]
    assert begins == ["read", "fit", "log"]
    assert {"phase": "fit", "done": 200, "total": 200, "log_loss": 0.005} in told
    assert len(told) < 10


def test_who_fails_leaves_the_reason(engine, run):
    with pytest.raises(UnusableHistory), run_lease(engine, run):
        raise UnusableHistory("too little")

    assert read_run(engine, run)["status"] == "failed"
    assert read_run(engine, run)["report"]["detail"] == "too little"


def test_an_unexpected_error_fails_it_too(engine, run):
    with pytest.raises(ZeroDivisionError), run_lease(engine, run):
        1 / 0  # noqa: B018

    assert read_run(engine, run)["report"]["detail"] == "the training was ended by ZeroDivisionError"


def test_it_learns_within_two_seconds_that_it_was_cancelled(engine, run):
    ended = threading.Event()
    with pytest.raises(TrainingCancelled), run_lease(engine, run, lambda _: ended.set()) as lease:  # noqa: PT012
        cancel_run(engine, run)
        assert ended.wait(2)
        lease.tell("fit", 1, 200)

    assert read_run(engine, run)["status"] == "cancelled"


def test_who_was_cancelled_cannot_finish(engine, run):
    with pytest.raises(TrainingCancelled), run_lease(engine, run) as lease:  # noqa: PT012
        cancel_run(engine, run)
        with lease.last_transaction() as connection:
            finish_run(connection, run, {})

    assert read_run(engine, run)["report"]["title"] == "The training was cancelled"


def test_a_heartbeat_that_cannot_be_written_is_not_the_end(sqlite_engine):
    # On SQLite another writer may hold the database for long.
    run = claim_run(sqlite_engine, "train", {})
    with run_lease(sqlite_engine, run) as lease:
        until(lambda: read_run(sqlite_engine, run)["heartbeat_at"])
        with write_transaction(sqlite_engine):
            lease.tell("fit", 0, 200)
            # Longer than a transaction waits for its turn.
            time.sleep(5.5)
            assert end_lapsed_runs(sqlite_engine) == []
        until(lambda: events_after(sqlite_engine, run, 0))
        with lease.last_transaction() as connection:
            finish_run(connection, run, {})


def test_the_last_process_has_to_end_first(sqlite_engine, monkeypatch):
    monkeypatch.setattr("zap.db.runs.training_lease._LOCK_SECONDS", 0.1)
    first = claim_run(sqlite_engine, "train", {})
    with Lease(sqlite_engine, first):
        cancel_run(sqlite_engine, first)
        second = claim_run(sqlite_engine, "train", {})
        with pytest.raises(TrainingRunning, match="has not ended"), run_lease(sqlite_engine, second):
            pass

    assert read_run(sqlite_engine, second)["status"] == "failed"


KILLED = """
import sys
from zap.db.engine import create_engine
from zap.db.runs.training_lease import run_lease
with run_lease(create_engine(sys.argv[1]), int(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_process_that_is_killed_is_known_dead_within_15_seconds(engine, database_url, run):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, database_url, str(run)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "held\n"
        until(lambda: read_run(engine, run)["heartbeat_at"])
        assert end_lapsed_runs(engine) == []
        process.kill()
        process.wait()
    killed = time.monotonic()

    until(lambda: end_lapsed_runs(engine))

    assert time.monotonic() - killed < 15
    assert read_run(engine, run)["status"] == "failed"
    assert claim_run(engine, "train", {}) == run + 1


def test_it_goes_on_when_the_database_was_away_for_a_moment(empty_postgresql_url, at_head):
    engine = at_head(empty_postgresql_url)
    run = claim_run(engine, "train", {})
    with run_lease(engine, run) as lease:
        until(lambda: read_run(engine, run)["heartbeat_at"])
        with engine.connect() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        before = read_run(engine, run)["heartbeat_at"]
        until(lambda: read_run(engine, run)["heartbeat_at"] > before)
        with lease.last_transaction() as connection:
            finish_run(connection, run, {})
