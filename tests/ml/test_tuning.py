"""The search for hyper-parameters: in the training part, over folds in time order, the defaults among the tried."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from zap.errors import UnusableHistory
from zap.ml.features import MATRIX_COLUMNS
from zap.ml.history import RawHistory, clean_history
from zap.ml.sample import sample_history
from zap.ml.training import split_by_time
from zap.ml.tuning import Budget, Search, Trial, search
from zap.ml.user_history import history_columns


@pytest.fixture(scope="module")
def split():
    sample = sample_history(seed=5, drivers=12, months=2)
    vehicles = sample.vehicles.assign(vehicle_id=range(len(sample.vehicles)))
    sessions = sample.sessions.assign(session_id=range(len(sample.sessions)), vehicle_id=None)
    return split_by_time(clean_history(RawHistory(sample.users, vehicles, sessions)))


def test_it_works(split):
    progress = []

    found = search(split, Budget(trials=4), n_jobs=1, progress=lambda *step: progress.append(step))

    assert len(found.trials) == 4
    assert found.trials[0].hyper_parameters == {}
    assert found.sessions == split.n_train
    assert found.ended_by == "trials"
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]
    finished = [trial for trial in found.trials if len(trial.fold_log_losses) == found.folds]
    assert found.best.log_loss == min(trial.log_loss for trial in finished)
    evidence = found.evidence()
    assert evidence["default_log_loss"] == found.trials[0].log_loss
    assert [trial["hyper_parameters"] for trial in evidence["trials"]] == [
        trial.hyper_parameters for trial in found.trials
    ]


def test_the_same_history_gives_the_same_search(split):
    once, again = (search(split, Budget(trials=3), n_jobs=1) for _ in range(2))

    assert once.trials == again.trials


def test_the_test_part_is_never_looked_at(split):
    """With other charger types in the last 10 %, nothing changes."""
    frame = split.frame.copy()
    frame.loc[split.n_train :, "charger_type"] = "Level 1"
    other = replace(split, frame=frame, matrix=split.matrix.copy())
    other.matrix[split.tested] = np.nan

    assert search(other, Budget(trials=2), n_jobs=1).trials == search(split, Budget(trials=2), n_jobs=1).trials


def test_no_candidate_is_begun_when_the_minutes_are_over(split):
    found = search(split, Budget(trials=50, minutes=0), n_jobs=1)

    # The defaults are tried in any case.
    assert [trial.hyper_parameters for trial in found.trials] == [{}]
    assert found.ended_by == "minutes"
    assert found.best.hyper_parameters == {}


def test_a_single_trial_is_that_of_the_defaults(split):
    assert search(split, Budget(trials=1), n_jobs=1).best.hyper_parameters == {}


def test_the_best_is_one_that_was_tried_on_all_folds():
    trials = [Trial({}, [0.5, 0.5]), Trial({"num_leaves": 7}, [0.4, 0.5]), Trial({"num_leaves": 4}, [0.1])]

    assert Search(trials, folds=2, sessions=100, seconds=1.0, ended_by="trials").best == trials[1]


def test_a_candidate_that_falls_behind_is_given_up(split):
    found = search(split, Budget(trials=12), n_jobs=1)

    counts = {len(trial.fold_log_losses) for trial in found.trials}
    assert found.folds in counts
    assert min(counts) < found.folds
    assert len(found.trials[0].fold_log_losses) == found.folds


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
    with pytest.raises(UnusableHistory, match="nothing to tune"):
        search(two, Budget(trials=1), n_jobs=1)
