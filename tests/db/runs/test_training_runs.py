"""Training runs: one at a time, finished whole, or nothing of them stays."""

import threading
import time
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlmodel import col

from zap.db.engine import create_engine, process_lock, write_transaction
from zap.db.log.training_log import log_train_predictions
from zap.db.runs import dead_runs
from zap.db.runs.dead_runs import PROCESS_LOCK, end_lapsed_runs, see_to_dead_runs
from zap.db.runs.run_end import remove_leftovers
from zap.db.runs.run_events import add_events, events_after, prune_events
from zap.db.runs.training_runs import (
    beat,
    cancel_run,
    claim_run,
    fail_run,
    finish_run,
    list_runs,
    read_run,
    running_run,
)
from zap.db.tables import ModelVersion, Prediction, TrainingEvent, TrainingRun, utc_now
from zap.errors import NoModel, NotFound, RunEnded, TrainingCancelled, TrainingFailed, TrainingRunning

CLASSES = ["A", "B"]


def add_version(engine, run_id, status="candidate"):
    """A version row; what its bytes are does not matter here."""
    with write_transaction(engine) as connection:
        return connection.execute(
            insert(ModelVersion).returning(col(ModelVersion.model_version)),
            {
                "run_id": run_id, "status": status, "created_at": utc_now(), "artefact": b"x", "sha256": "x",
                "hyper_parameters": {}, "contract": {},
            },
        ).scalar_one()  # fmt: skip


def log_rows(engine, run_id, version, n=10):
    probabilities = np.tile([0.25, 0.75], (n, 1))
    return list(
        log_train_predictions(
            engine, lambda connection: beat(connection, run_id), version, CLASSES, ["A"] * n, probabilities
        )
    )


def heard(engine, run_id, seconds_ago):
    """As if the process of a run was last heard of so long ago."""
    with write_transaction(engine) as connection:
        heard_at = utc_now() - timedelta(seconds=seconds_ago)
        connection.execute(update(TrainingRun).where(col(TrainingRun.run_id) == run_id).values(heartbeat_at=heard_at))


def finish(engine, run_id, report):
    with write_transaction(engine) as connection:
        finish_run(connection, run_id, report)


def column(engine, which):
    with engine.connect() as connection:
        return list(connection.scalars(select(col(which)).order_by(*which.class_.__table__.primary_key)))


def test_it_works(engine):
    run = claim_run(engine, "train", {"windows": True})
    version = add_version(engine, run)
    assert log_rows(engine, run, version, 1_000) == [400, 800, 1_000]
    assert running_run(engine) == run

    finish(engine, run, {"test_f1_score": 0.5})

    assert running_run(engine) is None
    found = read_run(engine, run)
    assert (found["kind"], found["status"], found["options"]) == ("train", "finished", {"windows": True})
    assert found["report"] == {"test_f1_score": 0.5}
    assert found["started_at"] <= found["heartbeat_at"] <= found["finished_at"]
    assert column(engine, Prediction.predicted_class) == ["B"] * 1_000
    assert column(engine, Prediction.actual_class) == ["A"] * 1_000
    assert column(engine, Prediction.probabilities)[0] == {"A": 0.25, "B": 0.75}


# One at a time.


def test_a_second_run_is_refused_with_a_link_to_the_first(engine):
    first = claim_run(engine, "tune", {})

    with pytest.raises(TrainingRunning, match=f"training run {first} has not ended") as refused:
        claim_run(engine, "train", {})

    assert refused.value.problem()["training_run"] == f"/training-runs/{first}"
    assert len(column(engine, TrainingRun.run_id)) == 1


def test_of_many_that_claim_at_once_one_runs(engine, database_url):
    claimed, refused = [], []

    def claim():
        own = create_engine(database_url)
        try:
            claimed.append(claim_run(own, "train", {}))
        except TrainingRunning as error:
            refused.append(error)
        own.dispose()

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(claimed), len(refused)) == (1, 7)
    assert column(engine, TrainingRun.status) == ["running"]


# Ends without a version.


def test_a_run_that_failed_leaves_its_reason_and_nothing_else(engine):
    first = claim_run(engine, "train", {})
    kept = add_version(engine, first)
    log_rows(engine, first, kept)
    finish(engine, first, {})
    second = claim_run(engine, "train", {})
    log_rows(engine, second, add_version(engine, second), 4500)

    assert fail_run(engine, second, NoModel("why"))

    assert column(engine, TrainingRun.status) == ["finished", "failed"]
    assert column(engine, TrainingRun.report)[1]["detail"] == "why"
    assert column(engine, ModelVersion.model_version) == [kept]
    assert column(engine, Prediction.model_version) == [kept] * 10


