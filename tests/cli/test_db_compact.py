"""zap db compact: the file gets as small as its rows, and returns free pages by itself from then on."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from zap.errors import DiskTooSmall
from zap.flows.database_check import check_database
from zap.flows.database_compaction import compact
from zap.settings import Settings

INCREMENTAL = 2


def file_of(settings):
    return Path(settings.url.database)


def mode_of(file):
    with closing(sqlite3.connect(file)) as database:
        return database.execute("PRAGMA auto_vacuum").fetchone()[0]


def rows_of(settings):
    """Return the number and the hash of the rows of each table, except of the audit."""
    tables = check_database(settings.database_url).tables
    return {name: digest for name, digest in tables.items() if not name.startswith("audit")}


def test_an_old_file_gets_small_and_loses_no_row(serve, zap_command, trained_sqlite, good_request):
    settings, file = trained_sqlite, file_of(trained_sqlite)
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        # As an older zap has made it.
        database.execute("PRAGMA auto_vacuum=NONE")
        database.execute("VACUUM")
        database.execute("CREATE TABLE large (bytes BLOB)")
        database.execute("INSERT INTO large VALUES (zeroblob(20000000))")
        database.execute("DROP TABLE large")
    file.chmod(0o640)
    size = file.stat().st_size
    assert (mode_of(file), size > 20_000_000) == (0, True)

    server = serve(settings).wait()
    refused = zap_command("db", "compact", "--json", settings=settings)
    server.stop()
    before = rows_of(settings)
    done = zap_command("db", "compact", "--json", settings=settings)

    assert (refused.returncode, json.loads(refused.stdout)["type"]) == (40, "urn:zap:problem:database-in-use")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["bytes_before"] >= size, said["note"]) == (True, None)
    assert said["bytes_after"] == file.stat().st_size < size - 19_000_000
    assert (mode_of(file), file.stat().st_mode & 0o777) == (INCREMENTAL, 0o640)
    assert rows_of(settings) == before
    assert [one.name for one in file.parent.glob("*.compacted*")] == []
    with closing(sqlite3.connect(file)) as database:
        written = database.execute("SELECT action, before FROM audit ORDER BY audit_id").fetchall()
    action, was = written[-1]
    assert (action, json.loads(was)) == ("database.compact", {"bytes": said["bytes_before"]})
    again = serve(settings).wait()
    httpx.post(f"{again.url}/predict", json=good_request).raise_for_status()


def test_a_disk_without_space_and_an_interruption_change_nothing(trained_sqlite, monkeypatch):
    file = file_of(trained_sqlite)
    before = rows_of(trained_sqlite)

    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("zap.flows.database_compaction._STEPS", 1)
    with pytest.raises(KeyboardInterrupt):
        compact(trained_sqlite.database_url, interrupted)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(DiskTooSmall, match="has 1,000 free"):
        compact(trained_sqlite.database_url)

    assert rows_of(trained_sqlite) == before
    assert list(file.parent.glob("*.compacted*")) == []


def test_postgresql_is_not_changed(zap_command, empty_postgresql_url):
    settings = Settings(database_url=empty_postgresql_url)
    zap_command("db", "upgrade", settings=settings)

    done = zap_command("db", "compact", settings=settings)

    assert done.returncode == 0, done.stderr
    assert "note: PostgreSQL uses the space of removed rows again by itself" in done.stdout
