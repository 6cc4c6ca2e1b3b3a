"""The history tables: read whole for a training, filled from files and samples, nothing added twice."""

import io
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import csv
from sqlalchemy import (
    Connection,
    Engine,
    Float,
    Integer,
    Select,
    String,
    Table,
    cast,
    exists,
    func,
    inspect,
    select,
)
from sqlalchemy.exc import OperationalError

from zap.db.engine import write_transaction
from zap.db.history_rows import (
    SESSIONS,
    USERS,
    VEHICLES,
    Key,
    Row,
    compare_rows,
    continue_ids,
    raw_columns,
    stored_rows,
    take_turn,
    write_rows,
)
from zap.errors import UnusableHistory
from zap.ml.cells import PAST_COLUMNS
from zap.ml.history import RawHistory
from zap.progress import Progress, no_progress

VEHICLE_KEY = ("user_id", "vehicle_model")
# What names a session that has no session_id.
SESSION_KEY = ("user_id", "charging_start_time", "charging_station_id")

# What a training reads. The rest of ChargingSessions says nothing more.
_TRAINING_COLUMNS = ("session_id", "user_id", "vehicle_id", *PAST_COLUMNS, "temperature_c")
# Rows that are looked up and written together: small enough for SQLite's 32,766 parameters a statement.
_CHUNK = 10_000
# What Arrow reads of a text at once.
_BLOCK_BYTES = 2**20
# Rows that are turned into columns together: few enough that their Python objects stay in the processor's cache,
# which takes half the time of ten times as many.
_ROWS_AT_A_TIME = 1000
_WORDS = {"Users": "users", "Vehicles": "vehicles", "ChargingSessions": "sessions"}


