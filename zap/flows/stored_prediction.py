"""A stored prediction with its request, and what happened after it."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine

from zap.db.history.session_ids import id_of
from zap.db.log.stored_predictions import read_prediction
from zap.db.monitoring.outcome_rows import read_outcome


def read_with_outcome(engine: Engine, prediction_id: int) -> tuple[Mapping[str, Any], dict[str, Any] | None]:
    """Return the columns of a prediction and its request, and the outcome.

    Returns:
        The columns as in `read_prediction`. The outcome has the fields of `Match`, `kind`, `asked_at` and `user_id`;
        its session is named by the id of its reports. It is None until the answer is followed.

    Raises:
        NotFound: there is no such prediction.
    """
    row, outcome = read_prediction(engine, prediction_id), read_outcome(engine, prediction_id)
    if outcome is None:
        return row, None
    said = outcome.answer
    fields: dict[str, Any] = outcome.match._asdict()
    fields |= {"kind": said.kind, "asked_at": said.asked_at, "user_id": said.user_id}
    if fields["session_id"] is not None:
        with engine.connect() as connection:
            fields["session_id"] = id_of(connection, fields["session_id"])
    return row, fields
