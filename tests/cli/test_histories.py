"""zap import-history and zap sample-history, from the shell to the trained model."""

import json

import pytest
from openpyxl import Workbook
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
    report = json.loads(zap_command("train", "--json", "--set", "n_estimators=10", settings=empty_settings).stdout)
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


OTHERS = "Driver;Plug;Date;Clock;Amount (kWh)\nann;Level 2;04/05/2024;9:05;12,5\nann;n/a;04/05/2024;11:05;12,5\n"
MAPPING = ("--map", "Plug=charger_type", "--map", "Date+Clock=charging_start_time", "--map",
           "Amount (kWh)=energy_consumed_kwh", "--date-format", "day-first")  # fmt: skip


def test_a_dry_run_shows_how_a_file_is_read_and_stores_nothing(zap_command, trained_sqlite, tmp_path):
    (tmp_path / "others.csv").write_text(OTHERS)
    before = count(trained_sqlite, "ChargingSessions")

    done = zap_command("import-history", tmp_path / "others.csv", "--dry-run", *MAPPING, settings=trained_sqlite)

    assert done.returncode == 19, done.stderr
    assert "others.csv: 1 of 2 rows cannot be imported, so nothing would be imported" in done.stderr
    assert done.stdout.splitlines() == [
        "others.csv: 2 rows. Nothing was stored. zap would read:",
        "  zap                  file          first values",
        "  user_id              Driver        'ann'",
        "  charger_type         Plug          'Level 2'",
        "  charging_start_time  Date + Clock  '04/05/2024 9:05', '04/05/2024 11:05'",
        "  energy_consumed_kwh  Amount (kWh)  '12,5'",
        "would store users: 1 added, 0 updated, 0 unchanged",
        "would store vehicles: 0 added, 0 updated, 0 unchanged",
        "would store sessions: 1 added, 0 updated, 0 unchanged",
        "cannot import 1 of 2 rows:",
        "  1 row, line 3: charger_type is 'n/a': no value",
        "dates such as '04/05/2024 9:05' are read with the day first, as --date-format",
        "    says",
        "charging_start_time: '04/05/2024 9:05' is read as 2024-05-04 09:05:00",
        "numbers are read with a decimal comma",
        "charger_type: 1 word for a missing value, such as NULL or n/a",
        "not found: session_id, state_of_charge_start, distance_driven_km, temperature_c,",
        "    battery_capacity_kwh, vehicle_age_years, user_type, vehicle_model,",
        "    charging_end_time, charging_duration_hours, charging_rate_kw,",
        "    charging_cost_usd, state_of_charge_end, charging_station_id,",
        "    charging_station_location",
    ]
    assert count(trained_sqlite, "ChargingSessions") == before


def test_a_dry_run_needs_no_database_and_is_json(zap_command, empty_settings, tmp_path):
    (tmp_path / "cp1252.csv").write_bytes("user_id,charger_type,charging_start_time\nZoë,A,soon\n".encode("cp1252"))

    done = zap_command("import-history", tmp_path / "cp1252.csv", "--dry-run", "--json", settings=empty_settings)

    report = json.loads(done.stdout)
    # An import of this file would end in the same way.
    assert (done.returncode, report["type"]) == (19, "urn:zap:problem:bad-history-file")
    assert (report["stored"], report["counts"]["sessions"]["added"]) == (False, 0)
    assert report["columns"]["user_id"] == {"header": "user_id", "values": [r"Zo\udceb"]}
    assert [row["line"] for row in report["refused"]] == [2]


