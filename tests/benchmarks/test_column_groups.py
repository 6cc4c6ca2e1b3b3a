"""The measurement of the groups of columns, on a small history."""

import pytest
from column_groups import ALL, effects
from histories import raw_sample

from zap.ml.history import clean_history
from zap.ml.sample import sample_history
from zap.ml.training import split_by_time


def test_it_works():
    split = split_by_time(clean_history(raw_sample(sample_history(seed=5, drivers=60, months=3))))

    found = effects(split, {"n_estimators": 5, "num_leaves": 7}, ["charge_and_distance"], n_jobs=1)

    whole, difference, interval = found[ALL]
    assert (difference, interval) == (0, None)
    loss, difference, (low, high) = found["charge_and_distance"]
    # The sample says that drivers with a low charge choose a fast charger.
    assert difference == pytest.approx(loss - whole)
    assert 0 < low < difference < high
