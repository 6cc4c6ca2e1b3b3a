"""Predictor: one complete request -> one answer."""

from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from zap.ml.features import FEATURES
from zap.ml.inference import Predictor
from zap.ml.model import ChargerTypeModel

NOW = datetime.fromisoformat("2024-03-02T18:30:00")


@pytest.fixture(scope="module")
def frame():
    random = np.random.default_rng(1)
    n = 300
    return pd.DataFrame(
        {
            "state_of_charge_start": random.uniform(0, 100, n),
            "distance_driven_km": random.uniform(0, 500, n),
            "temperature_c": np.where(random.random(n) < 0.1, np.nan, random.uniform(-20, 40, n)),
            "battery_capacity_kwh": random.choice([40.0, 64.0], n),
            "vehicle_age_years": random.uniform(0, 9, n),
            "user_type": random.choice(["Commuter", "Casual Driver"], n),
            "vehicle_model": random.choice(["Leaf", "Kona"], n),
            "charging_start_time": pd.Timestamp("2024-01-01")
            + pd.to_timedelta(random.integers(0, 9999, n), unit="min"),
        }
    )


@pytest.fixture(scope="module", params=[2, 3])
def model(request, frame):
    names = np.array(["A", "B", "C"])[: request.param]
    used = names[(frame["state_of_charge_start"] // (100 / request.param)).astype(int).clip(upper=request.param - 1)]
    return ChargerTypeModel(n_estimators=30).fit(frame, used)


def request_of(row):
    return {name: None if pd.isna(value) else value for name, value in row.items()}


def test_answers_are_those_of_the_estimator_to_the_bit(model, frame):
    predictor = Predictor(model, 7)
    expected = model.predict_proba(frame)

    for place, row in enumerate(frame.to_dict("records")):
        answer = predictor.answer(request_of(row), NOW)
        assert np.array(list(answer.probabilities.values())).tobytes() == expected[place].tobytes()
        assert answer.predicted_class == model.predict(frame.iloc[[place]])[0]
        assert list(answer.probabilities) == model.classes_.tolist()
        assert answer.model_version == 7


def test_a_missing_start_is_now(model, frame):
    values = request_of(frame.iloc[0].to_dict())

    without = Predictor(model, 1).answer(values | {"charging_start_time": None}, NOW)

    assert without == Predictor(model, 1).answer(
        values | {"charging_start_time": NOW}, datetime.fromisoformat("1999-01-01T00:00:00")
    )


def test_everything_may_be_missing(model):
    answer = Predictor(model, 1).answer({feature.name: None for feature in FEATURES}, NOW)

    assert sum(answer.probabilities.values()) == pytest.approx(1)
