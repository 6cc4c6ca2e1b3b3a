"""Stored predictions, read with the request or with the row that was scored."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Engine, func, select
from sqlmodel import col

from zap.db.monitoring.removals import read_removed_before
from zap.db.stored_json import as_bytes, readable
from zap.db.tables import InferenceInput, Prediction
from zap.errors import NotFound
from zap.sentences import say

# All columns except the scored row, which only `read_features` reads.
_COLUMNS = [column for column in Prediction.__table__.columns if column.name != "features"]  # type: ignore[attr-defined]


def read_prediction(engine: Engine, prediction_id: int) -> Mapping[str, Any]:
    """Return the columns of a prediction and of its request, and what cannot be read as `unreadable`.

    A prediction of a training has no request (None).

    Raises:
        NotFound: there is no such prediction.
    """
    statement = (
        select(*_COLUMNS, col(InferenceInput.request_timestamp), col(InferenceInput.input_data_json))
        .join(InferenceInput, col(Prediction.input_id) == col(InferenceInput.input_id), isouter=True)
        .where(col(Prediction.prediction_id) == prediction_id)
    )
    with engine.connect() as connection:
        row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        raise no_prediction(engine, prediction_id)
    return readable(row)


def no_prediction(engine: Engine, prediction_id: int) -> NotFound:
    """Return the error for a prediction that is not there. It says so if the prediction may have been removed."""
    newest = select(func.max(col(Prediction.prediction_id)))
    with engine.connect() as connection:
        removed_before = read_removed_before(connection)
        if removed_before is None or prediction_id > (connection.scalar(newest) or 0):
            return NotFound(say("there is no prediction {prediction_id}", prediction_id=prediction_id))
    return NotFound(
        say(
            "there is no prediction {prediction_id}; requests from before {day} were removed",
            prediction_id=prediction_id,
            day=removed_before.date().isoformat(),
        )
    )


def logged_json(text: str | None) -> Any:
    """Return a logged request as a value. Rows older than zap may hold other text, which is returned unchanged."""
    try:
        value = None if text is None else json.loads(text)
        if text is not None and "\\u" in text:
            # An escape may be half of a character, and no reply can hold this.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return text
    return value


class Scored(NamedTuple):
    """The row that was scored for a prediction, the model version, and the probabilities."""

    features: bytes
    model_version: int
    probabilities: dict[str, float]


def read_features(engine: Engine, prediction_id: int) -> Scored:
    """Return the row from which a prediction was computed.

    Raises:
        NotFound: there is no such prediction, or its features were not stored.
    """
    columns = (col(Prediction.features), col(Prediction.model_version), col(Prediction.probabilities))
    with engine.connect() as connection:
        row = connection.execute(select(*columns).where(col(Prediction.prediction_id) == prediction_id)).one_or_none()
    if row is None:
        raise no_prediction(engine, prediction_id)
    if row.features is None:
        raise NotFound(
            say(
                "prediction {prediction_id} has no stored features: a training logged it, or a zap that stored none",
                prediction_id=prediction_id,
            )
        )
    return Scored(as_bytes(row.features), row.model_version, row.probabilities or {})
