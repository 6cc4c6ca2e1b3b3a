"""The search for hyper-parameters: in the training part, over folds in time order, with the defaults as a candidate."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from histories import raw_sample

from zap.errors import UnusableHistory
from zap.ml import rungs
from zap.ml.candidate import GivenUp
from zap.ml.contract import known_categories
from zap.ml.features import MATRIX_COLUMNS
from zap.ml.folds import time_folds
from zap.ml.history import clean_history
from zap.ml.history_columns import history_columns
from zap.ml.model import ChargerTypeModel
from zap.ml.sample import sample_history
from zap.ml.search_result import Search, Trial
from zap.ml.training import split_by_time
from zap.ml.tuning import Budget, search

FEW_ROUNDS = {"n_estimators": 10}
# The values that a search may draw.
NAMES = {"num_leaves", "learning_rate", "colsample_bytree", "min_child_samples", "reg_alpha", "reg_lambda"}


@pytest.fixture(scope="module")
def split():
    return split_by_time(clean_history(raw_sample(sample_history(seed=5, drivers=12, months=2))))


@pytest.fixture
def long_enough(monkeypatch):
    """Make the short history count as long enough for a race: one fold, then all folds."""
    monkeypatch.setattr(rungs, "_FEWEST_ROWS", 100)
    monkeypatch.setattr(rungs, "_FEWEST_TESTED", 1)


@pytest.fixture(scope="module")
def found(split):
    """Return a search with all rungs, as on a long history."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rungs, "_FEWEST_ROWS", 100)
        patch.setattr(rungs, "_FEWEST_TESTED", 1)
        return search(split, Budget(trials=14), n_jobs=2, seed=3)


def candidates(found):
    """Return the values of each candidate without its number of rounds."""
    return [
        {name: value for name, value in trial.hyper_parameters.items() if name != "n_estimators"}
        for trial in found.trials
    ]


@pytest.mark.usefixtures("long_enough")
def test_it_works(split):
    progress = []

    found = search(split, Budget(trials=4), n_jobs=1, progress=lambda *step: progress.append(step))

    assert len(found.trials) == 4
    assert found.trials[0].hyper_parameters == {}
    assert found.sessions == split.n_train
    assert found.ended_by == "trials"
    # The defaults are fitted on four folds; two candidates on the newest fold, and the better one on the other three.
    assert progress == [(step, 10) for step in range(1, 11)]
    finished = [trial for trial in found.trials if len(trial.fold_log_losses) == found.folds]
    assert found.best.log_loss == min(trial.log_loss for trial in finished)
    evidence = found.evidence()
    assert evidence["default_log_loss"] == found.trials[0].log_loss
    assert [trial["hyper_parameters"] for trial in evidence["trials"]] == [
        trial.hyper_parameters for trial in found.trials
    ]
    json.dumps(evidence, allow_nan=False)


@pytest.mark.usefixtures("long_enough")
def test_the_result_does_not_depend_on_the_number_of_threads(split, found):
    # That one had two threads.
    assert search(split, Budget(trials=14), n_jobs=1, seed=3).trials == found.trials


def test_a_seed_gives_the_same_search_again_and_another_seed_another_one(split):
    def drawn(seed):
        found = search(split, Budget(trials=4), n_jobs=2, pinned=FEW_ROUNDS, seed=seed)
        assert found.seed == found.evidence()["seed"] == seed
        return found.trials

    assert drawn(1) == drawn(1) != drawn(2)


def test_without_a_seed_other_candidates_are_drawn_each_time_and_the_seed_is_kept(split):
    once, again = (search(split, Budget(trials=5), n_jobs=2, pinned=FEW_ROUNDS) for _ in range(2))

    assert once.seed != again.seed
    assert candidates(once) != candidates(again)
    assert search(split, Budget(trials=5), n_jobs=2, pinned=FEW_ROUNDS, seed=once.seed).trials == once.trials


def test_the_test_part_is_never_looked_at(split):
    # Other charger types in the last 10 % do not change the result.
    frame = split.frame.copy()
    frame.loc[split.n_train :, "charger_type"] = "Level 1"
    other = replace(split, frame=frame, matrix=split.matrix.copy())
    other.matrix[split.tested] = np.nan

    once, again = (search(one, Budget(trials=4), n_jobs=2, seed=1) for one in (other, split))

    assert once.trials == again.trials


# Pinned values.


