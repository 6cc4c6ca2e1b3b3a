"""Read the sessions that start on some days, through the index of the starts."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, String, select, type_coerce
from sqlalchemy.exc import OperationalError

from zap.db.history.history_rows import SESSIONS, raw_columns

COLUMNS = ("charger_type", "charging_start_time", "charging_end_time", "charging_duration_hours")
# How many rows are fetched at once.
_ROWS_AT_ONCE = 2000


def starts_between(connection: Connection, first: date, last: date) -> ColumnElement[bool]:
    """Return the condition for sessions that start on the day `first` or later, and before the day `last`.

    SQLite compares texts, byte by byte: a day without a time comes before all times of this day, whatever stands
    between day and time (`2024-01-31T18:05` and `2024-01-31 18:05:00` are both found). PostgreSQL compares times.
    """
    start: ColumnElement[Any] = SESSIONS.c.charging_start_time
    if connection.dialect.name == "sqlite":
        start = type_coerce(start, String)
        return (start >= first.isoformat()) & (start < last.isoformat())
    return (start >= datetime.combine(first, time())) & (start < datetime.combine(last, time()))


def sessions_between(connection: Connection, first: date, last: date) -> Iterator[Sequence[Any]]:
    """Yield the raw values of COLUMNS of each session that starts on the day `first` or later, before the day `last`.

    The rows are in no order. A start may be a text that is no time. On PostgreSQL each fetch has the time limit of the
    engine's statements.

    Args:
        connection: on a database at head.
        first: the first day.
        last: the day after the last day.
    """
    asked = select(*raw_columns(connection, SESSIONS, COLUMNS)).where(starts_between(connection, first, last))
    if connection.dialect.name == "sqlite":
        # SQLite's own cursor, because SQLAlchemy would make an object for each row.
        with connection.execute(asked) as result:
            yield from _fetched(result.cursor, asked)
        return
    with connection.execute(asked, execution_options={"yield_per": _ROWS_AT_ONCE}) as result:
        for rows in result.partitions():
            yield from rows


def _fetched(cursor: Any, asked: Select[Any]) -> Iterator[Sequence[Any]]:
    """Yield the rows of a cursor of SQLite."""
    try:
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield from rows
    except sqlite3.Error as error:
        raise OperationalError(str(asked), None, error) from error


@contextmanager
def quick_texts(connection: Connection) -> Iterator[None]:
    """Read texts on SQLite in half the time, as long as all are UTF-8; another text raises an OperationalError.

    SQLAlchemy's engine calls a Python function for each text, see `create_engine`.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    driver: Any = connection.connection.driver_connection
    patient = driver.text_factory
    try:
        driver.text_factory = str
        yield
    finally:
        driver.text_factory = patient
