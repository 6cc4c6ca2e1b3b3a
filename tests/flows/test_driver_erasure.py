"""The erasure of a driver: gone from every table and file, counted, and nobody else is touched."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from erased import (
    BY_VEHICLE,
    NAMED,
    NOT_FOLLOWED,
    NOW,
    TEXT_ID,
    WITHOUT_ANSWER,
    all_rows,
    driver_with_everything,
    follow,
    in_files,
    log,
    traces,
    words_of,
)
from sqlalchemy import event, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col
from trialled import add_copies

from zap.db.engine import create_engine, write_transaction
from zap.db.erasure import ledger, remains
from zap.db.erasure.driver_rows import unindexed_requests
from zap.db.erasure.erasure_key import FILE_NAME, stored_key
from zap.db.erasure.learned_versions import erased_during
from zap.db.erasure.ledger import Entry, ledger_file, read_file, read_ledger
from zap.db.monitoring.follower_lease import FollowerLease
from zap.db.monitoring.follower_marks import LeaseLost
from zap.db.runs.training_runs import claim_run
from zap.db.tables import ModelVersion, Prediction
from zap.db.versions.model_registry import (
    add_candidate,
    artefact_of,
    load_version,
    production_version,
    read_version,
)
from zap.db.versions.promotions import promote_version, roll_back
from zap.errors import DatabaseUnavailable, FollowerBehind, NotFound
from zap.flows import driver_erasure
from zap.flows.driver_erasure import erase_driver, key_of
from zap.flows.erasure_again import erase_again
from zap.formats.promotion_reason import Reason

# What an erasure changes besides the rows that it removes.
CHANGED = {"erasures", "follower", "session_changes", "model_versions", "monitor_states", "session_facts",
           "audit", "audit_head"}  # fmt: skip


@pytest.fixture
def trained_engine(trained):
    engine = create_engine(trained.database_url)
    yield engine
    engine.dispose()


def test_a_driver_is_gone_from_every_table_and_nobody_else_is_touched(trained_engine, trained):
    engine = trained_engine
    user_id = driver_with_everything(engine, trained)
    words = words_of(user_id)
    others = {f"{user_id}0": traces(engine, f"{user_id}0")}
    assert set(traces(engine, *words)) >= {"Users", "Vehicles", "ChargingSessions", "inference_inputs", "outcomes",
                                           "session_changes", "session_text_ids", "monitor_states"}  # fmt: skip
    follow(engine, trained)
    before = all_rows(engine)

    report = erase_driver(engine, trained, user_id)

    after = all_rows(engine)
    # The id of another driver contains the id, and this driver's requests stay.
    assert traces(engine, f"{user_id}'", f'{user_id}"', *words[1:]) == []
    assert traces(engine, f"{user_id}0") == others[f"{user_id}0"]
    for table, rows in before.items():
        if table not in CHANGED:
            assert after[table] <= rows, table
            assert rows.total() - after[table].total() == report.counts.get(table, 0), table
    requests = NAMED + BY_VEHICLE + NOT_FOLLOWED + WITHOUT_ANSWER
    assert report.counts["inference_inputs"] == requests
    assert report.counts["predictions"] == requests - WITHOUT_ANSWER
    assert report.counts["Users"] == report.counts["Vehicles"] == report.counts["session_text_ids"] == 1
    assert report.counts["session_predictions"] == report.counts["monitor_states"] == 1
    assert report.counts["model_versions"] >= 1
    assert report.versions == [1]
    assert "1 version may have learned from this driver (1)" in report.notes[0]
    # The version still loads: its artefact has not changed, and its other examples are computed again.
    left = read_version(engine, 1)["golden"]
    assert 0 < len(left) <= 8 - report.counts["model_versions"]
    load_version(engine, production_version(engine))
    if engine.dialect.name == "sqlite":
        assert in_files(trained.database_url, TEXT_ID, user_id + '"') == []

    with pytest.raises(NotFound, match="was erased already, at 20"):
        erase_driver(engine, trained, user_id)
    with pytest.raises(NotFound, match="holds nothing"):
        erase_driver(engine, trained, "nobody")


def test_a_follower_in_another_process_is_not_waited_for_longer_than_it_takes(trained_engine, trained, monkeypatch):
    user_id = driver_with_everything(trained_engine, trained)
    lease = FollowerLease(trained_engine)
    assert lease.take()
    monkeypatch.setattr(driver_erasure, "_FOLLOWED_SECONDS", 0.2)

    # Few answers are not followed, and the erasure reads them itself.
    report = erase_driver(trained_engine, trained, user_id)

    assert report.counts["inference_inputs"] == NAMED + BY_VEHICLE + NOT_FOLLOWED + WITHOUT_ANSWER
    assert traces(trained_engine, f"{user_id}'", f'{user_id}"') == []
    # What the follower has read before, it cannot write any more: it would bring the driver back.
    with pytest.raises(LeaseLost), lease.writing():
        pass

    monkeypatch.setattr(driver_erasure, "_NOT_READ", 0)
    log(trained_engine, [{"user_id": "one more"}])
    assert lease.take()
    before = all_rows(trained_engine)
    with pytest.raises(FollowerBehind, match="has not read 3 rows"):
        erase_driver(trained_engine, trained, "one more")
    assert all_rows(trained_engine) == before


def test_ids_of_undone_transactions_do_not_delay_an_erasure(trained_engine, trained, monkeypatch):
    """PostgreSQL gives their ids to no other row. The follower looks for them ten minutes long."""
    user_id = driver_with_everything(trained_engine, trained)
    with trained_engine.connect() as connection:
        connection.execute(
            insert(Prediction), {"prediction_timestamp": NOW, "source": "inference", "predicted_class": "Level 2"}
        )
        connection.rollback()
    log(trained_engine, [{"user_id": "the next one"}])
    follow(trained_engine, trained)
    # Of a busy service, more ids have come since then than the follower may lack.
    monkeypatch.setattr(driver_erasure, "_NOT_READ", 0)

    began = time.monotonic()
    report = erase_driver(trained_engine, trained, user_id)

    assert time.monotonic() - began < driver_erasure._FOLLOWED_SECONDS / 2
    assert report.counts["inference_inputs"] == NAMED + BY_VEHICLE + NOT_FOLLOWED + WITHOUT_ANSWER
    assert traces(trained_engine, f"{user_id}'", f'{user_id}"') == []


def test_the_ledger_says_that_somebody_was_erased_and_only_the_key_says_who(trained_engine, trained):
    user_id = driver_with_everything(trained_engine, trained)

    erase_driver(trained_engine, trained, user_id)

    key = stored_key(None, trained.models_dir)
    with trained_engine.connect() as connection:
        (entry,) = read_ledger(connection)
    assert (entry.driver_hash, entry.key_id) == (key.hash_of(user_id), key.key_id)
    assert (trained.models_dir / FILE_NAME).stat().st_mode & 0o777 == 0o600
    file = ledger_file(trained.database_url)
    if file is not None:
        assert read_file(file) == [entry]
        assert file.stat().st_mode & 0o777 == 0o600
        assert user_id not in file.read_text()


@pytest.mark.parametrize("damage", ["no ledger", None], ids=["damaged", "not writable"])
def test_without_the_file_of_the_ledger_nobody_is_erased(trained_sqlite, damage):
    engine, file = create_engine(trained_sqlite.database_url), ledger_file(trained_sqlite.database_url)
    user_id = driver_with_everything(engine, trained_sqlite)
    follow(engine, trained_sqlite)
    if damage is None:
        file.mkdir()
    else:
        file.write_text(damage)
    before = all_rows(engine)

    with pytest.raises(DatabaseUnavailable, match="Nothing was erased"):
        erase_driver(engine, trained_sqlite, user_id)

    after = all_rows(engine)
    assert after | {"follower": None} == before | {"follower": None}
    engine.dispose()


def test_two_erasures_at_once_are_both_in_the_file_of_the_ledger(trained_sqlite, monkeypatch):
    """One writes the file of the ledger slowly. The other one must not be lost from the file."""
    engine = create_engine(trained_sqlite.database_url)
    log(engine, [{"user_id": "slow"}, {"user_id": "quick"}])
    follow(engine, trained_sqlite)
    key_of(engine, trained_sqlite)
    begun = threading.Event()

    def slowly(file, *, inner=ledger.read_file):
        found = inner(file)
        if not begun.is_set():
            begun.set()
            time.sleep(1)
        return found

    monkeypatch.setattr(ledger, "read_file", slowly)
    slow = threading.Thread(target=erase_driver, args=(engine, trained_sqlite, "slow"))
    slow.start()
    assert begun.wait(10)
    erase_driver(engine, trained_sqlite, "quick")
    slow.join()

    with engine.connect() as connection:
        assert read_file(ledger_file(trained_sqlite.database_url)) == read_ledger(connection)
    engine.dispose()


@pytest.mark.parametrize("unable", ["slow", "refused"])
def test_an_erasure_is_reported_although_the_file_is_not_searched(trained_sqlite, monkeypatch, unable):
    engine = create_engine(trained_sqlite.database_url)
    user_id = driver_with_everything(engine, trained_sqlite)
    monkeypatch.setattr(remains, "REWRITTEN_AT_ONCE", 0)
    if unable == "slow":
        monkeypatch.setattr(remains, "_SEARCH_SECONDS", 0.001)
    else:
        monkeypatch.setattr(remains.unused_bytes, "__file__", "nothing.py")

    report = erase_driver(engine, trained_sqlite, user_id)

    assert report.counts["Users"] == 1
    assert report.places_in_file is None
    assert any("could not be searched" in one for one in report.notes)
    engine.dispose()


def test_a_rollback_during_an_erasure_waits_for_it_and_neither_fails(trained_postgresql):
    engine = create_engine(trained_postgresql.database_url)
    user_id = driver_with_everything(engine, trained_postgresql)
    second = add_copies(engine)[0]
    with write_transaction(engine) as connection:
        examples = select(col(ModelVersion.golden)).where(col(ModelVersion.model_version) == 1).scalar_subquery()
        connection.execute(update(ModelVersion).values(golden=examples))
    promote_version(engine, second, Reason())
    follow(engine, trained_postgresql)
    failed, threads = [], []

    def roll_back_now():
        try:
            roll_back(engine, Reason())
        except SQLAlchemyError as error:
            failed.append(error)

    def between(_connection, _cursor, statement, *_):
        # The erasure has changed the first version, and not the second one.
        if statement.startswith("UPDATE model_versions SET golden") and not threads:
            threads.append(threading.Thread(target=roll_back_now))
            threads[0].start()
            time.sleep(1)

    event.listen(engine, "after_cursor_execute", between)
    report = erase_driver(engine, trained_postgresql, user_id)
    threads[0].join()

    assert failed == []
    assert report.counts["model_versions"] >= 2
    assert production_version(engine).model_version == 1
    engine.dispose()


def test_a_training_that_has_read_the_driver_keeps_no_examples(trained_engine, trained):
    user_id = driver_with_everything(trained_engine, trained)
    run_id = claim_run(trained_engine, "train", {})

    report = erase_driver(trained_engine, trained, user_id)
    assert report.running_training == run_id
    assert f"training {run_id} runs" in report.notes[1]

    with write_transaction(trained_engine) as connection:
        known = {"hyper_parameters": {}, "contract": {}, "golden": [{"request": {}}]}
        number = add_candidate(
            connection, run_id, artefact_of(trained_engine, production_version(trained_engine)), known
        )
    assert read_version(trained_engine, number.model_version)["golden"] is None


def test_a_training_during_an_erasure_that_is_done_again_keeps_no_examples(trained_engine, trained):
    user_id = driver_with_everything(trained_engine, trained)
    key = key_of(trained_engine, trained)
    before = Entry(NOW - timedelta(days=30), None, key.hash_of(user_id), key.key_id, {}, [])
    run_id = claim_run(trained_engine, "train", {})

    assert erase_again(trained_engine, [before], key) == (1, 1)

    with trained_engine.connect() as connection:
        assert erased_during(connection, run_id)


def test_a_kill_in_the_middle_leaves_all_or_nothing(trained_engine, trained):
    """Kill the command at many moments. The rows are as before, or all rows of the driver are gone."""
    user_id = driver_with_everything(trained_engine, trained)
    follow(trained_engine, trained)
    before, killed = all_rows(trained_engine), 0
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, user_id],
        env=os.environ | trained.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as erasing:
        for statement in range(2, 500, 9):
            print(statement, file=erasing.stdin, flush=True)
            code = int(erasing.stdout.readline())
            after = all_rows(trained_engine)
            if code != -signal.SIGKILL:
                assert code == 0
                break
            killed += 1
            if after["erasures"]:
                # It was killed after the commit.
                break
            assert after | {"follower": None} == before | {"follower": None}
        erasing.stdin.close()
    assert killed >= 3
    assert traces(trained_engine, f"{user_id}'", f'{user_id}"') == []
    assert after["erasures"].total() == 1


# For each line with the number of a statement, a process is forked that erases the driver and is killed at it. Its exit
# code is the line of the answer.
KILLED = """
import os, signal, sys
from sqlalchemy import event
from zap.db.engine import create_engine
from zap.flows import driver_erasure
from zap.settings import Settings

