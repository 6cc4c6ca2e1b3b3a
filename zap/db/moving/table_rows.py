"""The rows of one table, in the order of their keys and in canonical form, read with bounded memory."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Column, Connection, LargeBinary, String, Table, Text

from zap.db.moving.canonical_values import JSONS, OddValue, canonical_form, of_postgresql
from zap.db.moving.connections import explained
from zap.db.tables import Stamp, WallTime

Row = tuple[Any, ...]
Key = tuple[Any, ...]
# How many rows are fetched at once: at most, and of an unknown table.
_MOST, _FIRST = 5000, 10
# About how many bytes of texts and bytes are fetched at once.
_BYTES = 4 * 2**20


class OddCell(OddValue):
    """An odd value with its place.

    Attributes:
        table: the name of the table.
        column: the name of the column.
        key: the key of the row, such as `session_id 5`.
    """

    def __init__(self, odd: OddValue, table: str, column: str, key: str) -> None:
        super().__init__(odd.value, odd.why, odd.instead)
        self.table = table
        self.column = column
        self.key = key


# Called with an odd value. It returns the value to use, or raises an error.
Treat = Callable[[OddCell], Any]


@contextmanager
def _closing(cursor: Any) -> Iterator[Any]:
    """Close a cursor at the end of a block.

    If an error of the other database ends a copy, the connection is closed before the reader of its rows.
    """
    try:
        yield cursor
    finally:
        with suppress(sqlite3.ProgrammingError):
            cursor.close()


class TableRows:
    """The rows of a table in one database.

    Args:
        connection: of `reading`.
        table: the table. Columns that the database lacks are left out, because an older zap made it.
        treat: called with each odd value.

    Attributes:
        names: the names of the columns, in the order of the values of a row.
        portion: how many rows may be in memory at once, as far as the rows that were read tell. A row of one table has
            a hundred bytes, and a row of another table has megabytes.
    """

    def __init__(self, connection: Connection, table: Table, treat: Treat) -> None:
        self._connection = connection
        self._table = table
        self._treat = treat
        there = self._columns_there()
        columns = [column for column in table.columns if column.name in there]
        self.names = [column.name for column in columns]
        self._forms = [
            (place, column.name, canonical_form(column))
            for place, column in enumerate(columns)
            # PostgreSQL has checked its JSON.
            if connection.dialect.name == "sqlite" or not isinstance(column.type, JSONS)
        ]
        self._key = [self.names.index(column.name) for column in table.primary_key.columns]
        self._columns = columns
        self._long = [
            place for place, column in enumerate(columns) if isinstance(column.type, (*JSONS, LargeBinary, Text))
        ]
        self.portion = _FIRST if self._long else _MOST
        self._cursors = 0

    def _columns_there(self) -> set[str]:
        """Return the columns that the database has. SQLAlchemy's inspection would take ten times as long."""
        with explained(self._connection.engine.url):
            found = self._connection.exec_driver_sql(f"SELECT * FROM {self._quoted()} LIMIT 0")  # noqa: S608
            return set(found.keys())

    def key_of(self, row: Row) -> Key:
        """Return the key of a row."""
        return tuple(row[place] for place in self._key)

    def count(self) -> int:
        """Return the number of all rows."""
        with explained(self._connection.engine.url):
            return int(self._connection.exec_driver_sql(f"SELECT count(*) FROM {self._quoted()}").scalar_one())  # noqa: S608

    def after(self, key: Key | None = None) -> Iterator[Row]:
        """Yield the rows after a key; all rows without one."""
        with explained(self._connection.engine.url), _closing(self._cursor()) as cursor:
            cursor.execute(self._statement(key), key or ())
            while some := cursor.fetchmany(self.portion):
                self._fit_portion(some)
                yield from map(self._canonical, some)

    def _fit_portion(self, rows: Sequence[Row]) -> None:
        if self._long:
            size = sum(len(row[place] or "") for row in rows for place in self._long)
            fitting = _BYTES * len(rows) // (size + 1)
            self.portion = max(1, min(fitting, 4 * self.portion, _MOST))

    def _cursor(self) -> Any:
        driver: Any = self._connection.connection.driver_connection
        if self._connection.dialect.name == "sqlite":
            return driver.cursor()
        self._cursors += 1
        # Without a name, psycopg would read all rows at once.
        return driver.cursor(name=f"rows of {self._table.name} {self._cursors}")

    def _canonical(self, stored: Row) -> Row:
        values = list(stored)
        for place, name, form in self._forms:
            value = values[place]
            if value is not None:
                try:
                    values[place] = form(value)
                except OddValue as odd:
                    values[place] = self._treat(OddCell(odd, self._table.name, name, self._shown_key(stored)))
        return tuple(values)

    def _shown_key(self, stored: Row) -> str:
        return ", ".join(f"{self.names[place]} {stored[place]!s:.60}" for place in self._key)

    def _statement(self, key: Key | None) -> str:
        sqlite = self._connection.dialect.name == "sqlite"
        quote = self._connection.dialect.identifier_preparer.quote
        read = ", ".join(quote(one.name) if sqlite else of_postgresql(one, quote(one.name)) for one in self._columns)
        keys = ", ".join(self._ordered(one, quote(one.name)) for one in self._table.primary_key.columns)
        mark = "?" if sqlite else "%s"
        where = f" WHERE ({keys}) > ({', '.join([mark] * len(self._key))})" if key else ""
        return f"SELECT {read} FROM {self._quoted()}{where} ORDER BY {keys}"  # noqa: S608

    def _ordered(self, column: Column[Any], name: str) -> str:
        """Return the SQL by which rows are ordered. Texts have the order of their bytes on both engines."""
        texts = isinstance(column.type, String) and not _is_time(column)
        return f'{name} COLLATE "C"' if texts and self._connection.dialect.name != "sqlite" else name

    def _quoted(self) -> str:
        return self._connection.dialect.identifier_preparer.quote(self._table.name)


def _is_time(column: Column[Any]) -> bool:
    return isinstance(column.type, (Stamp, WallTime))