def test_what_fails_after_the_end_changes_nothing(engine):
    run = claim_run(engine, "train", {})
    version = add_version(engine, run)
    log_rows(engine, run, version)
    finish(engine, run, {"test_f1_score": 0.5})

    assert not fail_run(engine, run, TrainingFailed("told to stop a moment too late"))

    assert column(engine, TrainingRun.status) == ["finished"]
    assert column(engine, ModelVersion.model_version) == [version]
    assert len(column(engine, Prediction.prediction_id)) == 10


def test_a_cancelled_run_can_change_nothing_any_more_and_the_next_can_begin(engine):
    run = claim_run(engine, "train", {})
    version = add_version(engine, run)
    log_rows(engine, run, version)

    cancel_run(engine, run)

    for write in (lambda: log_rows(engine, run, version), lambda: finish(engine, run, {})):
        with pytest.raises(TrainingCancelled):
            write()
    assert len(column(engine, Prediction.prediction_id)) == 10
    # Nobody has to wait until what it left is removed.
    second = claim_run(engine, "train", {})
    assert len(column(engine, Prediction.prediction_id)) == 10
    see_to_dead_runs(engine)
    assert column(engine, Prediction.prediction_id) == []
    assert column(engine, ModelVersion.model_version) == []
    assert (read_run(engine, run)["status"], read_run(engine, second)["status"]) == ("cancelled", "running")


def test_a_run_is_cancelled_once_and_only_while_it_runs(engine):
    run = claim_run(engine, "train", {})
    cancel_run(engine, run)

    with pytest.raises(RunEnded, match="its status is cancelled"):
        cancel_run(engine, run)
    finished = claim_run(engine, "train", {})
    finish(engine, finished, {})
    with pytest.raises(RunEnded, match="its status is finished"):
        cancel_run(engine, finished)
    with pytest.raises(NotFound):
        cancel_run(engine, 99)


def test_leftovers_are_those_of_runs_that_ended_without_a_version(engine):
    finished = claim_run(engine, "train", {})
    kept = add_version(engine, finished)
    log_rows(engine, finished, kept)
    finish(engine, finished, {})
    cancelled = claim_run(engine, "train", {})
    log_rows(engine, cancelled, add_version(engine, cancelled))
    cancel_run(engine, cancelled)

    remove_leftovers(engine)

    assert column(engine, ModelVersion.model_version) == [kept]
    assert column(engine, Prediction.model_version) == [kept] * 10


# Deaths.


@pytest.mark.parametrize(("seconds", "dead"), [(0, False), (6, False), (9, True)])
def test_a_run_that_is_not_heard_of_has_died(empty_postgresql_url, at_head, seconds, dead):
    # On PostgreSQL the process may be on any machine.
    engine = at_head(empty_postgresql_url)
    run = claim_run(engine, "train", {})
    log_rows(engine, run, add_version(engine, run))
    heard(engine, run, seconds)

    assert end_lapsed_runs(engine) == [run] * dead

    remove_leftovers(engine)
    assert read_run(engine, run)["status"] == ("failed" if dead else "running")
    assert len(column(engine, Prediction.prediction_id)) == (0 if dead else 10)
    if dead:
        assert "the process or the machine of the training died" in read_run(engine, run)["report"]["detail"]
        with pytest.raises(TrainingFailed, match="considered dead"):
            log_rows(engine, run, 1)


def test_a_process_that_stands_still_inside_a_transaction_is_known_dead_within_15_seconds(
    empty_postgresql_url, at_head
):
    # The connection of a machine that was lost stays open for hours.
    engine, gone = at_head(empty_postgresql_url), at_head(empty_postgresql_url)
    run = claim_run(engine, "train", {})
    connection = gone.connect()
    transaction = connection.begin()
    beat(connection, run)
    still = time.monotonic()

    while not ended_by_now(engine):
        assert time.monotonic() - still < 15
        time.sleep(0.1)

    assert read_run(engine, run)["status"] == "failed"
    with pytest.raises(DBAPIError):
        finish_run(connection, run, {})
    transaction.close()
    connection.close()


def ended_by_now(engine):
    try:
        return end_lapsed_runs(engine)
    except OperationalError:
        # It waits for the row in vain.
        return []


