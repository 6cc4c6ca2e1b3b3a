"""One training, from the lock to the logged predictions, on the real histories; and parity with what is served."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from litestar.testing import TestClient

from zap.app import create_app
from zap.db.engine import create_engine
from zap.db.history_store import read_history
from zap.db.model_registry import load_version, production_version
from zap.db.schema import upgrade
from zap.db.training_runs import running_runs
from zap.history_import import import_history
from zap.ml.features import FEATURES
from zap.ml.history import clean_history
from zap.ml.training import split_by_time
from zap.settings import Settings
from zap.training_run import run_training


def train(settings):
    engine = create_engine(settings.database_url)
    report = run_training(engine, settings, lambda *_: None)
    version = production_version(engine)
    model = load_version(engine, version)
    split = split_by_time(clean_history(read_history(engine)))
    engine.dispose()
    return report, model, split


def served(settings, rows):
    """The probabilities that a server gives for cleaned rows: missing values sent as null, unless they are ignored."""
    answers = []
    with TestClient(create_app(settings)) as client:
        for row in rows.to_dict("records"):
            body = {name: None if pd.isna(value) else value for name, value in row.items()}
            body["charging_start_time"] = row["charging_start_time"].isoformat()
            reply = client.post("/predict", json=body)
            assert reply.status_code == 200, reply.text
            answers.append(list(reply.json()["probabilities"].values()))
    return np.array(answers)


def assert_parity(settings, model, split, most=400):
    rows = split.train[[feature.name for feature in FEATURES]]
    some = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, most).astype(int))]

    assert served(settings, some).tobytes() == model.predict_proba(rows)[some.index].tobytes()


@pytest.fixture
def adopted(zapapp_database, tmp_path):
    """Settings of a copy of the real ZapApp database, adopted."""
    path = tmp_path / "zapapp.sqlite"
    shutil.copyfile(zapapp_database, path)
    settings = Settings(database_url=f"sqlite:///{path}", models_dir=tmp_path / "models")
    upgrade(settings.database_url)
    return settings


def test_the_real_database_carries_no_signal_and_the_report_says_so(adopted):
    report, _, _ = train(adopted)

    assert (report["trained_samples"], report["test_samples"]) == (1188, 132)
    assert report["beats_baseline"] is False
    assert "does not beat guessing" in report["message"]
    low, high = report["test_f1_interval"]
    assert low < 1 / 3 < high
    assert report["dropped"]["values"] == {
        "state_of_charge_start": {"outside 0 to 100 %": 9},
        "temperature_c": {"outside -60 to 60 °C": 2},
    }
    assert report["synthetic_sessions"] == 0
    assert report["label_meaning"]


def test_the_rows_of_the_real_database_are_served_as_they_were_trained(adopted):
    """The training rows, as cleaned, sent over HTTP: bit-equal probabilities. All of them."""
    _, model, split = train(adopted)

    assert split.train["temperature_c"].isna().any()
    assert_parity(adopted, model, split, most=1188)


def test_sigterm_after_the_promotion_changes_nothing(trained):
    """The training waits for the model file, which another process holds, when it is told to stop."""
    engine = create_engine(trained.database_url)
    with FileLock(f"{trained.model_file}.lock"):
        environment = os.environ | trained.environment()
        child = subprocess.Popen([sys.executable, "-m", "zap", "train"], env=environment, stdout=subprocess.DEVNULL)
        end = time.monotonic() + 100
        while production_version(engine).model_version != 2:
            assert child.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        # By now it waits for the file.
        time.sleep(1)
        child.terminate()
        assert child.wait(20) == 0

    assert production_version(engine).model_version == 2
    assert load_version(engine, production_version(engine)).classes_.size == 3
    assert running_runs(engine) == []
    engine.dispose()


@pytest.fixture
def dundee(empty_database_url, dundee_file, tmp_path):
    """Settings of a database with the real sessions of Dundee, on each engine."""
    settings = Settings(database_url=empty_database_url, models_dir=tmp_path / "models")
    upgrade(settings.database_url)
    engine = create_engine(settings.database_url)
    import_history(engine, dundee_file, wall_time=settings.wall_time)
    engine.dispose()
    return settings


def test_dundee_trains_and_predicts_without_charge_distance_or_user_type(dundee, capsys):
    report, model, split = train(dundee)

    assert report["classes"] == ["AC 22 kW", "AC 7 kW", "Rapid 50 kW"]
    assert (report["trained_samples"], report["test_samples"]) == (11_178, 1_243)
    # What a driver used before tells more than all that this model knows, and the report hides nothing of it.
    assert report["best_baseline"] == "driver_share"
    assert report["beats_baseline"] is False
    assert report["baselines"]["driver_share"]["weighted_f1"] == pytest.approx(0.895, abs=0.002)
    assert report["baselines"]["driver_share"]["log_loss"] == pytest.approx(0.284, abs=0.002)
    assert report["baselines"]["prior"]["weighted_f1"] == pytest.approx(0.590, abs=0.001)
    with capsys.disabled():
        print(f"\nDundee, last 10 %: F1 {report['test_f1_score']:.3f}, log loss {report['log_loss']:.3f}")
        print(json.dumps(report["baselines"], indent=1))
    assert_parity(dundee, model, split)
    with TestClient(create_app(dundee)) as client:
        assert client.post("/predict", json={}).status_code == 200
        assert client.post("/predict", json={"temperature_c": 5, "user_type": "anything"}).status_code == 200
        assert client.post("/predict", json={"temperature_c": 500}).status_code == 422


def test_the_rows_of_the_sample_are_served_as_they_were_trained(trained):
    engine = create_engine(trained.database_url)
    model = load_version(engine, production_version(engine))
    split = split_by_time(clean_history(read_history(engine)))
    engine.dispose()

    assert_parity(trained, model, split, most=150)
