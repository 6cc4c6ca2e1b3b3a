"""The rows of a log table up to which source and target were compared, and which are not read again.

The rows of these tables never change. So it is enough to know that none of them was added or removed since.
"""

import json

from sqlalchemy import Connection, Engine, Table

from zap.db.moving.connections import explained
from zap.db.moving.table_copy import Place
from zap.db.moving.table_digest import TableDigest
from zap.db.moving.unfinished_copy import read_note, write_note

# A prime number, so that the sum of the remainders of ids is a small number that differs if other rows are there.
_PRIME = 1_000_000_007


def read_settled(source: Connection, target: Engine, table: Table) -> Place | None:
    """Return the place up to which an earlier part of the copy has compared the table.

    Returns:
        None if there is none, or if rows before the place were added or removed since.
    """
    with explained(target.url), target.connect() as connection:
        noted = read_note(connection, _name(table))
        theirs = None if noted is None else _rows_until(connection, table, json.loads(noted)["key"])
    if noted is None:
        return None
    stored = json.loads(noted)
    with explained(source.engine.url):
        ours = _rows_until(source, table, stored["key"])
    if ours != theirs or ours[0] != stored["rows"]:
        return None
    return Place((stored["key"],), TableDigest(stored["rows"], int(stored["digest"], 16)))


def write_settled(target: Engine, table: Table, place: Place) -> None:
    """Note the place up to which the table was compared."""
    if place.key is None:
        return
    (key,) = place.key
    noted = json.dumps({"key": key, "rows": place.digest.rows, "digest": place.digest.shown})
    with explained(target.url), target.begin() as connection:
        write_note(connection, _name(table), noted)


def _name(table: Table) -> str:
    return f"settled {table.name}"


def _rows_until(connection: Connection, table: Table, key: int) -> tuple[int, int]:
    """Return how many rows a table has up to an id, and a sum over the ids."""
    quote = connection.dialect.identifier_preparer.quote
    (column,) = table.primary_key.columns
    name = quote(column.name)
    remainder = f"{name} - {name} / {_PRIME} * {_PRIME}"
    asked = f"SELECT count(*), coalesce(sum({remainder}), 0) FROM {quote(table.name)} WHERE {name} <= {key:d}"  # noqa: S608
    count, total = connection.exec_driver_sql(asked).one()
    return int(count), int(total)
