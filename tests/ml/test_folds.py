"""The folds of a search: the log loss after each round equals that of a training with as many rounds."""

import numpy as np
import pytest

from zap.ml.boosting import boost
from zap.ml.features import MATRIX_COLUMNS
from zap.ml.folds import Fold, time_folds
from zap.ml.history_columns import driver_column, history_columns
from zap.ml.model import ChargerTypeModel

RANDOM = np.random.default_rng(3)


def made_up(rows, n_classes):
    """Return rows whose first column depends on the type. Some values are missing."""
    types = [f"type {number}" for number in range(n_classes)]
    matrix = RANDOM.normal(size=(rows, len(MATRIX_COLUMNS) + len(history_columns(types))))
    matrix[:, :2] = RANDOM.integers(3, size=(rows, 2))
    codes = np.clip((matrix[:, 3] + RANDOM.normal(size=rows) + n_classes / 2).astype(int), 0, n_classes - 1)
    matrix[RANDOM.random(rows) < 0.1, 4] = np.nan
    return matrix, codes


def params(**values):
    return ChargerTypeModel(**values, n_jobs=1).get_params()


def log_loss(matrix, codes, n_classes, train, test, **values):
    """Return the log loss of a training with these hyper-parameters, which the fold must reproduce."""
    booster = boost(params(**values), matrix[train], codes[train], n_classes)[0]
    found = booster.score(matrix[test], 1)
    return -np.log(found[np.arange(len(test)), codes[test]]).mean()


@pytest.mark.parametrize("values", [{}, {"subsample": 0.6, "num_leaves": 7, "min_child_samples": 40}])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_each_round_has_the_log_loss_of_a_training_with_so_many_rounds(n_classes, values):
    matrix, codes = made_up(600, n_classes)
    train, test = np.arange(450), np.arange(450, 600)

    losses = Fold(matrix, codes, n_classes, train, test).log_losses(params(**values), 40)

    assert len(losses) == 40
    for rounds in (1, 17, 40):
        trained = log_loss(matrix, codes, n_classes, train, test, n_estimators=rounds, **values)
        assert losses[rounds - 1] == pytest.approx(trained, rel=1e-9)


def test_boosters_that_share_the_bins_are_those_of_a_fold_of_their_own():
    matrix, codes = made_up(500, 3)
    train, test = np.arange(400), np.arange(400, 500)
    shared = Fold(matrix, codes, 3, train, test)

    for values in ({}, {"min_child_samples": 100}, {"num_leaves": 5, "learning_rate": 0.3}, {"min_child_samples": 5}):
        alone = Fold(matrix, codes, 3, train, test).log_losses(params(**values), 10)
        assert shared.log_losses(params(**values), 10) == alone


def test_a_type_that_training_never_saw_has_a_small_probability():
    # The probability is 1 / (n + k), taken from the other types in proportion. LightGBM alone would lose 34.5
    # nats.
    matrix, codes = made_up(400, 4)
    train, test = np.arange(300), np.arange(300, 400)
    codes[train] %= 2
    seen = codes[test] < 2
    assert 0 < seen.sum() < len(test)

    losses = Fold(matrix, codes, 4, train, test).log_losses(params(), 5)

    one = 1 / (300 + 4)
    booster = boost(params(n_estimators=5), matrix[train], codes[train], 4)[0]
    found = booster.score(matrix[test], 1)[np.arange(100), codes[test]]
    expected = -np.log(np.where(seen, found * (1 - 2 * one), one)).mean()
    assert losses[-1] == pytest.approx(expected, rel=1e-9)


def test_boosting_ends_where_the_log_loss_falls_no_more():
    matrix, codes = made_up(500, 3)
    fold = Fold(matrix, codes, 3, np.arange(400), np.arange(400, 500))

    quick = fold.log_losses(params(learning_rate=0.3), None)
    slow = fold.log_losses(params(learning_rate=0.03), None)

    assert len(quick) == np.argmin(quick) + 1 + 20
    # With a small learning rate, boosting waits for more rounds.
    assert len(slow) == np.argmin(slow) + 1 + 50
    assert len(fold.log_losses(params(learning_rate=0.3), None, at_least=150)) == 150
    assert len(fold.log_losses(params(learning_rate=0.3), 7)) == 7


def test_the_newest_rows_are_next_to_the_test_rows():
    matrix, codes = made_up(500, 3)
    train, test = np.arange(400), np.arange(400, 500)
    fold = Fold(matrix, codes, 3, train, test)

    newest = fold.newest(150)

    assert newest.rows == 150
    trained = log_loss(matrix, codes, 3, train[-150:], test, n_estimators=9)
    assert newest.log_losses(params(), 9)[-1] == pytest.approx(trained, rel=1e-9)
    assert fold.newest(400) is fold
    # A model cannot learn from newest rows with a single type.
    codes[250:400] = 1
    assert Fold(matrix, codes, 3, train, test).newest(150).rows == 400


def test_folds_are_tested_one_after_the_other_on_an_eighth_each():
    matrix, codes = made_up(800, 3)

    folds = time_folds(matrix, codes, 3)

    assert [fold.rows for fold in folds] == [400, 500, 600, 700]


def test_drivers_without_a_past_are_not_tested_on_if_other_drivers_exist():
    matrix, codes = made_up(800, 3)
    sessions = len(MATRIX_COLUMNS) + driver_column("sessions", 3)
    matrix[:, sessions] = 5
    matrix[780:, sessions] = 0

    losses = time_folds(matrix, codes, 3)[-1].log_losses(params(), 5)

    warm = log_loss(matrix, codes, 3, np.arange(700), np.arange(700, 780), n_estimators=5)
    assert losses[-1] == pytest.approx(warm, rel=1e-9)
    # Without other drivers, drivers without a past are tested on.
    matrix[:, sessions] = 0
    losses = time_folds(matrix, codes, 3)[-1].log_losses(params(), 5)
    every = log_loss(matrix, codes, 3, np.arange(700), np.arange(700, 800), n_estimators=5)
    assert losses[-1] == pytest.approx(every, rel=1e-9)


def test_folds_in_which_nothing_can_be_learned_are_left_out():
    matrix, codes = made_up(800, 3)
    codes[:550] = 0
    codes[550:] = np.arange(250) % 3

    assert [fold.rows for fold in time_folds(matrix, codes, 3)] == [600, 700]
    # A fold is left out too if no learned type is in its test rows.
    codes[700:] = 2
    codes[:700] = np.arange(700) % 2
    assert [fold.rows for fold in time_folds(matrix, codes, 3)] == [400, 500, 600]
