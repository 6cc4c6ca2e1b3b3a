"""Measure how often harm is reported without harm, and how many days after a fault harm is reported.

`python tests/simulations/harm.py` simulates services (minutes) and prints the tables that the manual shows; small runs
are part of the tests. Drivers differ in how well they can be predicted and in how often they come (drivers who come
often are easier), weekends are harder, and all sessions of a day share a part of their difficulty.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from zap.monitoring.harm import THRESHOLD, WINDOWS, HarmState, HarmWatch, Window, promised

TEST_DAYS = 35


@dataclass(frozen=True)
class Service:
    """Hold the settings of a simulation.

    Attributes:
        drivers: the drivers, who have `sessions` sessions a day on average.
        sessions: sessions a day of a driver.
        days: days of production after the test.
        exact: the limit of each window is the true mean of these drivers, without tolerance: harm is one step away.
        no_better: the version is exactly as good as the baseline.
        fault_day: the day of production on which the fault begins.
        swapped: the share of the sessions whose answer is reversed from then on.
        late: the share of the sessions of production that arrive after their day was scored. Drivers differ in it.
    """

    drivers: int = 800
    sessions: float = 0.15
    days: int = 365
    exact: bool = False
    no_better: bool = False
    fault_day: int = 0
    swapped: float = 0.0
    late: float = 0.0


def simulated(service, random):
    """Return the days, drivers, scores and scores of the baseline of all sessions of the test and of production."""
    total = TEST_DAYS + service.days
    often = random.standard_normal(service.drivers)
    rate = np.exp(0.8 * often)
    rate *= service.sessions / rate.mean()
    drivers, days = np.nonzero(random.random((service.drivers, total)) < np.minimum(rate, 0.9)[:, None])
    habit = 1.2 + 0.3 * often + random.standard_normal(service.drivers)
    day_effect = 0.1 * random.standard_normal(total) - 0.4 * (np.arange(total) % 7 > 4)
    size = len(drivers)
    right = expit(habit[drivers] + day_effect[days] + 0.8 * random.standard_normal(size))
    if service.no_better:
        # Both know the habit, each with an error of its own.
        said, of_baseline = (expit(habit[drivers] + 0.3 * random.standard_normal(size)) for _ in range(2))
    else:
        said, of_baseline = right, expit(habit[drivers])
    used = random.random(size) < right
    turned = (days >= TEST_DAYS + service.fault_day) & (random.random(size) < service.swapped)
    said = np.where(turned, 1 - said, said)
    scores, baseline = ((probability - used) ** 2 for probability in (said, of_baseline))
    order = np.argsort(days, kind="stable")
    if service.late:
        of_driver = random.beta(2 * service.late, 2 * (1 - service.late), service.drivers)
        order = order[(days[order] < TEST_DAYS) | (random.random(size) >= of_driver[drivers[order]])]
    return days[order], drivers[order], scores[order], baseline[order]


class Windows:
    """The windows that end on each day, from sums over days (what `windows_until` returns, for all days at once)."""

    def __init__(self, service, days, drivers, scores, baseline):
        sums = np.zeros((3, TEST_DAYS + service.days + 1, service.drivers))
        for one, values in zip(sums, (np.ones(len(days)), scores, scores - baseline), strict=True):
            np.add.at(one, (days + 1, drivers), values)
        self.sums = sums.cumsum(axis=1)

    def of(self, day, length):
        count, scores, differences = self.sums[:, day + 1] - self.sums[:, max(0, day + 1 - length)]
        seen = count > 0.5
        return Window(scores[seen] / count[seen], np.clip(differences[seen] / count[seen], -1, 1))


def alarms(service, random, threshold=THRESHOLD):
    """Return the alarms of one service; their days count from the beginning of production."""
    days, drivers, scores, baseline = simulated(service, random)
    windows = Windows(service, days, drivers, scores, baseline)
    test = days < TEST_DAYS
    limits = promised(days[test], drivers[test], scores[test])
    if service.exact:
        ends = range(TEST_DAYS + 91, TEST_DAYS + service.days)
        limits = {length: _mean(windows, ends, length) for length in WINDOWS}
    watch = HarmWatch(limits, HarmState.beginning(TEST_DAYS), threshold)
    days = range(TEST_DAYS, TEST_DAYS + service.days)
    found = [watch.add_day(day, {length: windows.of(day, length) for length in WINDOWS}) for day in days]
    return [(day - TEST_DAYS, alarm) for day, alarm in zip(days, found, strict=True) if alarm]


def _mean(windows, ends, length):
    return float(np.mean([windows.of(day, length).scores.mean() for day in ends]))


def naive_alarms(service, random):
    """Return the days on which a 95 % interval of the last seven days is above the promise and the tolerance, or 0."""
    days, drivers, scores, baseline = simulated(service, random)
    windows = Windows(service, days, drivers, scores, baseline)
    ends = range(TEST_DAYS + 91, TEST_DAYS + service.days)
    limit = _mean(windows, ends, 7) if service.exact else scores[days < TEST_DAYS].mean() + 0.02
    found = []
    for day in range(TEST_DAYS + 7, TEST_DAYS + service.days):
        window = windows.of(day, 7)
        for values, most in ((window.scores, limit), (window.differences, 0.0)):
            if values.mean() - 1.645 * values.std(ddof=1) / len(values) ** 0.5 > most:
                found.append(day - TEST_DAYS)
                break
    return found


QUIET = {
    "800 drivers, 120 sessions a day": Service(),
    "100 drivers, 15 sessions a day": Service(drivers=100),
    "800 drivers; the limit is the true mean": Service(exact=True),
    "800 drivers; the version is exactly as good as the baseline": Service(no_better=True),
    "100 drivers; the version is exactly as good as the baseline": Service(drivers=100, no_better=True),
    "800 drivers; a fifth of the sessions is not known when their day is scored": Service(late=0.2),
    "100 drivers; the same, and exactly as good as the baseline": Service(drivers=100, late=0.2, no_better=True),
}
FAULTS = {
    "all answers are reversed, 800 drivers": Service(days=200, fault_day=100, swapped=1.0),
    "all answers are reversed, 100 drivers": Service(drivers=100, days=200, fault_day=100, swapped=1.0),
    "30 % of the answers are reversed, 800 drivers": Service(days=200, fault_day=100, swapped=0.3),
    "30 % of the answers are reversed, 100 drivers": Service(drivers=100, days=200, fault_day=100, swapped=0.3),
    "10 % of the answers are reversed, 800 drivers": Service(days=200, fault_day=100, swapped=0.1),
}


def of_years(service, years, seed=9, ask=alarms):
    """Return the alarms of many services."""
    return [ask(service, np.random.default_rng([seed, year])) for year in range(years)]


def delays(service, services, seed=10):
    """Return for each service the days from the fault to the alarm; infinity if there was none, or one before."""
    found = of_years(service, services, seed)
    firsts = [one[0][0] if one else np.inf for one in found]
    return np.array([day - service.fault_day if day >= service.fault_day else np.inf for day in firsts])


def _in_words(days):
    return f"{days:.0f} days" if np.isfinite(days) else "not in 100 days"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=200)
    parser.add_argument("--services", type=int, default=50)
    arguments = parser.parse_args()
    print("| service without harm | years | alarms a year | years with an alarm | the same, 95 % interval every day |")
    print("|---|---|---|---|---|")
    for name, service in QUIET.items():
        found, naive = of_years(service, arguments.years), of_years(service, 20, ask=naive_alarms)
        a_year, with_one = sum(map(len, found)) / arguments.years, np.mean([bool(one) for one in found])
        print(f"| {name} | {arguments.years} | {a_year:.3f} | {with_one:.1%} | {np.mean(list(map(bool, naive))):.0%} |",
              flush=True)  # fmt: skip
    print("\n| fault | services | alarm after (median) | 9 of 10 after | found within 14 days |")
    print("|---|---|---|---|---|")
    for name, service in FAULTS.items():
        days = delays(service, arguments.services) + 1
        ninth = np.quantile(days, 0.9, method="higher")
        print(f"| {name} | {len(days)} | {_in_words(np.median(days))} | {_in_words(ninth)} |"
              f" {np.mean(days <= 14):.0%} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
