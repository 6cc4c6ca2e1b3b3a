"""Copies of whole databases: there and back, in parts, interrupted, and what is refused."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from databases import connect, postgresql_database
from every_table import fill_every_table
from sqlalchemy import delete, insert, inspect, text, update

from zap.db.audit import note
from zap.db.audit_chain import verify
from zap.db.engine import create_engine, write_transaction
from zap.db.moving import table_copy
from zap.db.moving.connections import reading
from zap.db.moving.database_digests import database_digests
from zap.db.moving.moved_tables import moved_tables
from zap.db.moving.odd_cells import OddCells
from zap.db.schema import check_at_head, upgrade
from zap.db.tables import ChargingSession, InferenceInput, ModelVersion, Prediction, User, utc_now
from zap.db.triggers import lost_triggers
from zap.errors import DatabaseInUse, DatabaseNotEmpty, DatabaseUnavailable, InvalidSettings, UnsoundDatabase
from zap.flows.database_copy import CopyOptions, copy_database
from zap.progress import no_progress

FINISH = CopyOptions(finish=True)
KILLED = """
import os, signal, sys
from zap.db.moving import row_writes, table_copy
from zap.flows.database_copy import CopyOptions, copy_database
table_copy.PORTION = 100
def progress(what, done, total, _=None):
    if what == "copying inference_inputs" and done >= 300:
        os.kill(os.getpid(), signal.SIGKILL)