def erase(statement):
    settings = Settings()
    engine, statements = create_engine(settings.database_url), []
    def transaction(engine, inner=driver_erasure.write_transaction):
        event.listen(engine, "before_cursor_execute", count)
        return inner(engine)
    def count(*_):
        statements.append(1)
        if len(statements) >= statement:
            os.kill(os.getpid(), signal.SIGKILL)
    driver_erasure.write_transaction = transaction
    sys.stdout = sys.stderr
    driver_erasure.erase_driver(engine, settings, sys.argv[1])

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            erase(int(line))
            code = 0
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_the_requests_that_the_index_lacks_are_found_through_indexes(trained_engine, trained):
    """A portion of a thousand requests must not read all answers: with a million of them that took eleven seconds."""
    engine = trained_engine
    log(engine, [{"user_id": f"driver {number % 500}"} for number in range(5000)])
    follow(engine, trained)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    asked = []
    event.listen(engine, "before_cursor_execute", lambda *call: asked.append(call[2:4]))

    with engine.connect() as connection:
        # After a number, each request is looked at.
        assert list(unindexed_requests(connection, 1))
        (portion, *_) = [one for one in asked if "LEFT JOIN" in one[0]]
        how = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
        plan = "\n".join(str(row[-1]) for row in connection.exec_driver_sql(how + portion[0], portion[1]))

    assert not re.search(r"SCAN [po]\b|Seq Scan on (predictions|outcomes)|Hash", plan), plan
    # The search itself is in the plan.
    assert re.search(r"SEARCH p |Index Scan using \w+ on predictions", plan), plan


