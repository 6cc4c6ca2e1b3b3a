"""Measure how often drift is noticed without drift, and how soon a change is noticed.

`python tests/simulations/drift.py` simulates services (minutes) and prints the tables that the manual shows; small
runs are part of the tests. Drivers come back with values like their earlier values, some drivers come often and differ
from drivers who come rarely, features are correlated, values follow the day of the week and the hour, and drivers leave
and join.
"""

import argparse
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import gammaln

from zap.monitoring.drift import THRESHOLD, DriftDetector
from zap.monitoring.drift_evidence import effect_of
from zap.monitoring.drift_state import DriftState, Week
from zap.monitoring.reference import MISSING, places, reference_of

FEATURES = 40
WEEKS = 52
# How much of a value is the driver's own, and the standard deviation of what all drivers of a week share.
OWN = 0.7
# How many sessions the days of a week have, from Monday on.
RHYTHM = np.array([1.0, 1.1, 1.1, 1.0, 1.2, 0.5, 0.4])
LETTERS = np.array(["a", "b", "c", "d", "e", "f", "g", "h"])
CUTS = np.array([-1.2, -0.5, 0.0, 0.6, 1.3, 1.9, 2.3])


@dataclass(frozen=True)
class Service:
    """Hold the settings of a simulation.

    Attributes:
        drivers: drivers of the service at any time; a week has about `active` of them.
        active: the mean number of drivers in a week.
        training: weeks of training rows.
        weeks: weeks of production after them.
        shared: the standard deviation of what all drivers of a week share, such as weather.
        yearly: the amplitude of a yearly wave in feature 10, such as temperature.
        shift: what is added to feature 20 from the first week of production on.
        features: how many features there are.
    """

    drivers: int = 2000
    active: int = 500
    training: int = 26
    weeks: int = WEEKS
    shared: float = 0.0
    yearly: float = 0.0
    shift: float = 0.0
    features: int = FEATURES


def simulated(service, random, *, first=False):
    """Return one row of each driver and week: the weeks, drivers, days and values, in the order of time.

    Args:
        service: the settings.
        random: the generator.
        first: whether the rows are the first rows of the week. By default they are random rows, as the detector counts
            them. A random row lies on any day; the first row comes early in the week if the driver comes often.
    """
    total = service.training + service.weeks
    often = random.standard_normal(service.drivers)
    activity = np.exp(0.8 * often)
    activity = np.minimum(activity * service.active / service.drivers / activity.mean(), 0.98)
    # A driver in a hundred is replaced each week by a new driver of the same habit.
    generation = np.cumsum(random.random((total, service.drivers)) < 0.01, axis=0)
    weeks, slots = np.nonzero(random.random((total, service.drivers)) < activity)
    if first:
        days = np.minimum(random.geometric(0.3 + 0.4 * activity[slots]) - 1, 6)
    else:
        days = random.choice(7, size=len(weeks), p=RHYTHM / RHYTHM.sum())
    order = np.lexsort((days, weeks))
    weeks, slots, days = weeks[order], slots[order], days[order]
    _, drivers = np.unique(slots * (total + 1) + generation[weeks, slots], return_inverse=True)
    people, columns = drivers.max() + 1, service.features
    common = random.standard_normal((people, 1), dtype=np.float32)
    own = 0.5 * common + 0.87 * random.standard_normal((people, columns), dtype=np.float32)
    values = random.standard_normal((len(weeks), columns), dtype=np.float32)
    values *= np.float32((1 - OWN) ** 0.5)
    values += np.float32(OWN**0.5) * own[drivers]
    values += (0.3 * often[slots] + 0.4 * (days > 4)).astype(np.float32)[:, None]
    if service.shared:
        shocks = service.shared * random.standard_normal((total, columns))
        values += shocks.astype(np.float32)[weeks]
    if service.yearly:
        values[:, 10] += service.yearly * np.sin(2 * np.pi * weeks / 52)
    values[weeks >= service.training, 20 % columns] += service.shift
    _as_features(values, days, random)
    return weeks, drivers, days, values


def _as_features(values, days, random):
    """Make feature 0 the day of the week, 1 an hour, 2 to 5 categories, 6 to 8 whole numbers, 9 to 11 with gaps."""
    values[:, 0] = days
    values[:, 1] = np.round(13 + 4 * values[:, 1]) % 24
    values[:, 6:9] = np.round(values[:, 6:9])
    for column, share in ((9, 0.002), (10, 0.02), (11, 0.3)):
        values[random.random(len(values)) < share, column] = np.nan


