"""When sessions became known: read for the newest sessions of a history, and measured."""

import gzip
import json
import shutil
from datetime import datetime, timedelta

import histories
import pytest
from histories import NO_USERS, NO_VEHICLES, add_sessions, session_row, table
from sqlalchemy import select

from zap.db.engine import create_engine
from zap.db.history.history_rows import SESSIONS
from zap.db.history.history_store import read_history, upsert_history
from zap.db.history.session_reports import report_sessions
from zap.db.history.session_timestamps import read_timestamps
from zap.db.schema import upgrade
from zap.formats.history_file import parse_history
from zap.formats.session_report import parse_report
from zap.ml.history import clean_history
from zap.ml.reporting import GROUPS, Reporting, measure_reporting, newest_sessions
from zap.settings import Settings

BEGIN = datetime.fromisoformat("2026-03-02T18:30:00")


def measured(engine):
    newest = newest_sessions(clean_history(read_history(engine)).frame)
    return measure_reporting(newest, read_timestamps(engine, newest["session_id"].tolist()))


def imported(engine, *rows, columns):
    upsert_history(engine, NO_USERS, NO_VEHICLES, table(*rows, columns=columns))


def test_it_works(engine):
    """Store more sessions than one query asks for, each known 20 minutes after its start."""
    starts = [BEGIN + timedelta(hours=number) for number in range(1200)]
    add_sessions(
        engine,
        *(session_row(start=start, session_id=1 + number, timestamp=start + timedelta(minutes=20))
          for number, start in enumerate(starts)),
    )  # fmt: skip

    timestamps = read_timestamps(engine, range(1, 1500))

    assert list(timestamps) == list(range(1, 1201))
    assert timestamps[1] == "2026-03-02 18:50:00"
    assert measured(engine) == Reporting(20, without_end=1.0, measured=1200)


def test_the_delay_of_the_app_s_reports_is_measured_beside_an_imported_history(engine):
    imported(
        engine,
        *(("U", BEGIN - timedelta(hours=number), "A") for number in range(1, 1000)),
        columns=("user_id", "charging_start_time", "charger_type"),
    )
    assert measured(engine) == Reporting(None, without_end=1.0, measured=0)

    for number in range(40):
        start = BEGIN + timedelta(hours=number)
        session = histories.START | {"session_id": number, "charging_start_time": start.isoformat()}
        report = parse_report(json.dumps(session).encode(), Settings().wall_time)
        report_sessions(engine, report, start + timedelta(minutes=3, microseconds=1))

    assert measured(engine) == Reporting(3, without_end=1.0, measured=40)


def test_an_import_stores_only_the_timestamps_of_its_file(engine):
    columns = ("session_id", "user_id", "charging_start_time", "charger_type")
    known = BEGIN + timedelta(minutes=2)
    add_sessions(engine, session_row(session_id=7, start=BEGIN, timestamp=known))
    imported(engine, (7, "u", BEGIN, "B"), (8, "u", BEGIN + timedelta(days=1), "B"), columns=columns)
    assert read_timestamps(engine, [7, 8]) == {7: str(known), 8: None}

    imported(engine, (8, "u", BEGIN + timedelta(days=1), "B", known), columns=(*columns, "timestamp"))
    with engine.connect() as connection:
        stored = connection.execute(select(SESSIONS.c.charger_type, SESSIONS.c.timestamp).order_by("session_id")).all()
    assert stored == [("B", known)] * 2


@pytest.fixture
def opened():
    engines = []

    def open_(file):
        upgrade(f"sqlite:///{file}")
        engines.append(create_engine(f"sqlite:///{file}"))
        return engines[-1]

    yield open_
    for engine in engines:
        engine.dispose()


def test_the_timestamps_of_the_real_database_are_a_year_later_than_its_sessions(zapapp_database, tmp_path, opened):
    reporting = measured(opened(shutil.copyfile(zapapp_database, tmp_path / "real.sqlite")))

    assert reporting.delay_minutes > 365 * 1440
    assert set(reporting.left_out()) == set(GROUPS)


def test_dundee_does_not_say_how_late_its_sessions_came(dundee_file, sqlite_engine):
    lines = gzip.decompress(dundee_file.read_bytes()).decode().splitlines(keepends=True)
    history = parse_history(lines, Settings().wall_time)
    upsert_history(sqlite_engine, history.users, history.vehicles, history.sessions)

    assert measured(sqlite_engine) == Reporting(None, without_end=0.0, measured=0)
