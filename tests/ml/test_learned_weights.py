"""The learned weight of the logistic regression, drawn to the weight that is best in general."""

import numpy as np
import pytest

from zap.ml.learned_weights import PRIOR_DRIVERS, PRIOR_WEIGHT, drawn_weight


def weight(drivers, logistic, trees, sessions=3):
    n = drivers * sessions
    return drawn_weight(np.full(n, logistic), np.full(n, trees), np.repeat(np.arange(drivers), sessions))


def test_it_works():
    # Each session of each driver says that one of both is better.
    assert weight(PRIOR_DRIVERS, 0.9, 0.5) == pytest.approx((1 + PRIOR_WEIGHT) / 2)
    assert weight(PRIOR_DRIVERS, 0.5, 0.9) == pytest.approx(PRIOR_WEIGHT / 2)


def test_with_few_drivers_the_weight_stays_near_the_prior_and_with_many_it_is_their_own():
    few, some, many = (weight(drivers, 0.9, 0.5) for drivers in (1, 100, 5000))

    assert PRIOR_WEIGHT < few < 0.4
    assert few < some < many
    assert many > 0.98


def test_many_sessions_of_one_driver_count_as_one_driver():
    drivers = np.concatenate([np.zeros(10_000, dtype=int), [1]])
    n = len(drivers)

    assert drawn_weight(np.full(n, 0.9), np.full(n, 0.5), drivers) < 0.4
