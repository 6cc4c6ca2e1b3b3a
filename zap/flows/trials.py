"""Trials: a version answers the same requests as the version in production, unseen, until it is known to be better.

The follower calls `Trials.look` again and again. Everything that a trial knows is stored, so another process can go on
with it at any moment.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from zap.db.engine import write_transaction
from zap.db.monitoring.trial_predictions import is_followed
from zap.db.monitoring.trials import Progress, RunningTrial, begin_trial, end_trial, read_trial, running_trials
from zap.db.versions.model_registry import production_version
from zap.db.versions.promotions import check_usable
from zap.errors import DamagedModel, NotPromotable, TrialRefused
from zap.flows.trial_answers import Between, Challengers, Check, nothing
from zap.flows.trial_looks import changed_in_words, end_early, take_look
from zap.formats.promotion_reason import Reason
from zap.formats.trial_options import TrialOptions
from zap.sentences import say
from zap.settings import Settings


def try_version(engine: Engine, number: int, options: TrialOptions) -> dict[str, Any]:
    """Begin a trial of a version beside the version in production, and return the trial.

    Raises:
        NotFound: there is no such version.
        TrialRefused: the version cannot be on trial now, or this code cannot use it.
    """
    try:
        check_usable(engine, number)
    except NotPromotable as error:
        raise TrialRefused(error.message, **error.details) from error
    with write_transaction(engine) as connection:
        trial_id = begin_trial(connection, number, options)
    return read_trial(engine, trial_id)


def stop_trial(engine: Engine, number: int, reason: Reason) -> dict[str, Any]:
    """End the running trial of a version, and return the trial.

    Raises:
        NotFound: the version is not on trial.
    """
    with write_transaction(engine) as connection:
        trial_id = end_trial(connection, number, reason)
    return read_trial(engine, trial_id)


class Trials:
    """Look after the running trials. One process calls `look`, after it has followed the newest answers.

    Args:
        engine: on the database.
        settings: the drivers' time zone, and the model file.
        horizon: how long after the moment that was asked about a session can still be the outcome.
    """

    def __init__(self, engine: Engine, settings: Settings, horizon: timedelta) -> None:
        self._engine, self._settings, self._horizon = engine, settings, horizon
        self._challengers: Challengers | None = None

    def look(self, check: Check, now: datetime, between: Between = nothing) -> bool:
        """Answer the newest requests for all challengers, and compare them at the end of each week.

        Without a running trial, this is one query.

        Args:
            check: called in each transaction; raises an error if another process follows now.
            now: the moment, in UTC.
            between: called between two portions of work; raises an error to end the look.

        Returns:
            Whether more requests wait for the answers of challengers, so that the next look should follow at once.
        """
        running = running_trials(self._engine)
        if not running:
            self.close()
            return False
        self._challengers = self._challengers or Challengers(self._engine, self._settings)
        self._challengers.keep({trial.model_version for trial in running})
        waiting = [self._look_at(trial, self._challengers, check, now, between) for trial in running]
        return any(waiting)

    def close(self) -> None:
        """Forget the challengers, and end their threads."""
        if self._challengers is not None:
            self._challengers.close()
            self._challengers = None

    def _look_at(
        self, trial: RunningTrial, challengers: Challengers, check: Check, now: datetime, between: Between
    ) -> bool:
        """Answer for one challenger, and compare it if a week is over. Return whether more requests wait."""
        serving = production_version(self._engine)
        if serving is None or serving.model_version != trial.champion_version:
            end_early(self._engine, trial, changed_in_words(self._engine, trial), check)
            return False
        try:
            progress, waits = challengers.answer(trial, check, between)
        except DamagedModel as error:
            end_early(
                self._engine,
                trial,
                say("version {number} cannot answer, {reason}", number=trial.model_version, reason=error.message),
                check,
            )
            return False
        while progress is not None and not waits and (until := self._next_look(trial, progress, now)):
            trial = trial._replace(progress=progress)
            progress = take_look(self._engine, self._settings, trial, until, check, between)
        return waits

    def _next_look(self, trial: RunningTrial, progress: Progress, now: datetime) -> datetime | None:
        """Return the end of the next week, if all outcomes until then are known; None otherwise."""
        until = trial.started_at + timedelta(weeks=progress.comparison.done + 1)
        if now < until + self._horizon:
            return None
        with self._engine.connect() as connection:
            return until if is_followed(connection, until + self._horizon) else None
