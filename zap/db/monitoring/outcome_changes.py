"""The changes of outcomes, with the stored predictions, for the sums that are kept up to date with them."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from zap.db.monitoring.given_rows import among, fetched, is_sqlite
from zap.db.monitoring.log_portion import LoggedAnswer
from zap.db.monitoring.matches import Rematched
from zap.db.monitoring.outcome_rows import Outcome
from zap.monitoring.outcome_change import OutcomeChange, OutcomeState

_decode = msgspec.json.Decoder(dict[str, float]).decode


def first_changes(answers: Sequence[LoggedAnswer], outcomes: Sequence[Outcome]) -> Iterator[OutcomeChange]:
    """Yield the changes of answers that are followed for the first time.

    Args:
        answers: the answers.
        outcomes: the outcome of each of them.
    """
    for one, outcome in zip(answers, outcomes, strict=True):
        stored = (one.predicted_class, one.probabilities, one.features)
        yield _change(None, outcome, stored)


def later_changes(connection: Connection, rematched: Sequence[Rematched]) -> Iterator[OutcomeChange]:
    """Yield the changes of outcomes that were matched again. Answers that were removed from the log are left out."""
    stored = _stored(connection, [one.after for one in rematched])
    for before, after in rematched:
        if (found := stored.get(after.answer.prediction_id)) is not None:
            yield _change(before, after, found)


def last_changes(connection: Connection, outcomes: Sequence[Outcome]) -> Iterator[OutcomeChange]:
    """Yield the changes of outcomes that are removed. Answers that were removed from the log are left out."""
    stored = _stored(connection, outcomes)
    for one in outcomes:
        if (found := stored.get(one.answer.prediction_id)) is not None:
            yield _change(one, None, found)


def _stored(connection: Connection, outcomes: Sequence[Outcome]) -> dict[int, Sequence[Any]]:
    """Return the predicted type, the probabilities and the row of the answers that the log has."""
    if not outcomes:
        return {}
    probabilities = "probabilities" if is_sqlite(connection) else "probabilities::text"
    which, parameters = among(connection, "prediction_id", [one.answer.prediction_id for one in outcomes])
    asked = f"SELECT prediction_id, predicted_class, {probabilities}, features FROM predictions WHERE {which}"  # noqa: S608
    return {number: rest for number, *rest in fetched(connection, asked, parameters)}


def _change(before: Outcome | None, after: Outcome | None, stored: Sequence[Any]) -> OutcomeChange:
    predicted, probabilities, features = stored
    known = after or before
    if known is None:
        raise ValueError("a change has an outcome before or after it")
    return OutcomeChange(
        known.answer.prediction_id,
        known.model_version,
        known.answer.user_id,
        predicted,
        None if probabilities is None else _decode(probabilities),
        features,
        None if before is None else _state(before),
        None if after is None else _state(after),
    )


def _state(outcome: Outcome) -> OutcomeState:
    _, _, asked_at, kind = outcome.answer
    match = outcome.match
    return OutcomeState(asked_at, kind, match.status, match.actual_class, match.lag_seconds)