def test_a_run_whose_process_holds_its_lock_is_alive_however_long_it_cannot_write(sqlite_engine):
    # On SQLite a long import keeps all other processes from writing.
    run = claim_run(sqlite_engine, "train", {})
    heard(sqlite_engine, run, 3600)

    with process_lock(sqlite_engine, PROCESS_LOCK, timeout=0):
        assert end_lapsed_runs(sqlite_engine) == []
    assert end_lapsed_runs(sqlite_engine) == [run]


def test_on_sqlite_the_death_of_a_process_is_known_at_once(sqlite_engine):
    run = claim_run(sqlite_engine, "train", {})
    assert end_lapsed_runs(sqlite_engine) == []
    heard(sqlite_engine, run, 0)

    assert end_lapsed_runs(sqlite_engine) == [run]


def test_a_run_whose_process_never_began_has_died_too(engine):
    run = claim_run(engine, "train", {})
    with write_transaction(engine) as connection:
        connection.execute(update(TrainingRun).values(started_at=utc_now() - timedelta(seconds=15)))

    assert end_lapsed_runs(engine) == [run]


def test_a_new_run_does_not_wait_for_one_that_died(engine):
    run = claim_run(engine, "train", {})
    heard(engine, run, 11)

    second = claim_run(engine, "train", {})

    assert column(engine, TrainingRun.status) == ["failed", "running"]
    assert second == run + 1


# Clocks.


def set_clock(monkeypatch, seconds):
    """From now on the clock of the database is off by so much."""
    monkeypatch.setattr(dead_runs, "database_now", lambda _connection: utc_now() + timedelta(seconds=seconds))


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_is_set_ends_no_run_that_has_not_begun(engine, monkeypatch, seconds):
    run = claim_run(engine, "train", {})
    set_clock(monkeypatch, seconds)

    assert end_lapsed_runs(engine) == []

    # Once a process has had the time to start, the run is dead.
    monkeypatch.setattr(dead_runs, "_START_SECONDS", 0.1)
    time.sleep(0.2)
    assert end_lapsed_runs(engine) == [run]


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_run_that_is_heard_of_again_is_alive_whatever_the_clock_says(
    empty_postgresql_url, at_head, monkeypatch, seconds
):
    # The process that checks does not know that the clock was set.
    engine = at_head(empty_postgresql_url)
    run = claim_run(engine, "train", {})
    heard(engine, run, seconds)
    monkeypatch.setattr(dead_runs.time, "sleep", lambda _: heard(engine, run, 0))

    assert end_lapsed_runs(engine) == []
    assert read_run(engine, run)["status"] == "running"

    monkeypatch.undo()
    heard(engine, run, seconds)
    assert end_lapsed_runs(engine) == [run]


# What runs tell.


def test_events_are_read_from_where_somebody_was(engine):
    run = claim_run(engine, "train", {})
    told = [{"phase": "fit", "done": done, "total": 3} for done in range(4)]
    with write_transaction(engine) as connection:
        add_events(connection, run, told)

    every = events_after(engine, run, 0)

    assert [data for _, data in every] == told
    assert events_after(engine, run, every[1][0]) == every[2:]
    assert events_after(engine, run, every[-1][0]) == []
    assert read_run(engine, run)["progress"] == told[-1]


def test_events_of_old_runs_are_forgotten(engine, monkeypatch):
    monkeypatch.setattr("zap.db.runs.run_events._RUNS_WITH_EVENTS", 2)
    runs = []
    for _ in range(3):
        runs.append(claim_run(engine, "train", {}))
        with write_transaction(engine) as connection:
            add_events(connection, runs[-1], [{"phase": "fit", "done": 0, "total": 1}])
        finish(engine, runs[-1], {})

    with write_transaction(engine) as connection:
        prune_events(connection)

    assert column(engine, TrainingEvent.run_id) == runs[1:]
    assert len(column(engine, TrainingRun.run_id)) == 3


def test_runs_are_listed_newest_first_and_page_by_page(engine):
    runs = []
    for _ in range(5):
        runs.append(claim_run(engine, "train", {}))
        finish(engine, runs[-1], {"large": "x"})

    page = list_runs(engine, 2)

    assert [run["run_id"] for run in page] == runs[:-3:-1]
    assert [run["run_id"] for run in list_runs(engine, 9, before=runs[3])] == runs[2::-1]
    assert "report" not in page[0]


def test_a_run_that_is_not_there_is_not_found(engine):
    with pytest.raises(NotFound, match="no training run 7"):
        read_run(engine, 7)
