"""PredictionLog: a request and its prediction are committed, together, before anybody sees the answer."""

import asyncio
import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Engine, delete, select
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import OperationalError
from sqlmodel import col

from zap.db.engine import PATIENCE_SECONDS, DriverConnection, copy_rows, write_transaction
from zap.db.tables import InferenceInput, Prediction, utc_now
from zap.errors import LogUnavailable, NotFound
from zap.ml.inference import Answer

# Rows that are committed together at the most, unless one batch has more.
_MOST_IN_A_GROUP = 500
# Those who may wait for their turn, each with a row or a batch.
MOST_WAITING = 10_000
# How long requests may wait for others to be committed with while more come in.
_GATHERING_SECONDS = 0.02
# Rows of one INSERT: small enough for SQLite's 32,766 parameters a statement.
_ROWS_OF_AN_INSERT = 1_000
# From so many rows on they are copied to PostgreSQL: a turn more than an INSERT, and of many rows a sixth of the work.
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
    """Where a request and its prediction stand."""

    input_id: int
    prediction_id: int


class Entry(NamedTuple):
    """What is logged of a request: its text, when it came, and what was answered."""

    text: str
    received_at: datetime
    answer: Answer


class _Arrived(NamedTuple):
    """What gives the rows of one who waits for their commit; since when, and who waits."""

    rows: Callable[[], Sequence[Entry]]
    since: float
    future: asyncio.Future[list[Logged]]


class _Waiting(NamedTuple):
    """Rows that wait for their commit, all of them or none; since when, and who waits."""

    rows: Sequence[Entry]
    since: float
    future: asyncio.Future[list[Logged]]


