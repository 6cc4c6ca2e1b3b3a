"""The rows of the log: insert requests and predictions with the database driver's own cursor."""

import itertools
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.engine.interfaces import DBAPICursor

from zap.db.engine import copy_rows
from zap.db.tables import utc_now
from zap.ml.inference import Answer

# Rows of one INSERT, so that it stays below SQLite's 32,766 parameters a statement.
_ROWS_OF_AN_INSERT = 1_000
# From this number of rows on, PostgreSQL gets a COPY: one round trip more than an INSERT, but a sixth of the work.
_ROWS_OF_A_COPY = 30

_INPUTS = ("input_id", "request_timestamp", "input_data_json")
_PREDICTIONS = (
    "prediction_id",
    "input_id",
    "prediction_timestamp",
    "source",
    "predicted_class",
    "model_version",
    "probabilities",
    "features",
)
_NEXT_IDS = (
    "SELECT nextval(pg_get_serial_sequence('inference_inputs', 'input_id')),"
    " nextval(pg_get_serial_sequence('predictions', 'prediction_id')) FROM generate_series(1, %s)"
)
_json = msgspec.json.Encoder().encode


class Logged(NamedTuple):
    """The ids of the rows of a request and its prediction."""

    input_id: int
    prediction_id: int


class Entry(NamedTuple):
    """A request to log: its text, when it was received, and its answer."""

    text: str
    received_at: datetime
    answer: Answer


def insert_rows(cursor: DBAPICursor, rows: Sequence[Entry], *, sqlite: bool) -> list[Logged]:
    """Insert requests and their predictions. Return their ids, which are valid after the commit."""
    insert = _insert_into_sqlite if sqlite else _insert_into_postgresql
    logged: list[Logged] = []
    for first in range(0, len(rows), _ROWS_OF_AN_INSERT):
        logged += insert(cursor, rows[first : first + _ROWS_OF_AN_INSERT])
    return logged


def _insert_into_sqlite(cursor: DBAPICursor, rows: Sequence[Entry]) -> list[Logged]:
    now = utc_now().isoformat(timespec="microseconds")
    inputs: list[Any] = []
    for text, received_at, _ in rows:
        inputs += (received_at.isoformat(timespec="microseconds"), text)
    input_ids = _insert_rows(cursor, "inference_inputs", _INPUTS[1:], inputs)
    predictions: list[Any] = []
    for input_id, (_, _, answer) in zip(input_ids, rows, strict=True):
        predictions += (input_id, now, "inference", *_answered(answer))
    prediction_ids = _insert_rows(cursor, "predictions", _PREDICTIONS[1:], predictions)
    return list(map(Logged, input_ids, prediction_ids))


def _insert_rows(cursor: DBAPICursor, table: str, names: tuple[str, ...], values: list[Any]) -> range:
    """Insert rows, and return their ids. The ids are consecutive, because no other transaction can write meanwhile."""
    cursor.execute(_insert_statement(table, names, len(values), "?"), values)
    last: int = cursor.lastrowid
    return range(last + 1 - len(values) // len(names), last + 1)


def _insert_into_postgresql(cursor: DBAPICursor, rows: Sequence[Entry]) -> list[Logged]:
    # One query gets the ids of all rows.
    cursor.execute(_NEXT_IDS, (len(rows),))
    logged = list(itertools.starmap(Logged, cursor.fetchall()))
    now = utc_now()
    inputs: list[tuple[Any, ...]] = []
    predictions: list[tuple[Any, ...]] = []
    for (input_id, prediction_id), (text, received_at, answer) in zip(logged, rows, strict=True):
        inputs.append((input_id, received_at, text))
        predictions.append((prediction_id, input_id, now, "inference", *_answered(answer)))
    _send_rows(cursor, "inference_inputs", _INPUTS, inputs)
    _send_rows(cursor, "predictions", _PREDICTIONS, predictions)
    return logged


def _send_rows(cursor: DBAPICursor, table: str, names: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    if len(rows) >= _ROWS_OF_A_COPY:
        copy_rows(cursor, table, names, rows)
        return
    values = [value for row in rows for value in row]
    cursor.execute(_insert_statement(table, names, len(values), "%s"), values)


def _answered(answer: Answer) -> tuple[Any, ...]:
    return answer.predicted_class, answer.model_version, _json(answer.probabilities).decode(), answer.features


@lru_cache(maxsize=128)
def _insert_statement(table: str, names: tuple[str, ...], values: int, mark: str) -> str:
    """Return one INSERT for many rows: one call of the database driver releases the interpreter once, not per row."""
    row = f"({', '.join([mark] * len(names))})"
    rows = ", ".join([row] * (values // len(names)))
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES {rows}"  # noqa: S608 - no data in it
