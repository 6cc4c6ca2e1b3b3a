"""The sessions of days are read in few bytes, whatever texts a table holds."""

from datetime import date, datetime, timedelta

import pytest
from histories import add_sessions, session_row
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from zap.db.history import day_sessions
from zap.db.history.day_sessions import day_of, read_days

DAY = date(2024, 3, 19)
NOON = datetime(2024, 3, 19, 12)  # noqa: DTZ001 - wall time


def read(engine, *days):
    with engine.connect() as connection:
        return read_days(connection, [day_of(DAY) + day for day in days])


def test_it_works(engine):
    """Read two days of three, each with its sessions: the type, the minutes of the start and of the end."""
    add_sessions(
        engine,
        session_row(charger_type="A", start=NOON, charging_end_time=NOON + timedelta(minutes=90)),
        session_row(charger_type=" B", start=NOON + timedelta(days=2), charging_duration_hours=0.5),
        session_row(charger_type="C", start=NOON + timedelta(days=1)),
    )

    found = read(engine, 2, 0, 0)

    assert list(found) == [day_of(DAY), day_of(DAY) + 2]
    assert [
        [(one.names[code], start, end) for start, end, code in zip(one.starts, one.ends, one.codes, strict=True)]
        for one in found.values()
    ] == [[("A", 720, 810)], [("B", 720, 750)]]


def test_no_day_is_no_query(engine):
    assert read(engine) == {}


@pytest.mark.parametrize("sessions", [0, 1, 19, 20, 21, 45])
def test_every_session_is_read_once_and_takes_eight_bytes(engine, sessions, monkeypatch):
    monkeypatch.setattr(day_sessions, "_ROWS_AT_ONCE", 20)
    add_sessions(engine, *[session_row(start=NOON + timedelta(seconds=place)) for place in range(sessions)])

    columns = read(engine, 0)[day_of(DAY)][2:]

    assert [len(column) for column in columns] == [sessions] * 3
    assert sum(column.nbytes for column in columns) == 8 * sessions


def test_a_text_that_is_not_utf_8_is_no_hindrance(sqlite_engine):
    add_sessions(sqlite_engine, session_row(start=NOON), session_row(start=NOON), session_row(start=NOON))
    with sqlite_engine.begin() as connection:
        connection.execute(
            text("UPDATE ChargingSessions SET charger_type = CAST(x'41ff' AS TEXT) WHERE session_id = 2")
        )

    day = read(sqlite_engine, 0)[day_of(DAY)]

    assert [day.names[code] for code in day.codes] == ["A", "A\\xff", "A"]
    # The engine reads such texts afterwards too.
    with sqlite_engine.connect() as connection:
        assert connection.scalar(text("SELECT charger_type FROM ChargingSessions WHERE session_id = 2")) == "A\\xff"


def test_a_table_that_cannot_be_read_is_an_error_of_sqlalchemy(sqlite_engine):
    with sqlite_engine.begin() as connection:
        connection.execute(text("ALTER TABLE ChargingSessions RENAME TO elsewhere"))

    with pytest.raises(OperationalError):
        read(sqlite_engine, 0)