def test_what_is_said_of_one_file_is_kept_for_the_next_files(zap_command, trained_sqlite, tmp_path):
    before = count(trained_sqlite, "ChargingSessions")
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text(OTHERS)
    second.write_text(OTHERS.replace("04/05/2024", "31/05/2024"))

    asked = zap_command("import-history", first, settings=trained_sqlite)
    kept = zap_command(
        "import-history", first, "--dry-run", "--skip-bad-rows", "--save-map", "kept.json", *MAPPING,
        settings=trained_sqlite,
    )  # fmt: skip
    done = zap_command("import-history", first, second, "--map-file", "kept.json", "--skip-bad-rows", "--json",
                       settings=trained_sqlite)  # fmt: skip

    assert (asked.returncode, kept.returncode, done.returncode) == (19, 0, 0), done.stderr
    assert "perhaps --map" in asked.stderr or "name it with --map" in asked.stderr
    assert json.loads((tmp_path / "kept.json").read_text())["date_format"] == "day-first"
    assert [report["counts"]["sessions"]["added"] for report in json.loads(done.stdout)] == [1, 1]
    assert count(trained_sqlite, "ChargingSessions") == before + 2


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_refused_later_file_leaves_nothing_imported(zap_command, trained_sqlite, tmp_path, dry_run):
    header = "user_id,charger_type,charging_start_time\n"
    texts = {"a.csv": f"{header}ann,A,2024-01-31 10:00\n", "b.csv": "user_id\nann\n", "c.csv": f"{header}ann,,soon\n"}
    for name, text_ in texts.items():
        (tmp_path / name).write_text(text_)
    before = count(trained_sqlite, "ChargingSessions")

    done = zap_command(
        "import-history",
        *(tmp_path / name for name in texts),
        "--json",
        *["--dry-run"] * dry_run,
        settings=trained_sqlite,
    )

    assert done.returncode == 19
    assert "2 of 3 files cannot be imported" in done.stderr
    assert "b.csv: no column charger_type" in done.stderr
    problem = json.loads(done.stdout)
    assert problem["type"] == "urn:zap:problem:bad-history-file"
    assert [file["file"] for file in problem["files"]] == [*texts]
    assert (problem["files"][0]["rows"], problem["files"][1]["missing"]) == (
        1,
        ["charger_type", "charging_start_time"],
    )
    assert [reason["column"] for reason in problem["files"][2]["reasons"]] == ["charger_type", "charging_start_time"]
    assert count(trained_sqlite, "ChargingSessions") == before


def test_a_sheet_of_an_excel_file_is_imported(zap_command, trained_sqlite, tmp_path):
    book = Workbook()
    book.active.append(["Read me"])
    sheet = book.create_sheet("Sessions")
    sheet.append(["User ID", "Charger Type", "Charging Start Time", "Battery"])
    sheet.append(["ann", "Level 2", "31/01/2024 9:05", 40])
    book.save(tmp_path / "book.xlsx")
    before = count(trained_sqlite, "ChargingSessions")

    asked = zap_command("import-history", tmp_path / "book.xlsx", settings=trained_sqlite)
    done = zap_command("import-history", tmp_path / "book.xlsx", "--sheet", "sessions", settings=trained_sqlite)

    assert (asked.returncode, done.returncode) == (19, 0), done.stderr
    assert "to read another sheet, name it with --sheet: 'Sessions'" in asked.stderr
    assert "sessions: 1 added" in done.stdout
    assert count(trained_sqlite, "ChargingSessions") == before + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--map", "Plag=charger_type"), "--map names 'Plag', which is not in the file"),
        (("--map", "Plug=charger"), "did you mean charger_type? zap has session_id, user_id,"),
        (("--date-format", "%H:%M"), "--date-format '%H:%M' is not known"),
        (("--encoding", "nope"), "--encoding 'nope' is not known"),
        (("--map-file", "others.csv"), "others.csv cannot be read"),
        (("--save-map", "nowhere/kept.json", *MAPPING, "--skip-bad-rows"), "cannot be written"),
    ],
)
def test_a_wrong_option_is_told_in_a_sentence(zap_command, trained_sqlite, tmp_path, options, message):
    (tmp_path / "others.csv").write_text(OTHERS)

    done = zap_command("import-history", tmp_path / "others.csv", "--dry-run", *options, settings=trained_sqlite)

    assert done.returncode == 19
    assert message in done.stderr
    assert "Traceback" not in done.stderr
