"""What becomes of a database that ZapApp's earlier service has made."""

import importlib.util
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, inspect, select
from sqlmodel import Session, SQLModel, col
from sqlmodel import select as sqlmodel_select

from zap.db.engine import create_engine
from zap.db.history.history_store import read_history
from zap.db.schema import migrations_folder, upgrade
from zap.db.tables import ChargingSession, InferenceInput, Prediction, User, Vehicle, utc_now
from zap.errors import AdoptionRefused
from zap.ml.history import clean_history

# As the earlier service and the tools around it have made them.
LEGACY = """
CREATE TABLE Users (user_id TEXT PRIMARY KEY, user_type TEXT);
CREATE TABLE Vehicles (vehicle_id INTEGER PRIMARY KEY AUTOINCREMENT, user_id TEXT, vehicle_model TEXT,
    battery_capacity_kwh REAL, vehicle_age_years REAL, FOREIGN KEY (user_id) REFERENCES Users(user_id));
CREATE TABLE "ChargingSessions" ("session_id" INTEGER, "user_id" TEXT, "vehicle_id" INTEGER,
    "charging_station_id" TEXT, "charging_station_location" TEXT, "charger_type" TEXT,
    "charging_start_time" TEXT, "charging_end_time" TEXT, "energy_consumed_kwh" REAL,
    "charging_duration_hours" REAL, "charging_rate_kw" REAL, "charging_cost_usd" REAL,
    "time_of_day" TEXT, "day_of_week" TEXT, "state_of_charge_start" REAL,
    "state_of_charge_end" REAL, "distance_driven_km" REAL, "temperature_c" REAL, "timestamp" TEXT);
CREATE TABLE inference_inputs (input_id INTEGER PRIMARY KEY AUTOINCREMENT, request_timestamp TEXT NOT NULL,
    input_data_json TEXT NOT NULL);
CREATE TABLE predictions (prediction_id INTEGER PRIMARY KEY AUTOINCREMENT, input_id INTEGER,
    prediction_timestamp TEXT NOT NULL, source TEXT NOT NULL CHECK(source IN ('train', 'inference')),
    predicted_class TEXT NOT NULL, actual_class TEXT,
    FOREIGN KEY (input_id) REFERENCES inference_inputs (input_id));
INSERT INTO Users VALUES ('ann', 'Commuter'), ('bob', NULL);
INSERT INTO Vehicles VALUES (1, 'ann', 'BMW i3', 42.2, 3.0), (4, 'unknown', NULL, NULL, NULL);
INSERT INTO ChargingSessions (session_id, user_id, vehicle_id, charger_type, charging_start_time)
    VALUES (1, 'ann', 1, 'Level 1', '2024-01-01 00:00:00'), (2, 'nobody', 99, 'Level 2', NULL);
INSERT INTO inference_inputs VALUES (1, '2025-11-09T22:26:36.760882', '{"temperature c":15.0}');
INSERT INTO predictions VALUES (1, 1, '2025-11-09T22:26:36.771908', 'inference', 'Level 1', NULL),
    (2, NULL, '2025-11-09T22:07:11.771677', 'train', 'Level 2', 'Level 1');
"""
FIXED = ("Users", "Vehicles", "ChargingSessions", "inference_inputs", "predictions")
# For tables without the keys that would have kept bad ids out.
NO_KEYS = """
CREATE TABLE keyless AS SELECT * FROM {0}; DROP TABLE {0}; ALTER TABLE keyless RENAME TO {0};
"""
UPGRADE = """
import os, signal, sys
from zap.db.schema import upgrade
def report(line):
    print(line, flush=True)
    if len(sys.argv) > 2 and sys.argv[2] in line:
        os.kill(os.getpid(), signal.SIGKILL)
print("ready", flush=True)
sys.stdin.readline()
upgrade(sys.argv[1], report)
"""


def write(file, script):
    with closing(sqlite3.connect(file)) as database:
        database.executescript(script)


