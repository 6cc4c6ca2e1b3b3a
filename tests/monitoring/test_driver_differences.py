"""The differences between two versions: added up in portions, and limited by the answers alone."""

import numpy as np
import pytest

from zap.monitoring.driver_differences import DriverDifferences, largest_differences
from zap.monitoring.driver_means import brier, driver_means

TYPES = ["A", "B", "C"]


def answers(size, types=TYPES, seed=1):
    said = np.random.default_rng(seed).dirichlet(np.ones(len(types)), size)
    return said, [dict(zip(types, row, strict=True)) for row in said.tolist()]


def test_portions_give_the_means_of_all_sessions():
    (champion, said), (challenger, other) = answers(6000), answers(6000, seed=2)
    random = np.random.default_rng(3)
    drivers, used = random.integers(0, 2500, 6000), random.integers(0, 3, 6000)
    added = DriverDifferences()
    for first in range(0, 6000, 700):
        part = slice(first, first + 700)
        names = [f"d{code:04}" for code in drivers[part]]
        added.add(names, said[part], other[part], [TYPES[one] for one in used[part]])
    added.add([], [], [], [])

    _, first_of = np.unique(drivers, return_index=True)
    (expected, limits) = driver_means(
        drivers, brier(champion, used) - brier(challenger, used), largest_differences(champion, challenger)
    )
    # The drivers have the order in which they came.
    order = np.argsort(np.argsort(first_of))
    assert np.allclose(added.means()[order], expected, atol=1e-12)
    assert added.widest() == pytest.approx(limits.max())
    assert (added.drivers, added.sessions) == (len(expected), 6000)


def test_a_type_that_only_one_version_knows_has_no_probability_in_the_other():
    added = DriverDifferences()
    # The champion does not know C, and neither version knows D.
    added.add(["a", "b"], [{"A": 0.5, "B": 0.5}] * 2, [{"A": 0.2, "C": 0.8}] * 2, ["C", "D"])

    of_champion = (0.25 + 0.25 + 1) / 2
    assert added.means().tolist() == pytest.approx(
        [of_champion - (0.2**2 + 0.2**2) / 2, of_champion - (0.2**2 + 0.8**2 + 1) / 2]
    )


def test_the_answers_alone_limit_the_difference():
    (champion, said), (challenger, other) = answers(40), answers(40, seed=2)
    used = [np.full(40, type_) for type_ in (-1, 0, 1, 2)]
    possible = [np.abs(brier(champion, one) - brier(challenger, one)).max() for one in used]

    def widest(one, another, drivers):
        added = DriverDifferences()
        added.add([str(code) for code in drivers], one, another, ["A"] * len(drivers))
        return added.widest()

    assert widest(said, other, range(40)) == pytest.approx(max(possible))
    assert widest(said, said, range(40)) < 1e-6
    # The mean of a driver's sessions is limited more than a session.
    assert widest(said, other, np.arange(40) // 10) < widest(said, other, range(40))


def test_nothing_limits_the_difference_without_sessions():
    added = DriverDifferences()

    assert added.widest() == 1.0
    assert (added.means().size, added.sessions, added.drivers) == (0, 0, 0)
