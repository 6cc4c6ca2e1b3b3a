"""Trainings that a server starts by itself."""

import signal
from datetime import timedelta

import pytest
from conftest import client_of
from servers import until
from sqlalchemy import insert, text, update
from structlog.testing import capture_logs

from zap.app import create_app
from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.alarms import raise_alarm, resolve_alarm
from zap.db.monitoring.trials import running_trials
from zap.db.runs.training_runs import cancel_run, claim_run, fail_run
from zap.db.tables import ModelVersion, TrainingRun, utc_now
from zap.db.versions.tunings import add_tuning
from zap.errors import TrainingCancelled, TrainingFailed
from zap.flows.retraining import reason_to_train
from zap.flows.trials import try_version
from zap.formats.trial_options import TrialOptions
from zap.server import retraining


@pytest.fixture
def weekly(trained):
    return trained.model_copy(update={"retrain_every": 7})


@pytest.fixture
def engine(trained):
    engine = create_engine(trained.database_url)
    yield engine
    engine.dispose()


def began(engine, days):
    """Let all trainings have begun some days ago."""
    with write_transaction(engine) as connection:
        connection.execute(update(TrainingRun).values(started_at=utc_now() - timedelta(days=days)))


def test_it_is_time_some_days_after_the_newest_training_began(weekly, engine):
    began(engine, 6.9)
    assert reason_to_train(engine, weekly, utc_now()) is None
    began(engine, 7.1)
    assert reason_to_train(engine, weekly, utc_now()) == "the newest training, run 1, began 7 days ago"
    # By default, zap never trains by itself.
    assert reason_to_train(engine, weekly.model_copy(update={"retrain_every": None}), utc_now()) is None
    # A training that runs is the newest one.
    claim_run(engine, "train", {})
    assert reason_to_train(engine, weekly, utc_now()) is None


@pytest.mark.parametrize("stamp", ["2024-01-31 18:05:00", "long ago"])
def test_a_time_without_an_offset_is_in_utc(trained_sqlite, stamp):
    settings = trained_sqlite.model_copy(update={"retrain_every": 7})
    engine = create_engine(settings.database_url)
    with write_transaction(engine) as connection:
        connection.execute(text("UPDATE training_runs SET started_at = :stamp"), {"stamp": stamp})
    assert reason_to_train(engine, settings, utc_now()).startswith("the newest training, run 1, began ")
    engine.dispose()


def test_a_training_that_failed_is_repeated_after_a_day(weekly, engine):
    fail_run(engine, claim_run(engine, "train", {}), TrainingFailed("the disk was full"))
    began(engine, 0.9)
    assert reason_to_train(engine, weekly, utc_now()) is None
    began(engine, 1.1)
    assert reason_to_train(engine, weekly, utc_now()) == "training run 2 failed"


@pytest.mark.parametrize("every", [7, "harm_or_drift"])
def test_a_training_that_a_person_cancelled_is_not_repeated(trained, engine, every):
    settings = trained.model_copy(update={"retrain_every": every})
    cancel_run(engine, claim_run(engine, "train", {}))
    began(engine, 1.1)
    assert reason_to_train(engine, settings, utc_now()) is None
    # The next one begins when it is time, as after any other training.
    began(engine, 7.1)
    if every == "harm_or_drift":
        with write_transaction(engine) as connection:
            raise_alarm(connection, "harm", "version 1", "…", {}, posts=False)
    said = {7: "the newest training, run 2, began 7 days ago", "harm_or_drift": "alarm: harm of version 1"}
    assert reason_to_train(engine, settings, utc_now()) == said[every]


@pytest.mark.parametrize("every", [7, "harm_or_drift"])
def test_a_training_that_ended_with_its_server_is_repeated_after_a_day(trained, engine, every):
    settings = trained.model_copy(update={"retrain_every": every})
    fail_run(engine, claim_run(engine, "train", {}), TrainingCancelled.by_signal(signal.SIGTERM))
    began(engine, 0.9)
    assert reason_to_train(engine, settings, utc_now()) is None
    began(engine, 1.1)
    assert reason_to_train(engine, settings, utc_now()) == "training run 2 was told to stop"


