"""The usual gaps between arrivals: hardly ever passed while the gaps follow the past, and passed after a fault."""

from datetime import datetime, timedelta

import numpy as np
import pytest
from simulations.usual_gaps import SERVICES, hours_until_found, of_years

from zap.monitoring.usual_gaps import usual_gap

MONDAY = datetime.fromisoformat("2026-01-05")
DAY, HOUR, WEEK = timedelta(days=1), timedelta(hours=1), timedelta(weeks=1)
RARE = [name for name in SERVICES if "each" in name or "by hand" in name]


@pytest.mark.parametrize("name", RARE)
def test_the_usual_gap_is_hardly_ever_passed_in_quiet_years(name):
    # At the promised rate, two or more in 10 years have a probability of 9 %.
    assert sum(of_years(SERVICES[name], 10)) <= 1


@pytest.mark.parametrize(
    ("name", "longest_days"), [("reports all day, 30 a day", 2), ("imports each night", 3),
                               ("imports each week, up to 12 hours late", 18)],
)  # fmt: skip
def test_arrivals_that_stop_pass_the_usual_gap(name, longest_days):
    found = hours_until_found(SERVICES[name], np.random.default_rng(3))

    assert found <= 24 * longest_days


def weekly(weeks, first=MONDAY):
    return [first + week * WEEK for week in range(weeks)]


def test_too_few_weeks_tell_nothing():
    assert usual_gap([], [], MONDAY) is None
    assert usual_gap(weekly(4), [], MONDAY + 5 * WEEK) is None
    known = usual_gap(weekly(5), [], MONDAY + 5 * WEEK)
    assert known.longest == WEEK
    assert known.limit > 2 * WEEK


def test_many_alike_weeks_bring_the_limit_near():
    few, many = (usual_gap(weekly(n), [], MONDAY + n * WEEK) for n in (6, 40))

    assert many.limit < few.limit
    assert 2 * WEEK < many.limit < 2.5 * WEEK


def test_the_gap_of_a_fault_is_not_usual_if_reports_come_again_in_the_hour_of_the_alarm():
    hours = [MONDAY + day * DAY for day in range(70) if not 30 <= day < 33]
    alarm = MONDAY + 33 * DAY + DAY / 100

    assert usual_gap(hours, [alarm], MONDAY + 71 * DAY).longest == DAY


def test_the_gap_of_a_fault_is_not_usual_but_two_are():
    hours = [MONDAY + day * DAY for day in range(70)]
    gone = [one for one in hours if not 30 <= (one - MONDAY) / DAY < 40]
    twice = [one for one in gone if not 50 <= (one - MONDAY) / DAY < 60]
    alarms = [MONDAY + 33 * DAY, MONDAY + 53 * DAY]
    now = MONDAY + 71 * DAY

    assert usual_gap(gone, alarms[:1], now).longest == DAY
    assert usual_gap(gone, [], now).longest == 11 * DAY
    assert usual_gap(twice, alarms, now).longest == 11 * DAY