@dataclass
class Count:
    """What became of the rows for one table; `repeated` are those whose key a later row has too."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    repeated: int = 0


@dataclass(frozen=True)
class HistoryCounts:
    users: Count
    vehicles: Count
    sessions: Count


def has_history(engine: Engine) -> bool:
    """Whether there is any charging session."""
    with engine.connect() as connection:
        return bool(connection.scalar(select(exists(select(SESSIONS.c.session_id)))))


def read_history(engine: Engine) -> RawHistory:
    """All users, vehicles and sessions of one moment, as they are: times as text, and garbage as garbage.

    Raises:
        UnusableHistory: a table of the history is not there.
    """
    # SQLite's transactions see one snapshot anyway; PostgreSQL's do so from this level on.
    options = {} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        there = inspect(connection).get_table_names()
        if missing := [table.name for table in (USERS, VEHICLES, SESSIONS) if table.name not in there]:
            raise UnusableHistory(f"the database has no table {', '.join(missing)}; restore it from a copy")
        return RawHistory(
            users=_read(connection, USERS, ("user_id", "user_type")),
            vehicles=_read(
                connection,
                VEHICLES,
                ("vehicle_id", "user_id", "vehicle_model", "battery_capacity_kwh", "vehicle_age_years"),
            ),
            sessions=_read(connection, SESSIONS, _TRAINING_COLUMNS),
        )


def upsert_history(
    engine: Engine,
    users: pd.DataFrame,
    vehicles: pd.DataFrame,
    sessions: pd.DataFrame,
    progress: Progress = no_progress,
) -> HistoryCounts:
    """Add what is new and update what has changed, in one transaction.

    A missing value never erases a known one, and storing the same again changes nothing. Of rows with one key
    the later holds, value by value. Missing parts of a key equal each other: a session of an unknown user is
    found again. Times are naive datetime64; missing values are NaN, NaT, NA or None. On SQLite whoever else
    writes waits until it is done.

    Args:
        engine: a database at head.
        users: `user_id` (never missing), `user_type`; found by `user_id`.
        vehicles: VEHICLE_KEY, by which they are found, `battery_capacity_kwh`, `vehicle_age_years`.
        sessions: `charging_start_time` (never missing), any other columns of ChargingSessions, and
            `vehicle_model`; found by `session_id` where there is one, else by SESSION_KEY. A `vehicle_id` is
            not taken from here: the vehicle is the one that VEHICLE_KEY finds.
        progress: called after each chunk.
    """
    with write_transaction(engine) as connection:
        if connection.dialect.name == "postgresql":
            # An import waits for the one before it, however long that takes.
            connection.execute(select(func.set_config("lock_timeout", "0", True)))
        take_turn(connection)
        return HistoryCounts(
            users=_upsert(connection, USERS, ("user_id",), users, progress),
            vehicles=_upsert(connection, VEHICLES, VEHICLE_KEY, vehicles, progress),
            sessions=_upsert_sessions(connection, sessions, progress),
        )


def _upsert_sessions(connection: Connection, sessions: pd.DataFrame, progress: Progress) -> Count:
    absent = {"session_id", "vehicle_model", *SESSION_KEY}.difference(sessions)
    sessions = sessions.assign(**dict.fromkeys(absent))
    sessions["session_id"] = sessions["session_id"].astype("Int64")
    sessions["vehicle_id"] = _vehicle_ids(connection, sessions)
    sessions = sessions.drop(columns="vehicle_model")
    has_id = sessions["session_id"].notna()
    named = _upsert(connection, SESSIONS, ("session_id",), sessions[has_id], progress)
    if named.added and connection.dialect.name == "postgresql":
        continue_ids(connection, SESSIONS)
    # In order of time the rows of a chunk lie close together in the table, and new ids do not depend on the
    # order in which the rows came.
    others = sessions[~has_id].drop(columns="session_id")
    others = others.sort_values(["charging_start_time", "user_id", "charging_station_id"], kind="stable")
    rest = _upsert(connection, SESSIONS, SESSION_KEY, others, progress)
    return Count(
        added=named.added + rest.added,
        updated=named.updated + rest.updated,
        unchanged=named.unchanged + rest.unchanged,
        repeated=named.repeated + rest.repeated,
    )


def _upsert(connection: Connection, table: Table, key: Sequence[str], frame: pd.DataFrame, progress: Progress) -> Count:
    """Bring the rows into the table; where several stored rows have one key, the lowest id is meant."""
    rows = _one_row_a_key(frame, list(key))
    count = Count(repeated=len(frame) - len(rows))
    for start in range(0, len(rows), _CHUNK):
        chunk = _records(rows.iloc[start : start + _CHUNK])
        added, changes = compare_rows(chunk, key, stored_rows(connection, table, key, chunk))
        write_rows(connection, table, added, changes)
        updated = sum(map(len, changes.values()))
        count.added += len(added)
        count.updated += updated
        count.unchanged += len(chunk) - len(added) - updated
        progress(_WORDS[table.name], start + len(chunk), len(rows))
    return count


def _vehicle_ids(connection: Connection, sessions: pd.DataFrame) -> pd.Series:
    """For each session the vehicle with its user and model, if there is one."""
    owners = _values(sessions["user_id"])
    users = sorted({owner for owner in owners if owner is not None})
    row = (VEHICLES.c.user_id, VEHICLES.c.vehicle_model, VEHICLES.c.vehicle_id)
    known: dict[Key, int] = {}
    for touched in [
        VEHICLES.c.user_id.is_(None),
        *(VEHICLES.c.user_id.in_(users[start : start + _CHUNK]) for start in range(0, len(users), _CHUNK)),
    ]:
        found = connection.execute(select(*row).where(touched).order_by(VEHICLES.c.vehicle_id.desc()))
        known.update({(user, model): vehicle for user, model, vehicle in found})
    pairs = zip(owners, _values(sessions["vehicle_model"]), strict=True)
    return pd.Series([known.get(pair) for pair in pairs], index=sessions.index, dtype="Int64")


def _read(connection: Connection, table: Table, names: Sequence[str]) -> pd.DataFrame:
    """All rows, as columns without a Python object a cell; a column that Arrow has no one type for has objects."""
    columns = [
        # A number beside a missing one would become a float, which large ids do not survive.
        cast(column, String).label("vehicle_id") if column.name == "vehicle_id" else column
        for column in raw_columns(connection, table, names)
    ]
    read = _read_sqlite if connection.dialect.name == "sqlite" else _read_postgresql
    return read(connection, select(*columns))


def _read_sqlite(connection: Connection, statement: Select[Any]) -> pd.DataFrame:
    """Any cell of a SQLite table may hold anything, whatever its column is declared to be."""
    driver: Any = connection.connection.driver_connection
    patient = driver.text_factory
    try:
        # Quicker than a function of Python for every text, but of bytes that are not UTF-8 it makes an error.
        driver.text_factory = str
        return _fetched(connection, statement)
    except (sqlite3.OperationalError, OperationalError):
        driver.text_factory = patient
        return _fetched(connection, statement)
    finally:
        driver.text_factory = patient


def _fetched(connection: Connection, statement: Select[Any]) -> pd.DataFrame:
    names = statement.selected_columns.keys()
    columns: list[list[pa.Array | list[Any]]] = [[] for _ in names]
    with connection.execute(statement) as result:
        # The driver's own rows: SQLAlchemy's would be made one by one.
        cursor: Any = result.cursor
        while rows := cursor.fetchmany(_ROWS_AT_A_TIME):
            for parts, values in zip(columns, zip(*rows, strict=True), strict=True):
                parts.append(_packed(values))
    return pd.DataFrame({name: _column(parts) for name, parts in zip(names, columns, strict=True)})


def _packed(values: Sequence[Any]) -> pa.Array | list[Any]:
    """An array of the one type that all of these have; where they have several, themselves."""
    if len({*map(type, values)} - {NoneType}) > 1:
        return list(values)
    try:
        packed = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return list(values)
    return list(values) if pa.types.is_binary(packed.type) else packed


def _column(parts: Sequence[pa.Array | list[Any]]) -> pd.Series:
    """The parts of one column, one after the other."""
    arrays = [part for part in parts if isinstance(part, pa.Array)]
    types = {array.type for array in arrays} - {pa.null()}
    if len(types) == 1 and len(arrays) == len(parts):
        (kind,) = types
        whole = pa.chunked_array([array.cast(kind) for array in arrays])
        # A whole number beside a missing one would become a float.
        if not (pa.types.is_integer(kind) and whole.null_count):
            column: pd.Series = whole.to_pandas()
            return column
    values = (part.to_pylist() if isinstance(part, pa.Array) else part for part in parts)
    return pd.Series([value for part in values for value in part], dtype=object)


def _read_postgresql(connection: Connection, statement: Select[Any]) -> pd.DataFrame:
    """COPY, and Arrow's reader of CSV: every cell of a column has the type that it is declared to have."""
    columns = statement.selected_columns
    query = statement.compile(connection, compile_kwargs={"literal_binds": True})
    driver: Any = connection.connection.driver_connection
    text = io.BytesIO()
    longest = 0
    # Arrow reads UTF-8, whatever the database is in or the connection talks in.
    copy = f"COPY ({query}) TO STDOUT (FORMAT csv, ENCODING 'UTF8')"
    with driver.cursor() as cursor, cursor.copy(copy) as rows:
        for row in rows:
            longest = max(longest, text.write(row))
    if not text.tell():
        return pd.DataFrame(columns=columns.keys(), dtype=object)
    text.seek(0)
    types = {Integer: pa.int64(), Float: pa.float64()}
    table = csv.read_csv(
        text,
        # A row must not be longer than a block.
        read_options=csv.ReadOptions(column_names=columns.keys(), block_size=max(_BLOCK_BYTES, 2 * longest)),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types={
                name: next((types[kind] for kind in types if isinstance(column.type, kind)), pa.string())
                for name, column in columns.items()
            },
            # What is missing has no quotes, a text without letters has.
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    text.close()
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _one_row_a_key(rows: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    repeated = rows.duplicated(key, keep=False)
    if not repeated.any():
        return rows
    merged = rows[repeated].groupby(key, dropna=False, sort=False).last().reset_index()
    return pd.concat([rows[~repeated], merged], ignore_index=True)


def _records(rows: pd.DataFrame) -> list[Row]:
    columns = [_values(rows[name]) for name in rows]
    return [dict(zip(rows.columns, values, strict=True)) for values in zip(*columns, strict=True)]


def _values(column: pd.Series) -> list[Any]:
    """Python's own values, None where missing."""
    if pd.api.types.is_datetime64_dtype(column):
        values: list[Any] = column.to_numpy().astype("datetime64[s]").tolist()
        return values
    return column.astype(object).where(column.notna(), None).tolist()
