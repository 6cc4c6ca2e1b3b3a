"""The history tables: read whole for a training, and filled from files and samples without duplicates."""

import io
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
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
    func,
    inspect,
    select,
)
from sqlalchemy.exc import OperationalError

from zap.db.audit import note
from zap.db.engine import write_transaction
from zap.db.history.history_rows import (
    SESSION_FACTS,
    SESSIONS,
    USERS,
    VEHICLES,
    raw_columns,
    take_turn,
    with_facts,
)
from zap.db.history.row_upsert import Count, TakenIds, upsert_rows
from zap.db.history.session_upsert import taken_rows, upsert_sessions
from zap.errors import BadHistoryFile, UnusableHistory
from zap.ml.cells import PAST_COLUMNS
from zap.ml.features import FACTS, FEATURES, USER_FACTS, VEHICLE_FACTS
from zap.ml.history import RawHistory
from zap.progress import Progress, no_progress

VEHICLE_KEY = ("user_id", "vehicle_model")

# The columns of ChargingSessions that a training reads.
_TRAINING_COLUMNS = (
    *("session_id", "user_id", "vehicle_id", *PAST_COLUMNS),
    *(one.name for one in FEATURES if one.table == "ChargingSessions" and one.name not in PAST_COLUMNS),
    *FACTS,
)
# How many bytes of a CSV text Arrow reads at once.
_BLOCK_BYTES = 2**20
# Rows that are turned into columns together: few enough that their Python objects stay in the processor's cache. Ten
# times as many rows at once would take twice the time per row.
_ROWS_AT_A_TIME = 1000


@dataclass(frozen=True)
class HistoryCounts:
    """The numbers of rows for each table of the history."""

    users: Count
    vehicles: Count
    sessions: Count


def read_history(engine: Engine) -> RawHistory:
    """Return all users, vehicles and sessions of one snapshot, not cleaned: times are texts, wrong values are kept.

    Each session has the facts about its driver and its vehicle that were stored with it (FACTS).

    Raises:
        UnusableHistory: a table of the history is missing.
    """
    # A transaction of SQLite always sees one snapshot; PostgreSQL needs this isolation level.
    options = {} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        there = inspect(connection).get_table_names()
        if missing := [table.name for table in (USERS, VEHICLES, SESSIONS, SESSION_FACTS) if table.name not in there]:
            raise UnusableHistory(f"the database has no table {', '.join(missing)}; restore the database from a backup")
        return RawHistory(
            users=_read(connection, USERS, ("user_id", *USER_FACTS)),
            vehicles=_read(connection, VEHICLES, ("vehicle_id", "user_id", *VEHICLE_FACTS)),
            sessions=_read(connection, SESSIONS, _TRAINING_COLUMNS),
        )


def upsert_history(  # noqa: PLR0913 - what is stored, and how
    engine: Engine,
    users: pd.DataFrame,
    vehicles: pd.DataFrame,
    sessions: pd.DataFrame,
    progress: Progress = no_progress,
    *,
    source: str = "rows",
) -> HistoryCounts:
    """Add new rows and update changed ones, in one transaction; see `store_history`.

    The audit names the `source` of the rows.

    Raises:
        BadHistoryFile: the id of a row belongs to another session. Nothing was stored.
    """
    try:
        with import_turn(engine) as connection:
            counts = store_history(connection, users, vehicles, sessions, progress)
            note(connection, "history.import", source, after=asdict(counts))
            return counts
    except TakenIds:
        with engine.connect() as connection:
            raise BadHistoryFile("\n".join(taken_rows(connection, sessions).values())) from None


@contextmanager
def import_turn(engine: Engine) -> Iterator[Connection]:
    """Yield a transaction beside which no other transaction adds to the history. On SQLite other writers wait."""
    with write_transaction(engine) as connection:
        if connection.dialect.name == "postgresql":
            # No lock timeout, because an import waits for an earlier import however long that takes.
            connection.execute(select(func.set_config("lock_timeout", "0", True)))
        take_turn(connection)
        yield connection


