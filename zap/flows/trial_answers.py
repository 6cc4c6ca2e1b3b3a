"""What challengers would have answered: the requests to the champion, answered again with the code of serving.

A challenger gets the stored text of a request, the moment when it was received, and the driver's past until the moment
that was asked about. So it answers, bit for bit, as it would have answered in production, unless a session from before
that moment was reported only after the champion's answer, or the facts in Users and Vehicles have changed since.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Engine

from zap.db.engine import background_transactions
from zap.db.history.driver_histories import DriverHistories
from zap.db.history.recent_sessions import RecentSessions
from zap.db.monitoring.trial_predictions import Asked, followed_until, store_answers, unanswered
from zap.db.monitoring.trials import Progress, RunningTrial, store_progress
from zap.db.versions.model_registry import load_version, version
from zap.flows.prediction import BatchPrediction
from zap.ml.inference import Answer, Predictor
from zap.settings import Settings

# How many requests are answered and committed together, and how many times in one look at a trial.
_PORTION = 500
_MOST_PORTIONS = 10
# How many numbers of the log one query goes through, because there may be few requests to the champion among them.
_MOST_NUMBERS = 20_000

# Called in each transaction that writes; raises an error if another process follows now.
Check = Callable[[Connection], object]
# Called between two portions of work, so that others have their turns; raises an error to end the work.
Between = Callable[[], object]


def nothing() -> None:
    """Do nothing between two portions."""


class Answered(NamedTuple):
    """How far a challenger has come.

    Attributes:
        progress: what its trial remembers now; None if the trial has ended meanwhile.
        waits: whether more requests wait for its answer.
    """

    progress: Progress | None
    waits: bool


class Challengers:
    """Hold the predictors of the versions on trial, and answer with them.

    Args:
        engine: on the database.
        settings: the drivers' time zone.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._predictors: dict[int, Predictor] = {}
        self._histories = DriverHistories(engine)
        self._recent = RecentSessions(engine, settings.wall_now)
        self._batches = BatchPrediction(engine, self._histories, self._recent, settings.wall_time)
        self._transaction = background_transactions(engine)

    def answer(self, trial: RunningTrial, check: Check, between: Between = nothing) -> Answered:
        """Answer the next requests of a trial. The answers and how far they reach are committed together.

        Args:
            trial: the trial.
            check: called in each transaction.
            between: called before each portion.

        Raises:
            DamagedModel: this code cannot use the challenger.
        """
        progress = trial.progress
        for _ in range(_MOST_PORTIONS):
            between()
            # A champion that answers nothing needs no challenger, so the version is loaded only when it is needed.
            with self._engine.connect() as connection:
                until = min(followed_until(connection), progress.prediction_id + _MOST_NUMBERS)
                asked, reached = unanswered(connection, trial, progress.prediction_id, until, _PORTION)
            if not asked and reached == until < progress.prediction_id + _MOST_NUMBERS:
                return Answered(progress, waits=False)
            given = self._given(trial.model_version, asked) if asked else []
            progress = progress._replace(
                prediction_id=reached,
                answered=progress.answered + len(given),
                refused=progress.refused + len(asked) - len(given),
            )
            with self._transaction() as connection:
                check(connection)
                if not store_progress(connection, trial.trial_id, progress):
                    return Answered(None, waits=False)
                store_answers(connection, trial.trial_id, given)
        return Answered(progress, waits=True)

    def _given(self, number: int, asked: Sequence[Asked]) -> list[tuple[int, Answer]]:
        """Return the answers of a challenger, each with the champion's prediction; none for a refused request."""
        answers = self._batches.answers_to_each(
            [one.text.encode() for one in asked], self._predictor(number), [one.received_at for one in asked]
        )
        self._histories.forget({one.user_id for one in asked if one.user_id is not None})
        return [
            (one.prediction_id, answer)
            for one, answer in zip(asked, answers, strict=True)
            if isinstance(answer, Answer)
        ]

    def keep(self, numbers: Collection[int]) -> None:
        """Forget the predictors of all other versions, and the histories of drivers who were erased."""
        self._histories.forget_erased()
        self._predictors = {number: one for number, one in self._predictors.items() if number in numbers}

    def close(self) -> None:
        """End the threads of the histories."""
        self._histories.close()
        self._recent.close()

    def _predictor(self, number: int) -> Predictor:
        if number not in self._predictors:
            self._predictors[number] = Predictor(load_version(self._engine, version(self._engine, number)), number)
        return self._predictors[number]
