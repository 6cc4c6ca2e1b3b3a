"""Training runs: finished whole, or nothing of them stays."""

import numpy as np
import pytest
from sqlalchemy import insert, select
from sqlmodel import col

from zap.db.engine import training_lock, write_transaction
from zap.db.tables import ModelVersion, Prediction, TrainingRun, utc_now
from zap.db.training_runs import (
    clear_unfinished_runs_if_idle,
    fail_run,
    finish_run,
    log_train_predictions,
    refuse_if_running,
    running_runs,
    start_run,
)
from zap.errors import NoModel, TrainingFailed, TrainingRunning

CLASSES = ["A", "B"]


def add_version(engine, run_id):
    """A version row; what its bytes are does not matter here."""
    with write_transaction(engine) as connection:
        return connection.execute(
            insert(ModelVersion).returning(col(ModelVersion.model_version)),
            {
                "run_id": run_id, "status": "candidate", "created_at": utc_now(), "artefact": b"x", "sha256": "x",
                "hyper_parameters": {}, "contract": {},
            },
        ).scalar_one()  # fmt: skip


def log_rows(engine, version, n=4500):
    probabilities = np.tile([0.25, 0.75], (n, 1))
    return list(log_train_predictions(engine, version, CLASSES, ["A"] * n, probabilities))


def column(engine, which):
    with engine.connect() as connection:
        return list(connection.scalars(select(col(which))))


def test_it_works(engine):
    run = start_run(engine)
    version = add_version(engine, run)
    assert log_rows(engine, version) == [2000, 4000, 4500]
    assert running_runs(engine) == [run]

    finish_run(engine, run, {"test_f1_score": 0.5}, version, {"log_loss": 1.0})

    assert running_runs(engine) == []
    assert column(engine, TrainingRun.status) == ["finished"]
    assert column(engine, TrainingRun.report) == [{"test_f1_score": 0.5}]
    assert column(engine, ModelVersion.status) == ["production"]
    assert column(engine, Prediction.predicted_class) == ["B"] * 4500
    assert column(engine, Prediction.actual_class) == ["A"] * 4500
    assert column(engine, Prediction.probabilities)[0] == {"A": 0.25, "B": 0.75}


def test_a_run_that_failed_leaves_its_reason_and_nothing_else(engine):
    first = start_run(engine)
    kept = add_version(engine, first)
    log_rows(engine, kept, 10)
    finish_run(engine, first, {}, kept, {})
    second = start_run(engine)
    log_rows(engine, add_version(engine, second))

    fail_run(engine, second, NoModel("why").problem())

    assert column(engine, TrainingRun.status) == ["finished", "failed"]
    assert column(engine, TrainingRun.report)[1]["detail"] == "why"
    assert column(engine, ModelVersion.model_version) == [kept]
    assert column(engine, Prediction.model_version) == [kept] * 10


def test_what_fails_after_the_promotion_changes_nothing(engine):
    run = start_run(engine)
    version = add_version(engine, run)
    log_rows(engine, version)
    finish_run(engine, run, {"test_f1_score": 0.5}, version, {})

    fail_run(engine, run, {"detail": "told to stop a moment too late"})

    assert column(engine, TrainingRun.status) == ["finished"]
    assert column(engine, ModelVersion.status) == ["production"]
    assert len(column(engine, Prediction.prediction_id)) == 4500


def test_a_new_version_archives_the_one_that_served(engine):
    for _ in range(3):
        run = start_run(engine)
        finish_run(engine, run, {}, add_version(engine, run), {})

    assert sorted(column(engine, ModelVersion.status)) == ["archived", "archived", "production"]


def test_at_start_a_run_whose_process_died_is_cleared(engine):
    run = start_run(engine)
    log_rows(engine, add_version(engine, run))

    clear_unfinished_runs_if_idle(engine)

    assert column(engine, TrainingRun.status) == ["failed"]
    assert column(engine, Prediction.prediction_id) == []


def test_at_start_a_run_that_is_alive_is_left_alone(engine):
    run = start_run(engine)
    log_rows(engine, add_version(engine, run), 10)

    with training_lock(engine):
        clear_unfinished_runs_if_idle(engine)

    assert column(engine, TrainingRun.status) == ["running"]
    assert len(column(engine, Prediction.prediction_id)) == 10


def test_only_a_run_that_is_alive_is_in_the_way(engine):
    refuse_if_running(engine)
    start_run(engine)
    refuse_if_running(engine)

    with training_lock(engine), pytest.raises(TrainingRunning):
        refuse_if_running(engine)


def test_a_version_that_is_gone_is_not_promoted_and_the_old_one_serves_on(engine):
    first = start_run(engine)
    kept = add_version(engine, first)
    finish_run(engine, first, {}, kept, {})

    with pytest.raises(TrainingFailed):
        finish_run(engine, start_run(engine), {}, 999, {})

    assert column(engine, ModelVersion.status) == ["production"]
