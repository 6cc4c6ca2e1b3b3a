"""The positions of the sequences that give rows their ids: read, and moved so that no id is given twice."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, Table, inspect, text

from zap.db.moving.connections import explained
from zap.db.moving.moved_tables import is_numbered

_SERIAL = text("SELECT pg_get_serial_sequence(quote_ident(:name), :key)")
_MOVE = text("SELECT setval(CAST(:name AS regclass), greatest(:position, 1), :position > 0)")


def positions(connection: Connection, tables: Sequence[Table]) -> dict[str, int]:
    """Return for each table with given ids the highest id that was ever given; 0 if none was given."""
    numbered = [table for table in tables if is_numbered(table)]
    with explained(connection.engine.url):
        if connection.dialect.name != "sqlite":
            return {table.name: _position(connection, table) for table in numbered}
        if not inspect(connection).has_table("sqlite_sequence"):
            return dict.fromkeys((table.name for table in numbered), 0)
        rows = connection.exec_driver_sql("SELECT name, seq FROM sqlite_sequence").all()
        found = {str(row[0]): row[1] for row in rows}
        return {table.name: int(found.get(table.name) or 0) for table in numbered}


def highest_id(connection: Connection, table: Table) -> int:
    """Return the highest id of a table; 0 if it has no rows, or only ids below 0."""
    quote = connection.dialect.identifier_preparer.quote
    (key,) = table.primary_key.columns
    with explained(connection.engine.url):
        found = connection.exec_driver_sql(f"SELECT max({quote(key.name)}) FROM {quote(table.name)}").scalar()  # noqa: S608
    return max(0, int(found or 0))


def move_sequences(connection: Connection, tables: Sequence[Table], least: Mapping[str, int]) -> None:
    """Move each sequence on, so that the next id is above all ids that were given here or in another database.

    Args:
        connection: a transaction that writes.
        tables: tables of the database.
        least: the positions in the other database.
    """
    present = positions(connection, tables)
    with explained(connection.engine.url):
        for table in tables:
            if table.name not in present:
                continue
            position = max(present[table.name], least.get(table.name, 0), highest_id(connection, table))
            if connection.dialect.name != "sqlite":
                connection.execute(_MOVE, {"name": _sequence(connection, table), "position": position})
                continue
            connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
            connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, position))


def _sequence(connection: Connection, table: Table) -> str:
    (key,) = table.primary_key.columns
    return str(connection.scalar(_SERIAL, {"name": table.name, "key": key.name}))


def _position(connection: Connection, table: Table) -> int:
    name = _sequence(connection, table)
    asked = f"SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {name}"  # noqa: S608
    return int(connection.exec_driver_sql(asked).scalar_one())
