"""Rows of the history tables: find them by their keys, compare and write them. Reports and imports share this."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    String,
    Table,
    bindparam,
    cast,
    delete,
    exists,
    func,
    insert,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects.postgresql import REGCLASS
from sqlmodel import SQLModel, col

from zap.db.monitoring_tables import SessionPrediction
from zap.db.tables import WallTime
from zap.ml.features import FACTS

USERS = SQLModel.metadata.tables["Users"]
VEHICLES = SQLModel.metadata.tables["Vehicles"]
SESSIONS = SQLModel.metadata.tables["ChargingSessions"]
SESSION_FACTS = SQLModel.metadata.tables["session_facts"]
ROW_ID = "id of the stored row"
# How many keys one query looks up: less than the most parameters of a statement in PostgreSQL and SQLite.
IN_ONE_QUESTION = 500

_TIMES = frozenset(column.name for column in SESSIONS.columns if isinstance(column.type, WallTime))
# An arbitrary number, which every zap on a PostgreSQL database must use.
_IMPORT_LOCK_KEY = 0x7A61_7002

Row = dict[str, Any]
Key = tuple[Any, ...]


def has_history(engine: Engine) -> bool:
    """Return whether there is any charging session."""
    with engine.connect() as connection:
        return bool(connection.scalar(select(exists(select(SESSIONS.c.session_id)))))


def take_turn(connection: Connection) -> None:
    """Wait until no other transaction adds to the history, and keep others out until this transaction ends.

    Otherwise two transactions could look for a row at the same time, both find none, and both add it.
    """
    # SQLite has only one writer at a time.
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_IMPORT_LOCK_KEY)))


def compare_rows(rows: Iterable[Row], stored: Iterable[Row | None]) -> tuple[list[Row], dict[Key, list[Row]]]:
    """Return the rows to add, and the changed values of other rows, grouped by the columns that change.

    A missing value changes nothing, with one exception: if the driver or the vehicle of a session changes, the session
    loses the facts about the earlier one.

    Args:
        rows: the new values.
        stored: for each row its stored row; None for a new row.
    """
    added = []
    changes = defaultdict(list)
    for row, found in zip(rows, stored, strict=True):
        if found is None:
            added.append(row)
            continue
        changed = {name: value for name, value in row.items() if value is not None and value != found[name]}
        if changed:
            if _is_of_another(row, found):
                changed |= {name: row[name] for name in FACTS if row[name] != found[name]}
            changes[tuple(changed)].append({**changed, ROW_ID: found[ROW_ID]})
    return added, changes


def write_rows(connection: Connection, table: Table, added: list[Row], changes: dict[Key, list[Row]]) -> None:
    """Write the result of `compare_rows` to a table. For sessions use `write_sessions`."""
    if added:
        connection.execute(insert(table), added)
    (row_id,) = table.primary_key.columns
    for rows_to_change in changes.values():
        connection.execute(update(table).where(row_id == bindparam(ROW_ID)), rows_to_change)


def write_sessions(
    connection: Connection, added: list[Row], changes: dict[Key, list[Row]], ids: Iterator[int] | None = None
) -> None:
    """Write the result of `compare_rows` for sessions, with the facts about their drivers and vehicles.

    Args:
        connection: a transaction after `take_turn`.
        added: new sessions. FACTS are removed from them.
        changes: changed values. FACTS are removed from them.
        ids: numbers that no session or fact has, for new sessions without a `session_id`; None if each session has one.
    """
    given = ids is None
    if ids is not None:
        for row, session_id in zip(added, ids, strict=False):
            row["session_id"] = session_id
    facts = [(row["session_id"], *map(row.pop, FACTS)) for row in added]
    _keep_facts(connection, FACTS, [row for row in facts if row.count(None) < len(FACTS)])
    if given and (nothing := [row[0] for row in facts if row.count(None) == len(FACTS)]):
        # Another program may have removed a session with one of these ids, and left its facts.
        connection.execute(delete(SESSION_FACTS).where(SESSION_FACTS.c.session_id.in_(nothing)))
    for some in in_parts([row[0] for row in facts] if given else ()):
        # It may also have left the answer that the report of this session named.
        connection.execute(delete(SessionPrediction).where(col(SessionPrediction.session_id).in_(some)))
    changed_sessions = {}
    for names, rows in changes.items():
        if names_of_facts := tuple(name for name in names if name in FACTS):
            _keep_facts(connection, names_of_facts, [(row[ROW_ID], *map(row.pop, names_of_facts)) for row in rows])
        if len(names_of_facts) < len(names):
            changed_sessions[names] = rows
    write_rows(connection, SESSIONS, added, changed_sessions)


def with_facts(table: Table) -> FromClause:
    """Return the FROM clause of a table. For ChargingSessions it includes the facts of each session."""
    if table is not SESSIONS:
        return table
    return SESSIONS.outerjoin(SESSION_FACTS, SESSIONS.c.session_id == SESSION_FACTS.c.session_id)


def stored_of(connection: Connection, table: Table, key: Sequence[str], rows: Sequence[Row]) -> list[Row | None]:
    """Return for each row the stored row with its key, or None. Of several stored rows, return the lowest id's row."""
    stored = stored_rows(connection, table, key, rows)
    return [stored.get(key_of(row, key)) for row in rows]


