"""Rows that a statement gets as one parameter, so that it reads or writes for hundreds of keys at once.

The statements do not use SQLAlchemy's own objects, which would take longer than the database.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from zap.db.history.session_days import quick_texts

_json = msgspec.json.Encoder(enc_hook=str).encode
# The types of columns on PostgreSQL.
NUMBER, TEXT, TIME = "bigint", "text", "timestamp"


# A portion of the log has few different days.
_text = lru_cache(maxsize=4096)(str)


def is_sqlite(connection: Connection) -> bool:
    """Return whether a connection leads to SQLite."""
    return connection.dialect.name == "sqlite"


def fetched(connection: Connection, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Return the rows of a query in SQL of the engine.

    On SQLite an old table may have bytes that are not UTF-8. Then the query is run again, as the engine reads texts.
    """
    try:
        with quick_texts(connection), connection.exec_driver_sql(query, tuple(parameters)) as result:
            return _all(result.cursor, query)
    except OperationalError:
        if not is_sqlite(connection):
            raise
        with connection.exec_driver_sql(query, tuple(parameters)) as result:
            return _all(result.cursor, query)


def _all(cursor: Any, query: str) -> list[tuple[Any, ...]]:
    try:
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    except sqlite3.Error as error:
        raise OperationalError(query, None, error) from error
    return rows


def given(
    connection: Connection, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]
) -> tuple[str, tuple[Any, ...]]:
    """Return a table `given` for FROM, and its parameters.

    Args:
        connection: says which engine it is for.
        columns: the names of the columns with their types.
        rows: the values of each row in this order. Times are naive.
    """
    if is_sqlite(connection):
        values = ", ".join(f"json_extract(value, '$[{place}]') AS {name}" for place, name in enumerate(columns))
        texts = [[_text(value) if isinstance(value, datetime) else value for value in row] for row in rows]
        return f"(SELECT {values} FROM json_each(?)) AS given", (_json(texts).decode(),)  # noqa: S608 - no data in it
    arrays = ", ".join(f"%s::{type_}[]" for type_ in columns.values())
    return f"unnest({arrays}) AS given ({', '.join(columns)})", tuple(map(_array, zip(*rows, strict=True)))


def among(connection: Connection, column: str, ids: Sequence[int]) -> tuple[str, tuple[Any, ...]]:
    """Return the condition that a column has one of these numbers, and its parameters."""
    if is_sqlite(connection):
        return f"{column} IN (SELECT value FROM json_each(?))", (_json(ids).decode(),)  # noqa: S608 - no data in it
    return f"{column} = ANY(%s::bigint[])", (_array(ids),)


def _array(values: Iterable[object]) -> str:
    """Return the text of an array on PostgreSQL, in a fifth of the time that psycopg takes."""
    return f"{{{','.join(map(_element, values))}}}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def joined(connection: Connection, table: str, name: str, condition: str) -> str:
    """Return the join of `given` with the rows of a table that a condition finds for each row of `given`.

    The engine searches the table through an index for each row of `given`, whatever it assumes about their number.
    """
    if is_sqlite(connection):
        return f"CROSS JOIN {table} AS {name} ON {condition}"
    return f"CROSS JOIN LATERAL (SELECT * FROM {table} AS {name} WHERE {condition} OFFSET 0) AS {name}"  # noqa: S608
