"""zap drivers, from the shell."""

import errno
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import own_postgresql
import pytest
from erased import TEXT_ID, driver_with_everything, in_files, traces
from pydantic import SecretStr
from sqlalchemy import make_url

from zap.db.engine import create_engine
from zap.db.erasure.ledger import write_file
from zap.errors import UnusableFile
from zap.flows import driver_export
from zap.flows.database_backup import back_up


def test_a_driver_is_exported_erased_and_listed(zap_command, trained_sqlite, tmp_path):
    engine = create_engine(trained_sqlite.database_url)
    user_id = driver_with_everything(engine, trained_sqlite)
    file = tmp_path / "of one driver.zip"

    done = zap_command("drivers", "export", user_id, "--output", file, "--json", settings=trained_sqlite)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]["Users"] == 1
    assert zipfile.is_zipfile(file)
    again = zap_command("drivers", "export", user_id, "--output", file, settings=trained_sqlite)
    assert again.returncode == 2
    assert "--force" in again.stderr

    # Nobody is there to answer the question.
    assert zap_command("drivers", "erase", user_id, settings=trained_sqlite).returncode == 34
    assert "Users" in traces(engine, f"{user_id}'")
    (tmp_path / "older.sqlite").write_bytes(b"SQLite format 3\0")
    done = zap_command("drivers", "erase", user_id, "--yes", "--rewrite", settings=trained_sqlite)
    assert done.returncode == 0, done.stderr
    assert "Vehicles: 1\n" in done.stdout
    assert "1 version may have learned from this driver (1)" in done.stderr
    assert "older.sqlite" in done.stderr
    assert traces(engine, f"{user_id}'", f'{user_id}"') == []
    engine.dispose()

    done = zap_command("drivers", "erase", user_id, "--yes", settings=trained_sqlite)
    assert done.returncode == 20
    assert "was erased already" in done.stderr
    done = zap_command("drivers", "erasures", "--json", settings=trained_sqlite)
    (entry,) = json.loads(done.stdout)["erasures"]
    assert entry["counts"]["Users"] == 1
    assert user_id not in done.stdout
    assert "rows  by" in zap_command("drivers", "erasures", settings=trained_sqlite).stdout
    listed = tmp_path / "erasures.ledger"
    done = zap_command("drivers", "erasures", "--output", listed, settings=trained_sqlite)
    assert done.stdout == f"{listed}: 1 erasure\n"
    nowhere = tmp_path / "nowhere" / "file"
    assert "no folder" in zap_command("drivers", "erasures", "--output", nowhere, settings=trained_sqlite).stderr
    done = zap_command("drivers", "erase-again", listed, settings=trained_sqlite)
    assert done.stdout == "erased 0 drivers again\n", done.stderr


def test_an_older_dump_of_postgresql_is_worked_through_with_the_file_of_the_ledger(
    zap_command, trained_postgresql, empty_postgresql_url, tmp_path
):
    """Dump, erase, write the ledger, restore the older dump with pg_restore, and erase again from the file."""
    dump, ledger, programs = tmp_path / "older.dump", tmp_path / "erasures.ledger", own_postgresql.programs()
    engine = create_engine(trained_postgresql.database_url)
    user_id = driver_with_everything(engine, trained_postgresql)
    engine.dispose()
    names = [libpq(url) for url in (trained_postgresql.database_url, empty_postgresql_url)]
    subprocess.run([programs / "pg_dump", "--format=custom", f"--file={dump}", names[0]], check=True)
    for command in (["erase", user_id, "--yes"], ["erasures", "--output", ledger]):
        done = zap_command("drivers", *command, settings=trained_postgresql)
        assert done.returncode == 0, done.stderr
    assert ledger.stat().st_mode & 0o777 == 0o600

    subprocess.run([programs / "pg_restore", "--no-owner", f"--dbname={names[1]}", dump], check=True)
    restored = trained_postgresql.model_copy(update={"database_url": empty_postgresql_url})
    engine = create_engine(empty_postgresql_url)
    assert "Users" in traces(engine, f"{user_id}'")
    done = zap_command("drivers", "erase-again", ledger, settings=restored)
    assert done.stdout == "erased 1 driver again\n", done.stderr
    assert traces(engine, f"{user_id}'", f'{user_id}"') == []
    engine.dispose()


