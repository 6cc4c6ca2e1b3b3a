"""Groups of columns: every column is in one group, and trees without a group never split on its columns."""

import numpy as np
import pytest
from histories import raw_sample

from zap.ml.column_groups import GROUPS, check_groups, group_of, group_places
from zap.ml.fitted import computed_columns
from zap.ml.folds import time_folds
from zap.ml.history import clean_history
from zap.ml.model import ChargerTypeModel
from zap.ml.sample import sample_history
from zap.ml.training import fit, split_by_time


@pytest.fixture(scope="module")
def split():
    return split_by_time(clean_history(raw_sample(sample_history(seed=5, drivers=20, months=3))))


def test_every_column_is_in_one_group():
    columns = computed_columns(["Level 1", "open[DC]"])
    names = [column.partition("[")[0] for column in columns]

    for name in names:
        assert sum(name in group for group in GROUPS.values()) == 1, name
    assert group_of("share[open[DC]]") == "driver_shares"
    places = group_places(2)
    assert sorted(place for some in places.values() for place in some) == list(range(len(columns)))
    assert places["temperature"] == [columns.index("temperature_c")]


def test_no_column_is_named_twice():
    named = [column for group in GROUPS.values() for column in group]

    assert len(named) == len(set(named))


def used(booster):
    return np.asarray(booster.feature_importance()) > 0


@pytest.mark.parametrize("sampled", [0.3, 1.0])
def test_trees_never_split_on_a_column_that_is_left_out(split, sampled):
    groups, out = group_places(len(split.types)), ["driver_shares", "time", "vehicle", "driver_last_types"]
    params = {"n_estimators": 60, "colsample_bytree": sampled}

    all_used, some = (used(fit(split, params | left, n_jobs=1).booster_) for left in ({}, {"left_out": out}))

    gone = np.concatenate([groups[name] for name in out])
    # Without the option these columns matter.
    assert all(all_used[groups[name]].any() for name in out)
    assert not some[gone].any()
    assert np.delete(some, gone).sum() > 10


def test_the_values_of_a_left_out_column_change_no_answer(split):
    without = fit(split, {"n_estimators": 20, "colsample_bytree": 1.0, "left_out": ["temperature"]}, n_jobs=1)
    matrix = split.matrix.copy()
    place = without.columns_.index("temperature_c")
    expected = without.probabilities(matrix)

    matrix[:, place] = 1e9
    assert without.probabilities(matrix).tobytes() == expected.tobytes()


def test_a_fold_leaves_the_columns_out_too(split):
    model = ChargerTypeModel()
    matrix = split.matrix[split.trained].copy()
    codes = model.prepare_in_place(split.train, split.train["charger_type"], matrix)
    (*_, fold) = time_folds(matrix, codes, len(model.classes_))
    groups = group_places(len(model.classes_))

    # The second booster uses the bins of the first one.
    whole, some = (
        used(fold.boosted(ChargerTypeModel(n_estimators=20, left_out=out).get_params())) for out in ((), ("time",))
    )

    assert whole[groups["time"]].any()
    assert not some[groups["time"]].any()


def test_all_groups_may_be_left_out(split):
    model = fit(split, {"n_estimators": 3, "left_out": list(GROUPS), "estimator": "lightgbm"}, n_jobs=1)

    assert not used(model.booster_).any()


def test_an_unknown_group_is_refused_with_the_known_ones(split):
    with pytest.raises(ValueError, match="no group of columns 'weather'; the groups are charge_and_distance, "):
        fit(split, {"left_out": ["time", "weather"]}, n_jobs=1)
    with pytest.raises(TypeError, match="left_out is the text 'time'; give a list"):
        check_groups("time")


def test_a_stored_version_keeps_its_groups_and_an_older_one_has_none(split):
    model = fit(split, {"n_estimators": 3, "left_out": ("time", "vehicle")}, n_jobs=1)
    fitted = model.fitted()
    older = {name: value for name, value in fitted.hyper_parameters.items() if name != "left_out"}

    assert fitted.hyper_parameters["left_out"] == ["time", "vehicle"]
    assert ChargerTypeModel.from_fitted(fitted).left_out == ("time", "vehicle")
    assert ChargerTypeModel.from_fitted(type(fitted)(**vars(fitted) | {"hyper_parameters": older})).left_out == ()
