"""The metrics that are in the database: the model and its live quality, trainings, alarms, the follower, the engine."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from zap.db.engine import file_of
from zap.db.monitoring.alarm_facts import seconds_behind
from zap.db.monitoring.metric_facts import (
    database_sizes,
    firing_kinds,
    last_training,
    outcome_counts,
    postgresql_figures,
    rows_behind,
    run_counts,
    trial_counts,
)
from zap.db.versions.model_registry import production_version, verdict_of_version
from zap.flows.quality import Question, read_quality
from zap.monitoring.alarm_kinds import KINDS
from zap.monitoring.metric_families import Labels, Sample, Samples
from zap.monitoring.own_metrics import OTHER
from zap.settings import Settings

# The statuses that always have a value, so that the first run or trial counts as an increase.
_RUNS = ("running", "finished", "failed", "cancelled")
_TRIALS = ("running", "better", "not_worse", "worse", "undecided", "ended")
# A large database has thousands of rows of live quality, so they are read less often than the other figures.
QUALITY_SECONDS = 60.0
# The scores of 0 to 1 that both the model and guessing have.
_SCORES = ("weighted_f1", "accuracy")


def database_figures(engine: Engine, settings: Settings) -> Samples:
    """Return the metrics that are in the database, without the metrics of `quality_figures`.

    Args:
        engine: on the database.
        settings: the time zone of the drivers.

    Raises:
        SQLAlchemyError, ZapError: the database does not answer.
    """
    begun = time.monotonic()
    if (file := file_of(engine)) is not None:
        file.check()
    samples: Samples = {}
    _add_content(samples, engine, settings)
    _add_engine(samples, engine)
    samples["zap_database_read_seconds"] = [Sample({}, time.monotonic() - begun)]
    return samples


def quality_figures(engine: Engine, settings: Settings) -> Samples:
    """Return the metrics of the version in production; nothing without one.

    Raises:
        SQLAlchemyError, ZapError: the database does not answer.
    """
    samples: Samples = {"zap_model": [], "zap_model_quality": [], "zap_model_sessions": []}
    samples["zap_model_label_coverage_ratio"] = []
    version = production_version(engine)
    if version is None:
        return samples
    number = str(version.model_version)
    judged: Mapping[str, Any] = verdict_of_version(engine, version.model_version) or {}
    labels = {"model_version": number, "verdict": str(judged.get("verdict") or "")}
    samples["zap_model"].append(Sample(labels, 1, "_info"))
    question = Question(model_version=version.model_version, detailed=0, guessing=True)
    report = read_quality(engine, question, settings.wall_now(), settings.horizon)
    for of_version in report["versions"]:
        for days in ("final", "provisional"):
            if part := of_version[days]:
                _add_quality(samples, {"model_version": number, "days": days}, part)
    return samples


def _add_quality(samples: Samples, labels: Labels, part: Mapping[str, Any]) -> None:
    _add(samples, "zap_model_label_coverage_ratio", part["answers"]["label_coverage"], labels)
    scores = part["scores"]
    if scores is None:
        return
    _add(samples, "zap_model_sessions", scores["sessions"], labels)
    for name in _SCORES:
        for who, found in (("model", scores), ("guessing", scores["guessing"])):
            _add(samples, "zap_model_quality", found[name], {**labels, "score": name, "of": who})


def _add_content(samples: Samples, engine: Engine, settings: Settings) -> None:
    with engine.connect() as connection:
        _add_all(samples, "zap_training_runs", "status", dict.fromkeys(_RUNS, 0) | run_counts(connection))
        _add_all(samples, "zap_trials", "status", dict.fromkeys(_TRIALS, 0) | trial_counts(connection))
        _add_all(samples, "zap_outcomes", "status", outcome_counts(connection, settings.wall_now()))
        firing = {kind if kind in KINDS else OTHER for kind in firing_kinds(connection)}
        _add_all(samples, "zap_alarm_firing", "kind", {kind: int(kind in firing) for kind in (*KINDS, OTHER)})
        trained = last_training(connection)
        _add(samples, "zap_last_training_timestamp_seconds", trained and _in_utc(trained).timestamp())
        behind = rows_behind(connection)
        _add(samples, "zap_follower_lag_rows", behind)
    if behind is not None:
        _add(samples, "zap_follower_lag_seconds", max(0.0, seconds_behind(engine) or 0.0))


def _add_engine(samples: Samples, engine: Engine) -> None:
    with engine.connect() as connection:
        sizes = database_sizes(engine, connection)
        _add(samples, "zap_database_free_bytes", sizes.pop("free", None))
        _add_all(samples, "zap_database_size_bytes", "part", sizes)
        if engine.dialect.name == "sqlite":
            return
        found = postgresql_figures(connection)
    _add(samples, "zap_database_connections", found["numbackends"])
    outcomes = {"committed": found["xact_commit"], "rolled_back": found["xact_rollback"]}
    _add_all(samples, "zap_database_transactions", "outcome", outcomes, "_total")
    blocks = {"cache": found["blks_hit"], "disk": found["blks_read"]}
    _add_all(samples, "zap_database_blocks", "from", blocks, "_total")
    _add(samples, "zap_database_deadlocks", found["deadlocks"], suffix="_total")
    _add(samples, "zap_database_replicas", found["replicas"])
    _add(samples, "zap_database_replica_lag_seconds", found["lag"])


def _add(samples: Samples, name: str, value: Any, labels: Labels | None = None, suffix: str = "") -> None:
    """Add a sample, unless its value is not known."""
    some = samples.setdefault(name, [])
    if value is not None:
        some.append(Sample(labels or {}, float(value), suffix))


def _add_all(samples: Samples, name: str, label: str, values: Mapping[str, Any], suffix: str = "") -> None:
    for one, value in values.items():
        _add(samples, name, value, {label: one}, suffix)


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
