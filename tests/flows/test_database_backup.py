"""Backups of whole databases, and their restore onto each engine."""

import sqlite3
import stat
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic import command
from databases import config_for, connect
from every_table import fill_every_table
from sqlalchemy import insert, make_url, select, text

from zap.db.engine import create_engine, write_transaction
from zap.db.moving.connections import reading
from zap.db.moving.database_digests import database_digests
from zap.db.moving.database_users import alone_on_file
from zap.db.moving.moved_tables import moved_tables
from zap.db.moving.odd_cells import OddCells
from zap.db.schema import check_at_head
from zap.db.tables import InferenceInput, User, utc_now
from zap.db.triggers import lost_triggers
from zap.errors import DamagedBackup, DatabaseAhead, DatabaseInUse, DatabaseNotEmpty, UnsoundDatabase, UnusableFile
from zap.flows.database_backup import back_up
from zap.flows.database_copy import CopyOptions, copy_database
from zap.flows.database_restore import RestoreOptions, restore
from zap.progress import no_progress

USUAL, REPLACE = RestoreOptions(), RestoreOptions(replace=True)
# The audit gets a row for a restore, and logins end.
CHANGED = {"audit", "audit_head", "logins"}
# Lets one index lead to the pages of another one.
_OTHER_INDEX = """
UPDATE sqlite_master SET rootpage = (
    SELECT rootpage FROM sqlite_master WHERE name = 'ix_ChargingSessions_user_id_charging_start_time'
) WHERE name = 'ix_ChargingSessions_charging_start_time'
"""


def digests(url):
    """Return the number of rows and the hash of each table, without the ones that a restore changes."""
    odd = OddCells(sqlite=True, refuses=False)
    with reading(url) as connection:
        found = database_digests(connection, moved_tables(), odd.treat, no_progress, "")
    return shown(found)


def shown(found):
    return {name: (digest.rows, digest.shown) for name, digest in found.items() if name not in CHANGED}


@contextmanager
def opened(url):
    engine = create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def filled(database_url):
    """Return the URL of a database with rows in every table, on each engine."""
    with opened(database_url) as engine:
        fill_every_table(engine)
    return database_url


@pytest.fixture
def filled_sqlite(sqlite_engine):
    fill_every_table(sqlite_engine)
    sqlite_engine.dispose()
    return str(sqlite_engine.url)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "backup.zap"


def test_it_works_onto_both_engines(filled, file, empty_postgresql_url, tmp_path):
    new = f"sqlite:///{tmp_path / 'restored' / 'zap.sqlite'}"
    before = digests(filled)

    made = back_up(filled, file)
    for url in (new, empty_postgresql_url):
        restored = restore(file, url, USUAL)

        assert digests(url) == before
        assert shown(restored.tables) == before
        with opened(url) as engine:
            assert check_at_head(engine) is None
            with write_transaction(engine) as connection:
                assert lost_triggers(connection) == {}
                added = insert(InferenceInput).values(request_timestamp=utc_now(), input_data_json="{}")
                assert connection.scalar(added.returning(InferenceInput.__table__.c.input_id)) == 51
    assert restored.made_at.endswith("+00:00")
    assert made.bytes == file.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # One file is the whole backup, and nothing is left beside the restored file.
    assert [path.name for path in tmp_path.glob("backup*")] == ["backup.zap"]
    assert not list((tmp_path / "restored").glob("*.restored*"))


def test_an_existing_database_is_replaced_only_if_that_is_said(filled, file):
    back_up(filled, file)
    before = digests(filled)
    with opened(filled) as engine, write_transaction(engine) as connection:
        connection.execute(insert(User).values(user_id="later"))
        numbers = [{"input_id": n, "request_timestamp": utc_now(), "input_data_json": "{}"} for n in (60, 70)]
        connection.execute(insert(InferenceInput), numbers)

    with pytest.raises(DatabaseNotEmpty, match="--replace replaces all of them"):
        restore(file, filled, USUAL)
    restore(file, filled, REPLACE)

    assert digests(filled) == before
    # The ids of the requests that are gone are not given again.
    with opened(filled) as engine, write_transaction(engine) as connection:
        added = insert(InferenceInput).values(request_timestamp=utc_now(), input_data_json="{}")
        number = connection.scalar(added.returning(InferenceInput.__table__.c.input_id))
    assert number == (71 if filled.startswith("sqlite") else 51)


