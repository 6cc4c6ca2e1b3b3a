"""Counts that are not usual: found when they are planted, and hardly ever raised in quiet years."""

from datetime import date, timedelta

import numpy as np
import pytest
from simulations.usual_counts import Service, days_of, false_years

from zap.monitoring.usual_counts import DayCount, missing, risen, still_missing, still_risen

FIRST = date(2026, 1, 1)


def quiet(random, size, share, days):
    return days_of(Service(size, share, 1), random, days)


@pytest.mark.parametrize("service", [Service(3, 0.6, 1), Service(3, 0.6, 3), Service(20, 0.5, 3), Service(300, 0.1, 3)])
def test_a_quiet_year_has_outcomes(service):
    # At the promised rate, two or more false years of 12 have a probability of 12 %.
    assert false_years(missing, service, 12) <= 1


@pytest.mark.parametrize("service", [Service(50, 0.2, 1), Service(1000, 0.02, 30), Service(1000, 0.2, 30)])
def test_a_quiet_year_refuses_no_more_than_usual(service):
    assert false_years(risen, service, 12) <= 1


@pytest.mark.parametrize(("size", "share", "longest"), [(3, 0.6, 14), (20, 0.5, 4), (300, 0.1, 3), (100_000, 0.3, 1)])
def test_reports_that_stop_are_found(size, share, longest):
    year = quiet(np.random.default_rng(19), size, share, days=80)
    stopped = year[:40] + [one._replace(times=0) for one in year[40:]]

    found = next(day for day in range(1, 40) if missing(stopped[: 40 + day]))
    unusual = missing(stopped[: 40 + found])

    print(f"{size} answers a day, {share:.0%} matched: no outcomes found after {found} days")
    assert found <= longest
    assert year[38].day < unusual.since <= year[44].day
    assert unusual.usual_share == pytest.approx(share, abs=0.15)
    assert still_missing(stopped)
    # One outcome ends it.
    assert missing([*stopped, year[0]._replace(day=FIRST + timedelta(days=80), times=1)]) is None
    assert not still_missing([*stopped, year[0]._replace(times=1)])


@pytest.mark.parametrize(("size", "share", "now"), [(200, 0.0, 0.9), (1000, 0.02, 0.2), (100_000, 0.01, 0.06)])
def test_a_client_that_breaks_is_found_on_the_first_day(size, share, now):
    usual = quiet(np.random.default_rng(20), size, share, days=30)
    today = DayCount(FIRST + timedelta(days=30), size, int(now * size))

    assert risen([*usual, today]) == (today.day, size, int(now * size), pytest.approx(share, abs=0.01))
    assert still_risen([*usual, today], share)
    # Just after midnight the new day says nothing yet; later it does.
    tomorrow = today._replace(day=today.day + timedelta(days=1))
    assert still_risen([*usual, today, tomorrow._replace(chances=3, times=0)], share)
    assert not still_risen([*usual, today, tomorrow._replace(times=int(share * size))], share)


def test_a_new_service_and_a_few_bad_requests_raise_nothing():
    new = quiet(np.random.default_rng(21), 500, 0.5, days=13)
    usual = quiet(np.random.default_rng(21), 500, 0.01, days=30)
    today = DayCount(FIRST + timedelta(days=30), 500, 0)

    assert missing([*new, today]) is None
    assert risen([*new, today._replace(times=500)]) is None
    # Somebody tries out requests by hand.
    assert risen([*usual, today._replace(chances=60, times=40)]) is None
    assert risen([]) is missing([]) is None
    # Nobody asks on a holiday.
    assert missing([*usual, *(today._replace(chances=0) for _ in range(30))]) is None


def test_it_does_not_matter_how_often_somebody_looks_within_a_day():
    """Look after each request of a quiet day, which has the usual share."""
    random = np.random.default_rng(22)
    usual = quiet(random, 2000, 0.1, days=30)
    false = 0
    for _ in range(20):
        counts = np.cumsum(random.random(2000) < 0.1)
        false += any(
            risen([*usual, DayCount(FIRST + timedelta(days=31), asked, int(counts[asked - 1]))])
            for asked in range(1, 2001, 5)
        )

    assert false == 0
