"""zap drivers, from the shell."""

import json
import zipfile

from erased import driver_with_everything, traces
from pydantic import SecretStr

from zap.db.engine import create_engine


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
    done = zap_command("drivers", "erase-again", settings=trained_sqlite)
    assert done.stdout == "erased 0 drivers again\n", done.stderr


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


def sample_drivers(settings):
    engine = create_engine(settings.database_url)
    with engine.connect() as connection:
        found = connection.exec_driver_sql('SELECT user_id FROM "Users" ORDER BY user_id LIMIT 2').scalars().all()
    engine.dispose()
    return found
