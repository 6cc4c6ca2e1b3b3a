"""PredictionLog: a request and its prediction are committed, together, before anybody sees the answer."""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, delete, insert, select
from sqlalchemy import text as sql
from sqlalchemy.exc import OperationalError
from sqlmodel import col

from zap.db.engine import PATIENCE_SECONDS, write_transaction
from zap.db.tables import InferenceInput, Prediction, utc_now
from zap.errors import LogUnavailable, NotFound
from zap.ml.inference import Answer

# Requests that are committed together at the most, and that may wait for their turn.
_MOST_IN_A_GROUP = 500
MOST_WAITING = 10_000

_INPUT_IDS = "inference_inputs", "input_id"
_PREDICTION_IDS = "predictions", "prediction_id"


class Logged(NamedTuple):
    """Where a request and its prediction stand."""

    input_id: int
    prediction_id: int


class _Waiting(NamedTuple):
    """A request that waits for its commit, since when, and who waits for it."""

    text: str
    received_at: datetime
    answer: Answer
    since: float
    future: asyncio.Future[Logged]


class PredictionLog:
    """The log of one process. Its one writer thread commits all requests that wait in one transaction.

    So the event loop never waits for a disk, and the more requests come at once the less each of them costs.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: deque[_Waiting] = deque()
        # Guards `_waiting` and `_closed`, and wakes the writer.
        self._changed = threading.Condition()
        self._closed = False
        self._writer: threading.Thread | None = None

    async def record(self, text: str, received_at: datetime, answer: Answer) -> Logged:
        """Commit a request and its answer, in one transaction with others that wait, off the event loop.

        Raises:
            LogUnavailable: they could not be committed, or too many wait already.
        """
        future: asyncio.Future[Logged] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._closed:
                raise LogUnavailable("the server is stopping; send the request again")
            if len(self._waiting) >= MOST_WAITING:
                raise LogUnavailable(f"{MOST_WAITING:,} requests wait for the database already; send this one later")
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_on, name="prediction-log", daemon=True)
                self._writer.start()
            self._waiting.append(_Waiting(text, received_at, answer, time.monotonic(), future))
            self._changed.notify()
        return await future

    async def record_all(self, rows: Sequence[tuple[str, datetime, Answer]]) -> list[Logged]:
        """Commit many requests and their answers in one transaction of their own, off the event loop: all or none.

        Raises:
            LogUnavailable: they could not be committed.
        """
        if self._closed:
            raise LogUnavailable("the server is stopping; send the request again")
        return await asyncio.to_thread(self.write_all, rows)

    def write_all(self, rows: Sequence[tuple[str, datetime, Answer]]) -> list[Logged]:
        """What `record_all` does, on the calling thread."""
        if not rows:
            return []
        try:
            with write_transaction(self._engine) as connection:
                return _insert(connection, [*rows])
        except Exception as error:  # what a driver raises for a value that it cannot store may be anything
            raise LogUnavailable(
                "they are not known to be committed, so they are not answered; send them again"
            ) from error

    def write(self, text: str, received_at: datetime, answer: Answer) -> Logged:
        """What `record` does, on the calling thread and alone."""
        (outcome,) = self._commit([(text, received_at, answer)])
        if isinstance(outcome, LogUnavailable):
            raise outcome
        return outcome

    def close(self) -> None:
        """Commit what was accepted, then stop the writer: within two PATIENCE_SECONDS, whatever the database does."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._writer is not None:
            self._writer.join()

    def _write_on(self) -> None:
        while group := self._next_group():
            oldest = time.monotonic() - PATIENCE_SECONDS
            in_time = [one for one in group if one.since >= oldest]
            outcomes: list[Logged | LogUnavailable] = self._commit([one[:3] for one in in_time]) if in_time else []
            # Those in front have waited for the database in vain: waiting once more would help nobody. They come first.
            late = group[: len(group) - len(in_time)]
            too_late = LogUnavailable("the database takes too long; nothing was written, send the request again")
            _answer([*((one, too_late) for one in late), *zip(in_time, outcomes, strict=True)])

    def _next_group(self) -> list[_Waiting]:
        """Those that wait, as soon as there is one; none once the log is closed and all are written."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_IN_A_GROUP))]

    def _commit(self, rows: list[tuple[str, datetime, Answer]]) -> list[Logged | LogUnavailable]:
        """Commit requests and their answers together; where some cannot be stored, each alone."""
        logged: list[Logged] = []
        try:
            with write_transaction(self._engine) as connection:
                logged += _insert(connection, rows)
        except Exception as error:  # noqa: BLE001 - what a driver raises for a value that it cannot store may be anything
            # Once all are inserted it was the COMMIT that failed, and nobody knows whether the rows are there: they are
            # not written again.
            if logged or len(rows) == 1 or isinstance(error, OperationalError):
                refused = LogUnavailable("it is not known to be committed, so it is not answered; send it again")
                refused.__cause__ = error
                return [refused] * len(rows)
        else:
            return [*logged]
        return [outcome for row in rows for outcome in self._commit([row])]


def _insert(connection: Connection, rows: list[tuple[str, datetime, Answer]]) -> list[Logged]:
    logged = list(
        map(Logged, _new_ids(connection, *_INPUT_IDS, len(rows)), _new_ids(connection, *_PREDICTION_IDS, len(rows)))
    )
    requests, predictions = [], []
    now = utc_now()
    for (input_id, prediction_id), (text, received_at, answer) in zip(logged, rows, strict=True):
        requests.append({"input_id": input_id, "request_timestamp": received_at, "input_data_json": text})
        predictions.append(
            {
                "prediction_id": prediction_id,
                "input_id": input_id,
                "prediction_timestamp": now,
                "source": "inference",
                "predicted_class": answer.predicted_class,
                "model_version": answer.model_version,
                "probabilities": answer.probabilities,
                "features": answer.features,
            }
        )
    connection.execute(insert(InferenceInput), requests)
    connection.execute(insert(Prediction), predictions)
    return logged


def _new_ids(connection: Connection, table: str, column: str, n: int) -> Iterable[int]:
    """So many ids that nobody else gets: asked for once, not row by row."""
    if connection.dialect.name == "sqlite":
        # The transaction has the only right to write, and SQLite goes on above the ids that it is given.
        last: int = connection.scalar(_LAST_ID, {"name": table}) or 0
        return range(last + 1, last + 1 + n)
    return connection.scalars(_NEXT_IDS, {"table": f'"{table}"', "column": column, "n": n}).all()


_LAST_ID = sql("SELECT seq FROM sqlite_sequence WHERE name = :name")
_NEXT_IDS = sql("SELECT nextval(pg_get_serial_sequence(:table, :column)) FROM generate_series(1, :n)")


def _answer(outcomes: list[tuple[_Waiting, Logged | LogUnavailable]]) -> None:
    """Tell those who wait, with one wake-up of their event loop."""

    def tell() -> None:
        for waiting, outcome in outcomes:
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