def test_a_database_in_use_is_refused(filled, file):
    back_up(filled, file)
    with opened(filled) as engine, engine.connect():
        with pytest.raises(DatabaseInUse):
            restore(file, filled, REPLACE)
        back_up(filled, file)


def test_nobody_opens_a_file_while_it_is_replaced(filled_sqlite):
    """Programs that come in between neither lose commits nor read half a file."""
    file = Path(make_url(filled_sqlite).database)
    with opened(filled_sqlite) as engine, engine.connect() as connection:
        connection.execute(text("SELECT count(*) FROM predictions"))
        with pytest.raises(DatabaseInUse), alone_on_file(file):
            pass
    with alone_on_file(file), closing(sqlite3.connect(file, timeout=0)) as other:
        assert not Path(f"{file}-wal").exists()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("SELECT count(*) FROM predictions")


def test_a_backup_is_one_snapshot_while_others_write(filled_sqlite, file):
    """Each request of the backup has its answer, although a writer commits all the time."""
    over = threading.Event()

    def write():
        with opened(filled_sqlite) as engine:
            number = 1000
            while not over.is_set():
                number += 1
                with write_transaction(engine) as connection:
                    values = {"n": number, "j": "x" * 2000}
                    add = "INSERT INTO inference_inputs VALUES (:n, '2026-01-01T00:00:00.000000+00:00', :j)"
                    connection.execute(text(add), values)
                    add = (
                        "INSERT INTO predictions (prediction_id, input_id, prediction_timestamp, source,"
                        " predicted_class) VALUES (:n, :n, '2026-01-01T00:00:00.000000+00:00', 'inference', 'A')"
                    )
                    connection.execute(text(add), values)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        back_up(filled_sqlite, file)
    finally:
        over.set()
        writer.join()

    with closing(sqlite3.connect(file)) as backup:
        (inputs,) = backup.execute("SELECT count(*) FROM inference_inputs").fetchone()
        (answers,) = backup.execute("SELECT count(*) FROM predictions WHERE input_id = prediction_id").fetchone()
        assert backup.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert inputs == answers >= 5


def test_a_backup_of_an_older_zap_is_upgraded(tmp_path):
    old, new = f"sqlite:///{tmp_path / 'old.sqlite'}", f"sqlite:///{tmp_path / 'new.sqlite'}"
    command.upgrade(config_for(old), "0008")
    with closing(sqlite3.connect(tmp_path / "old.sqlite")) as database, database:
        database.execute("INSERT INTO Users VALUES ('ann', 'Commuter')")
    lines = []

    # A name with characters that mean something in a URL.
    file = tmp_path / "a backup?mode=ro#1 %20.zap"
    made = back_up(old, file)
    restore(file, new, USUAL, report=lines.append)

    assert made.tables["Users"].rows == 1
    assert "outcomes" not in made.tables
    assert lines[0] == "upgraded to 0009"
    with opened(new) as engine, engine.connect() as connection:
        assert connection.execute(select(User.__table__)).all() == [("ann", "Commuter")]
        assert check_at_head(engine) is None
    with closing(sqlite3.connect(tmp_path / "new.sqlite")) as database:
        assert database.execute("SELECT name FROM sqlite_master WHERE name = 'zap_backup'").fetchall() == []


def test_a_backup_by_another_program_is_restored_without_hashes(filled_sqlite, tmp_path):
    other, new = tmp_path / "other.sqlite", f"sqlite:///{tmp_path / 'new.sqlite'}"
    with closing(sqlite3.connect(filled_sqlite.removeprefix("sqlite:///"))) as database:
        database.execute("VACUUM INTO ?", (str(other),))

    restored = restore(other, new, USUAL)

    assert digests(new) == digests(filled_sqlite)
    assert restored.made_at is None
    assert "says no hashes" in restored.notes[0]
    # The artefacts of these versions are made up.
    assert "do not have their SHA-256" in restored.notes[1]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda file: file.write_bytes(b"Dear Sir or Madam, " * 400), "file is not a database"),
        (lambda file: file.write_bytes(file.read_bytes()[:50_000]), "malformed|page|disk image"),
        (
            lambda file: _run(file, "UPDATE predictions SET predicted_class = 'C' WHERE prediction_id = 10"),
            "predictions",
        ),
        (lambda file: _run(file, "DELETE FROM promotions"), "the rows of promotions have changed"),
        (lambda file: _run(file, "DROP TABLE alembic_version"), "not a backup of a database of zap"),
        # The message names the backup, and not the copy of it that is checked.
        (
            lambda file: _run(file, "PRAGMA writable_schema=ON", _OTHER_INDEX),
            r"backup\.zap: (row|wrong|non-unique|malformed|2nd|Tree)",
        ),
    ],
    ids=["letter", "short", "changed", "removed", "other", "index"],
)
def test_a_damaged_backup_is_refused(filled_sqlite, file, spoil, says):
    back_up(filled_sqlite, file)
    spoil(file)
    before = digests(filled_sqlite)

    with pytest.raises(DamagedBackup, match=says):
        restore(file, filled_sqlite, REPLACE)

    assert digests(filled_sqlite) == before
    assert not list(file.parent.glob("*.restored*"))


