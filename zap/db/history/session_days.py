"""Sessions by the days on which they start, read through the index of the starts."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from typing import Any

from sqlalchemy import ColumnElement, Connection, String, select, type_coerce

from zap.db.history.history_rows import SESSIONS, raw_columns

COLUMNS = ("charger_type", "charging_start_time", "charging_end_time", "charging_duration_hours")
# How many rows are fetched at once.
_ROWS_AT_ONCE = 1000


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
    with connection.execute(asked, execution_options={"yield_per": _ROWS_AT_ONCE}) as rows:
        yield from rows