def test_an_unexpected_error_is_logged_and_does_not_end_retraining(trained_sqlite, monkeypatch):
    looks = []

    def look(*_asked):
        looks.append(None)
        raise ValueError("unexpected")

    async def retrain_often(state):
        await retraining.retrain(state, pause=0.01)

    monkeypatch.setattr(retraining, "reason_to_train", look)
    monkeypatch.setattr("zap.server.lifespan.retrain", retrain_often)
    with client_of(create_app(trained_sqlite.model_copy(update={"retrain_every": 7}))), capture_logs() as logs:
        until(lambda: len(looks) >= 3)

    found = [one for one in logs if one["event"] == "no training could be started"]
    assert len(found) >= 2
    assert found[0]["log_level"] == "error"
    assert found[0]["exc_info"]


def test_a_part_of_the_server_that_ends_by_an_error_says_so(trained_sqlite, monkeypatch):
    async def broken(_state):
        raise ValueError("unexpected")

    monkeypatch.setattr("zap.server.lifespan.retrain", broken)
    app = create_app(trained_sqlite)
    with capture_logs() as logs, client_of(app) as client:
        assert client.get("/health/live").status_code == 200

    (found,) = [one for one in logs if one["event"].startswith("a part of the server has ended")]
    assert found["log_level"] == "error"
    assert isinstance(found["exc_info"], ValueError)


def test_an_alarm_of_harm_or_drift_is_an_occasion_once(trained, engine):
    settings = trained.model_copy(update={"retrain_every": "harm_or_drift"})
    began(engine, 30)
    assert reason_to_train(engine, settings, utc_now()) is None
    with write_transaction(engine) as connection:
        raise_alarm(connection, "disk_nearly_full", "/data", "…", {}, posts=False)
        raise_alarm(connection, "drift", "version 1", "…", {}, posts=False)
    assert reason_to_train(engine, settings, utc_now()) == "alarm: drift of version 1"
    with write_transaction(engine) as connection:
        raise_alarm(connection, "harm", "version 1", "…", {}, posts=False)
    assert reason_to_train(engine, settings, utc_now()) == "alarm: harm of version 1"
    # The training that it has caused began after the alarm.
    with write_transaction(engine) as connection:
        row = {"kind": "train", "status": "finished", "started_at": utc_now()}
        connection.execute(insert(TrainingRun), row)
    assert reason_to_train(engine, settings, utc_now() + timedelta(days=2)) is None
    with write_transaction(engine) as connection:
        for kind in ("harm", "drift"):
            resolve_alarm(connection, kind, "version 1", posts=False)
    assert reason_to_train(engine, settings, utc_now() + timedelta(days=2)) is None


def test_a_server_trains_and_the_new_version_is_on_trial_and_no_other_is_trained(trained_sqlite):
    settings = trained_sqlite.model_copy(update={"retrain_every": 7})
    engine = create_engine(settings.database_url)
    began(engine, 10)
    with write_transaction(engine) as connection:
        add_tuning(connection, {"n_estimators": 10}, None)
    with client_of(create_app(settings)) as client:
        until(lambda: running_trials(engine))
        run = client.get("/training-runs/2").json()
        version = client.get("/models/2").json()
    assert run["options"]["promote"] == "trial"
    assert version["note"] == "started by zap: the newest training, run 1, began 10 days ago"
    assert version["status"] == "candidate"
    began(engine, 10)
    assert reason_to_train(engine, settings, utc_now()) is None
    engine.dispose()


def test_no_other_version_is_trained_for_a_trial_while_one_is_on_trial(weekly, engine):
    with write_transaction(engine) as connection:
        row = connection.execute(ModelVersion.__table__.select()).mappings().one()
        connection.execute(insert(ModelVersion), {**row, "model_version": 2, "status": "candidate"})
    try_version(engine, 2, TrialOptions())
    began(engine, 30)
    assert reason_to_train(engine, weekly, utc_now()) is None
    decides = weekly.model_copy(update={"retrain_promote": "if_better"})
    assert reason_to_train(engine, decides, utc_now()) == "the newest training, run 1, began 30 days ago"
