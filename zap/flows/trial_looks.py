"""A look at a trial: compare both versions on all sessions since it began, and end the trial if they are decided."""

from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection, Engine

from zap.db.engine import write_transaction
from zap.db.monitoring.trial_predictions import compared_sessions
from zap.db.monitoring.trials import Progress, RunningTrial, conclude, read_evidence, store_progress
from zap.db.versions.model_file import export_in_time
from zap.db.versions.model_registry import version
from zap.db.versions.promotions import check_usable, list_promotions, promote, serving_version
from zap.errors import NotPromotable
from zap.flows.trial_answers import Between, Check, nothing
from zap.formats.promotion_reason import Reason
from zap.monitoring.driver_differences import DriverDifferences
from zap.monitoring.trials import Trial
from zap.sentences import say
from zap.settings import Settings

log = structlog.get_logger(__name__)

# Who promotes a version that was found better.
WHO = "trial"


class _Ending(NamedTuple):
    """How a trial ends: its status, whether the challenger serves now, and what is said about it."""

    status: str
    promoted: bool
    message: str


def take_look(  # noqa: PLR0913, PLR0917
    engine: Engine, settings: Settings, trial: RunningTrial, until: datetime, check: Check, between: Between = nothing
) -> Progress | None:
    """Take the next look at a trial, and store it. End the trial if it is decided.

    If the challenger is better, and the trial asks for its promotion, promote it.

    Args:
        engine: on the database.
        settings: the drivers' time zone, and the model file.
        trial: the trial. Its challenger has answered all requests, and all outcomes are known.
        until: the end of the week, in UTC.
        check: called in each transaction.
        between: called before each portion of sessions.

    Returns:
        What the trial remembers now; None if it has ended.
    """
    differences = _differences(engine, settings, trial, until, between)
    comparison = replace(trial.progress.comparison)
    comparison.look(differences.means(), differences.widest())
    progress = trial.progress._replace(comparison=comparison)
    figures = _figures(comparison, differences, until)
    evidence = {**figures, "promoted": False, "message": comparison.in_words()}
    obstacle = _obstacle(engine, trial, progress)
    ending = None
    with write_transaction(engine) as connection:
        check(connection)
        if not store_progress(connection, trial.trial_id, progress, evidence=evidence):
            return None
        if comparison.ended:
            ending = _ending(connection, trial, comparison, obstacle)
            evidence["promoted"] = ending.promoted
            conclude(connection, trial.trial_id, ending.status, evidence, ending.message)
    status = ending.status if ending else "running"
    log.info("look at a trial", **_named(trial), **figures, status=status, promoted=evidence["promoted"])
    if ending and ending.promoted:
        # The version serves already from the database; the exported file is only for data scientists.
        export_in_time(engine, version(engine, trial.model_version), settings.model_file)
    return None if ending else progress


def _differences(
    engine: Engine, settings: Settings, trial: RunningTrial, until: datetime, between: Between
) -> DriverDifferences:
    differences = DriverDifferences()
    for some in compared_sessions(engine, trial, settings.wall_time(until)):
        between()
        differences.add(
            [one.user_id for one in some],
            [one.champion for one in some],
            [one.challenger for one in some],
            [one.used for one in some],
        )
    return differences


def _figures(comparison: Trial, differences: DriverDifferences, until: datetime) -> dict[str, Any]:
    return {
        "verdict": comparison.verdict,
        "look": comparison.done,
        "until": until.isoformat(),
        "sessions": differences.sessions,
        "drivers": differences.drivers,
        "mean": comparison.mean,
        "low": comparison.low,
        "high": comparison.high,
        "widest": differences.widest(),
    }


def end_early(engine: Engine, trial: RunningTrial, reason: str, check: Check) -> None:
    """End a trial that cannot go on, without a verdict.

    Args:
        engine: on the database.
        trial: the trial.
        reason: why it cannot go on.
        check: called in the transaction.
    """
    with write_transaction(engine) as connection:
        check(connection)
        evidence = read_evidence(connection, trial.trial_id)
        ended = conclude(
            connection, trial.trial_id, "ended", evidence, say("The trial ended early: {reason}.", reason=reason)
        )
    if ended:
        log.info("a trial ended early", **_named(trial), reason=reason)


def changed_in_words(engine: Engine, trial: RunningTrial) -> str:
    """Return in words that another version than the champion serves now."""
    newest = list_promotions(engine, 1)
    if not newest:
        return say("version {number} does not serve any more", number=trial.champion_version)
    change = newest[0]
    how = say("a rollback") if change["action"] == "rollback" else say("a promotion")
    return say(
        "since {how}, version {number} serves instead of version {champion}",
        how=how,
        number=change["to_version"],
        champion=trial.champion_version,
    )


def _named(trial: RunningTrial) -> dict[str, Any]:
    return {
        "trial_id": trial.trial_id,
        "model_version": trial.model_version,
        "champion_version": trial.champion_version,
    }


def _obstacle(engine: Engine, trial: RunningTrial, progress: Progress) -> str | None:
    """Return why a challenger that is better is not promoted; None if it is promoted."""
    number = trial.model_version
    if progress.comparison.verdict != "better":
        return None
    if trial.on_better != "promote":
        return say("To let it serve: zap models promote {number}.", number=number)
    if progress.refused:
        return say(
            "It does not serve yet, because it would have refused {refused:,} of the requests that version {champion}"
            " answered. To let it serve: zap models promote {number}.",
            refused=progress.refused,
            champion=trial.champion_version,
            number=number,
        )
    try:
        # Before the transaction, because loading takes longer than other writers should wait.
        check_usable(engine, number)
    except NotPromotable as error:
        return say("It does not serve, because {reason}.", reason=error.message)
    return None


def _ending(connection: Connection, trial: RunningTrial, comparison: Trial, obstacle: str | None) -> _Ending:
    """Return how a trial ends that is decided or has had its last look. Promote its challenger if that is asked."""
    verdict = comparison.verdict
    if verdict == "worse":
        return _Ending(verdict, promoted=False, message="")
    if verdict != "better":
        return _Ending(verdict, promoted=False, message=say("The longest time of the trial has passed."))
    if obstacle is not None:
        return _Ending(verdict, promoted=False, message=obstacle)
    serving = serving_version(connection)
    if serving != trial.champion_version:
        message = say(
            "The trial ended without a promotion: version {number} serves now instead of version {champion}.",
            number=serving,
            champion=trial.champion_version,
        )
        return _Ending("ended", promoted=False, message=message)
    # The reason is not checked like a body, because zap's own text may be longer than a text of a client.
    reason = Reason.model_construct(
        who=WHO, why=say("trial {trial:d}: {said}", trial=trial.trial_id, said=comparison.in_words())
    )
    promote(connection, trial.model_version, reason)
    message = say(
        "Version {number} serves now, instead of version {champion}.",
        number=trial.model_version,
        champion=trial.champion_version,
    )
    return _Ending(verdict, promoted=True, message=message)
