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
    if not rematched:
        return
    probabilities = "probabilities" if is_sqlite(connection) else "probabilities::text"
    which, parameters = among(connection, "prediction_id", [one.after.answer.prediction_id for one in rematched])
    asked = f"SELECT prediction_id, predicted_class, {probabilities}, features FROM predictions WHERE {which}"  # noqa: S608
    stored = {number: rest for number, *rest in fetched(connection, asked, parameters)}
    for before, after in rematched:
        if (found := stored.get(after.answer.prediction_id)) is not None:
            yield _change(before, after, found)


def _change(before: Outcome | None, after: Outcome, stored: Sequence[Any]) -> OutcomeChange:
    predicted, probabilities, features = stored
    return OutcomeChange(
        after.answer.prediction_id,
        after.model_version,
        after.answer.user_id,
        predicted,
        None if probabilities is None else _decode(probabilities),
        features,
        None if before is None else _state(before),
        _state(after),
    )


def _state(outcome: Outcome) -> OutcomeState:
    _, _, asked_at, kind = outcome.answer
    match = outcome.match
    return OutcomeState(asked_at, kind, match.status, match.actual_class, match.lag_seconds)