def test_pinned_values_are_in_every_candidate(split):
    pinned = {"num_leaves": 5, "max_depth": 3}

    found = search(split, Budget(trials=6), n_jobs=2, pinned=pinned)

    assert len(found.trials) == 6
    assert all(trial.hyper_parameters.items() >= pinned.items() for trial in found.trials)
    assert found.trials[0].hyper_parameters == pinned
    assert found.evidence()["pinned"] == pinned
    # Pinned values change the log loss of the defaults too.
    assert found.trials[0].log_loss != search(split, Budget(trials=1), n_jobs=1).trials[0].log_loss


def test_a_pinned_number_of_rounds_is_kept(split):
    found = search(split, Budget(trials=5), n_jobs=2, pinned={"n_estimators": 12})

    assert len(found.trials) == 5
    assert {trial.hyper_parameters["n_estimators"] for trial in found.trials} == {12}
    assert found.trials[0].hyper_parameters == {"n_estimators": 12}


def test_candidates_that_become_equal_by_pinning_are_tried_once(split):
    # With six pinned values, two different candidates are left, which differ in `reg_alpha`.
    pinned = {
        "n_estimators": 10, "num_leaves": 7, "learning_rate": 0.1, "colsample_bytree": 1.0, "min_child_samples": 20,
        "reg_lambda": 1.0,
    }  # fmt: skip

    found = search(split, Budget(trials=24), n_jobs=2, pinned=pinned)

    assert sorted(trial.hyper_parameters.get("reg_alpha", 1.0) for trial in found.trials) == [0.0, 1.0, 5.0]
    everything = search(split, Budget(trials=24), n_jobs=2, pinned={**pinned, "reg_alpha": 2.0})
    assert [trial.hyper_parameters for trial in everything.trials] == [{**pinned, "reg_alpha": 2.0}]
    assert everything.ended_by == "trials"


# The tuning in force.


def test_the_best_of_the_tuning_in_force_is_a_candidate_that_is_tried_on_all_folds(split, found):
    for budget in (Budget(trials=5), Budget(trials=1), Budget(trials=24, minutes=0)):
        again = search(split, budget, n_jobs=2, incumbent=found.best.hyper_parameters)

        assert again.best.log_loss <= found.best.log_loss
        assert found.best in again.trials


def test_the_tuning_in_force_is_judged_by_as_many_rounds_as_it_has_or_by_better_ones(split):
    # If the tuning in force has far too many rounds, the search finds it again with fewer rounds.
    incumbent = {"num_leaves": 31, "n_estimators": 300, "reg_alpha": 0.0}

    found = search(split, Budget(trials=2), n_jobs=2, incumbent=incumbent)

    again = next(trial for trial in found.trials if trial.hyper_parameters.get("num_leaves") == 31)
    assert again.hyper_parameters["n_estimators"] < 300
    fixed = search(split, Budget(trials=1), n_jobs=2, pinned=incumbent)
    assert again.log_loss < fixed.trials[0].log_loss


def test_pinned_values_override_the_tuning_in_force(split):
    found = search(split, Budget(trials=3), n_jobs=2, pinned={"num_leaves": 4}, incumbent={"num_leaves": 9})

    assert {trial.hyper_parameters["num_leaves"] for trial in found.trials} == {4}


# The number of rounds.


def test_the_number_of_rounds_is_that_of_the_lowest_mean_log_loss(split, found):
    # Fits of the best candidate with a few more or fewer rounds are not better.
    model = ChargerTypeModel()
    matrix = split.matrix[split.trained]
    codes = model.prepare_in_place(
        split.train, split.train["charger_type"], matrix, categories=known_categories(split.frame)
    )
    params = ChargerTypeModel(**found.best.hyper_parameters).get_params()
    rounds = params["n_estimators"]

    folds = time_folds(matrix, codes, len(model.classes_))
    by_round = np.array([fold.log_losses(params, rounds + 15) for fold in folds])

    assert found.best.fold_log_losses == by_round[:, rounds - 1].tolist()
    assert by_round.mean(axis=0).argmin() == rounds - 1


def test_the_defaults_are_tried_with_their_own_number_of_rounds_and_with_the_best_one(found):
    defaults, other = found.trials[:2]

    assert defaults.hyper_parameters == {}
    assert set(other.hyper_parameters) == {"n_estimators"}
    assert other.log_loss <= defaults.log_loss


# The race.


def test_on_a_short_history_all_candidates_are_tried_on_all_folds(split):
    # One fold of 30 sessions would choose by chance.
    found = search(split, Budget(trials=6), n_jobs=2, seed=3)

    assert [len(trial.fold_log_losses) for trial in found.trials] == [found.folds] * 6


