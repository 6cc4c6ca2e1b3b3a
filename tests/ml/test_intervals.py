"""Intervals over drivers: how often a verdict is "better" by chance, in simulated histories of uneven drivers."""

import numpy as np
import pytest
from scipy.stats import bootstrap
from simulations.intervals import DRIVERS, false_verdicts

from zap.ml.intervals import (
    FEWEST_EFFECTIVE_DRIVERS,
    effective_drivers,
    mean_intervals,
    mean_intervals_of,
    separate_intervals,
    statistic_interval,
)
from zap.ml.resampling import RESAMPLES, _draws


@pytest.mark.parametrize(
    "sizes", [pytest.param(sizes, marks=pytest.mark.long) if sizes == "zipf" else sizes for sizes in DRIVERS]
)
def test_a_model_is_rarely_called_better_by_chance(sizes):
    # Each history has a few more drivers than needed: 85 % gain a little, 15 % lose much, and the mean is zero.
    found = false_verdicts(sizes, DRIVERS[sizes][0], histories=1000)

    assert found["effective_drivers"] >= FEWEST_EFFECTIVE_DRIVERS
    assert found["better"] <= 0.04
    assert found["worse"] <= 0.04


def test_the_simulation_finds_intervals_that_are_too_narrow():
    # Percentiles of the resampled means, which an older zap used, give "better" far too often.
    assert false_verdicts("zipf", DRIVERS["zipf"][0], histories=300, percentiles=True)["better"] > 0.08


def test_a_real_difference_is_found():
    # All drivers gain, by different amounts.
    assert false_verdicts("equal", 60, histories=100, gain=0.2)["better"] > 0.9


def test_few_drivers_have_no_interval():
    values, drivers = np.full((300, 1), -1.0), np.arange(300) % (FEWEST_EFFECTIVE_DRIVERS - 1)

    assert mean_intervals(values, drivers) is None
    assert statistic_interval(values.T, drivers, lambda sums: sums[:, 0]) is None
    assert mean_intervals(values, np.arange(300) % FEWEST_EFFECTIVE_DRIVERS) is not None


@pytest.mark.parametrize(
    ("sessions", "expected"), [([5] * 40, 40), ([100, *[1] * 100], 200**2 / (100**2 + 100)), ([7], 1), ([], 0)]
)
def test_the_effective_number_of_drivers(sessions, expected):
    drivers = np.repeat(np.arange(len(sessions)) * 7 - 20, sessions)

    assert effective_drivers(drivers) == pytest.approx(expected)


def test_the_interval_is_about_sessions():
    # The interval contains the mean over sessions, although one of its parts limits a driver to 1 % of the
    # weight.
    random = np.random.default_rng(1)
    drivers = np.minimum(random.integers(400, size=3000), 360)
    values = random.normal(size=(3000, 2)) + (drivers == 360)[:, None]

    for (low, high), mean in zip(mean_intervals(values, drivers).alone, values.mean(axis=0), strict=True):
        assert low < mean < high


def test_equal_values_have_an_interval_of_no_width():
    drivers = np.arange(100) % 50

    assert mean_intervals(np.zeros((100, 1)), drivers).alone == [[0, 0]]
    assert mean_intervals(np.full((100, 1), -0.1), drivers).alone == [pytest.approx([-0.1, -0.1])]


def test_the_intervals_that_hold_together_are_wider():
    random = np.random.default_rng(3)
    drivers, values = random.integers(80, size=500), random.normal(size=(500, 5))

    alone, together = mean_intervals(values, drivers)

    for (low, high), (lowest, highest) in zip(alone, together, strict=True):
        assert lowest < low < high < highest
    single = mean_intervals(values[:, :1], drivers)
    assert single.alone == single.together
    assert single.alone[0] == pytest.approx(alone[0])


