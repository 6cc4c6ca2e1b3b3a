"""Rows of frames, inserted or updated in chunks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sqlalchemy import Connection, Table

from zap.db.history.history_rows import SESSIONS, Key, Row, compare_rows, stored_of, write_rows, write_sessions
from zap.db.history.session_ids import is_another
from zap.progress import Progress

# Rows that are looked up and written together, so that a statement stays below SQLite's 32,766 parameters.
CHUNK = 10_000
WORDS = {"Users": "users", "Vehicles": "vehicles", "ChargingSessions": "sessions"}


class TakenIds(Exception):
    """The ids of some rows belong to other stored sessions; `taken_ids` says which rows. Roll the transaction back."""


@dataclass
class Count:
    """The numbers of rows for one table: added, updated, unchanged, and `repeated` (of a session of another row)."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    repeated: int = 0


def upsert_rows(  # noqa: PLR0913 - what is stored, and how
    connection: Connection,
    table: Table,
    key: Sequence[str],
    frame: pd.DataFrame,
    progress: Progress,
    *,
    dry: bool = False,
) -> Count:
    """Insert or update rows of a table. If several stored rows have one key, the row with the lowest id is updated.

    With `dry`, only count what would be inserted or updated.
    """
    rows = _one_row_a_key(frame, list(key))
    count = Count(repeated=len(frame) - len(rows))
    for start in range(0, len(rows), CHUNK):
        chunk = records(rows.iloc[start : start + CHUNK])
        stored = stored_of(connection, table, key, chunk)
        if table is SESSIONS:
            _check_ids(chunk, stored)
        added, changes = compare_rows(chunk, stored)
        if not dry and table is SESSIONS:
            write_sessions(connection, added, changes)
        elif not dry:
            write_rows(connection, table, added, changes)
        add_up(count, added, changes, len(chunk))
        progress(WORDS[table.name], start + len(chunk), len(rows))
    return count


def _check_ids(rows: list[Row], stored: list[Row | None]) -> None:
    """Raise TakenIds if the id of a row belongs to another stored session."""
    for row, one in zip(rows, stored, strict=True):
        if one is not None:
            start, stored_start = row["charging_start_time"], one["charging_start_time"]
            if start != stored_start and is_another(row["user_id"], start, one["user_id"], stored_start):
                raise TakenIds


def add_up(count: Count, added: list[Row], changes: dict[Key, list[Row]], rows: int) -> None:
    """Add the result of `compare_rows` for this number of rows to the numbers so far."""
    updated = sum(map(len, changes.values()))
    count.added += len(added)
    count.updated += updated
    count.unchanged += rows - len(added) - updated


def _one_row_a_key(rows: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    repeated = rows.duplicated(key, keep=False)
    if not repeated.any():
        return rows
    merged = rows[repeated].groupby(key, dropna=False, sort=False).last().reset_index()
    return pd.concat([rows[~repeated], merged], ignore_index=True)


def records(rows: pd.DataFrame) -> list[Row]:
    """Return the rows of a frame as dicts; None for missing values."""
    # A list, because a lookup in pandas's index for each row would take longer than the rest of this function.
    names = rows.columns.tolist()
    columns = [values_of(rows[name]) for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def values_of(column: pd.Series) -> list[Any]:
    """Return the values of a column as Python objects; None for missing values."""
    if pd.api.types.is_datetime64_dtype(column):
        values: list[Any] = column.to_numpy().astype("datetime64[s]").tolist()
        return values
    return column.astype(object).where(column.notna(), None).tolist()
