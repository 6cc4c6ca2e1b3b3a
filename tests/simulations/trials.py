"""How often a trial promotes a challenger that is no better, and how often it finds a challenger that is.

`python tests/simulations/trials.py` simulates trials (minutes) and prints the tables that the manual shows; small runs
are part of the tests. Drivers come back, some often, and the advantage of a challenger differs between drivers.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from zap.monitoring.driver_means import driver_means
from zap.monitoring.trials import EPSILON, LONGEST_WEEKS, Trial

DAYS = 7 * LONGEST_WEEKS
# What most drivers gain where a few lose, and what drivers who come often gain where the others lose.
LOSS = 0.03


@dataclass(frozen=True)
class Service:
    """Hold the settings of a simulation.

    Attributes:
        drivers: the drivers, who have `sessions` sessions a day on average.
        sessions: sessions a day of a driver.
        known: how much of what the champion does not know the challenger knows: 0 is no advantage, 1 is all.
        losers: this share of the drivers loses much, and the others gain a little, so that the mean is zero.
        of_frequent: drivers who come often gain, and drivers who come rarely lose as much: the mean over all is zero.
        challengers: how many challengers share the rate; all are alike.
    """

    drivers: int = 800
    sessions: float = 0.15
    known: float = 0.0
    losers: float = 0.0
    of_frequent: bool = False
    challengers: int = 1


def simulated(service, random):
    """Return the days, drivers, differences (champion minus challenger) and largest possible differences.

    The differences and their limits are of shape (challengers, sessions).
    """
    often = random.standard_normal(service.drivers)
    rate = np.exp(0.8 * often)
    rate *= service.sessions / rate.mean()
    days, drivers = np.nonzero(random.random((DAYS, service.drivers)) < np.minimum(rate, 0.9))
    size = len(days)
    habit = 1.2 + 0.3 * often + random.standard_normal(service.drivers)
    right = habit[drivers] + 0.8 * random.standard_normal(size)
    used = random.random(size) < expit(right)
    # Each version errs in a way of its own, on each driver and on each session.
    errors = 0.4 * random.standard_normal((service.challengers + 1, service.drivers))[:, drivers]
    errors += 0.4 * random.standard_normal((service.challengers + 1, size))
    errors[1:] *= (1 - service.known) ** 0.5
    said = expit(right + errors)
    scores = (said - used) ** 2
    differences = scores[0] - scores[1:]
    # What the difference would be for either outcome; and a type that no version knows.
    possible = [said[0] ** 2 - said[1:] ** 2, (1 - said[0]) ** 2 - (1 - said[1:]) ** 2]
    limits = np.abs(possible).max(axis=0)
    if service.losers:
        loses = random.random(service.drivers) < service.losers
        differences += np.where(loses, -LOSS * (1 - service.losers) / service.losers, LOSS)[drivers]
        limits += LOSS * (1 - service.losers) / service.losers
    if service.of_frequent:
        differences += LOSS * np.sign(often - np.median(often))[drivers]
        limits += LOSS
    return days, drivers, np.clip(differences, -1, 1), np.minimum(limits, 1)


def verdicts(service, random):
    """Return the last verdict of each challenger, and the look that ended its trial."""
    days, drivers, differences, limits = simulated(service, random)
    found = []
    for one, limit in zip(differences, limits, strict=True):
        trial = Trial(challengers=service.challengers)
        for week in range(LONGEST_WEEKS):
            until = np.searchsorted(days, 7 * week + 7)
            means, most = driver_means(drivers[:until], one[:until], limit[:until])
            if trial.look(means, most.max()) in {"better", "worse"}:
                break
        found.append((trial.verdict, trial.done))
    return found


def naive_verdicts(service, random):
    """Return whether a 95 % interval over sessions is above zero after any session from the hundredth on."""
    _, _, differences, _ = simulated(service, random)
    found = []
    for one in differences:
        n = np.arange(1, len(one) + 1)
        mean = one.cumsum() / n
        error = np.sqrt(np.maximum((one**2).cumsum() / n - mean**2, 0) / n)
        found.append(("better" if (mean > 1.96 * error)[99:].any() else "undecided", 0))
    return found


EQUAL = {
    "800 drivers, 120 sessions a day": Service(),
    "100 drivers, 15 sessions a day": Service(drivers=100),
    "3,000 drivers, each twice in the trial": Service(drivers=3000, sessions=0.036),
    "800 drivers; 15 % lose much, 85 % gain a little": Service(losers=0.15),
    "100 drivers; 5 % lose much, 95 % gain a little": Service(drivers=100, losers=0.05),
    "800 drivers, 4 challengers (any of them)": Service(challengers=4),
    "800 drivers; who comes often gains, who comes rarely loses": Service(of_frequent=True),
}
BETTER = {
    "800 drivers, half of the error gone": Service(known=0.5),
    "800 drivers, all of the error gone": Service(known=1.0),
    "3,000 drivers, half of the error gone": Service(drivers=3000, known=0.5),
    "200 drivers, all of the error gone": Service(drivers=200, known=1.0),
    "800 drivers, all of the error gone, 4 challengers": Service(known=1.0, challengers=4),
}


def of_trials(service, trials, seed=11, ask=verdicts):
    """Return the verdicts of many trials, each a list with a verdict and a look for each challenger."""
    return [ask(service, np.random.default_rng([seed, trial])) for trial in range(trials)]


def share(found, verdict):
    """Return the share of the trials in which any challenger has this verdict."""
    return float(np.mean([any(one == verdict for one, _ in trial) for trial in found]))


def _mean_gain(service, random):
    _, drivers, differences, _ = simulated(service, random)
    return driver_means(drivers, differences[0])[0].mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--powers", type=int, default=200)
    arguments = parser.parse_args()
    print("| challenger that is no better | trials | false promotion | false worse | naive: false promotion |")
    print("|---|---|---|---|---|")
    for name, service in EQUAL.items():
        found = of_trials(service, arguments.trials)
        naive = of_trials(service, 200, ask=naive_verdicts)
        print(f"| {name} | {len(found)} | {share(found, 'better'):.1%} | {share(found, 'worse'):.1%}"
              f" | {share(naive, 'better'):.0%} |", flush=True)  # fmt: skip
    print(f"\n| challenger | mean difference | trials | better | weeks (median) | not worse (epsilon {EPSILON:g}) |")
    print("|---|---|---|---|---|---|")
    for name, service in BETTER.items():
        found = of_trials(service, arguments.powers, 12)
        gain = np.mean([_mean_gain(service, np.random.default_rng(seed)) for seed in range(20)])
        weeks = [look for trial in found for verdict, look in trial if verdict == "better"]
        median = f"{np.median(weeks):.0f}" if weeks else "-"
        print(f"| {name} | {gain:.4f} | {len(found)} | {share(found, 'better'):.0%} | {median}"
              f" | {share(found, 'not_worse'):.0%} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
