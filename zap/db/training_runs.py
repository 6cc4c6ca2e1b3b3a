"""The training runs: each from its start to its report or its error, and what an unfinished one leaves behind."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import structlog
from sqlalchemy import Engine, delete, insert, select, update
from sqlmodel import col

from zap.db.engine import training_lock, write_transaction
from zap.db.model_registry import promote
from zap.db.tables import ModelVersion, Prediction, TrainingRun, utc_now
from zap.errors import TrainingFailed, TrainingRunning

log = structlog.get_logger(__name__)

# Rows of one transaction: few enough that a request for a prediction never waits long for its turn to commit.
_ROWS = 2000
# SQLite gives the lock to whoever asks first, so the training steps back between its transactions.
_PAUSE_SECONDS = 0.005


def start_run(engine: Engine) -> int:
    """A new run; its number."""
    with write_transaction(engine) as connection:
        return connection.execute(
            insert(TrainingRun).returning(col(TrainingRun.run_id)),
            {"status": "running", "started_at": utc_now()},
        ).scalar_one()


def log_train_predictions(
    engine: Engine,
    model_version: int,
    classes: Sequence[str],
    actual: Sequence[str],
    probabilities: np.ndarray,
) -> Iterator[int]:
    """Log a prediction for each training row in short transactions; yields how many rows are in after each.

    Args:
        engine: the database.
        model_version: the version that predicted.
        classes: its charger types, the columns of `probabilities`.
        actual: the types that the drivers used, one a row.
        probabilities: of shape (len(actual), len(classes)).
    """
    best = probabilities.argmax(axis=1)
    for start in range(0, len(actual), _ROWS):
        rows = range(start, min(start + _ROWS, len(actual)))
        now = utc_now()
        values = [
            {
                "prediction_timestamp": now,
                "source": "train",
                "predicted_class": classes[best[row]],
                "actual_class": actual[row],
                "model_version": model_version,
                "probabilities": dict(zip(classes, probabilities[row].tolist(), strict=True)),
            }
            for row in rows
        ]
        with write_transaction(engine) as connection:
            connection.execute(insert(Prediction), values)
        time.sleep(_PAUSE_SECONDS)
        yield rows.stop


def finish_run(
    engine: Engine, run_id: int, report: Mapping[str, Any], model_version: int, scores: Mapping[str, Any]
) -> None:
    """In one transaction: the run has its report, and its version has its scores and serves."""
    with write_transaction(engine) as connection:
        promote(connection, model_version, scores)
        connection.execute(
            update(TrainingRun)
            .where(col(TrainingRun.run_id) == run_id)
            .values(status="finished", finished_at=utc_now(), report=dict(report))
        )


def fail_run(engine: Engine, run_id: int, problem: Mapping[str, Any]) -> None:
    """The run ended without a version: its rows go and the reason stays. A run that has finished stays as it is."""
    if run_id not in running_runs(engine):
        return
    _remove_rows(engine, run_id)
    with write_transaction(engine) as connection:
        connection.execute(
            update(TrainingRun)
            .where((col(TrainingRun.run_id) == run_id) & (col(TrainingRun.status) == "running"))
            .values(status="failed", finished_at=utc_now(), report=dict(problem))
        )


def clear_unfinished_runs(engine: Engine) -> list[int]:
    """Remove what runs left behind whose process died; to be called with the training lock held.

    Returns:
        The numbers of those runs.
    """
    runs = running_runs(engine)
    for run_id in runs:
        fail_run(engine, run_id, TrainingFailed("the process of this training died").problem())
        log.warning("removed the rows of a training that did not finish", run_id=run_id)
    return runs


def clear_unfinished_runs_if_idle(engine: Engine) -> None:
    """The same at start-up, where a training may be running in another process."""
    if running_runs(engine):
        try:
            with training_lock(engine):
                clear_unfinished_runs(engine)
        except TrainingRunning:
            log.info("a training is running in another process")


def running_runs(engine: Engine) -> list[int]:
    """The numbers of the runs that have neither finished nor failed."""
    with engine.connect() as connection:
        return list(connection.scalars(select(col(TrainingRun.run_id)).where(col(TrainingRun.status) == "running")))


def refuse_if_running(engine: Engine) -> None:
    """Raise at once where starting a training process would only find the lock taken.

    Raises:
        TrainingRunning: a training is running in some process.
    """
    if running_runs(engine):
        with training_lock(engine):
            pass


def _remove_rows(engine: Engine, run_id: int) -> None:
    with engine.connect() as connection:
        versions = list(
            connection.scalars(select(col(ModelVersion.model_version)).where(col(ModelVersion.run_id) == run_id))
        )
    for version in versions:
        of_version = (col(Prediction.source) == "train") & (col(Prediction.model_version) == version)
        while True:
            some = select(col(Prediction.prediction_id)).where(of_version).limit(_ROWS)
            with write_transaction(engine) as connection:
                if not connection.execute(delete(Prediction).where(col(Prediction.prediction_id).in_(some))).rowcount:
                    break
            time.sleep(_PAUSE_SECONDS)
    with write_transaction(engine) as connection:
        never_served = (col(ModelVersion.run_id) == run_id) & (col(ModelVersion.status) == "candidate")
        connection.execute(delete(ModelVersion).where(never_served))