def test_after_an_older_file_is_worked_through_no_byte_is_left_of_the_driver(zap_command, trained_sqlite, tmp_path):
    database, older = Path(trained_sqlite.url.database), tmp_path / "older"
    engine = create_engine(trained_sqlite.database_url)
    user_id = driver_with_everything(engine, trained_sqlite)
    back_up(trained_sqlite.database_url, older)
    assert zap_command("drivers", "erase", user_id, "--yes", settings=trained_sqlite).returncode == 0
    engine.dispose()
    shutil.copy(older, database)
    # Another program has the file open, so the WAL stays when the command ends.
    with engine.connect() as connection:
        assert connection.exec_driver_sql('SELECT count(*) FROM "Users"').scalar()
    older.unlink()

    done = zap_command("drivers", "erase-again", settings=trained_sqlite)

    assert (done.stdout, done.returncode) == ("erased 1 driver again\n", 0), done.stderr
    assert in_files(trained_sqlite.database_url, TEXT_ID, user_id + '"') == []
    engine.dispose()


def libpq(url):
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def test_a_full_disk_is_said_in_a_sentence(trained_sqlite, tmp_path, monkeypatch):
    """The error of the system names no file."""
    engine, file = create_engine(trained_sqlite.database_url), tmp_path / "driver.zip"

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(driver_export, "export_driver", full)
    with pytest.raises(UnusableFile, match=r"driver\.zip: No space left on device"):
        driver_export.export_to_file(engine, trained_sqlite, "sample-42-00001", file)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnusableFile, match=r"ledger: No space left on device"):
        write_file(tmp_path / "erasures.ledger", [])
    assert list(tmp_path.glob("*.part")) == []
    engine.dispose()


def test_a_key_that_is_missing_is_asked_for(zap_command, trained_sqlite):
    first, second = sample_drivers(trained_sqlite)
    assert zap_command("drivers", "erase", first, "--yes", settings=trained_sqlite).returncode == 0
    key = trained_sqlite.models_dir / "erasure.key"
    secret = key.read_text()
    key.unlink()

    done = zap_command("drivers", "erase", second, "--yes", "--json", settings=trained_sqlite)
    assert done.returncode == 51, done.stderr
    assert json.loads(done.stdout)["type"] == "urn:zap:problem:no-erasure-key"

    given = trained_sqlite.model_copy(update={"erasure_key": SecretStr(secret.strip())})
    assert zap_command("drivers", "erase", second, "--yes", settings=given).returncode == 0


def test_a_lost_key_keeps_no_driver_who_was_erased_with_the_key_that_is_here(zap_command, trained_sqlite, tmp_path):
    first, second = sample_drivers(trained_sqlite)
    back_up(trained_sqlite.database_url, tmp_path / "older")
    assert zap_command("drivers", "erase", first, "--yes", settings=trained_sqlite).returncode == 0
    (trained_sqlite.models_dir / "erasure.key").unlink()
    later = trained_sqlite.model_copy(update={"erasure_key": SecretStr("another key of erasures, long enough")})
    assert zap_command("drivers", "erase", second, "--yes", settings=later).returncode == 0
    shutil.copy(tmp_path / "older", trained_sqlite.url.database)

    done = zap_command("drivers", "erase-again", "--json", settings=later)

    assert done.returncode == 51
    assert json.loads(done.stdout)["detail"].startswith("1 drivers were erased")
    assert sample_drivers(trained_sqlite)[0] == first
    assert second not in sample_drivers(trained_sqlite)


def sample_drivers(settings):
    engine = create_engine(settings.database_url)
    with engine.connect() as connection:
        found = connection.exec_driver_sql('SELECT user_id FROM "Users" ORDER BY user_id LIMIT 2').scalars().all()
    engine.dispose()
    return found
