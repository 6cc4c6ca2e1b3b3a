"""Each column of the history is written once, in zap/ml/features.py; tables, files, reports and trainings have it."""

import json
from collections import Counter
from datetime import datetime

import numpy as np
import pytest
from sqlalchemy import Float, insert, select
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

from zap.db.history.drivers import driver_facts
from zap.db.history.history_rows import SESSIONS, USERS, VEHICLES
from zap.db.history.history_store import read_history, upsert_history
from zap.db.history.session_reports import report_sessions
from zap.db.tables import WallTime
from zap.formats.history_file import parse_history
from zap.formats.request import FIELDS, example_request
from zap.formats.session_report import parse_report
from zap.ml.cells import PAST_NUMBERS
from zap.ml.features import FACTS, FEATURES, MEASURED, STATION, USER_FACTS
from zap.ml.history import clean_history
from zap.ml.sample import sample_history
from zap.settings import Settings

COLUMNS = (*FEATURES, *MEASURED, *STATION)
LEARNED = (*FEATURES, *PAST_NUMBERS)
TYPES = {"number": Float, "category": AutoString, "time": WallTime}
WALL_TIME = Settings(timezone="UTC").wall_time

each_column = pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
each_number = pytest.mark.parametrize(
    "number", [column for column in COLUMNS if column.kind == "number"], ids=lambda column: column.name
)


def learned(engine):
    """Return the only session that a training reads."""
    (session,) = clean_history(read_history(engine)).frame.to_dict("records")
    return session


def examples(columns):
    """Return the examples of these columns as a training reads them."""
    return {
        column.name: np.datetime64(column.example) if column.kind == "time" else column.example for column in columns
    }


def file_of(columns, names):
    """Return the lines of a history file with one session, which has the examples of these columns."""
    return [",".join(["User ID", *names]), "\n", ",".join(["U", *(str(column.example) for column in columns)]), "\n"]


def test_no_name_and_no_header_appears_twice():
    names = Counter(column.name for column in COLUMNS)
    headers = Counter(column.header for column in COLUMNS if column.header)

    assert [one for counts in (names, headers) for one, count in counts.items() if count > 1] == []


@each_number
def test_an_example_is_within_its_range(number):
    assert number.inside(np.array([number.example])).all()


@each_column
def test_a_column_has_its_table(column):
    assert isinstance(SQLModel.metadata.tables[column.table].c[column.name].type, TYPES[column.kind])


def test_a_session_keeps_each_fact():
    assert {*SQLModel.metadata.tables["session_facts"].c.keys()} == {"session_id", *FACTS}


@pytest.mark.parametrize("heading", [lambda column: column.name, lambda column: column.header or column.name])
def test_an_imported_file_is_learned_with_each_column(sqlite_engine, heading):
    lines = file_of(COLUMNS, map(heading, COLUMNS))

    history = parse_history("".join(lines).splitlines(keepends=True), WALL_TIME)
    upsert_history(sqlite_engine, history.users, history.vehicles, history.sessions)

    assert history.ignored_columns == []
    session = learned(sqlite_engine)
    assert {name: session[name] for name in examples(LEARNED)} == examples(LEARNED)


def test_a_reported_session_is_learned_with_each_column(sqlite_engine):
    reported = {column.name: column.example for column in COLUMNS if column.name not in FACTS}
    facts = {column.name: column.example for column in COLUMNS if column.name in FACTS}
    with sqlite_engine.begin() as connection:
        connection.execute(insert(USERS), {"user_id": "U"} | {name: facts[name] for name in USER_FACTS})
        others = {name: value for name, value in facts.items() if name not in USER_FACTS}
        connection.execute(insert(VEHICLES), {"user_id": "U"} | others)

    report = parse_report(json.dumps({"session_id": 7, "user_id": "U"} | reported).encode(), WALL_TIME)
    report_sessions(sqlite_engine, report, datetime.fromisoformat(reported["charging_end_time"]))

    session = learned(sqlite_engine)
    assert {name: session[name] for name in examples(LEARNED)} == examples(LEARNED)
    with sqlite_engine.connect() as connection:
        (stored,) = connection.execute(select(SESSIONS)).mappings()
    assert [name for name in reported if stored[name] is None] == []
    assert driver_facts(sqlite_engine, {"user_id": "U"}) == facts


def test_a_request_has_each_feature():
    assert {column.name for column in FEATURES} < set(FIELDS)
    assert example_request(None) == {column.name: column.example for column in FEATURES}


def test_a_sample_has_no_other_columns():
    sample = sample_history(drivers=1, months=1)
    known = {"user_id", "time_of_day", "day_of_week", *(column.name for column in COLUMNS)}

    assert {*sample.users, *sample.vehicles, *sample.sessions} <= known
