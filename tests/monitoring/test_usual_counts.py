"""Counts that are not usual: found when they are planted, and hardly ever raised in quiet years."""

from datetime import date, timedelta

import numpy as np
import pytest

from zap.monitoring.usual_counts import FALSE_A_YEAR, DayCount, missing, risen, still_missing, still_risen

FIRST = date(2026, 1, 1)


def days_of(chances, counts):
    return [
        DayCount(FIRST + timedelta(days=place), int(some), int(count))
        for place, (some, count) in enumerate(zip(chances, counts, strict=True))
    ]


def quiet(random, size, share, cluster, days=365):
    """Return a year without a change: a weekly rhythm; what happens comes in clusters, such as a driver's visits."""
    rhythm = np.tile([1.0, 1.1, 1.1, 1.0, 1.2, 0.5, 0.4], days // 7 + 1)[:days]
    chances = random.poisson(size * rhythm)
    clusters = random.poisson(share * chances / cluster)
    # The sizes of clusters are geometric, so some are much larger than their mean.
    counts = [sum(random.geometric(1 / cluster, some)) if some else 0 for some in clusters]
    return days_of(chances, np.minimum(chances, counts))


@pytest.mark.parametrize("cluster", [1, 3])
@pytest.mark.parametrize(("size", "share"), [(3, 0.6), (20, 0.5), (300, 0.1)])
def test_a_quiet_year_has_outcomes(size, share, cluster):
    random = np.random.default_rng(17)
    years, false = 12, 0
    for _ in range(years):
        year = quiet(random, size, share, cluster)
        false += any(missing(year[max(0, end - 60) : end]) for end in range(20, len(year)))

    print(f"no outcomes, {size} answers a day, {share:.0%} matched, clusters of {cluster}: {false} in {years} years")
    assert false <= FALSE_A_YEAR * years


@pytest.mark.parametrize("cluster", [1, 30])
@pytest.mark.parametrize(("size", "share"), [(50, 0.2), (1000, 0.02), (1000, 0.2)])
def test_a_quiet_year_refuses_no_more_than_usual(size, share, cluster):
    random = np.random.default_rng(18)
    years, false = 12, 0
    for _ in range(years):
        year = quiet(random, size, share, cluster)
        false += any(risen(year[max(0, end - 30) : end]) for end in range(20, len(year)))

    print(f"refused, {size} requests a day, {share:.0%} refused, clusters of {cluster}: {false} in {years} years")
    assert false <= FALSE_A_YEAR * years


@pytest.mark.parametrize(("size", "share", "longest"), [(3, 0.6, 14), (20, 0.5, 4), (300, 0.1, 3), (100_000, 0.3, 1)])
def test_reports_that_stop_are_found(size, share, longest):
    year = quiet(np.random.default_rng(19), size, share, 1, days=80)
    stopped = year[:40] + [one._replace(times=0) for one in year[40:]]

    found = next(day for day in range(1, 40) if missing(stopped[: 40 + day]))
    unusual = missing(stopped[: 40 + found])

    print(f"{size} answers a day, {share:.0%} matched: no outcomes found after {found} days")
    assert found <= longest
    assert year[38].day < unusual.since <= year[41].day
    assert unusual.usual_share == pytest.approx(share, abs=0.15)
    assert still_missing(stopped)
    # One outcome ends it.
    assert missing([*stopped, year[0]._replace(day=FIRST + timedelta(days=80), times=1)]) is None
    assert not still_missing([*stopped, year[0]._replace(times=1)])


@pytest.mark.parametrize(("size", "share", "now"), [(200, 0.0, 0.9), (1000, 0.02, 0.2), (100_000, 0.01, 0.06)])
def test_a_client_that_breaks_is_found_on_the_first_day(size, share, now):
    usual = quiet(np.random.default_rng(20), size, share, 1, days=30)
    today = DayCount(FIRST + timedelta(days=30), size, int(now * size))

    assert risen([*usual, today]) == (today.day, size, int(now * size), pytest.approx(share, abs=0.01))
    assert still_risen([*usual, today], share)
    # Just after midnight the new day says nothing yet; later it does.
    tomorrow = today._replace(day=today.day + timedelta(days=1))
    assert still_risen([*usual, today, tomorrow._replace(chances=3, times=0)], share)
    assert not still_risen([*usual, today, tomorrow._replace(times=int(share * size))], share)


def test_a_new_service_and_a_few_bad_requests_raise_nothing():
    new = quiet(np.random.default_rng(21), 500, 0.5, 1, days=13)
    usual = quiet(np.random.default_rng(21), 500, 0.01, 1, days=30)
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
    usual = quiet(random, 2000, 0.1, 1, days=30)
    false = 0
    for _ in range(20):
        counts = np.cumsum(random.random(2000) < 0.1)
        false += any(
            risen([*usual, DayCount(FIRST + timedelta(days=31), asked, int(counts[asked - 1]))])
            for asked in range(1, 2001, 5)
        )

    assert false == 0
