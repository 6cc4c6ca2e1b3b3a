"""Rows in canonical form written into a table, and removed from it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table

from zap.db.engine import copy_rows
from zap.db.moving.connections import explained
from zap.db.moving.table_rows import Key, Row

# How many rows one statement or transaction writes.
PORTION = 5000


def insert_rows(connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Row]) -> None:
    """Add rows whose keys are not in the table.

    Args:
        connection: a transaction of `writing`.
        table: the table.
        names: the names of the columns, in the order of the values of a row.
        rows: the rows.
    """
    quote = connection.dialect.identifier_preparer.quote
    columns, name = [quote(one) for one in names], quote(table.name)
    driver: Any = connection.connection.driver_connection
    with explained(connection.engine.url):
        if connection.dialect.name == "sqlite":
            marks = ", ".join("?" * len(columns))
            driver.executemany(f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({marks})", rows).close()  # noqa: S608
            return
        with driver.cursor() as cursor:
            copy_rows(cursor, name, columns, rows)


def remove_rows(connection: Connection, table: Table, keys: Sequence[Key]) -> None:
    """Remove the rows with these keys.

    Args:
        connection: a transaction of `writing`.
        table: the table.
        keys: the keys.
    """
    quote = connection.dialect.identifier_preparer.quote
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    where = " AND ".join(f"{quote(column.name)} = {mark}" for column in table.primary_key.columns)
    driver: Any = connection.connection.driver_connection
    with explained(connection.engine.url):
        cursor = driver.cursor()
        cursor.executemany(f"DELETE FROM {quote(table.name)} WHERE {where}", keys)  # noqa: S608
        cursor.close()
