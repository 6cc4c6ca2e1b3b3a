"""A version of an earlier zap, which knew no present, goes on serving with the columns that it knows."""

from dataclasses import replace

import joblib
import numpy as np
import pandas as pd
import pytest
from conftest import client_of
from histories import as_history
from older import older_version
from sqlalchemy import update
from sqlmodel import col

import zap
from zap.db.engine import create_engine, write_transaction
from zap.db.tables import ModelVersion, Prediction
from zap.db.versions.model_registry import read_version
from zap.errors import DamagedModel
from zap.flows.training import run_training
from zap.formats.training_options import TrainingOptions
from zap.ml.features import FEATURES
from zap.ml.fitted import sha256
from zap.ml.golden import golden_rows
from zap.ml.history_columns import past_columns
from zap.ml.history_matrix import mix_of, past_matrix
from zap.ml.model import ChargerTypeModel
from zap.ml.pasts import Pasts
from zap.ml.training import split_by_time

FIELDS = ["user_id", *(feature.name for feature in FEATURES)]


def change(settings, **values):
    engine = create_engine(settings.database_url)
    with write_transaction(engine) as connection:
        connection.execute(update(ModelVersion).where(col(ModelVersion.model_version) == 1).values(values))
    engine.dispose()


@pytest.fixture(params=[("lightgbm", "postgresql"), ("blend", "sqlite")], ids=" ".join)
def older(request):
    """Return settings of a database whose production is a version of an earlier zap, and the estimator of before."""
    estimator, engine_name = request.param
    trained = request.getfixturevalue(f"trained_{engine_name}")
    split = split_by_time(as_history(zap.read_history(trained.database_url)), test_share=0.3)
    matrix = past_matrix(split.frame, split.types, mix_of(split.train, split.types), asked_before=None)
    without = replace(split, matrix=matrix, asked_before=None)
    model = ChargerTypeModel(estimator=estimator, asked_before=None, n_estimators=20, n_jobs=1)
    model.fit_in_place(without.train, without.train["charger_type"], matrix[without.trained])
    fitted = older_version(model)
    if estimator == "lightgbm":
        # The first versions name no estimator, and have the trees alone.
        params = {name: value for name, value in fitted.hyper_parameters.items() if name != "estimator"}
        fitted = replace(fitted, hyper_parameters=params, scorer={"kind": "lightgbm", "trees": fitted.scorer["trees"]})
    artefact, golden = fitted.to_bytes(), golden_rows(fitted, without)
    for row in golden:
        del row["present"]
    change(
        trained,
        artefact=artefact,
        sha256=sha256(artefact),
        file_sha256=None,
        hyper_parameters=dict(fitted.hyper_parameters),
        contract=dict(fitted.contract),
        columns=list(fitted.columns),
        golden=golden,
        trained_until=split.train["charging_start_time"].iloc[-1].to_pydatetime(),
        rows_sha256=None,
    )
    trained.model_file.unlink()
    return trained, model


def asked_of(settings, model):
    """Return sessions of known drivers and of nobody, their requests, and what the estimator of before predicts."""
    history = zap.read_history(settings.database_url)
    asked = history.sample(25, random_state=1)[FIELDS]
    asked = pd.concat([asked, asked.tail(5).assign(user_id=None)])
    requests = [
        {name: None if pd.isna(value) else value for name, value in row.items()}
        | {"charging_start_time": row["charging_start_time"].isoformat()}
        for row in asked.to_dict("records")
    ]
    return asked, requests, model.predict_proba(asked, history=history)


def test_it_answers_over_http_as_before(older, rows):
    settings, model = older
    asked, requests, expected = asked_of(settings, model)

    with client_of(settings) as client:
        assert client.get("/health/ready").status_code == 200
        alone = [client.post("/predict", json=request).json() for request in requests]
        together = client.post("/predict/batch", json={"inputs": requests}).json()["predictions"]
        stored = [row["features"] for row in rows(client.app, Prediction)[-len(requests) :]]

    for answers in (alone, together):
        assert [list(one["probabilities"].values()) for one in answers] == expected.tolist()
        assert {one["model_version"] for one in answers} == {1}
    known = zap.load_model(settings.database_url)
    assert known.asked_before is None
    assert known.columns_[-len(past_columns(known.classes_)) :] == past_columns(known.classes_.tolist())
    history = zap.read_history(settings.database_url)
    past = Pasts(history).known(asked, known.classes_.tolist(), known.population_, None)
    matrix = model.matrix(asked, past)[:, : len(known.columns_)]
    assert stored == [row.astype("<f8").tobytes() for row in matrix]
    # The model file and the estimator in Python answer as the server does.
    for one in (known, joblib.load(settings.model_file)):
        assert one.predict_proba(asked, history=history).tolist() == expected.tolist()


def test_its_golden_rows_are_checked(older):
    settings, _ = older
    engine = create_engine(settings.database_url)
    golden = read_version(engine, 1)["golden"]
    engine.dispose()
    assert len(golden) == 8
    assert not any("present" in row for row in golden)
    assert zap.load_model(settings.database_url).asked_before is None

    changed = [row | {"probabilities": dict.fromkeys(row["probabilities"], 1 / 3)} for row in golden]
    change(settings, golden=changed)

    with pytest.raises(DamagedModel, match="golden row 1"):
        zap.load_model(settings.database_url)


def test_a_new_version_is_compared_with_it(older):
    settings, model = older
    engine = create_engine(settings.database_url)
    options = TrainingOptions(promote="if_better", test_share=0.3, hyper_parameters={"n_estimators": 10})

    report = run_training(engine, settings, options=options)

    engine.dispose()
    assert report["model_version"] == 2
    history = zap.read_history(settings.database_url)
    tested = history.tail(report["test_samples"])
    chances = model.predict_proba(tested, history=history)
    chosen = [
        row[model.classes_.tolist().index(name)] for name, row in zip(tested["charger_type"], chances, strict=True)
    ]
    found = report["promotion"]["comparison"]
    assert found["sessions"] == len(tested) > 400
    assert found["production_log_loss"] == pytest.approx(-np.log(chosen).mean())
    assert found["candidate_log_loss"] == report["log_loss"]
    asked_before = [zap.load_model(settings.database_url, version=number).asked_before for number in (1, 2)]
    assert asked_before == [None, 15]
