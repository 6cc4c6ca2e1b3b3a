"""The importances and the usual values that a training measures."""

import json

import numpy as np
import pytest
from histories import raw_sample

from zap.ml import importances
from zap.ml.explained_groups import EXPLAINED_GROUPS, explained_group
from zap.ml.history import clean_history
from zap.ml.importances import measured_importances
from zap.ml.sample import sample_history
from zap.ml.training import fit_and_predict, split_by_time
from zap.ml.usual_values import UsualValues, usual_values


@pytest.fixture(scope="module")
def known():
    """Return a split, and a model of its training part."""
    split = split_by_time(clean_history(raw_sample(sample_history(seed=5, drivers=30, months=4))))
    model, _ = fit_and_predict(split, {"n_estimators": 15}, n_jobs=1)
    return split, model


def test_it_works(known):
    split, model = known

    found = measured_importances(model, split)

    assert found["sessions"] == min(importances.MOST_SESSIONS, split.n_test)
    assert list(found["columns"]) == sorted(model.columns_, key=lambda name: -found["columns"][name]["contribution"])
    assert set(found["groups"]) == set(EXPLAINED_GROUPS)
    gains = dict(zip(model.columns_, model.booster_.feature_importance("gain"), strict=True))
    for name, one in found["columns"].items():
        assert one["gain"] == pytest.approx(gains[name] / sum(gains.values()))
    for group, one in found["groups"].items():
        inside = [found["columns"][name] for name in model.columns_ if explained_group(name) == group]
        assert one["gain"] == pytest.approx(sum(column["gain"] for column in inside))
        if inside:
            # Contributions of one group partly cancel out in a session.
            assert 0 <= one["contribution"] <= sum(column["contribution"] for column in inside) + 1e-9
    assert found["columns"]["state_of_charge_start"]["contribution"] > 0.1
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_they_are_reproducible_and_do_not_depend_on_the_size_of_the_pieces(known, monkeypatch):
    split, model = known
    expected = measured_importances(model, split)

    assert measured_importances(model, split) == expected
    monkeypatch.setattr(importances, "_AT_A_TIME", 7)
    for name, one in measured_importances(model, split)["columns"].items():
        assert one == pytest.approx(expected["columns"][name])


def test_only_some_sessions_are_measured_spread_over_the_test_part(known, monkeypatch):
    split, model = known
    monkeypatch.setattr(importances, "MOST_SESSIONS", 9)
    asked = []
    monkeypatch.setattr(model, "probabilities", lambda matrix: asked.append(matrix) or np.eye(3)[np.zeros(9, int)])

    assert measured_importances(model, split)["sessions"] == 9
    whole = model.matrix(split.test, split.test_past)
    assert asked[0][[0, -1]].tobytes() == whole[[0, -1]].tobytes()


def test_the_usual_values_are_those_of_the_training_sessions(known):
    split, model = known

    found = usual_values(split.matrix[split.trained], model.columns_, model.contract_["categories"])

    train = split.train
    assert found["sessions"] == split.n_train
    for name in ("state_of_charge_start", "distance_driven_km", "temperature_c", "battery_capacity_kwh"):
        assert found["medians"][name] == pytest.approx(train[name].median())
    assert "hour" not in found["medians"]
    assert "user_type" not in found["medians"]
    assert found["shares"]["user_type"] == pytest.approx(train["user_type"].value_counts(normalize=True).to_dict())
    starts = train["charging_start_time"].dt
    assert found["shares"]["weekday"] == pytest.approx(
        {str(day): share for day, share in starts.day_of_week.value_counts(normalize=True).items()}
    )
    assert found["shares"]["quarter_of_day"] == pytest.approx(
        {str(quarter): share for quarter, share in (starts.hour // 6).value_counts(normalize=True).items()}
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_column_without_values_has_no_median_and_many_values_are_cut():
    columns = ["state_of_charge_start", "vehicle_model", "hour", "weekday"]
    n = 300
    matrix = np.column_stack([np.full(n, np.nan), np.arange(n) % 100, np.full(n, 23.99), np.full(n, 6.0)])

    found = usual_values(matrix, columns, {"user_type": [], "vehicle_model": [f"m{code}" for code in range(100)]})

    assert found["medians"] == {}
    assert len(found["shares"]["vehicle_model"]) == 50
    assert (found["shares"]["quarter_of_day"], found["shares"]["weekday"]) == ({"3": 1.0}, {"6": 1.0})


def test_an_older_version_has_only_the_mix():
    assert UsualValues.of({"A": 1.0}, None) == ({"A": 1.0}, {}, {})
