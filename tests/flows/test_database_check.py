"""The check of a whole database."""

import sqlite3
from contextlib import closing

import pytest
from databases import connect
from every_table import fill_every_table
from sqlalchemy import insert

from zap.db.engine import create_engine, write_transaction
from zap.db.schema import upgrade
from zap.db.tables import ModelVersion, TrainingRun, utc_now
from zap.flows.database_check import check_database
from zap.ml.fitted import sha256


def add_version(engine, number=None, **values):
    """Add a version with its run. With a number, the database does not give the ids."""
    now, runs = utc_now(), TrainingRun.__table__
    with write_transaction(engine) as connection:
        run = {"kind": "train", "status": "finished", "started_at": now} | ({"run_id": number} if number else {})
        values |= {"model_version": number} if number else {}
        values["run_id"] = connection.scalar(insert(runs).values(run).returning(runs.c.run_id))
        version = {"status": "candidate", "created_at": now, "contract": {}, "hyper_parameters": {}}
        connection.execute(insert(ModelVersion).values(version | values))


def sentences(url):
    return [finding.sentence for finding in check_database(url).findings]


def test_a_sound_database_has_no_findings(engine, database_url):
    add_version(engine, artefact=b"bytes", sha256=sha256(b"bytes"))

    checked = check_database(database_url)

    assert (checked.findings, checked.notes) == ([], [])
    assert checked.tables["model_versions"].rows == 1


def test_both_engines_have_equal_hashes(sqlite_engine, empty_postgresql_url):
    upgrade(empty_postgresql_url)
    other = create_engine(empty_postgresql_url)
    for engine in (sqlite_engine, other):
        fill_every_table(engine)
    other.dispose()

    assert check_database(str(sqlite_engine.url)).tables == check_database(empty_postgresql_url).tables


def test_changed_artefacts_and_ids_that_will_be_given_twice_are_found(engine, database_url):
    add_version(engine, 1, artefact=b"other bytes", sha256=sha256(b"bytes"))
    with write_transaction(engine) as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("UPDATE sqlite_sequence SET seq = 0 WHERE name = 'model_versions'")

    assert (
        sentences(database_url)
        == [
            "training_runs: the next id is 1, but there is a row with the id 1",
            "model_versions: the next id is 1, but there is a row with the id 1",
            "model_versions: the bytes of the version do not have their SHA-256: model_version 1",
        ][1 if database_url.startswith("sqlite") else 0 :]
    )


def test_rows_without_parents_and_lost_triggers_are_found_on_postgresql(empty_postgresql_url):
    upgrade(empty_postgresql_url)
    with connect(empty_postgresql_url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "INSERT INTO predictions (input_id, prediction_timestamp, source, predicted_class)"
            " SELECT 7, now(), 'inference', 'A' FROM generate_series(1, 12)"
        )
        connection.execute('DROP TRIGGER zap_session_updated ON "ChargingSessions"')

    orphans, lost = sentences(empty_postgresql_url)

    assert orphans.startswith(
        "predictions: input_id names a row of inference_inputs that does not exist: prediction_id 1"
    )
    assert orphans.endswith("prediction_id 10 and 2 more")
    assert "lacks the triggers zap_session_updated" in lost


@pytest.fixture
def sqlite_file(sqlite_engine):
    fill_every_table(sqlite_engine)
    sqlite_engine.dispose()
    return sqlite_engine.url.database


def test_broken_values_are_found_on_sqlite(sqlite_file):
    with closing(sqlite3.connect(sqlite_file)) as database, database:
        for statement in (
            "UPDATE quality_days SET answers = '{' WHERE model_version = 20",
            "UPDATE \"ChargingSessions\" SET charging_start_time = '01/02/2026' WHERE session_id < 25",
            "UPDATE \"ChargingSessions\" SET user_id = CAST(x'ff' AS TEXT) WHERE session_id = 50",
            "UPDATE inference_inputs SET request_timestamp = '2025-01-01T00:00:00' WHERE input_id = 20",
            "DELETE FROM alarms WHERE alarm_id = 30",
            "DROP TRIGGER zap_audit_updated",
            "UPDATE audit SET who = 'nobody' WHERE audit_id = 4",
            "DELETE FROM model_versions",
        ):
            database.execute(statement)

    checked = check_database(f"sqlite:///{sqlite_file}")
    found = [finding.sentence for finding in checked.findings]

    assert (
        "ChargingSessions: charging_start_time is no time: session_id 10 has '01/02/2026'; session_id 20 has"
        " '01/02/2026'"
    ) in found
    assert "ChargingSessions: user_id is no text in UTF-8: session_id 50 has b'\\xff'" in found
    assert any("quality_days: answers is no JSON: model_version 20, day 2026-03-30 01:59:58" in one for one in found)
    assert "alarm_deliveries: alarm_id names a row of alarms that does not exist: delivery_id 30" in found
    assert [note.what for note in checked.notes] == ["request_timestamp has no offset, and counts as UTC"]
    assert "audit: row 4 was changed: its values do not give its hash" in found
    assert any("audit lacks the triggers zap_audit_updated" in one for one in found)
    assert len(found) == 10


def test_damaged_pages_are_found(sqlite_file):
    with closing(sqlite3.connect(sqlite_file)) as database:
        (root,) = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'ix_predictions_input_id'"
        ).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    with open(sqlite_file, "r+b") as damaged:  # noqa: PTH123
        damaged.seek((root - 1) * size)
        damaged.write(b"\xff" * size)

    (found,) = sentences(f"sqlite:///{sqlite_file}")

    assert found.startswith("the file: SQLite found damage")
