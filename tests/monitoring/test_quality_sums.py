"""The sums of a day as bytes, and the sums of many days."""

import numpy as np
import pytest

from zap.errors import DamagedModel
from zap.monitoring.quality_sums import GROUPS, Layout, QualitySums, Totals

LAYOUT = Layout(("A", "B", "C"), ("model", "prior", "driver_share"))


@pytest.fixture
def busy():
    """Return the sums of a day of a busy service: every group has drivers, and the log losses are large numbers."""
    random = np.random.default_rng(1)
    sums = QualitySums.empty(LAYOUT)
    sums.fixed[:] = random.integers(-(2**60), 2**60, size=sums.fixed.shape)
    sums.groups[:] = random.integers(0, 1000, size=sums.groups.shape)
    sums.groups[:, 1:4] = random.integers(0, 2**46, size=(GROUPS, 3))
    sums.unseen_of("Tesla")[:] = 3
    return sums


def test_sums_come_back_from_bytes(busy):
    busy.groups[::3] = 0

    back = QualitySums.from_bytes(busy.to_bytes())

    assert back.layout == LAYOUT
    assert np.array_equal(back.fixed, busy.fixed)
    assert np.array_equal(back.groups, busy.groups)
    assert back.unseen["Tesla"].tolist() == busy.unseen["Tesla"].tolist()
    assert back.to_bytes() == busy.to_bytes()


def test_a_day_takes_less_than_60_kilobytes(busy):
    assert 10_000 < len(busy.to_bytes()) < 60_000
    assert len(QualitySums.empty(LAYOUT).to_bytes()) < 200


def test_nothing_that_was_taken_away_is_left(busy):
    sums = QualitySums.empty(LAYOUT)
    sums.unseen_of("Tesla")

    assert sums.is_nothing()
    assert sums.to_bytes() == QualitySums.empty(LAYOUT).to_bytes()
    assert not busy.is_nothing()


def test_a_year_of_sums_that_no_64_bits_could_hold(busy):
    busy.fixed[:] = 2**61
    totals = Totals(LAYOUT)
    for _ in range(365):
        totals.add(busy)

    assert (totals.fixed == 365 * 2.0**61).all()
    assert totals.unseen["Tesla"][0] == 3 * 365


def test_sums_of_another_form_are_refused_with_what_to_do(busy):
    for data in (b"\x02" + busy.to_bytes()[1:],):
        with pytest.raises(DamagedModel, match="zap follow --from-start"):
            QualitySums.from_bytes(data)
    with pytest.raises(DamagedModel, match="zap follow --from-start"):
        Totals(Layout(("A",), ("model", "prior"))).add(busy)
