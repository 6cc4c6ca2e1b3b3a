"""zap import-history and zap sample-history, from the shell to the trained model."""

import json

import pytest
from sqlalchemy import create_engine, text


def count(settings, table):
    engine = create_engine(settings.database_url)
    with engine.connect() as connection:
        found = connection.scalar(text(f'SELECT count(*) FROM "{table}"'))
    engine.dispose()
    return found


def test_a_sample_is_made_and_says_that_it_is_synthetic(zap_command, empty_settings):
    done = zap_command("sample-history", "--drivers", 30, "--months", 3, settings=empty_settings)

    assert done.returncode == 0
    assert "synthetic" in done.stdout
    assert "reachable accuracy" in done.stdout
    assert count(empty_settings, "Users") == 30
    sessions = count(empty_settings, "ChargingSessions")
    assert sessions > 100
    # The same again adds nothing.
    assert zap_command("sample-history", "--drivers", 30, "--months", 3, settings=empty_settings).returncode == 0
    assert count(empty_settings, "ChargingSessions") == sessions
    # And a training on it says so too.
    report = json.loads(zap_command("train", "--json", settings=empty_settings).stdout)
    assert report["synthetic_sessions"] == sessions
    assert "synthetic" in report["message"]


def test_a_sample_of_nothing_is_refused(zap_command, empty_settings):
    done = zap_command("sample-history", "--drivers", 0, settings=empty_settings)

    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "drivers" in done.stderr


def test_a_history_is_imported_and_twice_adds_nothing(zap_command, empty_settings, dundee_file):
    done = zap_command("import-history", dundee_file, settings=empty_settings)

    assert done.returncode == 0
    assert "12,421" in done.stdout
    assert count(empty_settings, "ChargingSessions") == 12_421
    again = json.loads(zap_command("import-history", dundee_file, "--json", settings=empty_settings).stdout)
    assert again["counts"]["sessions"] == {"added": 0, "updated": 0, "unchanged": 12_421, "repeated": 0}
    assert count(empty_settings, "ChargingSessions") == 12_421


BAD_FILE = """charger_type,charging_start_time,user_id,charging_station_id
Level 1,2024-01-01 10:00:00,u1,s1
,2024-01-02 10:00:00,u1,s1
Level 2,soon,u1,s1
"""


@pytest.mark.parametrize("skip", [False, True])
def test_bad_rows_are_listed_and_stop_the_import_unless_skipped(zap_command, empty_settings, tmp_path, skip):
    (tmp_path / "history.csv").write_text(BAD_FILE)

    done = zap_command("import-history", tmp_path / "history.csv", *["--skip-bad-rows"] * skip, settings=empty_settings)

    told = done.stdout + done.stderr
    assert "line 3" in told
    assert "line 4" in told
    assert "Traceback" not in told
    assert done.returncode == (0 if skip else 19)
    assert count(empty_settings, "ChargingSessions") == (1 if skip else 0)


def test_a_file_that_is_not_there_is_told(zap_command, empty_settings):
    done = zap_command("import-history", "nowhere.csv", settings=empty_settings)

    assert done.returncode == 2
    assert "nowhere.csv" in done.stderr