def test_bad_candidates_are_given_up_early_with_the_point(split, found):
    given_up = [trial.given_up for trial in found.trials if trial.given_up]
    finished = [trial for trial in found.trials if not trial.given_up]

    # One fit tries the defaults twice. Of 12 racing candidates, 4 go on to all rows, and 2 to all folds.
    assert len(found.trials) == 14
    assert len(finished) == 2 + 2
    assert all(len(trial.fold_log_losses) == found.folds for trial in finished)
    assert {one.folds for one in given_up} == {1}
    few, many = sorted({one.rows for one in given_up})
    assert few < many < split.n_train
    assert [sum(one.rows == rows for one in given_up) for rows in (few, many)] == [8, 2]


def test_the_distance_to_the_best_is_on_equal_folds_and_rows(found):
    by_rows = {}
    for trial in found.trials:
        if trial.given_up:
            by_rows.setdefault(trial.given_up.rows, []).append(trial.given_up)

    for some in by_rows.values():
        # All candidates of a rung are compared with the best candidate of that rung.
        assert len({round(one.log_loss - one.behind, 12) for one in some}) == 1
        assert all(one.behind > 0 for one in some)


def test_a_candidate_that_was_given_up_has_no_log_loss_that_looks_comparable(found):
    for trial, told in zip(found.trials, found.evidence()["trials"], strict=True):
        if trial.given_up:
            assert math.isnan(trial.log_loss)
            assert (told["log_loss"], told["fold_log_losses"]) == (None, [])
            assert set(told["given_up"]) == {"folds", "rows", "log_loss", "behind"}
        else:
            assert told["log_loss"] == pytest.approx(np.mean(told["fold_log_losses"]))
            assert told["given_up"] is None


def test_the_best_is_one_that_was_tried_on_all_folds():
    lost = Trial({"num_leaves": 4}, [], GivenUp(folds=1, rows=50, log_loss=0.1, behind=0.05))
    trials = [Trial({}, [0.5, 0.5]), Trial({"num_leaves": 7}, [0.4, 0.5]), lost]

    assert Search(trials, folds=2, sessions=100, seconds=1.0, ended_by="trials").best == trials[1]


# The bounds.


def test_no_fit_begins_after_the_minutes(split):
    found = search(split, Budget(trials=50, minutes=0), n_jobs=1)

    # The defaults are always tried.
    assert [trial.hyper_parameters for trial in found.trials] == [{}]
    assert found.ended_by == "minutes"
    assert found.best.hyper_parameters == {}


@pytest.mark.usefixtures("long_enough")
def test_a_short_search_reaches_its_last_rung(split, monkeypatch):
    # Each rung has a third of the minutes. Here each fit takes a second, and there are 30 fits.
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)

    def second(done, _total):
        nonlocal now
        now = float(done)

    found = search(split, Budget(trials=60, minutes=0.5), n_jobs=1, seed=1, progress=second)

    assert found.ended_by == "minutes"
    # There are four fits of the defaults, and about seven candidates in the first third.
    assert 5 < len(found.trials) < 12
    assert sum(trial.given_up is None for trial in found.trials) > 2


def test_a_single_trial_is_that_of_the_defaults(split):
    found = search(split, Budget(trials=1), n_jobs=1)

    assert [trial.hyper_parameters for trial in found.trials] == [{}]
    assert found.ended_by == "trials"


@pytest.mark.parametrize("trials", [2, 3])
def test_the_number_of_trials_is_the_budget(split, trials):
    assert len(search(split, Budget(trials=trials), n_jobs=2).trials) == trials


def test_candidates_set_only_allowed_values(found):
    assert {name for trial in found.trials for name in trial.hyper_parameters} <= {*NAMES, "n_estimators"}


def test_folds_whose_training_part_has_one_type_are_left_out(split):
    frame = split.frame.copy()
    frame["charger_type"] = "Level 1"
    frame.loc[split.n_train * 7 // 10 :, "charger_type"] = "Level 2"
    types = ("Level 1", "Level 2")
    matrix = np.ones((len(frame), len(MATRIX_COLUMNS) + len(history_columns(types))))
    two = replace(split, frame=frame, matrix=matrix, types=types)

    found = search(two, Budget(trials=1), n_jobs=1)

    assert found.folds == 2
    frame["charger_type"] = pd.Series(
        ["Level 1"] * (split.n_train - 1) + ["Level 2"] * (len(frame) - split.n_train + 1)
    )
    with pytest.raises(UnusableHistory, match="a search is not possible"):
        search(two, Budget(trials=1), n_jobs=1)
