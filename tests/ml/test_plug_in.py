"""The scores at plug-in: of trees that know the present at the start, which no driver who asks earlier can know."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from histories import as_history, cleaned

from zap.ml import training
from zap.ml.training import fit, score, score_at_plug_in, split_by_time

QUICK = {"n_estimators": 10, "num_leaves": 5}


@pytest.fixture(scope="module")
def bursts():
    """Return sessions whose type is the type of the sessions that have begun in the minutes before.

    Four drivers come every three hours, three minutes apart, and use the same type.
    """
    random, n = np.random.default_rng(3), 300
    burst = np.repeat(np.arange(n), 4)
    start = pd.Timestamp("2024-01-01") + pd.to_timedelta(180 * burst + np.tile([0, 3, 6, 9], n), unit="min")
    users = random.choice([f"u{number}" for number in range(10)], 4 * n)
    used = random.choice(["A", "B"], n)[burst]
    end = start + pd.Timedelta(minutes=30)
    frame = cleaned(4 * n, charging_start_time=start, charging_end_time=end, charger_type=used, user_id=users)
    return as_history(frame)


@pytest.mark.parametrize("delay", [0, 150])
@pytest.mark.parametrize("estimator", ["blend", "lightgbm"])
def test_the_scores_at_plug_in_know_the_last_minutes(bursts, estimator, delay):
    split = split_by_time(bursts, delay=delay)
    model = fit(split, {**QUICK, "n_estimators": 30, "estimator": estimator}, n_jobs=1)
    before, digest, scores = split.matrix.tobytes(), model.scorer_.digest(), score(split, model)

    found = score_at_plug_in(split, model)

    # The blend keeps the weight of its logistic regression, which was learned beside worse trees.
    assert found["log_loss"] < scores["log_loss"] - (0.2 if estimator == "lightgbm" else 0.1)
    assert found["weighted_f1"] > scores["test_f1_score"] + 0.15
    # Neither the matrix nor the model has changed.
    assert split.matrix.tobytes() == before
    assert model.scorer_.digest() == digest
    assert score(split, model) == scores


def test_the_scores_at_plug_in_are_the_scores_of_a_model_that_is_trained_then(bursts):
    """Without a delay, only the present differs, if the days' mixes of types are the same."""
    params = {**QUICK, "estimator": "lightgbm"}
    split, at_start = split_by_time(bursts), split_by_time(bursts, asked_before=0)

    found = score_at_plug_in(split, fit(split, params, n_jobs=1))

    expected = score(at_start, fit(at_start, params, n_jobs=1))
    assert found["log_loss"] == pytest.approx(expected["log_loss"], abs=0.01)


@pytest.mark.parametrize(("asked_before", "delay", "is_known"), [(0, 0, False), (0, 5, True), (15, 0, True)])
def test_without_a_lag_there_are_no_scores_at_plug_in(bursts, asked_before, delay, is_known):
    split = split_by_time(bursts)
    model = fit(split, QUICK, n_jobs=1)
    some = replace(split, asked_before=asked_before, delay=delay)

    assert (score_at_plug_in(some, model) is not None) == is_known
    assert score_at_plug_in(replace(split, asked_before=None), model) is None


def test_the_present_is_restored_after_a_failure(bursts, monkeypatch):
    split = split_by_time(bursts)
    model = fit(split, QUICK, n_jobs=1)
    before = split.matrix.tobytes()

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(training, "boost", fail)
    with pytest.raises(MemoryError):
        score_at_plug_in(split, model)

    assert split.matrix.tobytes() == before