def _columns(values):
    names = [f"f{number:02}" for number in range(values.shape[1])]
    texts = {2, 3, 4, 5}
    return {
        name: LETTERS[np.searchsorted(CUTS, column)].tolist() if number in texts else column
        for number, (name, column) in enumerate(zip(names, values.T, strict=True))
    }


def counts_of(reference, columns, slices):
    """Return for each slice of the rows and each feature the drivers in each bin, and those without a value."""
    where = {feature.name: places(feature, columns[feature.name]) for feature in reference.features}
    bins = {feature.name: len(feature.counts) for feature in reference.features}
    bare = {name: np.where(one == MISSING, bins[name], one) for name, one in where.items()}
    return [
        {name: np.bincount(one[rows], minlength=bins[name] + 1).tolist() for name, one in bare.items()}
        for rows in slices
    ]


def _setting(service, random):
    """Return a reference of the training weeks, and for each week of production the drivers and the counts."""
    weeks, drivers, _, values = simulated(service, random)
    columns = _columns(values)
    training = weeks < service.training
    of_training = {name: one[: training.sum()] for name, one in columns.items()}
    reference = reference_of(of_training, drivers[training], weeks[training])
    starts = np.searchsorted(weeks, np.arange(service.training, service.training + service.weeks + 1))
    slices = list(map(slice, starts, starts[1:]))
    return reference, [drivers[rows] for rows in slices], counts_of(reference, columns, slices)


def notices(service, random, threshold=THRESHOLD):
    """Return the notices of one service: pairs of the number of the week (from 1) and the notice."""
    reference, drivers, counts = _setting(service, random)
    detector = DriftDetector(reference, DriftState.beginning(0), threshold)
    found = []
    for week, (who, counted) in enumerate(zip(drivers, counts, strict=True), 1):
        if notice := detector.add_week(Week(week, who, counted)):
            found.append((week, notice))
    return found


def mean_e(service, random):
    """Return the mean e-value of a week, over all weeks and features. Without a change it is at most 1 on average."""
    reference, drivers, counts = _setting(service, random)
    detector = DriftDetector(reference, DriftState.beginning(0), np.inf)
    for week, (who, counted) in enumerate(zip(drivers, counts, strict=True), 1):
        detector.add_week(Week(week, who, counted))
    return sum(detector.state.sums.values()) / service.weeks / service.features


def usual_alarms(service, random):
    """Return the weeks in which the population stability index of some feature is above .1, the usual alarm."""
    reference, _, counts = _setting(service, random)
    found = []
    for week, counted in enumerate(counts, 1):
        indices = []
        for feature in reference.features:
            p, q = (np.array(one) + 0.5 for one in ((*feature.counts, feature.missing[0]), counted[feature.name]))
            p, q = p / p.sum(), q / q.sum()
            indices.append(((q - p) * np.log(q / p)).sum())
        if max(indices) > 0.1:
            found.append(week)
    return found


def first_come_notices(service, random):
    """Return the weeks in which the first drivers of a week, looked at daily, differ from the training drivers.

    This is the same e-detector without care for who comes when: known shares p_b from a random row of each training
    driver, and a process of each week that ends at a tenth of the reference's drivers.
    """
    weeks, drivers, days, values = simulated(service, random, first=True)
    columns = _columns(values)
    training = np.flatnonzero(weeks < service.training)
    shuffled = random.permutation(training)
    one_each = shuffled[np.unique(drivers[shuffled], return_index=True)[1]]
    # In one week each training driver is counted once.
    reference = reference_of(
        {name: np.asarray(one, dtype=object)[one_each].tolist() for name, one in columns.items()},
        np.arange(len(one_each)), np.ones(len(one_each)),
    )  # fmt: skip
    most, total, found = len(one_each) // 10, 0.0, []
    starts = np.searchsorted(weeks, np.arange(service.training, service.training + service.weeks + 1))
    for week, (start, end) in enumerate(pairwise(starts), 1):
        ends = start + np.minimum(np.searchsorted(days[start:end], range(7), side="right"), most)
        for counted in counts_of(reference, columns, [slice(start, here) for here in ends]):
            logs = [_log_e_known(feature, counted[feature.name]) for feature in reference.features]
            effect = max(effect_of(feature, counted[feature.name]) for feature in reference.features)
            newest = np.exp(np.minimum(logs, 600)).mean()
            if total + newest >= THRESHOLD and effect >= 0.1:
                found.append(week)
                break
        total = 0.0 if found and found[-1] == week else total + newest
    return found