class PredictionLog:
    """The log of one process. Its one writer thread commits all rows that wait in one transaction.

    So the event loop never waits for a disk, and the more requests come at once the less each of them costs.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # What says that the database is the reason, not the data: from SQLAlchemy, or from the driver itself.
        self._unavailable = (OperationalError, engine.dialect.loaded_dbapi.OperationalError)
        self._sqlite = engine.dialect.name == "sqlite"
        # Those that are gathered for the writer, and those that are handed over to it; None at the end.
        self._arrived: list[_Arrived] = []
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._n_waiting = 0
        self._closed = False
        self._writer: threading.Thread | None = None

    async def record(self, text: str, received_at: datetime, answered: Callable[[], Answer]) -> tuple[Answer, Logged]:
        """Answer a request and commit both, in one transaction with others that wait, off the event loop.

        Args:
            text: the request.
            received_at: when it came.
            answered: called once the others that came at the same time are read, one directly after the other: what the
                trees of one have brought into the processor's caches the next one finds there.

        Raises:
            LogUnavailable: they could not be committed, or too many wait already.
        """
        entry: Entry

        def rows() -> Sequence[Entry]:
            nonlocal entry
            entry = Entry(text, received_at, answered())
            return [entry]

        (logged,) = await self._committed(rows)
        return entry.answer, logged

    async def record_all(self, rows: Sequence[Entry]) -> list[Logged]:
        """Commit requests and their answers, all of them or none.

        Raises:
            LogUnavailable: they could not be committed, or too many wait already.
        """
        return await self._committed(lambda: rows) if rows else []

    async def _committed(self, rows: Callable[[], Sequence[Entry]]) -> list[Logged]:
        """Wait for the commit of these rows, which are asked for when they are handed over."""
        if self._closed:
            raise LogUnavailable("the server is stopping; send the request again")
        if self._n_waiting >= MOST_WAITING:
            raise LogUnavailable(f"{MOST_WAITING:,} requests wait for the database already; send this one later")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Logged]] = loop.create_future()
        self._n_waiting += 1
        if not self._arrived:
            loop.call_soon(self._hand_over_when_quiet, loop, 0)
        self._arrived.append(_Arrived(rows, time.monotonic(), future))
        return await future

    def write(self, text: str, received_at: datetime, answer: Answer) -> Logged:
        """What `record` does, on the calling thread and alone."""
        (logged,) = self.write_all([Entry(text, received_at, answer)])
        return logged

    def write_all(self, rows: Sequence[Entry]) -> list[Logged]:
        """What `record_all` does, on the calling thread and alone."""
        if not rows:
            return []
        connection = DriverConnection(self._engine)
        try:
            (outcome,) = self._commit(connection, [rows])
        finally:
            connection.close()
        if isinstance(outcome, LogUnavailable):
            raise outcome
        return outcome

    def close(self) -> None:
        """Commit what was accepted, then stop the writer: within two PATIENCE_SECONDS, whatever the database does."""
        self._hand_over()
        self._closed = True
        self._waiting.put(None)
        if self._writer is not None:
            self._writer.join()

    def _hand_over_when_quiet(self, loop: asyncio.AbstractEventLoop, before: int) -> None:
        """Wake the writer once a turn of the loop has brought nothing new, or those that wait do so for long.

        A commit costs much the same for one as for many, and a writer that works beside a busy loop takes the
        interpreter from it: as long as requests come in they are read first. One that is alone waits for one turn.
        """
        arrived = len(self._arrived)
        if before < arrived < _MOST_IN_A_GROUP and time.monotonic() - self._arrived[0].since < _GATHERING_SECONDS:
            loop.call_soon(self._hand_over_when_quiet, loop, arrived)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._writer is None and self._arrived:
            writer = threading.Thread(target=self._write_on, name="prediction-log", daemon=True)
            writer.start()
            self._writer = writer
        arrived, self._arrived = self._arrived, []
        # All are answered before the first is handed over: the writer would take the interpreter in between.
        waiting = [one for one in map(self._with_rows, arrived) if one is not None]
        for one in waiting:
            self._waiting.put(one)

    def _with_rows(self, arrived: _Arrived) -> _Waiting | None:
        if not arrived.future.done():
            try:
                return _Waiting(arrived.rows(), arrived.since, arrived.future)
            except Exception as error:  # noqa: BLE001 - whoever waits for the answer is told, and nobody else
                arrived.future.set_exception(error)
        # Also where its client has gone: nobody is answered, so nothing is logged.
        self._n_waiting -= 1
        return None

    def _write_on(self) -> None:
        connection = DriverConnection(self._engine)
        for group in self._groups():
            oldest = time.monotonic() - PATIENCE_SECONDS
            in_time = [one for one in group if one.since >= oldest]
            outcomes = self._commit(connection, [one.rows for one in in_time]) if in_time else []
            # Those in front have waited for the database in vain: waiting once more would help nobody. They come first.
            late = group[: len(group) - len(in_time)]
            too_late = LogUnavailable("the database takes too long; nothing was written, send the request again")
            self._answer([*((one, too_late) for one in late), *zip(in_time, outcomes, strict=True)])
        connection.close()

    def _groups(self) -> Iterator[list[_Waiting]]:
        """Those that wait, as soon as there is one, until the log is closed and all are written."""
        group: list[_Waiting] = []
        rows = 0
        while True:
            if group and self._waiting.empty():
                yield group
                group, rows = [], 0
            waits = self._waiting.get()
            if group and (waits is None or rows + len(waits.rows) > _MOST_IN_A_GROUP):
                yield group
                group, rows = [], 0
            if waits is None:
                return
            group.append(waits)
            rows += len(waits.rows)

    def _answer(self, outcomes: list[tuple[_Waiting, list[Logged] | LogUnavailable]]) -> None:
        """Tell those who wait, with one wake-up of their event loop."""

        def tell() -> None:
            for waiting, outcome in outcomes:
                self._n_waiting -= 1
                if waiting.future.done():
                    # Its client has gone.
                    continue
                if isinstance(outcome, LogUnavailable):
                    waiting.future.set_exception(outcome)
                else:
                    waiting.future.set_result(outcome)

        # A loop that was closed meanwhile has nobody who waits.
        with contextlib.suppress(RuntimeError):
            outcomes[0][0].future.get_loop().call_soon_threadsafe(tell)

    def _commit(
        self, connection: DriverConnection, group: Sequence[Sequence[Entry]]
    ) -> list[list[Logged] | LogUnavailable]:
        """Commit all rows of a group together; where some cannot be stored, each of its parts alone."""
        logged: list[Logged] = []
        try:
            with connection.transaction() as cursor:
                logged += _insert(cursor, [row for rows in group for row in rows], sqlite=self._sqlite)
        except Exception as error:  # noqa: BLE001 - what a driver raises for a value that it cannot store may be anything
            # Once all are inserted it was the COMMIT that failed, and nobody knows whether the rows are there: they are
            # not written again.
            if logged or len(group) == 1 or isinstance(error, self._unavailable):
                refused = LogUnavailable("it is not known to be committed, so it is not answered; send it again")
                refused.__cause__ = error
                return [refused] * len(group)
        else:
            each = iter(logged)
            return [[next(each) for _ in rows] for rows in group]
        outcomes: list[list[Logged] | LogUnavailable] = []
        for rows in group:
            (outcome,) = self._commit(connection, [rows])
            outcomes.append(outcome)
            if isinstance(outcome, LogUnavailable) and isinstance(outcome.__cause__, self._unavailable):
                # The database has gone meanwhile: those behind would wait for it in turn.
                return [*outcomes, *[outcome] * (len(group) - len(outcomes))]
        return outcomes


def _insert(cursor: DBAPICursor, rows: Sequence[Entry], *, sqlite: bool) -> list[Logged]:
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
    """The ids: the transaction has the only right to write, so they follow each other."""
    cursor.execute(_insert_statement(table, names, len(values), "?"), values)
    last: int = cursor.lastrowid
    return range(last + 1 - len(values) // len(names), last + 1)


def _insert_into_postgresql(cursor: DBAPICursor, rows: Sequence[Entry]) -> list[Logged]:
    # Asked for once, not row by row.
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
    """One statement for many rows: it gives up the interpreter once, not for each."""
    row = f"({', '.join([mark] * len(names))})"
    rows = ", ".join([row] * (values // len(names)))
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES {rows}"  # noqa: S608 - no data in it


def read_prediction(engine: Engine, prediction_id: int) -> Mapping[str, Any]:
    """One prediction and the request that it answered (None for a training's own row), column by column.

    Raises:
        NotFound: there is no such prediction.
    """
    statement = (
        select(
            col(Prediction.prediction_id),
            col(Prediction.input_id),
            col(Prediction.prediction_timestamp),
            col(Prediction.source),
            col(Prediction.predicted_class),
            col(Prediction.actual_class),
            col(Prediction.model_version),
            col(Prediction.probabilities),
            col(InferenceInput.request_timestamp),
            col(InferenceInput.input_data_json),
        )
        .join(InferenceInput, col(Prediction.input_id) == col(InferenceInput.input_id), isouter=True)
        .where(col(Prediction.prediction_id) == prediction_id)
    )
    with engine.connect() as connection:
        row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no prediction {prediction_id}")
    return dict(row)


class Scored(NamedTuple):
    """The row that was scored for a prediction, by which version, and what it answered."""

    features: bytes
    model_version: int
    probabilities: dict[str, float]


def read_features(engine: Engine, prediction_id: int) -> Scored:
    """What a prediction was made from.

    Raises:
        NotFound: there is no such prediction, or its row was not stored.
    """
    columns = (col(Prediction.features), col(Prediction.model_version), col(Prediction.probabilities))
    with engine.connect() as connection:
        row = connection.execute(select(*columns).where(col(Prediction.prediction_id) == prediction_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no prediction {prediction_id}")
    if row.features is None:
        raise NotFound(
            f"prediction {prediction_id} has no stored features: it is a training's own, or older than they are"
        )
    return Scored(bytes(row.features), row.model_version, row.probabilities)


def check_writable(engine: Engine) -> None:
    """Take a write transaction on the log and leave no trace of it.

    Raises:
        SQLAlchemyError: the log cannot be written to.
    """
    with write_transaction(engine) as connection:
        # Statements that may write but change no row: they ask for the right and the lock, not for an id.
        connection.execute(delete(Prediction).where(col(Prediction.prediction_id) < 0))
        connection.execute(delete(InferenceInput).where(col(InferenceInput.input_id) < 0))
