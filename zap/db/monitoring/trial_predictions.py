"""The requests that challengers still have to answer, their answers, and the answers of both versions together."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, delete, exists, insert, select
from sqlmodel import col

from zap.db.monitoring.next_outcomes import next_outcomes
from zap.db.monitoring.trials import RunningTrial
from zap.db.monitoring_tables import Follower, Outcome, Trial, TrialPrediction
from zap.db.stored_json import Damaged, whole
from zap.db.tables import InferenceInput, Prediction
from zap.ml.inference import Answer

# How many sessions are compared in one read.
_PORTION = 2000


class Asked(NamedTuple):
    """A request that the champion has answered.

    Attributes:
        prediction_id: the champion's answer.
        text: the request as JSON.
        received_at: when it was received.
        user_id: its driver; None if it named no driver.
    """

    prediction_id: int
    text: str
    received_at: datetime
    user_id: str | None


class Compared(NamedTuple):
    """One session, and what both versions said: the driver, the used type, and the probabilities."""

    user_id: str
    used: str
    champion: dict[str, float]
    challenger: dict[str, float]


def followed_until(connection: Connection) -> int:
    """Return the prediction up to which every prediction is followed; 0 if none is.

    A missing prediction may be in a transaction that still runs, so nothing after it counts.
    """
    row = connection.execute(select(col(Follower.prediction_id), col(Follower.missing))).one_or_none()
    if row is None:
        return 0
    ranges = whole(row.missing, "the marks of the follower") or ()
    until: int = min([row.prediction_id, *(first - 1 for first, *_ in ranges)])
    return until


def read_until(connection: Connection) -> int:
    """Return the newest prediction that the follower has read; 0 if there is none.

    A smaller one may still be missing: PostgreSQL gives an id to a transaction that may end later, or is undone.
    """
    return connection.scalar(select(col(Follower.prediction_id))) or 0


def is_followed(connection: Connection, until: datetime) -> bool:
    """Return whether the outcomes know every answer, and every session, until a moment.

    Args:
        connection: on the database.
        until: the moment, in UTC.
    """
    if connection.scalar(select(col(Follower.rematched_until)).where(col(Follower.rematched_until).is_not(None))):
        return False
    next_one = select(col(Prediction.prediction_timestamp)).order_by(col(Prediction.prediction_id)).limit(1)
    newer = connection.scalar(next_one.where(col(Prediction.prediction_id) > followed_until(connection)))
    # A row that is older than zap has a time without a zone, and is followed before all others.
    return newer is None or (newer.tzinfo is not None and newer > until)


def unanswered(
    connection: Connection, trial: RunningTrial, after: int, until: int, limit: int
) -> tuple[list[Asked], int]:
    """Return the next requests that the challenger has to answer: the live ones that the champion answered.

    Args:
        connection: on the database.
        trial: the trial.
        after: the challenger has answered the requests up to this prediction.
        until: the last prediction that is followed.
        limit: the most requests.

    Returns:
        The requests, and the prediction up to which these are all requests.
    """
    some = next_outcomes(connection, after, until, limit)
    rows = some.rows.c
    next_ones = (
        select(
            rows.prediction_id,
            col(InferenceInput.input_data_json),
            col(InferenceInput.request_timestamp),
            rows.user_id,
        )
        .join(Prediction, col(Prediction.prediction_id) == rows.prediction_id)
        .join(InferenceInput, col(InferenceInput.input_id) == col(Prediction.input_id))
        .where(rows.kind == "live", rows.model_version == trial.champion_version)
        .where(col(InferenceInput.request_timestamp) < trial.longest_until)
        .order_by(rows.prediction_id)
    )
    reached = until if some.are_all or some.last is None else some.last
    return [Asked(*row) for row in connection.execute(next_ones)], reached


def store_answers(connection: Connection, trial_id: int, answers: Sequence[tuple[int, Answer]]) -> None:
    """Store what a challenger would have answered.

    Args:
        connection: a transaction that writes.
        trial_id: the trial.
        answers: each with the number of the champion's answer to the same request.
    """
    rows = [
        {
            "trial_id": trial_id,
            "prediction_id": prediction_id,
            "predicted_class": answer.predicted_class,
            "probabilities": answer.probabilities,
            "features": answer.features,
        }
        for prediction_id, answer in answers
    ]
    if rows:
        connection.execute(insert(TrialPrediction), rows)


def compared_sessions(engine: Engine, trial: RunningTrial, until: datetime) -> Iterator[list[Compared]]:
    """Yield, in portions, the sessions after which both versions can be compared. Only known drivers are compared.

    Each portion is a read of its own, so that a long trial does not hold a snapshot of the database.

    Args:
        engine: on the database.
        trial: the trial.
        until: only answers about moments before this wall time.
    """
    compared = (
        select(
            col(Outcome.prediction_id),
            col(Outcome.user_id),
            col(Outcome.actual_class),
            col(Prediction.probabilities),
            col(TrialPrediction.probabilities),
        )
        .join(Outcome, col(Outcome.prediction_id) == col(TrialPrediction.prediction_id))
        .join(Prediction, col(Prediction.prediction_id) == col(TrialPrediction.prediction_id))
        .where(col(TrialPrediction.trial_id) == trial.trial_id)
        .where(col(Outcome.status) == "matched", col(Outcome.user_id).is_not(None), col(Outcome.asked_at) < until)
        .order_by(col(TrialPrediction.prediction_id))
        .limit(_PORTION)
    )
    after = 0
    while True:
        with engine.connect() as connection:
            rows: Sequence[Any] = connection.execute(compared.where(col(TrialPrediction.prediction_id) > after)).all()
        if not rows:
            return
        after = rows[-1][0]
        yield [Compared(*row[1:]) for row in rows if not any(isinstance(value, Damaged) for value in row)]


def ended_trials_with_answers(engine: Engine, before: datetime) -> list[int]:
    """Return the trials that ended before a moment (UTC) and whose challengers' answers are still stored."""
    has_answers = exists().where(col(TrialPrediction.trial_id) == col(Trial.trial_id))
    ended = select(col(Trial.trial_id)).where(col(Trial.ended_at) < before, has_answers).order_by(col(Trial.trial_id))
    with engine.connect() as connection:
        return list(connection.scalars(ended))


def remove_answers(connection: Connection, trial_id: int, limit: int) -> int:
    """Remove the first answers of a trial, and return how many were removed.

    Args:
        connection: a transaction that writes.
        trial_id: the trial.
        limit: the most answers to remove.
    """
    of_trial = col(TrialPrediction.trial_id) == trial_id
    first = select(col(TrialPrediction.prediction_id)).where(of_trial)
    numbers = connection.scalars(first.order_by(col(TrialPrediction.prediction_id)).limit(limit)).all()
    if not numbers:
        return 0
    # A range, because SQLite has a bound for the values of a statement.
    some = of_trial & (col(TrialPrediction.prediction_id) <= numbers[-1])
    return connection.execute(delete(TrialPrediction).where(some)).rowcount
