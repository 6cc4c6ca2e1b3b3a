"""Rows of the history tables: found by their keys, compared, written; what reports and imports have in common."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    String,
    Table,
    bindparam,
    cast,
    func,
    insert,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects.postgresql import REGCLASS
from sqlmodel import SQLModel

from zap.db.tables import WallTime

USERS = SQLModel.metadata.tables["Users"]
VEHICLES = SQLModel.metadata.tables["Vehicles"]
SESSIONS = SQLModel.metadata.tables["ChargingSessions"]
ROW_ID = "id of the stored row"
# PostgreSQL and SQLite take more parameters in a statement than this.
IN_ONE_QUESTION = 500

_TIMES = frozenset(column.name for column in SESSIONS.columns if isinstance(column.type, WallTime))
# Any constant will do, as long as every zap on one PostgreSQL database uses the same.
_IMPORT_LOCK_KEY = 0x7A61_7002

Row = dict[str, Any]
Key = tuple[Any, ...]


def take_turn(connection: Connection) -> None:
    """Keep all others from adding to the history until this transaction ends; wait for whoever does so now.

    Two that look for what is stored at the same time would both miss what the other is about to add.
    """
    # SQLite has one writer at a time anyway.
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_IMPORT_LOCK_KEY)))


def compare_rows(
    rows: Iterable[Row], key: Sequence[str], stored: dict[Key, Row]
) -> tuple[list[Row], dict[Key, list[Row]]]:
    """The rows to add, and for each set of columns the new values of the rows in which these have changed."""
    added = []
    changes = defaultdict(list)
    for row in rows:
        found = stored.get(_key(row, key))
        if found is None:
            added.append(row)
            continue
        changed = {name: value for name, value in row.items() if value is not None and value != found[name]}
        if changed:
            changes[tuple(changed)].append({**changed, ROW_ID: found[ROW_ID]})
    return added, changes


def write_rows(connection: Connection, table: Table, added: list[Row], changes: dict[Key, list[Row]]) -> None:
    """Write what `compare_rows` found."""
    if added:
        connection.execute(insert(table), added)
    (row_id,) = table.primary_key.columns
    for rows_to_change in changes.values():
        connection.execute(update(table).where(row_id == bindparam(ROW_ID)), rows_to_change)


def stored_rows(connection: Connection, table: Table, key: Sequence[str], rows: Sequence[Row]) -> dict[Key, Row]:
    """What the table holds under the keys of these rows, and possibly under a few more."""
    (row_id,) = table.primary_key.columns
    names = list(rows[0])
    statement = select(row_id, *raw_columns(connection, table, names))
    first = {row[key[0]] for row in rows}
    touched: ColumnElement[bool] = table.c[key[0]].in_(sorted(first - {None}))
    if None in first:
        touched |= table.c[key[0]].is_(None)
    if "charging_start_time" in key:
        starts = [row["charging_start_time"] for row in rows]
        touched &= table.c["charging_start_time"].between(min(starts), max(starts))
    stored = {}
    for found, *values in connection.execute(statement.where(touched).order_by(row_id.desc())):
        row = dict(zip(names, values, strict=True))
        for name in _TIMES.intersection(names):
            row[name] = _moment(row[name])
        row[ROW_ID] = found
        stored[_key(row, key)] = row
    return stored


def continue_ids(connection: Connection, table: Table) -> None:
    """Let PostgreSQL's own ids go on above the highest; ids that are given do not move its sequence."""
    (row_id,) = table.primary_key.columns
    sequence = cast(func.pg_get_serial_sequence(f'"{table.name}"', row_id.name), REGCLASS)
    highest = connection.scalar(select(func.max(row_id)))
    last = connection.scalar(select(func.pg_sequence_last_value(sequence)))
    if highest > (last or 0):
        connection.execute(select(func.setval(sequence, highest)))


def raw_columns(connection: Connection, table: Table, names: Iterable[str]) -> Iterator[ColumnElement[Any]]:
    """The columns as they are stored, wall times as text: a legacy table may hold what is no time."""
    for name in names:
        column = table.c[name]
        if name not in _TIMES:
            yield column
        elif connection.dialect.name == "sqlite":
            yield type_coerce(column, String).label(name)
        else:
            yield func.to_char(column, "YYYY-MM-DD HH24:MI:SS").label(name)


def _moment(text: Any) -> Any:
    """The time that a stored text means; what means none stays as it is, equal to no time."""
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return text


def _key(row: Row, key: Sequence[str]) -> Key:
    return tuple(row[name] for name in key)