def test_the_sets_outside_the_index_are_what_a_look_at_each_request_finds(trained_engine, trained):
    engine = trained_engine
    driver_with_everything(engine, trained)
    log(engine, [{"vehicle_id": 77}, {"charger": "none"}] * 3)
    log(engine, [{"user_id": "not followed yet"}] * 2)

    def found():
        asked = []

        def note(*call):
            asked.append(call[2])

        event.listen(engine, "before_cursor_execute", note)
        with engine.connect() as connection:
            quick = {number: one for _, names in unindexed_requests(connection) for number, one in names.items()}
            is_quick = not any("LIMIT" in one for one in asked)
            # The first request is the driver's, and is in the index or not like all others.
            slow = {number: one for _, names in unindexed_requests(connection, 1) for number, one in names.items()}
        event.remove(engine, "before_cursor_execute", note)
        quick.pop(1, None)
        assert quick == slow
        return len(quick), is_quick

    number, is_quick = found()
    assert (number > NOT_FOLLOWED + WITHOUT_ANSWER + BY_VEHICLE, is_quick) == (True, True)
    follow(engine, trained)
    assert found() == (number - 2 - NOT_FOLLOWED, True)
    # Another program has removed entries of the index: then each request is looked at.
    with write_transaction(engine) as connection:
        connection.exec_driver_sql("DELETE FROM outcomes WHERE user_id IS NOT NULL AND (prediction_id & 1) = 0")
    more, is_quick = found()
    assert (more > number, is_quick) == (True, False)