def test_no_model_is_called_worse_because_it_was_compared_often():
    # Five baselines are as good as the model, each on other sessions.
    random = np.random.default_rng(8)
    drivers, found = np.repeat(np.arange(100), 5), 0
    for _ in range(300):
        effect = 0.1 * (random.normal(size=(100, 1)) + random.normal(size=(100, 5)))
        values = effect[drivers] + 0.1 * random.normal(size=(500, 5))
        together = mean_intervals(values, drivers).together
        found += any(low > 0 for low, _ in together)

    assert found / 300 <= 0.05


def test_very_many_drivers_are_drawn_in_groups():
    # The intervals of groups are as wide as the intervals of drivers.
    random = np.random.default_rng(4)
    drivers = random.permutation(np.repeat(np.arange(45_000), 2))
    values = random.normal(size=(90_000, 1)) + random.normal(size=45_000)[drivers][:, None]
    by_hand = 1.96 * np.bincount(drivers, values[:, 0]).std() * np.sqrt(45_000) / 90_000

    ((low, high),) = mean_intervals(values, drivers).alone

    assert (high - low) / 2 == pytest.approx(by_hand, rel=0.08)
    assert _draws.cache_info().currsize == 1
    assert _draws(20_000).shape == (RESAMPLES, 20_000)


def test_the_interval_of_a_statistic_is_scipys():
    random = np.random.default_rng(2)
    drivers = random.integers(60, size=600)
    values = random.exponential(size=600) * (1 + drivers % 3)
    sessions, sums = np.bincount(drivers), np.bincount(drivers, values)

    def ratio(sums, sessions, axis=-1):
        return sums.sum(axis) / sessions.sum(axis)

    expected = bootstrap(
        (sums, sessions), ratio, paired=True, vectorized=True, method="BCa", n_resamples=20_000, rng=1
    ).confidence_interval

    found = statistic_interval([values, np.ones(600)], drivers, lambda one: one[:, 0] / one[:, 1])

    assert found == pytest.approx(list(expected), rel=0.02)


def test_the_draws_are_those_of_one_generator():
    random = np.random.default_rng(42)
    expected = [np.bincount(random.integers(300, size=300), minlength=300) for _ in range(RESAMPLES)]

    assert _draws(300).tolist() == np.array(expected).tolist()
    assert set(_draws(300).sum(axis=1)) == {300}


def groups(seed, columns=3, drivers=200):
    """Return the sums and the sessions of drivers for several means; some drivers have more sessions than others."""
    random = np.random.default_rng(seed)
    sessions = np.ceil(random.lognormal(1, 0.5, size=(drivers, columns)))
    return random.normal(0.2, 1, size=(drivers, columns)) * sessions, sessions


def test_means_over_different_sessions_have_the_intervals_that_they_have_alone():
    sums, sessions = groups(5, columns=230)

    found = separate_intervals(sums, sessions)

    for at in (0, 1, 229):
        (alone,) = mean_intervals_of(sums[:, [at]], sessions[:, at]).alone
        assert found[at] == pytest.approx(alone, abs=1e-12)


def test_groups_without_sessions_change_little():
    sums, sessions = groups(6, drivers=60)
    empty = np.zeros((964, 3))

    found = separate_intervals(np.concatenate([sums, empty]), np.concatenate([sessions, empty]))

    for (low, high), (lowest, highest) in zip(found, separate_intervals(sums, sessions), strict=True):
        width = highest - lowest
        assert abs(low - lowest) < 0.15 * width
        assert abs(high - highest) < 0.15 * width


def test_a_mean_over_too_few_drivers_has_no_interval_beside_others():
    sums, sessions = groups(7)
    sessions[25:, 1] = 0
    sums[25:, 1] = 0
    sums[:, 2] = sessions[:, 2] = 0

    first, second, third = separate_intervals(sums, sessions)

    assert first is not None
    assert second is third is None
    assert mean_intervals_of(sums[:25, [1]], sessions[:25, 1]) is None
