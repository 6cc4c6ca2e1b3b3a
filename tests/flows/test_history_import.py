import csv
import gzip
import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from sqlalchemy import delete, func, select

from zap.db.engine import create_engine
from zap.db.history.drivers import driver_facts
from zap.db.history.history_rows import SESSION_FACTS, SESSIONS, USERS, VEHICLES, has_history
from zap.db.history.history_store import Count, read_history
from zap.db.schema import upgrade
from zap.errors import BadHistoryFile
from zap.flows.history_import import import_history
from zap.formats.history_file import Choices
from zap.formats.history_headers import PUBLIC_HEADERS
from zap.ml.history import clean_history
from zap.progress import no_progress

HEADER = "user_id,charger_type,charging_start_time,energy_consumed_kwh\n"
GOOD = "U,Level 1,2024-01-01 10:00:00,12.5\n"
BAD = "U,Level 1,yesterday,12.5\n"


def in_london(moment):
    return moment.astimezone(ZoneInfo("Europe/London")).replace(tzinfo=None)


def load(engine, path, **options):
    progress = options.pop("progress", no_progress)
    return import_history(engine, path, wall_time=in_london, choices=Choices(**options), progress=progress)


def size(engine, table):
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(table))


@pytest.fixture
def file(tmp_path):
    """Writes a history file and says where it is."""

    def write(text, name="history.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return write


@pytest.fixture
def public_csv(zapapp_database, tmp_path):
    """The public file, made from the rows that ZapApp's database holds of it, with its holes."""
    empty = Random(1)
    with closing(sqlite3.connect(f"file:{zapapp_database}?mode=ro", uri=True)) as connection:
        found = connection.execute(f"SELECT {', '.join(PUBLIC_HEADERS.values())} FROM ev_charging_patterns").fetchall()
    holes = ("energy_consumed_kwh", "charging_rate_kw", "distance_driven_km")
    path = tmp_path / "ev_charging_patterns.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(PUBLIC_HEADERS)
        for row in found:
            writer.writerow(
                "" if name in holes and empty.random() < 0.05 else value
                for name, value in zip(PUBLIC_HEADERS.values(), row, strict=True)
            )
    return path


def test_it_works(engine, public_csv):
    """Import 1,320 users, vehicles and sessions of the public file, and report values out of range."""
    report = load(engine, public_csv)

    counts = report.counts
    assert (counts.users, counts.vehicles, counts.sessions) == (Count(1320), Count(1320), Count(1320))
    assert report.outside["state_of_charge_start"] == 9
    assert (report.refused, report.ignored_columns, report.without_user) == ([], [], 0)
    assert [size(engine, table) for table in (USERS, VEHICLES, SESSIONS)] == [1320, 1320, 1320]


def test_the_public_file_twice_adds_nothing(engine, public_csv):
    load(engine, public_csv)

    counts = load(engine, public_csv).counts

    unchanged = Count(unchanged=1320)
    assert (counts.users, counts.vehicles, counts.sessions) == (unchanged, unchanged, unchanged)


def test_the_public_file_adds_nothing_to_the_database_that_holds_it(zapapp_database, public_csv, tmp_path):
    # Its missing values erase no stored values. Only the facts that its sessions keep of their drivers are new.
    copy = tmp_path / "zapapp.sqlite"
    shutil.copy(zapapp_database, copy)
    upgrade(f"sqlite:///{copy}")
    engine = create_engine(f"sqlite:///{copy}")

    counts = load(engine, public_csv).counts
    again = load(engine, public_csv).counts

    unchanged = Count(unchanged=1320)
    assert (counts.users, counts.vehicles, counts.sessions) == (unchanged, unchanged, Count(updated=1320))
    assert (again.users, again.vehicles, again.sessions) == (unchanged, unchanged, unchanged)
    engine.dispose()


def test_dundee_is_imported_and_adds_nothing_the_second_time(engine, dundee_file):
    report = load(engine, dundee_file)

    assert (report.rows, report.outside, report.ignored_columns) == (12_421, {}, [])
    counts = report.counts
    assert (counts.users, counts.vehicles, counts.sessions) == (Count(689), Count(545), Count(12_421))

    counts = load(engine, dundee_file).counts

    assert counts.users == Count(unchanged=689)
    assert counts.vehicles == Count(unchanged=545)
    assert counts.sessions == Count(unchanged=12_421)


def test_bad_rows_stop_the_import(engine, file):
    with pytest.raises(BadHistoryFile) as caught:
        load(engine, file(HEADER + GOOD + BAD))

    reason = "charging_start_time 'yesterday' is not a time such as 2024-01-31 18:05:00"
    assert caught.value.details == {
        "refused": [{"line": 3, "reason": reason}],
        "reasons": [{"column": "charging_start_time", "rows": 1, "line": 3, "reason": reason}],
    }
    assert f"line 3: {reason}" in caught.value.message
    assert not has_history(engine)


def test_many_bad_rows_are_counted_by_reason_and_column(engine, file):
    other = "U,N/A,2024-01-01 10:00:00,many\nU,Level 1,2024-01-01 10:00:00,no\n"

    with pytest.raises(BadHistoryFile) as caught:
        load(engine, file(HEADER + BAD * 1_200 + other + BAD.replace("yesterday", 'it\'s "now"; soon')))

    assert caught.value.message.startswith("history.csv: 1,203 of 1,203 rows cannot be imported, so nothing was")
    assert caught.value.message.splitlines() == [
        caught.value.message.splitlines()[0],
        "  1,201 rows, first line 2: charging_start_time 'yesterday' is not a time such as 2024-01-31 18:05:00",
        "      2 rows, first line 1202: energy_consumed_kwh 'many' is not a number such as 12.5",
        "       1 row, line 1202: charger_type is 'N/A': no value",
    ]
    assert len(caught.value.details["refused"]) == 1_203
    assert [reason["column"] for reason in caught.value.details["reasons"]] == [
        *("charging_start_time", "energy_consumed_kwh", "charger_type")
    ]


def test_bad_rows_can_be_skipped(engine, file):
    report = load(engine, file(HEADER + BAD + GOOD), skip_bad_rows=True)

    assert report.counts.sessions == Count(added=1)
    assert [row.line for row in report.refused] == [2]
    assert size(engine, SESSIONS) == 1


def test_a_file_of_bad_rows_only_can_be_skipped_whole(engine, file):
    assert load(engine, file(HEADER + BAD), skip_bad_rows=True).counts.sessions == Count()


def test_a_header_alone_imports_nothing(engine, file):
    assert load(engine, file(HEADER)).rows == 0


def test_a_gzipped_file_is_read_whatever_its_name(engine, file):
    path = file(gzip.compress((HEADER + GOOD).encode()), name="history.dat")

    assert load(engine, path).counts.sessions == Count(added=1)


def test_a_byte_order_mark_is_no_part_of_the_header(engine, file):
    assert load(engine, file(HEADER + GOOD, encoding="utf-8-sig")).counts.users == Count(added=1)


def test_a_row_that_is_not_utf8_is_refused(engine, file):
    with pytest.raises(BadHistoryFile, match=r"line 2: user_id .* is not UTF-8"):
        load(engine, file(HEADER + "Zoë" + GOOD, encoding="latin-1"))


def test_parquet_means_what_csv_means(sqlite_engine, dundee_file, tmp_path):
    # The columns have the types of a data scientist's file: times, numbers with missing values, categories.
    frame = pd.read_csv(dundee_file)
    times = {name: pd.to_datetime(frame[name]) for name in ("charging_start_time", "charging_end_time")}
    frame.assign(**times, charger_type=frame["charger_type"].astype("category")).to_parquet(tmp_path / "dundee.parquet")

    counts = load(sqlite_engine, tmp_path / "dundee.parquet").counts

    assert (counts.users, counts.vehicles, counts.sessions) == (Count(689), Count(545), Count(12_421))
    assert load(sqlite_engine, dundee_file).counts.sessions == Count(unchanged=12_421)


def test_cells_of_parquet_mean_what_those_of_csv_mean(sqlite_engine, tmp_path):
    # The cells are whole numbers beside a missing one, single precision, plain bytes, and bytes that are not
    # UTF-8.
    cells = pa.table(
        {
            "user_id": pa.array([1001.0, None, 7.0]),
            "charger_type": pa.array([b"Level 1", b"Level 2", b"Level 3"]),
            "charging_start_time": ["2024-01-01 10:00", "2024-01-02 10:00", "2024-01-03 10:00"],
            "temperature_c": pa.array([20.1, None, -3], pa.float32()),
            "vehicle_model": pa.array([b"Leaf", b"Kona", b"\xff"]).view(pa.string()),
        }
    )
    parquet.write_table(cells, tmp_path / "history.parquet")

    with pytest.raises(BadHistoryFile, match=r"vehicle_model .* is not UTF-8"):
        load(sqlite_engine, tmp_path / "history.parquet")
    load(sqlite_engine, tmp_path / "history.parquet", skip_bad_rows=True)

    columns = (SESSIONS.c.user_id, SESSIONS.c.charger_type, SESSIONS.c.temperature_c)
    with sqlite_engine.connect() as connection:
        stored = connection.execute(select(*columns).order_by(SESSIONS.c.session_id)).all()
    assert [tuple(row) for row in stored] == [("1001", "Level 1", 20.1), (None, "Level 2", None)]


def test_bad_rows_of_parquet_are_told_by_their_number(sqlite_engine, tmp_path):
    frame = pd.DataFrame(
        {
            "session_id": [1.0, np.nan, 3.5],
            "user_id": [7, 8, 9],
            "charger_type": ["Level 1", None, "Level 1"],
            "charging_start_time": pd.to_datetime(["2024-01-01 10:00Z", "2024-01-02 10:00Z", "2024-07-03 10:00Z"]),
            "temperature_c": [np.nan, 1, 2.5],
        }
    )
    frame.to_parquet(tmp_path / "history.parquet")

    with pytest.raises(BadHistoryFile) as caught:
        load(sqlite_engine, tmp_path / "history.parquet")
    assert [row["line"] for row in caught.value.details["refused"]] == [2, 3]
    assert load(sqlite_engine, tmp_path / "history.parquet", skip_bad_rows=True).counts.sessions == Count(added=1)


def test_a_damaged_parquet_file_is_refused(sqlite_engine, file):
    with pytest.raises(BadHistoryFile, match=r"history\.parquet is damaged"):
        load(sqlite_engine, file(b"PAR1 and no more", name="history.parquet"))


def test_a_damaged_gzip_file_is_refused(engine, file):
    path = file(gzip.compress((HEADER + GOOD * 100).encode())[:-20], name="history.csv.gz")

    with pytest.raises(BadHistoryFile, match=r"history\.csv\.gz is damaged"):
        load(engine, path)


def test_an_empty_file_is_refused(engine, file):
    with pytest.raises(BadHistoryFile, match="first line is empty"):
        load(engine, file(""))


def test_a_file_that_is_not_there_is_refused(engine, tmp_path):
    with pytest.raises(BadHistoryFile, match=r"nothing\.csv cannot be read: No such file"):
        load(engine, tmp_path / "nothing.csv")


def test_times_with_an_offset_become_wall_time(engine, file):
    load(engine, file(HEADER + "U,Level 1,2024-07-01T10:00:00Z,1\n"))

    with engine.connect() as connection:
        assert connection.scalar(select(SESSIONS.c.charging_start_time)) == datetime.fromisoformat("2024-07-01 11:00")


def test_one_moment_written_in_two_ways_is_one_session(engine, file):
    load(engine, file(HEADER + "U,Level 1,2024-07-01T10:00:00Z,1\n"))

    assert load(engine, file(HEADER + "U,Level 1,2024-07-01 11:00,1\n")).counts.sessions == Count(unchanged=1)


def test_values_out_of_range_are_stored(engine, file):
    load(engine, file("charger_type,charging_start_time,state_of_charge_start\nA,2024-01-01 10:00,152.5\n"))

    with engine.connect() as connection:
        assert connection.scalar(select(SESSIONS.c.state_of_charge_start)) == 152.5


# What each row says of the driver and the vehicle at that time.

OF_A_DRIVER = """user_id,user_type,vehicle_model,battery_capacity_kwh,vehicle_age_years,charger_type,charging_start_time
U,Student,Leaf,40,0.5,Level 1,2023-02-01 10:00
U,Student,Leaf,40,1.5,Level 1,2024-02-01 10:00
U,,Leaf,,,Level 2,2024-08-01 10:00
U,Commuter,Leaf,38,2.5,Level 2,2025-02-01 10:00
U,Commuter,Kona,64,0.1,Level 2,2025-03-01 10:00
,Student,Leaf,40,3,Level 1,2025-04-01 10:00
"""
LEARNED = [
    ("Student", "Leaf", 40.0, 0.5),
    ("Student", "Leaf", 40.0, 1.5),
    # Here the file says nothing: what is stored now is all that is known.
    ("Commuter", "Leaf", 38.0, 2.5),
    ("Commuter", "Leaf", 38.0, 2.5),
    ("Commuter", "Kona", 64.0, 0.1),
    ("Student", "Leaf", 40.0, 3.0),
]


def learned(engine):
    """What a training sees of the driver and the vehicle of each session, in time order, and what is undated."""
    history = clean_history(read_history(engine))
    names = ["user_type", "vehicle_model", "battery_capacity_kwh", "vehicle_age_years"]
    facts = history.frame[names].astype(object)
    return list(facts.where(facts.notna(), None).itertuples(index=False, name=None)), history.dropped.undated


def test_each_session_is_learned_from_with_what_its_own_row_says(engine, file):
    load(engine, file(OF_A_DRIVER))

    assert learned(engine) == (LEARNED, {"user_type": 1, "battery_capacity_kwh": 1, "vehicle_age_years": 1})
    # What a request leaves out is filled in with the latest.
    facts = {"user_type": "Commuter", "battery_capacity_kwh": 38.0, "vehicle_age_years": 2.5, "vehicle_model": "Leaf"}
    assert driver_facts(engine, {"user_id": "U", "vehicle_id": 2}) == facts


def test_parquet_says_it_of_each_session_too(engine, file, tmp_path):
    pd.read_csv(file(OF_A_DRIVER)).to_parquet(tmp_path / "history.parquet")
    load(engine, tmp_path / "history.parquet")

    assert learned(engine)[0] == LEARNED
    assert load(engine, file(OF_A_DRIVER)).counts.sessions == Count(unchanged=6)


def test_with_session_ids_it_is_the_same(engine, file):
    header, *rows = OF_A_DRIVER.splitlines()
    named = file("\n".join([f"session_id,{header}", *(f"{90 - number},{row}" for number, row in enumerate(rows))]))
    load(engine, named)

    assert learned(engine)[0] == LEARNED
    assert load(engine, named).counts.sessions == Count(unchanged=6)


def test_what_a_session_keeps_is_neither_added_twice_nor_erased(engine, file):
    load(engine, file(OF_A_DRIVER))
    columns = "user_id,vehicle_model,charger_type,charging_start_time"
    holes = file(f"{columns}\nU,Leaf,Level 1,2023-02-01 10:00\nU,Leaf,Level 1,2024-02-01 10:00\n", name="holes.csv")

    assert load(engine, file(OF_A_DRIVER)).counts.sessions == Count(unchanged=6)
    assert load(engine, holes).counts.sessions == Count(unchanged=2)
    assert size(engine, SESSION_FACTS) == 6
    assert learned(engine)[0] == LEARNED


def test_what_a_session_keeps_is_corrected_by_a_later_import(engine, file):
    load(engine, file(OF_A_DRIVER))
    corrected = OF_A_DRIVER.replace("U,Student,Leaf,40,0.5", "U,Pupil,Leaf,,0.25").replace("U,,Leaf,,,", "U,,Leaf,,2,")

    assert load(engine, file(corrected)).counts.sessions == Count(updated=2, unchanged=4)
    assert learned(engine) == (
        [("Pupil", "Leaf", 40.0, 0.25), LEARNED[1], ("Commuter", "Leaf", 38.0, 2.0), *LEARNED[3:]],
        {"user_type": 1, "battery_capacity_kwh": 1},
    )


def test_a_history_that_others_have_filled_is_undated_until_its_file_is_imported(engine, file):
    # The sessions keep no facts of their drivers, so all sessions have the values that are stored now.
    load(engine, file(OF_A_DRIVER))
    with engine.begin() as connection:
        connection.execute(delete(SESSION_FACTS))

    assert learned(engine) == (
        [*[LEARNED[3]] * 4, LEARNED[4], (None, None, None, None)],
        {"user_type": 5, "battery_capacity_kwh": 5, "vehicle_age_years": 5},
    )
    assert load(engine, file(OF_A_DRIVER)).counts.sessions == Count(updated=6)
    assert learned(engine)[0] == LEARNED


# Sessions that are alike, and ids.


@pytest.mark.parametrize("name", ["two_sessions_one_minute.csv", "ongoing_beside_ended.csv"])
def test_sessions_of_one_minute_stay_two(engine, import_cases, name):
    columns = [SESSIONS.c[name] for name in ("charger_type", "charging_end_time", "energy_consumed_kwh")]
    sessions = {
        "two_sessions_one_minute.csv": [("Rapid", "2023-05-04 20:54", 12.5), ("AC 22 kW", "2023-05-04 23:03", 17.5)],
        "ongoing_beside_ended.csv": [("Rapid", "2023-05-04 20:54", 42.5), ("AC 22 kW", None, None)],
    }

    assert load(engine, import_cases / name).counts.sessions == Count(added=2)
    assert load(engine, import_cases / name).counts.sessions == Count(unchanged=2)

    with engine.connect() as connection:
        stored = connection.execute(select(*columns).order_by(SESSIONS.c.session_id)).all()
    assert [(kind, end and f"{end:%Y-%m-%d %H:%M}", energy) for kind, end, energy in stored] == sessions[name]


OF_IDS = "session_id,user_id,user_type,charger_type,charging_start_time\n"


def test_rows_with_ids_of_other_sessions_are_told_with_their_lines(engine, file):
    load(engine, file(OF_IDS + "7,U,Commuter,A,2024-01-01 10:00\ntx-1,U,Commuter,A,2024-01-02 10:00\n"))
    path = file(
        OF_IDS + "7,V,Student,A,2024-05-01 10:00\n8,U,Commuter,A,2024-05-02 10:00\ntx-1,W,Student,A,2024-05-03 10:00\n"
    )

    with pytest.raises(BadHistoryFile) as caught:
        load(engine, path)

    stored = "is stored with the user U and the start 2024-01-0{} 10:00:00: it is another session"
    assert caught.value.details["refused"] == [
        {"line": 2, "reason": f"session_id 7 {stored.format(1)}"},
        {"line": 4, "reason": f"session_id tx-1 {stored.format(2)}"},
    ]
    assert size(engine, SESSIONS) == 2

    report = load(engine, path, skip_bad_rows=True)
    assert report.counts.sessions == Count(added=1)
    assert ([row.line for row in report.refused], report.rows) == ([2, 4], 3)
    # A row is refused as a whole: it adds no user either.
    assert size(engine, USERS) == 1


def test_texts_are_ids_and_a_second_import_finds_their_sessions(engine, file):
    path = file(OF_IDS + "3f25-04e0,U,,A,2024-01-01 10:00\n12,U,,A,2024-01-02 10:00\n,U,,A,2024-01-03 10:00\n")

    assert load(engine, path).counts.sessions == Count(added=3)
    assert load(engine, path).counts.sessions == Count(unchanged=3)
    other_type = file(OF_IDS + "3f25-04e0,U,,B,2024-01-01 10:00\n", name="later.csv")
    assert load(engine, other_type).counts.sessions == Count(updated=1)
    with engine.connect() as connection:
        assert sorted(connection.scalars(select(SESSIONS.c.session_id))) == [-2, -1, 12]


def test_an_exported_history_comes_back_with_its_ids(engine, tmp_path, file):
    load(engine, file(HEADER + GOOD + GOOD.replace("01-01", "01-02")))
    sessions = read_history(engine).sessions
    sessions.drop(columns="vehicle_id").to_parquet(tmp_path / "exported.parquet")

    assert sorted(sessions["session_id"]) == [-2, -1]
    assert load(engine, tmp_path / "exported.parquet").counts.sessions == Count(unchanged=2)


def test_progress_tells_of_reading_and_of_storing(engine, file):
    seen = []
    path = file(HEADER + GOOD)

    load(engine, path, progress=lambda *step: seen.append(step))

    length = path.stat().st_size
    assert seen[-3:] == [("reading", length, length), ("users", 1, 1), ("sessions", 1, 1)]


def test_the_report_for_people(engine, file):
    path = file(
        "user_id,user_type,charger_type,charging_start_time,temperature_c,mood\n"
        ",Commuter,Level 1,2024-01-01 10:00,-70,good\n"
        "U,Commuter,Level 1,2024-01-01 10:00,,\n"
        "U,Commuter,Level 1,2024-01-01 10:00,,\n"
        "U,Commuter,,2024-01-01 10:00,,\n"
    )

    assert list(load(engine, path, skip_bad_rows=True).lines()) == [
        "history.csv: 4 rows",
        "users: 1 added, 0 updated, 0 unchanged",
        "vehicles: 0 added, 0 updated, 0 unchanged",
        "sessions: 2 added, 0 updated, 0 unchanged, 1 repeated",
        "skipped 1 of 4 rows:",
        "  line 5: charger_type is empty",
        "temperature_c: 1 value out of range: stored, but treated as missing in trainings",
        "1 row without a user: user type and vehicle are stored with the session",
        "ignored columns: 'mood'",
        "not found: state_of_charge_start, distance_driven_km, battery_capacity_kwh,",
        "    vehicle_age_years, vehicle_model; name them with --map",
        '    "THEIRS=state_of_charge_start"',
    ]


def test_a_driver_that_no_column_names_is_told_if_a_column_was_ignored(engine, file):
    rows = "charger_type,charging_start_time,{}\nLevel 1,2024-01-01 10:00,{}\n"

    told = list(load(engine, file(rows.format("Fahrer", "ann"))).lines())
    without = list(load(engine, file(rows.format("energy_consumed_kwh", "12"))).lines())

    assert any(line.startswith("not found: user_id, state_of_charge_start") for line in told)
    assert told[-1] == "no column is read as user_id, so the sessions have no driver"
    assert [line for line in without if "not found" in line or "no driver" in line] == []


def test_sessions_that_start_after_today_are_stored_and_told(engine, file):
    now = datetime.now(UTC)
    tomorrow = in_london(now).date() + timedelta(days=1)
    starts = ("2024-01-01 10:00", "2024-99-01 10:00", f"{tomorrow} 00:00", "2099-01-05 10:00", f"{now}")
    path = file("charger_type,charging_start_time\n" + "".join(f"Level 1,{start}\n" for start in starts))

    report = load(engine, path, skip_bad_rows=True)

    assert report.counts.sessions.added == 4
    (said,) = report.notes
    assert said == (
        f"2 sessions start after today (first: line 4, {tomorrow} 00:00:00); is the year right, and the order of day"
        " and month?"
    )


def test_the_report_for_programs_is_json(engine, file):
    report = load(engine, file(HEADER + GOOD)).as_dict()

    assert json.loads(json.dumps(report)) == {
        "file": "history.csv",
        "rows": 1,
        "refused": [],
        "reasons": [],
        "stored": True,
        "counts": {
            "users": {"added": 1, "updated": 0, "unchanged": 0, "repeated": 0},
            "vehicles": {"added": 0, "updated": 0, "unchanged": 0, "repeated": 0},
            "sessions": {"added": 1, "updated": 0, "unchanged": 0, "repeated": 0},
        },
        "columns": {
            "user_id": {"header": "user_id", "values": ["U"]},
            "charger_type": {"header": "charger_type", "values": ["Level 1"]},
            "charging_start_time": {
                "header": "charging_start_time",
                "values": ["2024-01-01 10:00:00"],
                "first": "2024-01-01 10:00:00",
            },
            "energy_consumed_kwh": {"header": "energy_consumed_kwh", "values": ["12.5"]},
        },
        "ignored_columns": [],
        "not_found": [
            *("session_id", "state_of_charge_start", "distance_driven_km", "temperature_c", "battery_capacity_kwh"),
            *("vehicle_age_years", "user_type", "vehicle_model", "charging_end_time", "charging_duration_hours"),
            *("charging_rate_kw", "charging_cost_usd", "state_of_charge_end", "charging_station_id"),
            "charging_station_location",
        ],
        "notes": [],
        "outside": {},
        "without_user": 0,
    }


KINDS = "user_id,user_type,vehicle_model,charger_type,charging_start_time\n"


def spelt(engine):
    """Return the stored user types, vehicle models and charger types."""
    columns = (USERS.c.user_type, VEHICLES.c.vehicle_model, SESSIONS.c.charger_type)
    with engine.connect() as connection:
        stored = [sorted(connection.scalars(select(column))) for column in columns]
        facts = select(SESSION_FACTS.c.user_type, SESSION_FACTS.c.vehicle_model)
        return stored, sorted(map(tuple, connection.execute(facts)))


def test_a_later_file_gets_the_stored_spellings_and_the_report_says_so(engine, file):
    load(engine, file(f"{KINDS}ann,Commuter,Kia EV6,Level 2,2024-01-01 10:00\n"))
    later = file(
        f"{KINDS}bob,COMMUTER,KIA EV6,level 2,2024-01-02 10:00\nann,commuter,KIA EV6,Level 2,2024-01-03 10:00\n"
    )

    report = load(engine, later)

    stored, facts = spelt(engine)
    assert stored == [["Commuter"] * 2, ["Kia EV6"] * 2, ["Level 2"] * 3]
    assert facts == [("Commuter", "Kia EV6")] * 3
    assert sorted(report.notes) == [
        "charger_type: 1 spelling read as another spelling: 'level 2' as 'Level 2'",
        "user_type: 2 spellings read as another spelling: 'COMMUTER' as 'Commuter', 'commuter' as 'Commuter'",
        "vehicle_model: 1 spelling read as another spelling: 'KIA EV6' as 'Kia EV6'",
    ]
    # The vehicle of ann is the stored one, and the same rows are the same sessions.
    assert load(engine, later).counts.sessions == Count(unchanged=2)


def test_rows_of_another_program_keep_their_spelling_and_an_equal_text_is_not_changed(engine, file):
    with engine.begin() as connection:
        rows = [{"session_id": number, "charger_type": text} for number, text in enumerate(["Slow", "Slow", "slow"], 1)]
        connection.execute(SESSIONS.insert(), rows)

    load(engine, file("charger_type,charging_start_time\nslow,2024-01-01 10:00\nslow,2024-01-01 11:00\n"))
    load(engine, file("charger_type,charging_start_time\nSLOW,2024-01-01 12:00\n"))

    with engine.connect() as connection:
        stored = connection.scalars(select(SESSIONS.c.charger_type).order_by(SESSIONS.c.charging_start_time)).all()
    assert sorted(stored) == ["Slow", "Slow", *["slow"] * 4]


def test_types_of_rows_without_users_get_the_stored_spelling_too(engine, file):
    header = "user_type,charger_type,charging_start_time\n"
    load(engine, file(f"{header}Taxi,A,2024-01-01 10:00\n"))
    load(engine, file(f"{header}TAXI,A,2024-01-01 11:00\n"))

    assert spelt(engine)[1] == [("Taxi", None)] * 2