def read(file, query):
    with closing(sqlite3.connect(file)) as database:
        return database.execute(query).fetchall()


def dump(file):
    with closing(sqlite3.connect(file)) as database:
        return list(database.iterdump())


def url_of(file):
    return f"sqlite:///{file}"


def adopt(file):
    """The lines that the upgrade reports."""
    lines = []
    upgrade(url_of(file), lines.append)
    return lines


def copies(file):
    return sorted(path for path in file.parent.iterdir() if ".before-zap-" in path.name)


@pytest.fixture
def legacy(tmp_path):
    """A small database of the earlier service."""
    file = tmp_path / "zapapp.sqlite"
    write(file, LEGACY)
    return file


@pytest.fixture
def real(zapapp_database, tmp_path):
    """A copy of the real one."""
    return shutil.copyfile(zapapp_database, tmp_path / "charge_database_alt.sqlite")


@pytest.fixture
def adopted_engine():
    engines = []

    def make(file):
        upgrade(url_of(file))
        engines.append(create_engine(url_of(file)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


# Nothing is lost.


def test_it_works(real, zapapp_database):
    """Find every row of the real database after the adoption, with its values and its id."""
    adopt(real)
    for table in FIXED:
        columns = ", ".join(name for (name,) in read(zapapp_database, f"SELECT name FROM pragma_table_info('{table}')"))
        query = f"SELECT {columns} FROM {table} ORDER BY 1"
        assert read(real, query) == read(zapapp_database, query)


def test_it_ends_in_the_schema_of_a_new_database(real, tmp_path):
    new = tmp_path / "new.sqlite"
    upgrade(url_of(new))
    adopt(real)
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    ours = {*SQLModel.metadata.tables, "alembic_version"}
    assert [row for row in read(real, query) if row[2] in ours] == [row for row in read(new, query) if row[2] in ours]


def test_tables_of_other_tools_are_untouched(real, zapapp_database):
    adopt(real)
    names = [name for (name,) in read(zapapp_database, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    others = set(names) - set(FIXED) - {"sqlite_sequence"}
    assert len(others) == 6
    for name in others:
        rows, sql = f'SELECT rowid, * FROM "{name}"', f"SELECT sql FROM sqlite_master WHERE name = '{name}'"
        assert read(real, rows) == read(zapapp_database, rows)
        assert read(real, sql) == read(zapapp_database, sql)


def test_the_file_is_sound(real):
    adopt(real)
    assert read(real, "PRAGMA integrity_check") == [("ok",)]
    assert read(real, "PRAGMA foreign_key_check") == []


def test_the_journal_mode_stays_its_owners_business(real):
    adopt(real)
    assert read(real, "PRAGMA journal_mode") == [("delete",)]


def test_adopting_twice_does_nothing_the_second_time(real):
    adopt(real)
    before = real.read_bytes()
    assert adopt(real) == []
    assert (real.read_bytes(), len(copies(real))) == (before, 1)


def test_old_stamps_are_kept_byte_for_byte(legacy):
    # The zone of these stamps is unknown, and digits must not become a number.
    write(legacy, "INSERT INTO inference_inputs VALUES (2, '1762727196.10', '{}'), (3, '20251109', '{}')")
    adopt(legacy)
    assert read(legacy, "SELECT typeof(request_timestamp), request_timestamp FROM inference_inputs") == [
        ("text", "2025-11-09T22:26:36.760882"),
        ("text", "1762727196.10"),
        ("text", "20251109"),
    ]


def test_rows_are_read_through_the_tables(real, adopted_engine):
    with Session(adopted_engine(real)) as session:
        assert session.get(InferenceInput, 1).request_timestamp == datetime(2025, 11, 9, 22, 26, 36, 760882)  # noqa: DTZ001
        assert session.get(ChargingSession, 1).charging_start_time == datetime(2024, 1, 1)  # noqa: DTZ001
        assert session.get(User, "User_1").user_type == "Commuter"
        old = session.get(Prediction, 3565)
        assert (old.input_id, old.source, old.model_version, old.probabilities) == (
            1,
            "inference",
            None,
            None,
        )


def test_an_old_start_equals_the_same_moment_bound_by_zap(real, adopted_engine):
    midnight = datetime(2024, 1, 1)  # noqa: DTZ001
    with adopted_engine(real).connect() as connection:
        same = select(func.count()).where(col(ChargingSession.charging_start_time) == midnight)
        assert connection.scalar(same) == 1


# Ids go on.


def test_new_rows_continue_the_ids(real, adopted_engine):
    with Session(adopted_engine(real)) as session:
        rows = [
            Vehicle(),
            ChargingSession(),
            request := InferenceInput(request_timestamp=utc_now(), input_data_json="{}"),
        ]
        session.add_all(rows)
        session.flush()
        session.add(
            answer := Prediction(
                input_id=request.input_id,
                prediction_timestamp=utc_now(),
                source="inference",
                predicted_class="a",
            )
        )
        session.commit()
        assert [rows[0].vehicle_id, rows[1].session_id, request.input_id, answer.prediction_id] == [
            1321,
            1321,
            2,
            3566,
        ]


def test_the_id_of_a_deleted_row_is_not_used_again(legacy, adopted_engine):
    write(legacy, "INSERT INTO Vehicles (vehicle_id) VALUES (70); DELETE FROM Vehicles WHERE vehicle_id > 1")
    with Session(adopted_engine(legacy)) as session:
        session.add(vehicle := Vehicle())
        session.commit()
        assert vehicle.vehicle_id == 71


def test_an_emptied_table_continues_its_ids(legacy, adopted_engine):
    write(legacy, "DELETE FROM predictions")
    with Session(adopted_engine(legacy)) as session:
        session.add(answer := Prediction(prediction_timestamp=utc_now(), source="train", predicted_class="a"))
        session.commit()
        assert answer.prediction_id == 3


@pytest.mark.parametrize("loss", ["DELETE FROM inference_inputs", "DROP TABLE inference_inputs"])
def test_a_new_request_does_not_take_the_prediction_of_a_lost_one(legacy, adopted_engine, loss):
    # This holds even if the counter of the request ids has forgotten the lost request.
    write(legacy, f"UPDATE predictions SET input_id = 30 WHERE input_id = 1; {loss}")
    with Session(adopted_engine(legacy)) as session:
        session.add(request := InferenceInput(request_timestamp=utc_now(), input_data_json="{}"))
        session.commit()
        assert request.input_id == 31


def test_predictions_of_lost_requests_are_kept_and_reported(legacy):
    write(legacy, "DELETE FROM inference_inputs")
    assert "predictions: 1 row of a request that is not there; kept as they are" in adopt(legacy)
    assert read(legacy, "SELECT prediction_id, input_id FROM predictions ORDER BY 1") == [(1, 1), (2, None)]


@pytest.mark.parametrize("kind", ["TEXT", "REAL", "BLOB"])
def test_whole_numbers_of_another_type_are_the_same_ids(legacy, kind):
    write(
        legacy,
        f"CREATE TABLE s (session_id {kind}, charger_type TEXT); INSERT INTO s VALUES (7, 'a'), ('12', 'b');"
        "DROP TABLE ChargingSessions; ALTER TABLE s RENAME TO ChargingSessions",
    )
    adopt(legacy)
    assert read(legacy, "SELECT session_id, charger_type FROM ChargingSessions") == [(7, "a"), (12, "b")]


# The copy.


def test_the_copy_is_named_reported_and_as_the_database_was(legacy):
    before = dump(legacy)
    lines = adopt(legacy)
    (copy,) = copies(legacy)
    assert f"a copy of the database as it was: {copy}" in lines
    assert datetime.strptime(copy.name, "zapapp.before-zap-%Y%m%dT%H%M%SZ.sqlite").replace(tzinfo=UTC) <= utc_now()
    assert dump(copy) == before


def test_the_copy_has_the_rows_that_are_still_in_the_wal(legacy):
    with closing(sqlite3.connect(legacy, isolation_level=None)) as owner:
        owner.execute("PRAGMA journal_mode=WAL")
        owner.execute("INSERT INTO Users VALUES ('late', 'Commuter')")
        assert legacy.with_name("zapapp.sqlite-wal").stat().st_size
        adopt(legacy)
    (copy,) = copies(legacy)
    for file in (copy, legacy):
        assert read(file, "SELECT user_type FROM Users WHERE user_id = 'late'") == [("Commuter",)]


def test_the_copy_can_be_read_by_its_user_alone(legacy):
    legacy.chmod(0o644)
    adopt(legacy)
    (copy,) = copies(legacy)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_copies_of_one_second_have_names_of_their_own(legacy):
    spec = importlib.util.spec_from_file_location("first", migrations_folder() / "versions" / "0001_zapapp_tables.py")
    migration = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(migration)
    assert len({migration._new_file(legacy) for _ in range(20)}) == 20


def test_no_copy_is_made_where_there_is_nothing_to_adopt(tmp_path, upgraded):
    write(tmp_path / "other.sqlite", "CREATE TABLE theirs (x)")
    assert adopt(tmp_path / "other.sqlite") == upgraded
    assert copies(tmp_path / "other.sqlite") == []


def test_without_a_copy_nothing_is_adopted(legacy):
    long_name = legacy.rename(legacy.with_name(f"{'z' * 240}.sqlite"))
    before = dump(long_name)
    with pytest.raises(AdoptionRefused, match=r"no copy could be written beside .*nothing was changed"):
        adopt(long_name)
    assert dump(long_name) == before


def test_half_a_copy_is_removed(real, zapapp_database):
    # A limit on the size of files stands for a full disk.
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n{UPGRADE}"
    process = subprocess.run(
        [sys.executable, "-c", limited, url_of(real)], input="\n", capture_output=True, text=True, check=False
    )
    assert "AdoptionRefused: no copy could be written beside" in process.stderr
    assert (copies(real), real.read_bytes()) == ([], zapapp_database.read_bytes())


# What is refused.


def refused(file):
    """The message, after a look at whether the file is as it was."""
    before = dump(file)
    with pytest.raises(AdoptionRefused) as error:
        adopt(file)
    assert dump(file) == before
    return str(error.value)


@pytest.mark.parametrize(
    ("table", "script", "complaint"),
    [
        ("Users", "INSERT INTO Users VALUES (NULL, 'Commuter')", "Users: user_id is NULL in row 3"),
        (
            "Users",
            "INSERT INTO Users VALUES ('ann', NULL)",
            "Users: user_id is there more than once in rows 1, 3",
        ),
        (
            "Vehicles",
            "INSERT INTO Vehicles VALUES (4, 'ann', 'i3', 1, 1)",
            "Vehicles: vehicle_id is there more than",
        ),
        (
            "Vehicles",
            "UPDATE Vehicles SET vehicle_id = 'x' WHERE vehicle_id = 4",
            "is no whole number in row 2",
        ),
        (
            "ChargingSessions",
            "UPDATE ChargingSessions SET session_id = NULL",
            "session_id is NULL in rows 1, 2",
        ),
        (
            "ChargingSessions",
            "UPDATE ChargingSessions SET session_id = 1",
            "is there more than once in rows 1, 2",
        ),
        (
            "ChargingSessions",
            "UPDATE ChargingSessions SET session_id = 0; INSERT INTO ChargingSessions (session_id) VALUES ('no id')",
            "is there more than once in rows 1, 2\n",
        ),
        (
            "ChargingSessions",
            "UPDATE ChargingSessions SET session_id = 1.5",
            "is no whole number in rows 1, 2",
        ),
        (
            "ChargingSessions",
            "UPDATE ChargingSessions SET session_id = 1e19",
            "is no whole number in rows 1, 2",
        ),
        (
            "ChargingSessions",
            "UPDATE ChargingSessions SET session_id = x'31'",
            "is no whole number in rows 1, 2",
        ),
        (
            "inference_inputs",
            "UPDATE inference_inputs SET input_id = NULL",
            "inference_inputs: input_id is NULL in row 1",
        ),
        (
            "inference_inputs",
            "UPDATE inference_inputs SET input_data_json = NULL",
            "input_data_json is NULL in row 1",
        ),
        (
            "predictions",
            "UPDATE predictions SET prediction_id = 2",
            "prediction_id is there more than once in rows 1, 2",
        ),
        (
            "predictions",
            "UPDATE predictions SET source = 'Train'",
            "source is neither train nor inference in rows 1, 2",
        ),
        ("predictions", "UPDATE predictions SET source = NULL", "predictions: source is NULL in rows 1, 2"),
        (
            "predictions",
            "UPDATE predictions SET predicted_class = NULL",
            "predicted_class is NULL in rows 1, 2",
        ),
    ],
)
def test_rows_that_would_be_lost_are_refused(legacy, table, script, complaint):
    write(legacy, NO_KEYS.format(table) + script)
    assert complaint in refused(legacy)


def test_a_null_user_is_refused_although_it_was_a_key(legacy):
    # SQLite accepts NULL in a primary key that is not INTEGER.
    write(legacy, "INSERT INTO Users VALUES (NULL, 'Commuter')")
    assert "Users: user_id is NULL in row 3" in refused(legacy)


def test_the_message_names_ten_rows_and_how_many_more(legacy):
    rows = ", ".join(["(NULL)"] * 1_234)
    write(legacy, f"DELETE FROM ChargingSessions; INSERT INTO ChargingSessions (session_id) VALUES {rows}")
    assert "session_id is NULL in rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 1,224 more\n" in refused(legacy)


def test_all_that_is_wrong_is_said_at_once(legacy):
    write(
        legacy,
        "INSERT INTO Users VALUES (NULL, NULL); UPDATE ChargingSessions SET session_id = NULL; "
        "ALTER TABLE predictions ADD extra",
    )
    message = refused(legacy)
    assert [word in message for word in ("Users: ", "ChargingSessions: ", "predictions has columns")] == [True] * 3


def test_rows_of_a_table_without_row_numbers_are_named_by_their_key(legacy):
    write(
        legacy,
        "CREATE TABLE p (prediction_id TEXT PRIMARY KEY, prediction_timestamp TEXT, source TEXT, predicted_class TEXT) "
        "WITHOUT ROWID; INSERT INTO p VALUES ('1', 'then', 'train', 'a'), ('2b', 'then', 'train', 'a');"
        "DROP TABLE predictions; ALTER TABLE p RENAME TO predictions",
    )
    assert "predictions: prediction_id is no whole number in row 2b" in refused(legacy)


def test_columns_that_zap_does_not_know_are_refused(legacy):
    write(legacy, 'ALTER TABLE Users ADD "e mail" TEXT; ALTER TABLE Users ADD phone TEXT')
    assert "Users has columns that zap does not know: e mail, phone; move them" in refused(legacy)


def test_a_missing_column_that_every_row_needs_is_refused(legacy):
    write(
        legacy,
        "CREATE TABLE p AS SELECT prediction_id, source FROM predictions; DROP TABLE predictions; "
        "ALTER TABLE p RENAME TO predictions",
    )
    assert "predictions holds rows and has no column prediction_timestamp, predicted_class" in refused(legacy)


def test_a_missing_id_is_refused(legacy):
    write(legacy, "ALTER TABLE ChargingSessions DROP COLUMN session_id")
    assert "ChargingSessions holds rows and has no column session_id" in refused(legacy)


def test_a_view_in_the_place_of_a_table_is_refused(legacy):
    write(legacy, "ALTER TABLE Users RENAME TO people; CREATE VIEW Users AS SELECT * FROM people")
    assert "Users is a view; rename it" in refused(legacy)


def test_a_table_with_a_name_of_zaps_own_is_refused(legacy):
    write(legacy, "CREATE TABLE model_versions (x)")
    assert "there is something called model_versions already" in refused(legacy)


def test_an_index_that_cannot_be_made_again_is_refused_by_name(legacy):
    write(legacy, 'CREATE UNIQUE INDEX "ix_Vehicles_user_id" ON Vehicles (user_id)')
    message = refused(legacy)
    assert "ix_Vehicles_user_id cannot be made again" in message
    assert "CREATE UNIQUE INDEX" in message


def test_a_refusal_on_postgresql(empty_postgresql_url):
    # ZapApp never used PostgreSQL, so tables with these names belong to another program.
    engine = create_engine(empty_postgresql_url)
    with engine.begin() as connection:
        connection.exec_driver_sql('CREATE TABLE "Users" (user_id text primary key, user_type text)')
    with pytest.raises(AdoptionRefused, match=r"has Users already.*Name an empty database in ZAP_DATABASE_URL"):
        upgrade(empty_postgresql_url)
    assert inspect(engine).get_table_names() == ["Users"]
    engine.dispose()


def test_names_in_small_letters_are_other_tables_on_postgresql(empty_postgresql_url):
    engine = create_engine(empty_postgresql_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE users (id int)")
    upgrade(empty_postgresql_url)
    assert {"users", "Users"} <= set(inspect(engine).get_table_names())
    engine.dispose()


# What is missing, spelt otherwise, or built on the tables.


def test_missing_columns_are_added_empty(legacy):
    write(
        legacy,
        "ALTER TABLE predictions DROP COLUMN actual_class; ALTER TABLE Vehicles DROP COLUMN vehicle_age_years",
    )
    adopt(legacy)
    assert read(legacy, "SELECT prediction_id, actual_class FROM predictions") == [(1, None), (2, None)]
    assert read(legacy, "SELECT vehicle_age_years FROM Vehicles") == [(None,), (None,)]


def test_missing_tables_are_made(legacy):
    write(legacy, "DROP TABLE predictions; DROP TABLE inference_inputs; DROP TABLE Vehicles")
    adopt(legacy)
    assert read(legacy, "SELECT count(*) FROM predictions, Vehicles, inference_inputs") == [(0,)]
    assert read(legacy, "SELECT count(*) FROM Users") == [(2,)]


def test_an_empty_table_may_miss_any_column(legacy):
    write(legacy, "DROP TABLE predictions; CREATE TABLE predictions (source TEXT)")
    adopt(legacy)
    assert read(legacy, "SELECT prediction_id, predicted_class FROM predictions") == []


def test_upper_and_lower_case_are_one_on_sqlite(legacy):
    write(
        legacy,
        "ALTER TABLE Users RENAME TO u; ALTER TABLE u RENAME TO USERS; ALTER TABLE USERS RENAME user_type TO User_Type",
    )
    adopt(legacy)
    query = "SELECT sql FROM sqlite_master WHERE tbl_name = 'Users' AND type = 'table'"
    assert '"Users"' in read(legacy, query)[0][0]
    assert read(legacy, "SELECT user_id, user_type FROM Users") == [("ann", "Commuter"), ("bob", None)]


def test_a_table_without_row_numbers_is_adopted(legacy):
    write(
        legacy,
        "CREATE TABLE u (user_id TEXT PRIMARY KEY, user_type TEXT) WITHOUT ROWID; "
        "INSERT INTO u SELECT * FROM Users; DROP TABLE Users; ALTER TABLE u RENAME TO Users",
    )
    adopt(legacy)
    assert read(legacy, "SELECT user_id FROM Users") == [("ann",), ("bob",)]


def test_views_still_show_the_rows(legacy):
    write(
        legacy,
        "CREATE VIEW answers AS SELECT predicted_class FROM predictions; CREATE VIEW n AS SELECT count(*) FROM answers",
    )
    adopt(legacy)
    assert read(legacy, "SELECT * FROM n") == [(2,)]


def test_indexes_are_made_again(legacy):
    write(legacy, "CREATE UNIQUE INDEX mine ON ChargingSessions (session_id) WHERE user_id IS NOT NULL")
    statement = read(legacy, "SELECT sql FROM sqlite_master WHERE name = 'mine'")
    adopt(legacy)
    assert read(legacy, "SELECT sql FROM sqlite_master WHERE name = 'mine'") == statement


def test_a_constraint_that_is_not_kept_is_told(legacy):
    write(
        legacy,
        "CREATE TABLE v (vehicle_id INTEGER PRIMARY KEY, user_id TEXT, vehicle_model TEXT,"
        " UNIQUE (user_id, vehicle_model), UNIQUE (vehicle_id)); DROP TABLE Vehicles; ALTER TABLE v RENAME TO Vehicles",
    )
    lines = adopt(legacy)
    assert [line for line in lines if "UNIQUE" in line] == [
        "Vehicles: its constraint UNIQUE (user_id, vehicle_model) is not kept; make it again as a unique index"
    ]


def test_an_index_that_zap_makes_as_well_is_no_hindrance(legacy):
    write(legacy, 'CREATE INDEX "ix_Vehicles_user_id" ON "Vehicles" (user_id)')
    adopt(legacy)
    assert read(legacy, "SELECT tbl_name FROM sqlite_master WHERE name = 'ix_Vehicles_user_id'") == [("Vehicles",)]


def test_triggers_are_made_again_and_did_not_fire(legacy):
    write(
        legacy,
        "CREATE TABLE seen (id INTEGER); CREATE TRIGGER watch AFTER INSERT ON predictions "
        "BEGIN INSERT INTO seen VALUES (new.prediction_id); END",
    )
    adopt(legacy)
    write(
        legacy,
        "INSERT INTO predictions (prediction_timestamp, source, predicted_class) VALUES ('', 'train', 'a')",
    )
    assert read(legacy, "SELECT id FROM seen") == [(3,)]


def test_foreign_keys_of_other_tables_live_on(legacy):
    write(
        legacy,
        "CREATE TABLE notes (prediction_id INTEGER REFERENCES predictions (prediction_id) ON DELETE CASCADE); "
        "INSERT INTO notes VALUES (2)",
    )
    adopt(legacy)
    assert read(legacy, "SELECT * FROM notes") == [(2,)]
    write(legacy, "PRAGMA foreign_keys=ON; DELETE FROM predictions WHERE prediction_id = 2")
    assert read(legacy, "SELECT * FROM notes") == []


# Times of the history.


def test_naive_times_get_one_format_and_all_else_stays(legacy):
    changed = [
        ("2024-01-01 00:00:00", "2024-01-01 00:00:00"),
        ("2024-01-01T00:00:00", "2024-01-01 00:00:00"),
        ("2024-01-01 10:20:30.000000", "2024-01-01 10:20:30"),
        ("2024-01-01T10:20:30.987", "2024-01-01 10:20:30"),
        ("2024-01-01T10:20", "2024-01-01 10:20:00"),
        ("2024-01-01", "2024-01-01 00:00:00"),
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("2024-01-01 00:00:00+02:00", "2024-01-01 00:00:00+02:00"),
        ("2024-02-30 00:00:00", "2024-02-30 00:00:00"),
        ("01/02/2024 10:00", "01/02/2024 10:00"),
        ("1704012300000", "1704012300000"),
        ("", ""),
        (None, None),
    ]
    columns = "session_id, charging_start_time, charging_end_time, timestamp"

    def rows(place):
        """Return rows whose columns have three of the times that follow each other."""
        times = [one[place] for one in changed]
        return list(zip(range(len(times)), times, times[1:] + times[:1], times[2:] + times[:2], strict=True))

    with closing(sqlite3.connect(legacy)) as database:
        database.execute("DELETE FROM ChargingSessions")
        database.executemany(f"INSERT INTO ChargingSessions ({columns}) VALUES (?, ?, ?, ?)", rows(0))
        database.commit()
    adopt(legacy)
    assert read(legacy, f"SELECT {columns} FROM ChargingSessions ORDER BY session_id") == rows(1)


def test_what_became_of_the_times_is_reported(legacy):
    write(
        legacy,
        "INSERT INTO ChargingSessions (charging_start_time, session_id) VALUES ('2024-01-01T00:00:00', 3), "
        "('2024-01-02', 4), ('soon', 5), ('2024-01-01T00:00:00Z', 6), (1704067200, 7)",
    )
    assert [line for line in adopt(legacy) if line.startswith("ChargingSessions.")] == [
        "ChargingSessions.charging_start_time: 3 times kept as they are: unreadable, or with an offset",
        "ChargingSessions.charging_start_time: 2 times rewritten as YYYY-MM-DD HH:MM:SS",
    ]


def test_bytes_that_are_no_text_are_kept_and_can_be_read(legacy, adopted_engine):
    write(
        legacy, "UPDATE ChargingSessions SET charging_start_time = CAST(x'32ff' AS TEXT), user_id = CAST(x'e9' AS TEXT)"
    )

    engine = adopted_engine(legacy)

    raw = read(legacy, "SELECT CAST(charging_start_time AS BLOB), CAST(user_id AS BLOB) FROM ChargingSessions")
    assert raw == [(b"2\xff", b"\xe9")] * 2
    assert read_history(engine).sessions["user_id"].tolist() == ["\\xe9"] * 2
    with Session(engine) as session:
        assert [row.charging_start_time for row in session.exec(sqlmodel_select(ChargingSession))] == [None, None]


def test_users_whose_names_are_no_text_stay_different(legacy, adopted_engine):
    write(legacy, "INSERT INTO Users VALUES (CAST(x'4ae9' AS TEXT), 'Commuter'), (CAST(x'4ae8' AS TEXT), 'Commuter')")

    history = clean_history(read_history(adopted_engine(legacy)))

    assert len(history.frame) == 1


def test_times_that_are_right_are_not_worth_a_line(legacy, upgraded):
    assert [line.split(":")[0].split(" ")[0] for line in adopt(legacy)] == [
        "adopting",
        "a",
        *["upgraded"] * len(upgraded),
    ]


# Two at a time, and an end half-way.


def start_upgrade(file, *arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", UPGRADE, url_of(file), *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_adopt_once(real):
    pair = [start_upgrade(real) for _ in range(2)]
    for process in pair:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    assert sorted("upgraded to 0001" in lines for lines in said) == [False, True]
    assert len(copies(real)) == 1


def test_a_process_that_is_killed_half_way_leaves_the_database_as_it_was(legacy):
    write(legacy, "UPDATE ChargingSessions SET charging_start_time = '2024-01-01T00:00:00'")
    before = dump(legacy)
    process = start_upgrade(legacy, "rewritten")
    said, _ = process.communicate("\n", timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert "2 times rewritten" in said
    assert dump(legacy) == before


def test_adoption_after_a_refusal(legacy, upgraded):
    write(legacy, "INSERT INTO Users VALUES (NULL, NULL)")
    refused(legacy)
    write(legacy, "DELETE FROM Users WHERE user_id IS NULL")
    assert adopt(legacy)[-len(upgraded) :] == upgraded
