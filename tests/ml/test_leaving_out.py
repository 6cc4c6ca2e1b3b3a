"""Leaving out groups: a search leaves out what misleads its trees, by the folds, and says why."""

import json

import numpy as np
import pytest
from histories import raw_sample

from zap.ml.driver_codes import witness_codes
from zap.ml.history import clean_history
from zap.ml.sample import sample_history
from zap.ml.training import split_by_time
from zap.ml.tuning import Budget, search

QUICK = {"num_leaves": 7, "n_estimators": 20, "learning_rate": 0.15, "colsample_bytree": 1.0}


def misleading(share):
    """Return a history whose temperature says the type in the first part of the sessions, and nothing after it."""
    frame = clean_history(raw_sample(sample_history(seed=5, drivers=60, months=3)))
    types = frame.frame["charger_type"].astype("category").cat.codes.to_numpy(dtype=float)
    n = len(types)
    temperature = np.random.default_rng(1).choice(types, n)
    temperature[: int(n * share)] = types[: int(n * share)]
    frame.frame["temperature_c"] = temperature * 10
    return split_by_time(frame)


@pytest.fixture(scope="module")
def told():
    """Return the list of the steps of the search `found`."""
    return []


@pytest.fixture(scope="module")
def found(told):
    budget = Budget(trials=2)
    return search(misleading(0.45), budget, n_jobs=2, pinned=QUICK, seed=1, progress=lambda *step: told.append(step))


def test_a_group_that_misleads_is_left_out(found):
    assert found.groups.taken.left_out[0] == "temperature"
    assert found.best.hyper_parameters["left_out"] == found.groups.taken.left_out
    assert found.best is found.trials[-1]
    assert found.best.log_loss < min(trial.log_loss for trial in found.trials[:-1]) - 0.05
    # Without its contributions the trees are better too.
    assert min(found.groups.worth, key=found.groups.worth.get) == "temperature"
    assert found.groups.worth["temperature"] < 0


def test_the_evidence_says_why(found):
    evidence = json.loads(json.dumps(found.evidence(), allow_nan=False))

    groups = evidence["groups"]
    assert groups["left_out"] == found.best.hyper_parameters["left_out"]
    assert evidence["trials"][-1]["hyper_parameters"]["left_out"] == groups["left_out"]
    (taken,) = [trial for trial in groups["trials"] if trial["left_out"] == ["temperature"]]
    assert taken["interval"][0] < taken["log_loss_difference"] < taken["interval"][1] < 0
    assert taken["better"] is True


def test_the_result_does_not_depend_on_the_number_of_threads(found):
    again = search(misleading(0.45), Budget(trials=2), n_jobs=1, pinned=QUICK, seed=1)

    assert again.trials == found.trials
    assert again.groups == found.groups


def test_the_whole_progress_is_told(found, told):
    done, most = zip(*((one, of) for one, of, *_ in told), strict=True)
    assert list(done) == sorted(done)
    assert set(most) == {most[0]}
    assert done[-1] <= most[0]


@pytest.fixture(scope="module")
def plain():
    return split_by_time(clean_history(raw_sample(sample_history(seed=5, drivers=60, months=3))))


def test_without_certainty_nothing_is_left_out(plain):
    found = search(plain, Budget(trials=2), n_jobs=2, pinned=QUICK, seed=1)

    assert found.groups.trials
    assert found.groups.taken is None
    assert not any("left_out" in trial.hyper_parameters for trial in found.trials)
    assert found.evidence()["groups"]["left_out"] == []


@pytest.mark.parametrize(
    "asked",
    [
        # Groups that the request sets, a search of the defaults only, and no time.
        {"pinned": {**QUICK, "left_out": ["time"]}},
        {"budget": Budget(trials=1)},
        {"budget": Budget(trials=2, minutes=0)},
    ],
)
def test_some_searches_try_no_group(plain, asked):
    found = search(plain, **{"budget": Budget(trials=2), "n_jobs": 2, "pinned": QUICK, "seed": 1} | asked)

    assert (found.groups.worth, found.groups.trials) == ({}, [])


def test_with_few_drivers_no_group_is_tried():
    few = split_by_time(clean_history(raw_sample(sample_history(seed=5, drivers=12, months=2))))
    assert len(np.unique(witness_codes(few.frame))) < 30

    assert search(few, Budget(trials=2), n_jobs=2, pinned=QUICK, seed=1).groups.trials == []


def test_groups_that_the_tuning_in_force_leaves_out_stay_out_if_it_is_the_best():
    split = misleading(0.45)
    incumbent = {**QUICK, "left_out": ["temperature"]}

    found = search(split, Budget(trials=2), n_jobs=2, pinned=QUICK, incumbent=incumbent, seed=1)

    assert found.best.hyper_parameters["left_out"][0] == "temperature"
    assert all(trial.left_out[0] == "temperature" for trial in found.groups.trials)