def store_history(  # noqa: PLR0913 - what is stored, and how
    connection: Connection,
    users: pd.DataFrame,
    vehicles: pd.DataFrame,
    sessions: pd.DataFrame,
    progress: Progress = no_progress,
    *,
    dry: bool = False,
) -> HistoryCounts:
    """Add new rows and update changed ones.

    A missing value never erases a known one, and storing the same rows a second time changes nothing. If several rows
    have one id, the later row's values replace the earlier row's. Sessions without an id are found by `match_rows`:
    rows that differ stay different sessions. New ones get negative numbers, which the app cannot use. Times are naive
    datetime64; missing values are NaN, NaT, NA or None.

    Args:
        connection: the transaction of `import_turn`.
        users: `user_id` (never missing) and USER_FACTS; the key is `user_id`.
        vehicles: `user_id` and VEHICLE_FACTS; the key is VEHICLE_KEY.
        sessions: `charging_start_time` (never missing), any other columns of ChargingSessions, and FACTS, which are
            stored with each session. The id of a row is its `session_id`, or its `session_text`. `taken_rows` says
            which rows must be left out. A column `vehicle_id` is ignored: the vehicle is found by VEHICLE_KEY.
        progress: called after each chunk.
        dry: whether to write nothing, and only count what would be added and updated. Then any transaction is enough.

    Raises:
        TakenIds: the ids of some rows belong to other stored sessions.
    """
    return HistoryCounts(
        users=upsert_rows(connection, USERS, ("user_id",), users, progress, dry=dry),
        vehicles=upsert_rows(connection, VEHICLES, VEHICLE_KEY, vehicles, progress, dry=dry),
        sessions=upsert_sessions(connection, sessions, progress, vehicles if dry else None),
    )


def _read(connection: Connection, table: Table, names: Sequence[str]) -> pd.DataFrame:
    """Return all rows of a table. Columns have Arrow's types; a column with mixed types has Python objects."""
    columns = [
        # As text: an integer column with missing values would become float, which changes large ids.
        cast(column, String).label("vehicle_id") if column.name == "vehicle_id" else column
        for column in raw_columns(connection, table, names)
    ]
    read = _read_sqlite if connection.dialect.name == "sqlite" else _read_postgresql
    return read(connection, select(*columns).select_from(with_facts(table)))


def _read_sqlite(connection: Connection, statement: Select[Any]) -> pd.DataFrame:
    """Return the rows of a query on SQLite, where any cell may hold a value of any type."""
    driver: Any = connection.connection.driver_connection
    patient = driver.text_factory
    try:
        # Faster than a Python function for each text, but bytes that are not UTF-8 raise an error.
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
        # The database driver's cursor, because SQLAlchemy would make an object for each row.
        cursor: Any = result.cursor
        while rows := cursor.fetchmany(_ROWS_AT_A_TIME):
            for parts, values in zip(columns, zip(*rows, strict=True), strict=True):
                parts.append(_packed(values))
    return pd.DataFrame({name: _column(parts) for name, parts in zip(names, columns, strict=True)})


def _packed(values: Sequence[Any]) -> pa.Array | list[Any]:
    """Return an Arrow array of the values, or the values as a list if they have several types."""
    if len({*map(type, values)} - {NoneType}) > 1:
        return list(values)
    try:
        packed = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return list(values)
    return list(values) if pa.types.is_binary(packed.type) else packed


def _column(parts: Sequence[pa.Array | list[Any]]) -> pd.Series:
    """Return one column from its parts."""
    arrays = [part for part in parts if isinstance(part, pa.Array)]
    types = {array.type for array in arrays} - {pa.null()}
    if not types and len(arrays) == len(parts):
        return pd.Series([None] * sum(map(len, arrays)), dtype=object)
    if len(types) == 1 and len(arrays) == len(parts):
        (kind,) = types
        whole = pa.chunked_array([array.cast(kind) for array in arrays])
        # An integer column with missing values stays a list of objects, because pandas would make it float.
        if not (pa.types.is_integer(kind) and whole.null_count):
            column: pd.Series = whole.to_pandas()
            return column
    values = (part.to_pylist() if isinstance(part, pa.Array) else part for part in parts)
    return pd.Series([value for part in values for value in part], dtype=object)


def _read_postgresql(connection: Connection, statement: Select[Any]) -> pd.DataFrame:
    """Return the rows of a query on PostgreSQL, by COPY and Arrow's CSV reader with the declared column types."""
    columns = statement.selected_columns
    query = statement.compile(connection, compile_kwargs={"literal_binds": True})
    driver: Any = connection.connection.driver_connection
    text = io.BytesIO()
    longest = 0
    # Arrow reads UTF-8, so COPY must not use the encoding of the database or the connection.
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
        # Arrow's block must be longer than any row.
        read_options=csv.ReadOptions(column_names=columns.keys(), block_size=max(_BLOCK_BYTES, 2 * longest)),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types={
                name: next((types[kind] for kind in types if isinstance(column.type, kind)), pa.string())
                for name, column in columns.items()
            },
            # COPY writes a missing value without quotes, and an empty text with quotes.
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    text.close()
    frame: pd.DataFrame = table.to_pandas()
    return frame