def _run(file, *statements):
    with closing(sqlite3.connect(file)) as database, database:
        for statement in statements:
            database.execute(statement)


def test_the_backup_of_a_newer_zap_is_refused(filled_sqlite, file, tmp_path):
    back_up(filled_sqlite, file)
    _run(file, "UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(DatabaseAhead):
        restore(file, f"sqlite:///{tmp_path / 'new.sqlite'}", USUAL)

    assert not (tmp_path / "new.sqlite").exists()


def test_a_restore_that_fails_changes_nothing(filled, file):
    back_up(filled, file)
    with opened(filled) as engine, write_transaction(engine) as connection:
        connection.execute(insert(User).values(user_id="later"))
    before = digests(filled)

    def fail(what, _done, _total, _log_loss=None):
        if what in {"restoring promotions", "checking"}:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(file, filled, REPLACE, fail)

    assert digests(filled) == before
    with opened(filled) as engine:
        assert check_at_head(engine) is None


def test_a_damaged_database_is_replaced(filled_sqlite, file):
    back_up(filled_sqlite, file)
    database = Path(make_url(filled_sqlite).database)
    before = digests(filled_sqlite)
    database.chmod(0o640)
    database.write_bytes(b"damaged" * 10_000)

    restore(file, filled_sqlite, REPLACE)

    assert digests(filled_sqlite) == before
    assert stat.S_IMODE(database.stat().st_mode) == 0o640


def test_a_database_whose_ledger_is_damaged_is_replaced(filled_sqlite, file):
    back_up(filled_sqlite, file)
    database = Path(make_url(filled_sqlite).database)
    before = digests(filled_sqlite)
    with closing(sqlite3.connect(database)) as connection:
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'erasures'")
        ((size,),) = connection.execute("PRAGMA page_size")
    with database.open("r+b") as damaged:
        damaged.seek((page - 1) * size)
        damaged.write(b"\xff" * size)

    restore(file, filled_sqlite, REPLACE)

    assert digests(filled_sqlite) == before


def test_what_postgresql_cannot_hold_is_named(filled_sqlite, file, empty_postgresql_url):
    _run(filled_sqlite.removeprefix("sqlite:///"), "UPDATE outcomes SET asked_at = 'soon' WHERE prediction_id = 10")
    made = back_up(filled_sqlite, file)

    with pytest.raises(UnsoundDatabase, match="asked_at is no time: prediction_id 10 has 'soon'"):
        restore(file, empty_postgresql_url, USUAL)

    assert made.notes == ["outcomes: asked_at is no time: prediction_id 10 has 'soon'"]
    with connect(empty_postgresql_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_files_that_cannot_be_used_are_refused(filled_sqlite, tmp_path):
    with pytest.raises(UnusableFile, match="is the database itself"):
        back_up(filled_sqlite, Path(make_url(filled_sqlite).database))
    with pytest.raises(UnusableFile, match="there is no file"):
        restore(tmp_path / "nothing", filled_sqlite, REPLACE)
    with pytest.raises(UnusableFile, match="is the database itself"):
        restore(Path(make_url(filled_sqlite).database), filled_sqlite, REPLACE)
    unfinished = tmp_path / "unfinished.sqlite"
    copy_database(filled_sqlite, f"sqlite:///{unfinished}", CopyOptions())
    before = digests(filled_sqlite)
    # It would leave a database that no server uses.
    with pytest.raises(DamagedBackup, match="is an unfinished copy of"):
        restore(unfinished, filled_sqlite, REPLACE)
    assert digests(filled_sqlite) == before
