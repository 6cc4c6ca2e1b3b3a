"""How often the alarms `no_outcomes` and `refused_requests` are false, and how soon true ones come.

Each simulated service has a weekly rhythm, and what happens comes in groups of random size, such as the visits of one
driver, or the bad requests of one client. `make simulate-monitoring` runs this.
"""

import argparse
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np

from zap.monitoring.usual_counts import DayCount, missing, risen

_FIRST = date(2026, 1, 1)
_RHYTHM = [1.0, 1.1, 1.1, 1.0, 1.2, 0.5, 0.4]
# The days that each judge is given, as in production or fewer.
_GIVEN = {missing: 60, risen: 30}
# The first day that is judged.
_BEGIN = 20


class Service(NamedTuple):
    """A service without a change.

    Attributes:
        a_day: the answers or requests of a day with a rhythm of 1.
        share: how often it happens.
        group: the mean size of the groups; sizes are geometric, so some groups are much larger.
    """

    a_day: int
    share: float
    group: int


SESSIONS = [Service(a_day, share, group) for a_day, share in ((1, 0.6), (3, 0.6), (20, 0.5), (300, 0.1))
            for group in (1, 3, 8)]  # fmt: skip
REFUSED = [Service(a_day, share, group) for a_day, share in ((50, 0.2), (1000, 0.02), (1000, 0.2), (100_000, 0.001))
           for group in (1, 30)]  # fmt: skip
STOPPED = [Service(3, 0.6, 1), Service(20, 0.5, 1), Service(300, 0.1, 1), Service(100_000, 0.3, 1)]


def days_of(service, random, days=365):
    """Return the counts of some days of a service."""
    chances = random.poisson(service.a_day * np.resize(_RHYTHM, days))
    groups = random.poisson(service.share * chances / service.group)
    times = [random.geometric(1 / service.group, some).sum() for some in groups]
    return [
        DayCount(_FIRST + timedelta(days=place), int(some), int(min(some, count)))
        for place, (some, count) in enumerate(zip(chances, times, strict=True))
    ]


def false_years(judge, service, years, seed=17):
    """Return in how many quiet years a judge raises an alarm at least once, if it looks on every day."""
    false = 0
    for year in range(years):
        days = days_of(service, np.random.default_rng([seed, year]))
        false += any(judge(days[max(0, end - _GIVEN[judge]) : end]) for end in range(_BEGIN, len(days)))
    return false


def days_until_found(service, random, before=40):
    """Return on which whole day without sessions it is clear that the reports have stopped."""
    days = days_of(service, random, days=2 * before)
    stopped = days[:before] + [one._replace(times=0) for one in days[before:]]
    return next((day for day in range(1, before) if missing(stopped[: before + day])), np.inf)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=200)
    years = parser.parse_args().years
    for judge, services, what in ((missing, SESSIONS, "no_outcomes"), (risen, REFUSED, "refused_requests")):
        print(f"| {what}: a day | share | groups | years | years with a false alarm |\n|---|---|---|---|---|")
        for one in services:
            false = false_years(judge, one, years)
            print(f"| {one.a_day:,} | {one.share:.1%} | {one.group} | {years} | {false} |", flush=True)
        print()
    print("| no_outcomes: a day | share | found on day (median) | 9 of 10 |\n|---|---|---|---|")
    for one in STOPPED:
        found = [days_until_found(one, np.random.default_rng([18, number])) for number in range(50)]
        ninth = np.quantile(found, 0.9, method="higher")
        print(f"| {one.a_day:,} | {one.share:.0%} | {np.median(found):.0f} | {ninth:.0f} |", flush=True)


if __name__ == "__main__":
    main()
