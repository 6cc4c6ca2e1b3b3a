"""Bets on bounded scores: e-values whose mean is at most 1, and bounds that hold."""

import numpy as np
import pytest

from zap.monitoring.betting import log_capital, lower_bound, upper_bound


def test_the_mean_capital_is_one_if_the_mean_is_as_doubted():
    random = np.random.default_rng(1)
    capitals = [np.exp(log_capital((random.random(20) < 0.3).astype(float), 0.3)) for _ in range(20_000)]

    # Most capitals are lost and a few grow large, so that the mean of many varies.
    assert np.mean(capitals) == pytest.approx(1, abs=0.15)
    # Ville's inequality.
    assert np.mean(np.array(capitals) >= 20) <= 0.05


def test_drivers_may_differ_as_long_as_their_mean_does_not():
    random = np.random.default_rng(2)
    means = np.repeat([0.1, 0.5], 10)
    capitals = [np.exp(log_capital((random.random(20) < means).astype(float), 0.3)) for _ in range(20_000)]

    assert np.mean(capitals) <= 1.15


def test_the_capital_does_not_depend_on_the_order():
    scores = np.random.default_rng(3).random(50)

    assert log_capital(scores, 0.4) == pytest.approx(log_capital(np.sort(scores), 0.4))


def test_the_bounds_hold_and_enclose_the_mean():
    random = np.random.default_rng(4)
    found = [(lower_bound(x, 0.05), upper_bound(x, 0.05)) for x in (random.beta(0.4, 1.6, 100) for _ in range(300))]
    low, high = np.array(found).T

    assert np.mean(low > 0.2) <= 0.05
    assert np.mean(high < 0.2) <= 0.05
    assert np.mean(high - low) < 0.25


def test_the_bound_is_where_the_capital_reaches_the_rate():
    scores = np.random.default_rng(5).random(200)

    assert log_capital(scores, lower_bound(scores, 0.01)) == pytest.approx(-np.log(0.01), abs=1e-6)


@pytest.mark.parametrize("scores", [[], [0.0], [0.0, 0.0]])
def test_nothing_is_known_from_no_score_and_from_zeros(scores):
    assert lower_bound(np.array(scores), 0.05) == 0.0


def test_of_scores_that_are_all_one_the_lower_bound_rises_to_one():
    assert 0.9 < lower_bound(np.ones(100), 0.05) < 1
