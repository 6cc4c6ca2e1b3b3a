"""Retraining: whether it is time for a training that nobody has asked for, and why."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, select
from sqlmodel import col

from zap.db.monitoring.alarms import standing_alarms
from zap.db.monitoring.monitor_states import KINDS
from zap.db.monitoring.trials import running_trials
from zap.db.monitoring_tables import Alarm
from zap.db.runs.run_end import CANCELLED
from zap.db.runs.training_runs import read_run
from zap.db.tables import TrainingRun
from zap.sentences import phrase, say, say_many
from zap.settings import Settings

# After a training that failed or was interrupted, or that an alarm has caused, the next training waits this long.
_PAUSE = timedelta(days=1)
_ALARMS = {"harm": phrase("harm"), "drift": phrase("drift")}
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def reason_to_train(engine: Engine, settings: Settings, now: datetime) -> str | None:
    """Return why a training should begin now; None if none should.

    With a number of days, it is time when this many days have passed since the newest training began. With
    `harm_or_drift`, it is time when an alarm stands that was raised after the newest training began. A training that
    failed, or that ended because its server was stopped, is repeated after a day. A training that a person cancelled is
    not repeated: it counts as the newest training, so the next one begins when it is time again. While a version is on
    trial, no other version is trained for a trial. People start the first training.

    Args:
        engine: on the database.
        settings: when to train, and what a training does with its version.
        now: the present moment (UTC).
    """
    if settings.retrain_every is None or (settings.retrain_promote == "trial" and running_trials(engine)):
        return None
    newest = select(col(TrainingRun.run_id), col(TrainingRun.status), col(TrainingRun.started_at))
    newest = newest.where(col(TrainingRun.kind) == "train").order_by(col(TrainingRun.run_id).desc()).limit(1)
    with engine.connect() as connection:
        run = connection.execute(newest).one_or_none()
    # A row of another program may have a time without an offset, or no readable time: such a run began long ago.
    began = _LONG_AGO if run is None or run.started_at is None else run.started_at.replace(tzinfo=UTC)
    if run is None or run.status == "running" or now - began < _PAUSE:
        return None
    if (interrupted := _interrupted(engine, run.run_id, run.status)) is not None:
        return interrupted
    if settings.retrain_every == "harm_or_drift":
        return _alarmed(engine, began)
    days = (now - began).days
    if days < settings.retrain_every:
        return None
    return say_many(
        "the newest training, run {run_id}, began {n:,} day ago",
        "the newest training, run {run_id}, began {n:,} days ago",
        days,
        run_id=run.run_id,
    )


def _interrupted(engine: Engine, run_id: int, status: str) -> str | None:
    """Return in words how a training ended that should be repeated; None if it finished or a person cancelled it."""
    if status == "failed":
        return say("training run {run_id} failed", run_id=run_id)
    if status == "cancelled" and (read_run(engine, run_id)["report"] or {}).get("detail") != CANCELLED:
        return say("training run {run_id} was told to stop", run_id=run_id)
    return None


def _alarmed(engine: Engine, since: datetime) -> str | None:
    """Return the standing alarm of harm or drift that was raised after a moment, in words; None without one."""
    if not any(kind in KINDS for kind, _ in standing_alarms(engine)):
        return None
    new = col(Alarm.kind).in_(KINDS) & col(Alarm.until).is_(None) & (col(Alarm.since) > since)
    # Harm before drift.
    first = select(col(Alarm.kind), col(Alarm.subject)).where(new).order_by(col(Alarm.kind).desc()).limit(1)
    with engine.connect() as connection:
        row = connection.execute(first).one_or_none()
    return None if row is None else say("alarm: {kind} of {subject}", kind=_ALARMS[row.kind], subject=row.subject)
