"""The table zap_copy, which a database has as long as it is an unfinished copy of another database.

Until the copy is finished, the database lacks its triggers, and on PostgreSQL its foreign keys, so
that rows can be copied table by table while the source changes.
"""

import json
from collections.abc import Sequence

from sqlalchemy import Connection, Table, column, inspect, select, table, text

_COPY = table("zap_copy", column("name"), column("value"))
_SOURCE, _FOREIGN_KEYS = "source", "foreign keys"
_CONSTRAINTS = text(
    "SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE contype = 'f' AND conrelid = ANY(SELECT to_regclass(quote_ident(name)) FROM unnest(CAST(:names AS text[]))"
    " AS name)"
)


def source_of_copy(connection: Connection) -> str | None:
    """Return the source of an unfinished copy; None if the database is no unfinished copy."""
    if not inspect(connection).has_table(_COPY.name):
        return None
    return read_note(connection, _SOURCE)


def read_note(connection: Connection, name: str) -> str | None:
    """Return what was noted under a name; None if nothing was noted."""
    found = connection.scalar(select(_COPY.c.value).where(_COPY.c.name == name))
    return None if found is None else str(found)


def write_note(connection: Connection, name: str, value: str) -> None:
    """Note a text under a name, instead of an earlier one."""
    connection.execute(_COPY.delete().where(_COPY.c.name == name))
    connection.execute(_COPY.insert().values(name=name, value=value))


def begin_copy(connection: Connection, source: str, tables: Sequence[Table]) -> None:
    """Mark an empty database as an unfinished copy, and take away what would refuse or repeat single rows."""
    connection.exec_driver_sql(f"CREATE TABLE {_COPY.name} (name VARCHAR PRIMARY KEY, value TEXT NOT NULL)")
    write_note(connection, _SOURCE, source)
    keys: list[list[str]] = []
    if connection.dialect.name == "postgresql":
        found = connection.execute(_CONSTRAINTS, {"names": [one.name for one in tables]})
        keys = [[str(part) for part in row] for row in found]
    for owner, name, _ in keys:
        connection.exec_driver_sql(f"ALTER TABLE {owner} DROP CONSTRAINT {name}")
    write_note(connection, _FOREIGN_KEYS, json.dumps(keys))


def end_copy(connection: Connection) -> None:
    """Make the foreign keys again, and drop the mark of an unfinished copy."""
    for owner, name, definition in json.loads(read_note(connection, _FOREIGN_KEYS) or "[]"):
        connection.exec_driver_sql(f"ALTER TABLE {owner} ADD CONSTRAINT {name} {definition}")
    connection.exec_driver_sql(f"DROP TABLE {_COPY.name}")
