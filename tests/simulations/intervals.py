"""How often an interval over drivers says "better" or "worse" where there is no difference.

`python tests/simulations/intervals.py` runs many histories of each kind (minutes) and prints the table that the manual
shows; a small run is part of the tests.
"""

import argparse

import numpy as np

from zap.ml.intervals import effective_drivers, mean_intervals
from zap.ml.resampling import drawn_sums

# For each kind of sizes the numbers of drivers that are tried; the first is what the tests try.
DRIVERS = {
    "equal": (32, 60, 200),
    "log-normal": (120, 400, 1000),
    "zipf": (1000, 3000),
}
LOSERS = 0.15
GAIN = 0.1
NOISE = 0.1
TABLE = [(sizes, drivers) for sizes, numbers in DRIVERS.items() for drivers in numbers]


def sessions_of(sizes, drivers, random):
    """How many sessions each driver has, in hundredths: only their ratios matter here."""
    if sizes == "equal":
        return np.full(drivers, 10)
    if sizes == "log-normal":
        return np.maximum(1, np.round(random.lognormal(2, 1, drivers))).astype(int)
    return np.maximum(1, np.round(drivers / (1 + np.arange(drivers)))).astype(int)


def false_verdicts(sizes, drivers, *, histories, losers=LOSERS, gain=0.0, percentiles=False, seed=7):
    """The shares of histories in which the whole interval lies below zero, and above it.

    Args:
        sizes: how the sessions are spread over the drivers.
        drivers: how many drivers there are.
        histories: how many histories are made.
        losers: the share of drivers who lose much; the others gain a little, so that the mean is zero.
        gain: what every driver gains beside that.
        percentiles: ask the percentiles of the resampled means instead of zap's intervals.
        seed: of all that is drawn.
    """
    random = np.random.default_rng(seed)
    sessions = sessions_of(sizes, drivers, random)
    who = np.repeat(np.arange(drivers), sessions)
    better = worse = 0
    # Many histories at a time are the columns of one call.
    for start in range(0, histories, 100):
        columns = min(100, histories - start)
        loses = random.random((drivers, columns)) < losers
        effect = np.where(loses, GAIN * (1 - losers) / losers, -GAIN) - gain
        values = effect[who] + NOISE * random.standard_normal((len(who), columns))
        if percentiles:
            sums = np.stack([np.bincount(who, column) for column in values.T], axis=1)
            drawn = drawn_sums(np.column_stack([sums, sessions]))
            ends = np.percentile(drawn[:, :-1] / drawn[:, [-1]], [2.5, 97.5], axis=0).T
        else:
            ends = np.array(mean_intervals(values, who).alone)
        better += int((ends[:, 1] < 0).sum())
        worse += int((ends[:, 0] > 0).sum())
    return {
        "effective_drivers": effective_drivers(who),
        "better": better / histories,
        "worse": worse / histories,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=4000)
    parser.add_argument("--losers", type=float, default=LOSERS)
    arguments = parser.parse_args()
    print("| sizes | drivers | effective | false better | false worse | percentiles: false better |")
    print("|---|---|---|---|---|---|")
    for sizes, drivers in TABLE:
        options = {"histories": arguments.histories, "losers": arguments.losers}
        found, old = (false_verdicts(sizes, drivers, **options, percentiles=old) for old in (False, True))
        print(
            f"| {sizes} | {drivers:,} | {found['effective_drivers']:.0f} | {found['better']:.1%}"
            f" | {found['worse']:.1%} | {old['better']:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
