"""Drivers without a past: the weight of the trees, and the probability of an unseen type."""

import numpy as np
import pytest

from zap.ml.cold import witnessed_weight


def chances(n, good, seed=1):
    """Return the probabilities of the used type by the trees and by the mix, for n sessions.

    The trees are right about a share of the sessions.
    """
    right = np.random.default_rng(seed).random(n) < good
    return np.where(right, 0.9, 0.1), np.full(n, 0.5)


def test_trees_that_are_always_right_get_all_the_weight():
    assert witnessed_weight(*chances(300, 1.0), np.arange(300)) == 1


def test_trees_that_know_nothing_get_no_weight():
    assert witnessed_weight(*chances(300, 0.5), np.arange(300)) < 0.1


def test_more_equal_witnesses_give_more_weight():
    few, many = (witnessed_weight(*chances(n, 0.75), np.arange(n)) for n in (30, 3000))

    assert few < many < 0.75


def test_the_sessions_of_one_driver_are_one_witness():
    # Thirty drivers with 20 equal sessions each count as 30 witnesses, not as 600.
    found, mix = chances(30, 0.75)
    drivers = np.repeat(np.arange(30), 20)

    repeated = witnessed_weight(np.repeat(found, 20), np.repeat(mix, 20), drivers)

    assert repeated == witnessed_weight(found, mix, np.arange(30))
    assert repeated < witnessed_weight(np.repeat(found, 20), np.repeat(mix, 20), np.arange(600)) - 0.1


def test_the_order_of_the_sessions_does_not_matter():
    found, mix = chances(200, 0.7)
    drivers = np.random.default_rng(2).permutation(np.arange(200) % 40)
    order = np.argsort(drivers, kind="stable")

    assert witnessed_weight(found, mix, drivers) == witnessed_weight(found[order], mix[order], drivers[order])


def test_one_session_more_does_not_turn_the_weight_over():
    # A weight of all or nothing would jump near the threshold of the evidence.
    weights = [
        witnessed_weight(np.repeat([0.9, 0.2], [right, 60 - right]), np.full(60, 0.5), np.arange(60))
        for right in range(61)
    ]

    assert weights[0] == 0
    assert weights[-1] == 1
    assert weights == sorted(weights)
    assert max(np.diff(weights)) < 0.1


@pytest.mark.parametrize("drivers", [1, 2])
def test_one_or_two_drivers_are_witnesses_too(drivers):
    assert witnessed_weight(*chances(40, 1.0), np.arange(40) % drivers) == 1


def test_a_probability_of_zero_gives_no_infinite_loss():
    # A probability of zero must not give an infinite loss, because no weight could be learned then.
    assert 0 <= witnessed_weight(np.array([0.0, 0.9, 0.9]), np.array([0.0, 0.5, 0.5]), np.arange(3)) <= 1