copy_database(sys.argv[1], sys.argv[2], CopyOptions(), progress)
"""


def digests(url):
    """Return the number of rows and the hash of each table."""
    odd = OddCells(sqlite=True, refuses=False)
    with reading(url) as connection:
        found = database_digests(connection, moved_tables(), odd.treat, no_progress, "")
    return {name: (digest.rows, digest.shown) for name, digest in found.items()}


@pytest.fixture
def source(sqlite_engine):
    """Return the URL of a SQLite database that no process has open."""
    sqlite_engine.dispose()
    return str(sqlite_engine.url)


@pytest.fixture
def target(_postgresql_at_head):
    """Yield the URL of an empty PostgreSQL database, which has its tables already because that saves time."""
    with postgresql_database(_postgresql_at_head) as url:
        yield url


@pytest.fixture
def change(source):
    """Return a function that runs statements in the source, and leaves no connection to it."""

    def run(*statements):
        engine = create_engine(source)
        with write_transaction(engine) as connection:
            for statement, *rows in statements:
                connection.execute(text(statement) if isinstance(statement, str) else statement, *rows)
        engine.dispose()

    return run


@pytest.fixture
def filled(source):
    engine = create_engine(source)
    fill_every_table(engine)
    engine.dispose()
    return source


def requests(first, last):
    """Return the rows of requests and their answers."""
    now = utc_now()
    numbers = range(first, last + 1)
    inputs = [{"input_id": n, "request_timestamp": now, "input_data_json": f'{{"n": {n}}}'} for n in numbers]
    answers = [
        {"prediction_id": n, "input_id": n, "prediction_timestamp": now, "source": "inference", "predicted_class": "A"}
        for n in numbers
    ]
    return (insert(InferenceInput), inputs), (insert(Prediction), answers)


def test_it_works_there_and_back(filled, empty_postgresql_url, tmp_path):
    back = f"sqlite:///{tmp_path / 'back.sqlite'}"

    there = copy_database(filled, empty_postgresql_url, FINISH)

    assert {one.table: (one.rows, one.digest) for one in there.tables} == digests(filled)
    assert digests(filled) == digests(empty_postgresql_url)
    # The audit has a row for the copy.
    rows = {"audit_head": 1, "audit": 6}
    assert all(one.rows == one.added == rows.get(one.table, 5) for one in there.tables)

    copy_database(empty_postgresql_url, back, FINISH)
    assert digests(empty_postgresql_url) == digests(back)


def test_a_finished_copy_serves(filled, target, tmp_path):
    """The copy has the schema of every other database: keys, triggers, and ids that go on."""
    back = f"sqlite:///{tmp_path / 'back.sqlite'}"
    copy_database(filled, target, FINISH)
    copy_database(target, back, FINISH)

    for url in (target, back):
        engine = create_engine(url)
        assert check_at_head(engine) is None
        with write_transaction(engine) as connection:
            assert lost_triggers(connection) == {}
            keys = inspect(connection).get_foreign_keys("predictions")
            number = connection.scalar(
                insert(Prediction)
                .values(prediction_timestamp=utc_now(), source="train", predicted_class="A")
                .returning(Prediction.__table__.c.prediction_id)
            )
            changes = connection.execute(text("SELECT session_id FROM session_changes")).all()
            note(connection, "version.promote", "version 1")
        assert verify(engine).why is None
        assert [key["referred_table"] for key in keys] == ["inference_inputs"]
        assert number == 51
        # Any session may have changed.
        assert set(changes) == {(None,)}
        assert not inspect(engine).has_table("zap_copy")
        engine.dispose()


def test_ids_go_on_after_the_highest_that_was_given(source, change, target):
    change(*requests(1, 9), ("DELETE FROM predictions",), ("DELETE FROM inference_inputs WHERE input_id > 4",))

    copy_database(source, target, FINISH)

    with connect(target) as connection:
        added = (
            "INSERT INTO inference_inputs (request_timestamp, input_data_json) VALUES (now(), '') RETURNING input_id"
        )
        assert connection.execute(added).fetchone() == (10,)


def test_later_parts_copy_only_what_is_new(filled, change, target, monkeypatch):
    monkeypatch.setattr(table_copy, "PORTION", 10)
    change(*requests(100, 199))
    first = copy_database(filled, target, CopyOptions())
    versions = ModelVersion.__table__
    change(
        *requests(200, 229),
        # Another version serves: at no moment two of them do.
        (update(versions).where(versions.c.status == "production").values(status="archived"),),
        (update(versions).where(versions.c.model_version == 10).values(status="production"),),
        (delete(User).where(User.__table__.c.user_id == "a"),),
        (update(ChargingSession).where(ChargingSession.__table__.c.session_id == 30).values(charger_type="other"),),
    )

    second = copy_database(filled, target, FINISH)

    done = {one.table: (one.added, one.removed) for one in second.tables}
    assert {one.table: (one.added, one.removed) for one in first.tables}["predictions"] == (105, 0)
    assert done["predictions"] == done["inference_inputs"] == (30, 0)
    assert done["model_versions"] == (2, 2)
    assert done["Users"] == (0, 1)
    assert done["ChargingSessions"] == (1, 1)
    assert done["quality_days"] == (0, 0)
    assert digests(filled) == digests(target)


@pytest.mark.parametrize("removed", ["prediction_id <= 3", "prediction_id = 120"])
def test_removed_rows_of_the_log_are_removed_from_the_copy(source, change, target, monkeypatch, removed):
    monkeypatch.setattr(table_copy, "PORTION", 10)
    change(*requests(1, 199))
    copy_database(source, target, CopyOptions())
    change((f"DELETE FROM predictions WHERE {removed}",))

    copy_database(source, target, FINISH)

    assert digests(source) == digests(target)


def test_rows_of_the_log_that_were_compared_are_not_read_again_unless_all_are_compared(
    source, change, target, monkeypatch
):
    monkeypatch.setattr(table_copy, "PORTION", 10)
    change(*requests(1, 100))
    copy_database(source, target, CopyOptions())
    change(("UPDATE predictions SET predicted_class = 'B' WHERE prediction_id = 1",))

    second = copy_database(source, target, CopyOptions())
    third = copy_database(source, target, CopyOptions(compare_all=True))

    changed = [{one.table: one.added for one in part.tables}["predictions"] for part in (second, third)]
    assert changed == [0, 1]
    assert digests(source) == digests(target)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_killed_copy_goes_on(source, change, engine, request, tmp_path):
    change(*requests(1, 1000))
    target = f"sqlite:///{tmp_path / 'new.sqlite'}"
    if engine == "postgresql":
        target = request.getfixturevalue("target")

    killed = subprocess.run([sys.executable, "-c", KILLED, source, target], env=os.environ, check=False)
    begun = create_engine(target)
    with pytest.raises(DatabaseUnavailable, match="unfinished copy"):
        check_at_head(begun)
    begun.dispose()
    done = copy_database(source, target, FINISH)

    assert killed.returncode == -signal.SIGKILL
    assert 0 < {one.table: one.added for one in done.tables}["inference_inputs"] < 1000
    assert digests(source) == digests(target)


ODD = {
    "UPDATE \"Users\" SET user_type = 'x' || char(0) WHERE user_id = 'a'": "U+0000: user_id a has 'x\\x00'",
    "UPDATE \"Users\" SET user_type = CAST(x'ff41' AS TEXT) WHERE user_id = 'B'": "in UTF-8: user_id B has b'\\xffA'",
    "UPDATE \"Vehicles\" SET vehicle_model = x'41'": "vehicle_model is no text: vehicle_id 10 has b'A'",
    "UPDATE \"ChargingSessions\" SET charging_start_time = 'soon'": "start_time is no time: session_id 10 has 'soon'",
    "UPDATE \"ChargingSessions\" SET timestamp = '2026-01-01 10:00:00+01:00'": "timestamp has an offset",
    "UPDATE \"ChargingSessions\" SET temperature_c = 'warm'": "temperature_c is no number",
    'UPDATE "ChargingSessions" SET vehicle_id = 1.5': "vehicle_id is no whole number",
    "UPDATE model_versions SET seed = 3000000000": "seed is no number of 32 bits",
    "UPDATE predictions SET probabilities = '{\"A\": NaN}'": "probabilities is no JSON",
    "UPDATE outcomes SET asked_at = '2026-02-30 00:00:00'": "asked_at is no time",
    "UPDATE quality_days SET sums = 'text'": "sums is a text, not bytes",
    "DELETE FROM inference_inputs WHERE input_id = 10": "does not exist: prediction_id 10",
}


def test_what_postgresql_cannot_hold_is_named_before_anything_is_copied(filled, empty_postgresql_url):
    with closing(sqlite3.connect(filled.removeprefix("sqlite:///"))) as database, database:
        for statement in ODD:
            database.execute(statement)

    with pytest.raises(UnsoundDatabase) as refused:
        copy_database(filled, empty_postgresql_url, FINISH)

    findings = refused.value.details["findings"]
    assert [says for says in ODD.values() if not any(says in finding for finding in findings)] == []
    assert len(findings) == len(ODD)
    with connect(empty_postgresql_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_rows_that_lose_their_parents_later_are_named_at_the_end(filled, change, target):
    copy_database(filled, target, CopyOptions())
    with closing(sqlite3.connect(filled.removeprefix("sqlite:///"))) as database, database:
        database.execute("DELETE FROM inference_inputs WHERE input_id = 10")

    with pytest.raises(UnsoundDatabase, match="does not exist: prediction_id 10"):
        copy_database(filled, target, FINISH)
    change(("UPDATE predictions SET input_id = NULL WHERE input_id = 10",))
    # The row of a log has changed, which no program of zap does.
    copy_database(filled, target, CopyOptions(finish=True, compare_all=True))

    assert digests(filled) == digests(target)


def test_the_database_of_the_earlier_service_moves(zapapp_database, target, tmp_path):
    old = f"sqlite:///{tmp_path / 'zapapp.sqlite'}"
    shutil.copyfile(zapapp_database, tmp_path / "zapapp.sqlite")
    upgrade(old)

    copied = copy_database(old, target, FINISH)

    rows = {name: rows for name, (rows, _) in digests(old).items()}
    assert rows == {one.table: one.rows for one in copied.tables} == {n: r for n, (r, _) in digests(target).items()}
    assert rows["ChargingSessions"] == 1320
    assert "tables of other programs are not copied: ChargingSessions_Encoded" in copied.notes[-1]


def test_times_of_older_programs_are_rewritten_and_told(source, change, target):
    change(
        ("INSERT INTO inference_inputs VALUES (1, '2025-11-09T22:26:36.760882', '{}')",),
        ("INSERT INTO inference_inputs VALUES (2, '2025-11-09T22:26:36+01:00', '{}')",),
        ("INSERT INTO \"ChargingSessions\" (session_id, charging_start_time) VALUES (1, '2025-11-09T22:26')",),
    )

    copied = copy_database(source, target, FINISH)

    with connect(target) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        read = "SELECT request_timestamp::text FROM inference_inputs ORDER BY 1 DESC"
        assert connection.execute(read).fetchall() == [("2025-11-09 22:26:36.760882+00",), ("2025-11-09 21:26:36+00",)]
        read = 'SELECT charging_start_time::text FROM "ChargingSessions"'
        assert connection.execute(read).fetchall() == [("2025-11-09 22:26:00",)]
    assert "request_timestamp has no offset, and counts as UTC, such as input_id 1" in copied.notes[1]
    assert len(copied.notes) == 3


def test_what_only_postgresql_holds_is_copied_to_sqlite(target, tmp_path):
    """A number that is not a number counts as missing, and a time after all times is a text that means no time."""
    with connect(target, autocommit=True) as connection:
        connection.execute(
            'INSERT INTO "ChargingSessions" (session_id, temperature_c, charging_start_time, charging_end_time)'
            " VALUES (1, 'NaN', 'infinity', '2026-01-01 10:00:00.25')"
        )
    back = f"sqlite:///{tmp_path / 'new.sqlite'}"

    copied = copy_database(target, back, FINISH)

    engine = create_engine(back)
    with engine.connect() as connection:
        read = 'SELECT temperature_c, charging_start_time, charging_end_time FROM "ChargingSessions"'
        assert connection.execute(text(read)).all() == [(None, "infinity", "2026-01-01 10:00:00.25")]
    engine.dispose()
    assert "temperature_c is not a number, which counts as missing, such as session_id 1" in copied.notes[0]


def test_a_database_in_use_is_refused(filled, target):
    engine = create_engine(filled)
    engine.connect().close()

    with pytest.raises(DatabaseInUse, match="has the file open"):
        copy_database(filled, target, FINISH)
    copy_database(filled, target, CopyOptions())
    with connect(target), pytest.raises(DatabaseInUse, match=r"connection \d+ \(no name, user "):
        copy_database(filled, target, CopyOptions())
    engine.dispose()
    with connect(target):
        copy_database(filled, target, CopyOptions(finish=True, force=True))

    assert digests(filled) == digests(target)


def test_another_target_is_refused(filled, target, tmp_path):
    other = f"sqlite:///{tmp_path / 'other.sqlite'}"
    upgrade(other)
    copy_database(filled, target, CopyOptions())

    with pytest.raises(DatabaseNotEmpty, match="unfinished copy of"):
        copy_database(other, target, CopyOptions())
    with pytest.raises(DatabaseNotEmpty, match="has rows already"):
        copy_database(other, filled, CopyOptions())
    with pytest.raises(InvalidSettings, match="is the database that is to be copied"):
        copy_database(filled, filled, CopyOptions())
    with pytest.raises(InvalidSettings, match="is the database that is to be copied"):
        copy_database(target, target, CopyOptions())