def stored_rows(
    connection: Connection,
    table: Table,
    key: Sequence[str],
    rows: Sequence[Row],
    others: dict[Key, list[Row]] | None = None,
) -> dict[Key, Row]:
    """Return the stored row with each of these rows' keys, with FACTS of sessions. Further rows may be included.

    Args:
        connection: on a database at head.
        table: the table.
        key: the columns that identify a row.
        rows: rows with all columns to read.
        others: gets the other stored rows, if several have one key. The result has the row with the lowest id.
    """
    (row_id,) = table.primary_key.columns
    names = list(rows[0])
    statement = select(row_id, *raw_columns(connection, table, names)).select_from(with_facts(table))
    first = {row[key[0]] for row in rows}
    touched: ColumnElement[bool] = table.c[key[0]].in_(sorted(first - {None}))
    if None in first:
        touched |= table.c[key[0]].is_(None)
    if "charging_start_time" in key:
        starts = [row["charging_start_time"] for row in rows]
        touched &= table.c["charging_start_time"].between(min(starts), max(starts))
    # No list for each key: Python's garbage collector would look at each list again and again.
    stored: dict[Key, Row] = {}
    for found, *values in connection.execute(statement.where(touched).order_by(row_id)):
        row = dict(zip(names, values, strict=True))
        for name in _TIMES.intersection(names):
            row[name] = stored_time(row[name])
        row[ROW_ID] = found
        if stored.setdefault(one := key_of(row, key), row) is not row and others is not None:
            others.setdefault(one, []).append(row)
    return stored


def in_parts(values: Sequence[Any], size: int = IN_ONE_QUESTION) -> Iterator[Sequence[Any]]:
    """Yield the values in order, at most `size` at a time."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def key_of(row: Row, key: Sequence[str]) -> Key:
    """Return the values of the columns in `key`."""
    return tuple(row[name] for name in key)


def continue_ids(connection: Connection, table: Table) -> None:
    """Move PostgreSQL's sequence above the highest id, because inserted ids do not move it."""
    (row_id,) = table.primary_key.columns
    sequence = _sequence(table)
    highest = connection.scalar(select(func.max(row_id)))
    last = connection.scalar(select(func.pg_sequence_last_value(sequence)))
    if highest > (last or 0):
        connection.execute(select(func.setval(sequence, highest)))


def raw_columns(connection: Connection, table: Table, names: Iterable[str]) -> Iterator[ColumnElement[Any]]:
    """Yield columns with their stored values. Wall times are texts, because an old table may hold other texts there.

    For ChargingSessions the names may include FACTS; select from `with_facts` then.
    """
    for name in names:
        column = SESSION_FACTS.c[name] if table is SESSIONS and name in FACTS else table.c[name]
        if name not in _TIMES:
            yield column
        elif connection.dialect.name == "sqlite":
            yield type_coerce(column, String).label(name)
        else:
            yield func.to_char(column, "YYYY-MM-DD HH24:MI:SS").label(name)


def _keep_facts(connection: Connection, facts: Key, rows: Sequence[tuple[Any, ...]]) -> None:
    """Store facts of sessions, and replace stored ones. This does not use SQLAlchemy, which takes longer.

    Args:
        connection: a transaction that writes.
        facts: the names of the facts.
        rows: for each session the session_id, then the facts.
    """
    if not rows:
        return
    names = ("session_id", *facts)
    values: Any = rows
    if connection.dialect.name == "sqlite":
        source = f"VALUES ({', '.join('?' * len(names))})"
    else:
        # One array for each column.
        values = tuple(map(list, zip(*rows, strict=True)))
        types = (SESSION_FACTS.c[name].type.compile(connection.dialect) for name in names)
        source = f"SELECT * FROM unnest({', '.join(f'%s::{type_}[]' for type_ in types)})"  # noqa: S608
    into = f"INSERT INTO {SESSION_FACTS.name} ({', '.join(names)})"
    changed = ", ".join(f"{name} = excluded.{name}" for name in facts)
    connection.exec_driver_sql(f"{into} {source} ON CONFLICT (session_id) DO UPDATE SET {changed}", values)


def _sequence(table: Table) -> ColumnElement[Any]:
    (row_id,) = table.primary_key.columns
    return cast(func.pg_get_serial_sequence(f'"{table.name}"', row_id.name), REGCLASS)


def _is_of_another(row: Row, found: Row) -> bool:
    """Return whether a row changes the driver or the vehicle of a stored session."""
    return any(row.get(name) is not None and row[name] != found[name] for name in ("user_id", "vehicle_id"))


def stored_time(stored: Any) -> Any:
    """Return the time in a stored text. A text that is not a time is returned unchanged, and equals no time."""
    try:
        return datetime.fromisoformat(stored)
    except (TypeError, ValueError):
        return stored
