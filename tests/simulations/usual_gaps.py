"""How often the usual gap between arrivals is passed in a service without a fault, and how soon a fault passes it.

Each simulated service has sessions that arrive in another way: reports all day long, imports each night, week or
month, imports by hand, and imports that fail now and then. Days without enough requests, which raise no alarm, are not
simulated, so a real service has fewer false alarms. `make simulate-monitoring` runs this.
"""

import argparse
from datetime import datetime, timedelta

import numpy as np

from zap.monitoring.usual_gaps import REMEMBERED, usual_gap

# A Monday.
_FIRST = datetime.fromisoformat("2026-01-05")
_HOUR = timedelta(hours=1)
_WEEK = 7 * 24
# The simulated time before the year in which alarms are counted.
_BEFORE = 26 * _WEEK


def reports(a_day, *, weekends=True):
    """Return the hours of reports, with quiet nights, and quiet weekends where a service has any."""

    def hours(random, until):
        at = np.arange(until)
        rate = np.where((at % 24 >= 7) & (at % 24 < 22), a_day / 16, a_day / 16 / 9)
        if not weekends:
            rate = np.where(at // 24 % 7 > 4, 0.02 * rate, rate)
        return at[random.random(until) < 1 - np.exp(-rate)]

    return hours


def nightly(*, workdays=False):
    def hours(random, until):
        days = np.arange(until // 24)
        days = days[days % 7 < 5] if workdays else days
        return 24 * days + random.integers(2, 6, size=len(days))

    return hours


def regular(period, late, fails=0.0):
    """Return the hours of imports with a period, which begin up to some hours late, and fail with a probability."""

    def hours(random, until):
        starts = np.arange(6, until, period)
        starts = starts[random.random(len(starts)) >= fails]
        return starts + random.integers(0, late + 1, size=len(starts))

    return hours


def drawn(draw):
    """Return the hours of arrivals whose gaps are drawn."""

    def hours(random, until):
        gaps = np.maximum(np.rint(draw(random, 2 * until // 24)), 1).astype(int)
        at = gaps.cumsum()
        return at[at < until]

    return hours


SERVICES = {
    "reports all day, 3,000 a day": reports(3000),
    "reports all day, 30 a day": reports(30),
    "reports all day, 3 a day": reports(3),
    "reports on workdays, 300 a day": reports(300, weekends=False),
    "imports each night": nightly(),
    "imports each night before a workday": nightly(workdays=True),
    "imports each week, up to 12 hours late": regular(_WEEK, 12),
    "imports each month, up to 4 days late": regular(730, 96),
    "imports each week, one in ten fails": regular(_WEEK, 12, 0.1),
    "imports each night, one in ten fails": regular(24, 4, 0.1),
    "imports by hand, gaps of about a week (log-normal, 0.4)": drawn(
        lambda random, n: _WEEK * np.exp(0.4 * random.standard_normal(n))
    ),
    "imports by chance, 2 days on average (exponential)": drawn(lambda random, n: random.exponential(48, n)),
    "imports by chance, a week on average (exponential)": drawn(lambda random, n: random.exponential(_WEEK, n)),
}


def _limit(arrivals, now):
    """Return the limit in hours at an hour; infinity if it is not known."""
    first = np.searchsorted(arrivals, now - REMEMBERED / _HOUR)
    known = usual_gap([_FIRST + int(hour) * _HOUR for hour in arrivals[first:]], [], _FIRST + int(now) * _HOUR)
    return np.inf if known is None else known.limit / _HOUR


def false_alarms(service, random, before=_BEFORE):
    """Return how many gaps of a quiet year are longer than the usual gap at their end."""
    arrivals = service(random, before + 52 * _WEEK)
    starts, ends = arrivals[:-1], arrivals[1:]
    weeks = ends // _WEEK
    longest = np.zeros(weeks[-1] + 1)
    np.maximum.at(longest, weeks, ends - starts)
    # No limit is below the longest gap that is remembered, so shorter gaps need no look.
    first = weeks[0] + 1
    remembered = [longest[max(first, week - 51) : week].max(initial=0) for week in range(weeks[-1] + 1)]
    asked = (ends >= before) & (ends - starts > np.array(remembered)[weeks])
    return sum(
        int(end - start > _limit(arrivals[arrivals < end], end))
        for start, end in zip(starts[asked], ends[asked], strict=True)
    )


def of_years(service, years, seed=21, before=_BEFORE):
    """Return the false alarms of many quiet years, each of another service."""
    return [false_alarms(service, np.random.default_rng([seed, year]), before) for year in range(years)]


def hours_until_found(service, random):
    """Return after how many hours without an arrival the usual gap is passed, if the arrivals stop after half a year.

    The arrivals stop at any hour.
    """
    stop = _BEFORE + int(random.integers(4 * _WEEK))
    arrivals = service(random, stop)
    last = int(arrivals[-1])
    for week in range(last // _WEEK, last // _WEEK + 104):
        # The limit changes only with the week.
        limit = _limit(arrivals, max(last, week * _WEEK))
        passed = max(last + int(limit) + 1, week * _WEEK) if np.isfinite(limit) else np.inf
        if passed < (week + 1) * _WEEK:
            return passed - last
    return np.inf


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=200)
    parser.add_argument("--services", type=int, default=20)
    arguments = parser.parse_args()
    print("| sessions arrive as | years | alarms a year | in the first year | found after (median) | 9 of 10 |")
    print("|---|---|---|---|---|---|")
    for name, service in SERVICES.items():
        later = sum(of_years(service, arguments.years)) / arguments.years
        first = sum(of_years(service, arguments.years, before=0)) / arguments.years
        found = [
            hours_until_found(service, np.random.default_rng([22, number])) for number in range(arguments.services)
        ]
        ninth = np.quantile(found, 0.9, method="higher")
        print(f"| {name} | {arguments.years} | {later:.3f} | {first:.3f} | {np.median(found) / 24:.1f} days |"
              f" {ninth / 24:.1f} days |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
