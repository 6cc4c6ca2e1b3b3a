"""A training with promote: trial saves a candidate and begins its trial, or serves where nothing can be compared."""

import pytest
from sqlalchemy import select, update
from sqlmodel import col
from trialled import add_copies

from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.trials import MOST_RUNNING, list_trials
from zap.db.tables import ModelVersion
from zap.db.versions.model_registry import production_version
from zap.flows.training import run_training
from zap.flows.trials import try_version
from zap.formats.training_options import TrainingOptions
from zap.formats.trial_options import TrialOptions
from zap.monitoring.trials import CAVEAT

QUICK = {"n_estimators": 10}


@pytest.fixture
def engine(trained_sqlite):
    engine = create_engine(trained_sqlite.database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def train(trained_sqlite, engine):
    """Return a function that trains with promote: trial."""

    def run(**options):
        asked = TrainingOptions(**{"promote": "trial", "hyper_parameters": QUICK} | options)
        return run_training(engine, trained_sqlite, options=asked)

    return run


def serving(engine):
    version = production_version(engine)
    return version and version.model_version


def test_a_candidate_goes_on_trial_with_its_training(engine, train):
    report = train()

    (trial,) = list_trials(engine, 5)
    assert (trial["model_version"], trial["champion_version"]) == (report["model_version"], 1)
    assert (trial["on_better"], trial["why"]) == ("promote", f"training run {report['training_run']}")
    decided = report["promotion"]
    assert (decided["promoted"], decided["trial"], decided["comparison"]) == (False, trial["trial_id"], None)
    assert decided["reason"].startswith(f"trial {trial['trial_id']} compares it with the version in production")
    assert f"stays a candidate: {decided['reason']}." in report["message"]
    assert CAVEAT in report["message"]
    assert serving(engine) == 1


def test_where_nothing_serves_the_new_version_serves_at_once(engine, train):
    with write_transaction(engine) as connection:
        connection.execute(update(ModelVersion).values(status="archived"))

    report = train()

    assert (report["promotion"]["promoted"], report["promotion"]["trial"]) == (True, None)
    assert report["promotion"]["reason"] == "no version served before it"
    assert list_trials(engine, 5) == []
    assert serving(engine) == report["model_version"]


def test_a_version_that_is_worse_than_a_baseline_goes_on_no_trial(engine, train):
    report = train(test_share=0.3, estimator="lightgbm", hyper_parameters={"n_estimators": 1})

    assert report["verdict"] == "worse"
    assert (report["promotion"]["promoted"], report["promotion"]["trial"]) == (False, None)
    assert "a baseline predicts better" in report["message"]
    assert list_trials(engine, 5) == []


def test_a_training_does_not_fail_because_too_many_trials_run(engine, train):
    for number in add_copies(engine, MOST_RUNNING):
        try_version(engine, number, TrialOptions())

    report = train()

    assert report["promotion"]["trial"] is None
    assert f"stays a candidate: no trial could begin: {MOST_RUNNING} trials run already" in report["message"]
    with engine.connect() as connection:
        of_version = col(ModelVersion.model_version) == report["model_version"]
        assert connection.scalar(select(col(ModelVersion.status)).where(of_version)) == "candidate"
