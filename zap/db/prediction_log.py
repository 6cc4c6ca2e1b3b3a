"""PredictionLog: a request and its prediction are committed, together, before anybody sees the answer."""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Engine, delete, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col

from zap.db.engine import PATIENCE_SECONDS, write_transaction
from zap.db.tables import InferenceInput, Prediction, utc_now
from zap.errors import LogUnavailable, NotFound
from zap.ml.inference import Answer


@dataclass(frozen=True)
class Logged:
    """Where a request and its prediction stand."""

    input_id: int
    prediction_id: int


class PredictionLog:
    """The log of one process. Its one writer thread keeps commits off the event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prediction-log")

    async def record(self, text: str, received_at: datetime, answer: Answer) -> Logged:
        """Commit a request and its answer in one transaction, off the event loop.

        Raises:
            LogUnavailable: they could not be committed.
        """
        accepted = time.monotonic()
        try:
            written = self._writer.submit(self._write_in_time, accepted, text, received_at, answer)
        except RuntimeError as error:
            raise LogUnavailable("the server is stopping; send the request again") from error
        return await asyncio.wrap_future(written)

    def write(self, text: str, received_at: datetime, answer: Answer) -> Logged:
        """What `record` does, on the calling thread."""
        try:
            with write_transaction(self._engine) as connection:
                input_id = connection.execute(
                    insert(InferenceInput).returning(col(InferenceInput.input_id)),
                    {"request_timestamp": received_at, "input_data_json": text},
                ).scalar_one()
                prediction_id = connection.execute(
                    insert(Prediction).returning(col(Prediction.prediction_id)),
                    {
                        "input_id": input_id,
                        "prediction_timestamp": utc_now(),
                        "source": "inference",
                        "predicted_class": answer.predicted_class,
                        "model_version": answer.model_version,
                        "probabilities": answer.probabilities,
                        "features": answer.features,
                    },
                ).scalar_one()
        except SQLAlchemyError as error:
            # Where the connection broke during COMMIT nobody knows whether both rows are there or neither is.
            raise LogUnavailable("it is not known to be committed, so it is not answered; send it again") from error
        return Logged(input_id, prediction_id)

    def _write_in_time(self, accepted: float, text: str, received_at: datetime, answer: Answer) -> Logged:
        if time.monotonic() - accepted > PATIENCE_SECONDS:
            # Those in front have waited for the database in vain: waiting once more each, in turn, would help nobody.
            raise LogUnavailable("the database takes too long; nothing was written, send the request again")
        return self.write(text, received_at, answer)

    def close(self) -> None:
        """Commit what was accepted, then stop the writer: within two PATIENCE_SECONDS, whatever the database does."""
        self._writer.shutdown(wait=True)


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
