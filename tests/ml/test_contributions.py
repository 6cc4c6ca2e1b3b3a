"""Importances and contributions by column name."""

import numpy as np
import pandas as pd
import pytest
from histories import cleaned

from zap.ml.features import FEATURES, MATRIX_COLUMNS
from zap.ml.history_matrix import mix_of, past_features
from zap.ml.model import ChargerTypeModel


@pytest.fixture(scope="module", params=[2, 3])
def known(request):
    """Return a cleaned history in which the charge decides the type, of 2 or 3 types, and a model of it."""
    random = np.random.default_rng(1)
    n = 400
    charge = random.uniform(0, 100, n)
    names = np.array(["AC 22 kW", "AC 7 kW", "Rapid 50 kW"])[: request.param]
    frame = cleaned(
        n,
        user_id=random.choice(["u1", "u2", "u3"], n),
        charger_type=names[(charge // (100 / request.param)).astype(int).clip(max=request.param - 1)],
        energy_consumed_kwh=random.uniform(1, 50, n),
        state_of_charge_start=charge,
        distance_driven_km=random.uniform(0, 500, n),
        temperature_c=random.uniform(-20, 30, n),
        user_type=random.choice(["Commuter", "Casual Driver"], n),
    )
    types = names.tolist()
    past = past_features(frame, types, mix_of(frame, types))
    return frame, ChargerTypeModel(n_estimators=15, n_jobs=1).fit(frame, frame["charger_type"], past=past)


def raw_scores(model, frame):
    """Return the booster's score of each type. With two types these are the log-odds with both signs."""
    matrix = model.matrix(frame, past_features(frame, model.classes_.tolist(), model.population_))
    raw = model.booster_.predict(matrix, raw_score=True)
    return np.column_stack([-raw, raw]) if raw.ndim == 1 else raw


@pytest.mark.parametrize("kind", ["gain", "split"])
def test_importances_have_the_columns_names(known, kind):
    _, model = known

    found = model.feature_importances(kind)

    assert sorted(found.index) == sorted(model.columns_)
    assert found.is_monotonic_decreasing
    expected = dict(zip(model.columns_, model.booster_.feature_importance(kind), strict=True))
    assert found.to_dict() == expected
    assert found.index[0] == "state_of_charge_start"
    assert "share[AC 22 kW]" in found
    assert found["battery_capacity_kwh"] == 0


def test_the_gain_is_the_default(known):
    _, model = known

    pd.testing.assert_series_equal(model.feature_importances(), model.feature_importances("gain"))
    with pytest.raises(ValueError, match="no importance 'weight'; there are gain and split"):
        model.feature_importances("weight")


def test_contributions_add_up_to_the_score_of_the_predicted_type(known):
    frame, model = known
    asked = frame.sample(50, random_state=1)

    found = model.contributions(asked, history=frame)

    assert found.columns.tolist() == [*model.columns_, "expected_value"]
    assert found.index.tolist() == asked.index.tolist()
    places = np.searchsorted(model.classes_, model.predict(asked, history=frame))
    assert len(set(places)) > 1
    expected = raw_scores(model, frame)[asked.index, places]
    np.testing.assert_allclose(found.sum(axis=1), expected, rtol=1e-9, atol=1e-9)


def test_contributions_to_a_type_that_is_named(known):
    frame, model = known

    for place, name in enumerate(model.classes_):
        found = model.contributions(frame, history=frame, charger_type=name)
        np.testing.assert_allclose(found.sum(axis=1), raw_scores(model, frame)[:, place], rtol=1e-9, atol=1e-9)
        # A low charge speaks for the first type, and against the last.
        low = found["state_of_charge_start"][frame["state_of_charge_start"] < 20].mean()
        assert low > 0.1 if place == 0 else low < -0.1


def test_the_scores_are_log_odds_of_the_trees_alone(known):
    frame, model = known
    asked = frame.tail(50)
    first, last = (
        model.contributions(asked, history=frame, charger_type=name).sum(axis=1) for name in model.classes_[[0, -1]]
    )

    matrix = model.matrix(asked, past_features(frame, model.classes_.tolist(), model.population_)[-50:])
    probabilities = model.scorer_.score_parts(matrix, 1)[1]["trees"]

    difference = last if len(model.classes_) == 2 else last - first
    np.testing.assert_allclose(difference, np.log(probabilities[:, -1] / probabilities[:, 0]), rtol=1e-6, atol=1e-9)


def test_a_type_that_the_model_does_not_know_is_named(known):
    frame, model = known

    with pytest.raises(ValueError, match=r"no charger type 'Level 1'; it knows AC 22 kW, AC 7 kW"):
        model.contributions(frame, history=frame, charger_type="Level 1")


def test_labels_may_repeat_and_frames_may_be_empty(known):
    frame, model = known
    double = frame.head(3).set_axis([5, 5, 5])

    found = model.contributions(double, history=frame)

    assert found.index.tolist() == [5, 5, 5]
    assert model.contributions(frame.head(0), history=frame).shape == (0, len(model.columns_) + 1)


def test_new_drivers_have_contributions_too(known):
    frame, model = known
    nameless = frame[[feature.name for feature in FEATURES]]

    found = model.contributions(nameless, charger_type=model.classes_[0])

    assert found.shape == (len(frame), len(model.columns_) + 1)
    assert set(MATRIX_COLUMNS) < set(found.columns)
