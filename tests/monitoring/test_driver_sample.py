"""The sample of the drivers of a week: bounded, fair, and the same after a restart."""

import numpy as np

from zap.monitoring.driver_sample import DriverSample, random_order


def _filled(drivers, most, restart=None):
    sample = DriverSample(3, most)
    for place, driver in enumerate(drivers):
        if restart and place % restart == 0:
            sample = DriverSample.from_plain(sample.to_plain())
        order = int(random_order(np.array([place]))[0])
        if (number := sample.wants(f"driver {driver}", order)) is not None:
            sample.add(number, order, [driver % 7, driver * 5 // 20_000])
    return sample


def test_the_sample_is_bounded_and_a_driver_is_in_it_once():
    sample = _filled([*range(20_000), *range(20_000)], 1000)

    assert 400 <= len(sample.rows) <= 1000


def test_drivers_who_come_late_are_in_the_sample_as_often_as_others():
    rows = np.array([list(row) for row in _filled(range(20_000), 1000).rows.values()])

    # In each fifth of the drivers about as many.
    fifths = np.bincount(rows[:, 1], minlength=5)
    assert len(fifths) == 5
    assert ((fifths - len(rows) / 5) ** 2 / (len(rows) / 5)).sum() < 20


def test_a_restart_changes_nothing():
    assert _filled(range(5000), 500, restart=37).to_plain() == _filled(range(5000), 500).to_plain()


def test_each_row_of_a_driver_has_the_same_chance():
    kept = np.zeros(10)
    for driver in range(2000):
        sample = DriverSample(3)
        orders = random_order(np.arange(driver * 10, driver * 10 + 10)).tolist()
        for place, order in enumerate(orders):
            if (number := sample.wants("a driver", order)) is not None:
                sample.add(number, order, [place])
        (row,) = sample.rows.values()
        kept[row[0]] += 1

    # A statistic with nine degrees of freedom.
    assert ((kept - 200) ** 2 / 200).sum() < 30
