"""Every supported database is brought to head, and what is not at head is refused."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from databases import HEAD, REVISIONS
from sqlalchemy import inspect, make_url, text

from zap.db import schema, tables
from zap.db.engine import create_engine
from zap.db.schema import check_at_head, upgrade
from zap.errors import DatabaseBehind, DatabaseUnavailable

TABLES = {*tables.SQLModel.metadata.tables, "alembic_version"}
UPGRADE = """
import sys
from zap.db.schema import upgrade
print("ready", flush=True)
sys.stdin.readline()
upgrade(sys.argv[1], print)
"""


@pytest.fixture
def engine_on():
    """Engines on any database, closed at the end."""
    engines = []

    def make(url):
        engines.append(create_engine(url))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


def run(engine, statement):
    with engine.begin() as connection:
        connection.execute(text(statement))


def test_it_works(empty_database_url, engine_on, upgraded):
    """Upgrade an empty database to all tables, and report each step."""
    lines = []
    upgrade(empty_database_url, lines.append)
    file = make_url(empty_database_url).database
    made = [f"made the database {file}"] if empty_database_url.startswith("sqlite") else []
    assert lines == made + upgraded
    assert set(inspect(engine_on(empty_database_url)).get_table_names()) == TABLES


def test_missing_folders_are_made(tmp_path):
    upgrade(f"sqlite:///{tmp_path / 'not' / 'yet' / 'zap.sqlite'}")
    assert (tmp_path / "not" / "yet" / "zap.sqlite").stat().st_size


def test_an_empty_file_is_an_empty_database(tmp_path, engine_on):
    (tmp_path / "zap.sqlite").touch()
    url = f"sqlite:///{tmp_path / 'zap.sqlite'}"
    upgrade(url)
    assert set(inspect(engine_on(url)).get_table_names()) == TABLES


def test_a_folder_may_have_signs_that_mean_something_elsewhere(tmp_path):
    file = tmp_path / "50%s of {it} 'all'.sqlite"
    upgrade(f"sqlite:///{file}")
    assert file.exists()


def test_at_head_nothing_is_done_nor_said(database_url):
    lines = []
    upgrade(database_url, lines.append)
    assert lines == []


def test_at_head_nobody_is_waited_for(tmp_path, monkeypatch):
    # The start of a server does not need the lock that a busy server holds.
    monkeypatch.setattr(schema, "_SQLITE_PATIENCE_SECONDS", 0)
    file = tmp_path / "zap.sqlite"
    upgrade(f"sqlite:///{file}")
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        upgrade(f"sqlite:///{file}")


def test_a_locked_file_is_unavailable(tmp_path, monkeypatch):
    monkeypatch.setattr(schema, "_SQLITE_PATIENCE_SECONDS", 0)
    file = tmp_path / "zap.sqlite"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailable, match="locked"):
            upgrade(f"sqlite:///{file}")


def test_two_processes_upgrade_at_once(empty_database_url, upgraded):
    # Both processes succeed, and one of them has upgraded the database.
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE, empty_database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in pair:
        assert process.stdout.readline() == "ready\n"
    for process in pair:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0].splitlines() for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    # The process that makes the file may wait for the other one to upgrade it.
    made = [line for lines in said for line in lines if line.startswith("made the database")]
    assert len(made) == empty_database_url.startswith("sqlite")
    assert sorted([line for line in lines if line not in made] for lines in said) == [[], upgraded]


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path, engine_on):
    file = tmp_path / "notes.txt"
    file.write_text("These are the notes of somebody who mistyped the name of a file.\n" * 20)
    url = f"sqlite:///{file}"
    before = file.read_bytes()
    with pytest.raises(
        DatabaseUnavailable, match=r"notes\.txt: file is not a database\. Check that ZAP_DATABASE_URL names"
    ):
        upgrade(url)
    with pytest.raises(DatabaseUnavailable):
        check_at_head(engine_on(url))
    assert file.read_bytes() == before


def test_a_folder_is_no_database(tmp_path):
    with pytest.raises(DatabaseUnavailable, match="unable to open database file"):
        upgrade(f"sqlite:///{tmp_path}")


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "data").touch()
    with pytest.raises(DatabaseUnavailable, match="ZAP_DATABASE_URL"):
        upgrade(f"sqlite:///{tmp_path / 'data' / 'zap.sqlite'}")


@pytest.mark.parametrize("options", ["", "?no_such_option=1"])
def test_a_server_that_is_not_there_is_named_without_the_password(options, engine_on):
    url = f"postgresql+psycopg://zap:s3cret@127.0.0.1:1/zap{options}"
    with pytest.raises(DatabaseUnavailable, match=r"zap:\*\*\*@127.0.0.1:1/zap") as error:
        upgrade(url)
    assert "s3cret" not in str(error.value)
    with pytest.raises(DatabaseUnavailable):
        check_at_head(engine_on(url))


def test_a_database_that_the_server_does_not_have_is_named(empty_postgresql_url):
    url = make_url(empty_postgresql_url).set(database="no_such_database")
    with pytest.raises(DatabaseUnavailable, match='database "no_such_database" does not exist'):
        upgrade(url.render_as_string(hide_password=False))


def test_check_accepts_a_database_at_head(engine):
    check_at_head(engine)


def test_check_refuses_an_empty_database_and_names_the_command(empty_database_url, engine_on):
    if (file := make_url(empty_database_url).database).endswith(".sqlite"):
        sqlite3.connect(file).close()
    with pytest.raises(DatabaseBehind, match="`zap db upgrade`"):
        check_at_head(engine_on(empty_database_url))


def test_check_refuses_a_database_whose_revision_was_taken_back(engine):
    run(engine, "DELETE FROM alembic_version")
    with pytest.raises(DatabaseBehind):
        check_at_head(engine)


def test_check_makes_no_file(tmp_path, engine_on):
    for file in (tmp_path / "zap.sqlite", tmp_path / "no_folder" / "zap.sqlite"):
        with pytest.raises(DatabaseUnavailable, match=f"there is no file {file}; check ZAP_DATABASE_URL"):
            check_at_head(engine_on(f"sqlite:///{file}"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("revision", REVISIONS)
def test_each_revision_of_the_migrations_is_known(sqlite_engine, revision):
    with sqlite_engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})

    if revision == HEAD:
        assert check_at_head(sqlite_engine) is None
    else:
        with pytest.raises(DatabaseBehind):
            check_at_head(sqlite_engine)