def _log_e_known(feature, counts):
    """Return ln e against shares that are taken as known."""
    shares = np.array([*feature.counts, feature.missing[0]]) + 0.5
    n = np.array(counts)
    other = gammaln(len(n) / 2) - gammaln(n.sum() + len(n) / 2) + (gammaln(n + 0.5) - gammaln(0.5)).sum()
    return other - (n * np.log(shares / shares.sum())).sum()


QUIET = {
    "500 drivers a week of 2,000, 26 weeks of training": Service(),
    "the same, 8 weeks of training": Service(training=8),
    "100 drivers a week of 400": Service(drivers=400, active=100),
    "the weeks differ by 0.1 SD in every feature": Service(shared=0.1),
    "the weeks differ by 0.2 SD in every feature": Service(shared=0.2),
    "100 drivers a week of 400; the weeks differ by 0.3 SD in every feature": Service(
        drivers=400, active=100, shared=0.3
    ),
    "a season of 1.5 SD in one feature, 52 weeks of training": Service(training=52, yearly=1.5),
    "a season of 1.5 SD in one feature, 26 weeks of training": Service(yearly=1.5),
}
CHANGED = {
    "0.6 SD, 500 drivers a week, 26 weeks of training": Service(weeks=8, shift=0.6),
    "0.6 SD, 500 drivers a week, 8 weeks of training": Service(weeks=8, shift=0.6, training=8),
    "0.6 SD, 500 drivers a week, the weeks differ by 0.1 SD": Service(weeks=8, shift=0.6, shared=0.1),
    "0.4 SD, 500 drivers a week": Service(weeks=8, shift=0.4),
    "0.3 SD, 500 drivers a week": Service(weeks=8, shift=0.3),
    "0.6 SD, 100 drivers a week of 400": Service(weeks=8, shift=0.6, drivers=400, active=100),
    "1 SD, 50 drivers a week of 200": Service(weeks=8, shift=1.0, drivers=200, active=50),
}


def false_notices(service, years, seed=7, ask=notices):
    """Return the false notices of many years, each of another service."""
    return [ask(service, np.random.default_rng([seed, year])) for year in range(years)]


def found_within(service, services, weeks=2, seed=8):
    """Return in which share of the services the change of feature 20 is noticed within some weeks."""
    found = false_notices(service, services, seed)
    return np.mean([any(week <= weeks and _named(notice) for week, notice in one) for one in found])


def _named(notice):
    return "f20" in {shift.feature for shift in notice.shifts}


def show_quiet(years, fewer):
    """Print the rate of false notices, and beside it the rate of two methods that are not zap's."""
    print("| service without change, 40 features | years | notices a year | years with a notice | mean e |")
    print("|---|---|---|---|---|")
    rows = [
        (name, service, fewer if number else years, notices) for number, (name, service) in enumerate(QUIET.items())
    ]
    for ask, title in (
        (usual_alarms, "PSI above .1 in a week"),
        (first_come_notices, "first drivers of a week, daily"),
    ):
        for name, service in (("500", Service()), ("100", Service(drivers=400, active=100))):
            rows.append((f"for comparison: {title}; {name} drivers a week", service, 10, ask))
    for name, service, number, ask in rows:
        found = false_notices(service, number, ask=ask)
        a_year, with_one = sum(map(len, found)) / number, np.mean([bool(one) for one in found])
        mean = np.mean(false_notices(service, min(number, 20), ask=mean_e)) if ask is notices else np.nan
        print(f"| {name} | {number} | {a_year:.3f} | {with_one:.1%} | {mean:.3f} |", flush=True)


def show_changed(services):
    """Print how soon changes are noticed."""
    print("\n| change of one feature of 40 | services | within 1 week | within 2 weeks | within 8 weeks |")
    print("|---|---|---|---|---|")
    for name, service in CHANGED.items():
        found = false_notices(service, services, 8)
        within = [
            np.mean([any(week <= weeks and _named(notice) for week, notice in one) for one in found])
            for weeks in (1, 2, 8)
        ]
        print(f"| {name} | {services} | " + " | ".join(f"{share:.0%}" for share in within) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=200, help="simulated years of the first service; 0: none of all")
    parser.add_argument("--fewer", type=int, default=50, help="simulated years of each other service")
    parser.add_argument("--changed", type=int, default=100, help="services with each change")
    arguments = parser.parse_args()
    if arguments.years:
        show_quiet(arguments.years, arguments.fewer)
    if arguments.changed:
        show_changed(arguments.changed)


if __name__ == "__main__":
    main()
