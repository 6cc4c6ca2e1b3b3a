"""Measure the worth of each group of columns: the log loss over the rolling windows without the group.

`python tests/benchmarks/column_groups.py HISTORY` imports a file of sessions into a database of its own, fits a model
for each window and each group that the trees leave out, and prints the table that the manual shows (minutes).
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from zap.db.engine import create_engine
from zap.db.history.history_store import read_history
from zap.db.schema import upgrade
from zap.flows.history_import import import_history
from zap.ml import training
from zap.ml.column_groups import group_places
from zap.ml.history import clean_history
from zap.ml.intervals import mean_intervals
from zap.ml.scores import Scores
from zap.settings import Settings

ALL = "none"


def split_of(file):
    """Return the split of the sessions in a file."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(database_url=f"sqlite:///{folder}/zap.sqlite", models_dir=Path(folder))
        upgrade(settings.database_url)
        engine = create_engine(settings.database_url)
        import_history(engine, file, wall_time=settings.wall_time)
        history = clean_history(read_history(engine))
        engine.dispose()
    return training.split_by_time(history)


def losses_without(split, groups, params, *, n_jobs):
    """Return the log loss of each session of all windows, for each group that is left out, and the drivers.

    Groups that no tree uses are left out of the result.
    """
    found, drivers, used = {name: [] for name in (ALL, *groups)}, [], set()
    for window in training.rolling_windows(split):
        for name, losses in found.items():
            left_out = [] if name == ALL else [name]
            model = training.fit(window, {**params, "left_out": left_out}, n_jobs=n_jobs)
            if name == ALL:
                splits = model.booster_.feature_importance()
                places = group_places(len(window.types))
                used |= {group for group in groups if splits[places[group]].any()}
            rows = training._scored(window, model, training._exponents(window))
            losses.append(Scores(rows.labels, rows.probabilities).log_losses)
        drivers.append(rows.drivers)
    known = {name: np.concatenate(one) for name, one in found.items() if name == ALL or name in used}
    return known, np.concatenate(drivers)


def effects(split, params, groups=None, *, n_jobs):
    """Return for each group (default: all), and for ALL, the log loss without it, the difference and its interval.

    The interval is over drivers.
    """
    losses, drivers = losses_without(split, groups or list(group_places(len(split.types))), params, n_jobs=n_jobs)
    without = [name for name in losses if name != ALL]
    differences = np.column_stack([losses[name] - losses[ALL] for name in without])
    intervals = mean_intervals(differences, drivers)
    ends = intervals.alone if intervals else [None] * len(without)
    rows = {ALL: (float(losses[ALL].mean()), 0.0, None)}
    for place, name in enumerate(without):
        rows[name] = (float(losses[name].mean()), float(differences[:, place].mean()), ends[place])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("history", type=Path, help="a file that zap import-history reads")
    parser.add_argument("--estimator", default="blend")
    parser.add_argument("--params", type=json.loads, default={}, help='hyper-parameters, such as {"num_leaves": 7}')
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    params = {**arguments.params, "estimator": arguments.estimator}
    rows = effects(split_of(arguments.history), params, n_jobs=arguments.threads)
    print("| left out | log loss | difference | 95 % interval over drivers |")
    print("|---|---|---|---|")
    for name, (loss, difference, interval) in sorted(rows.items(), key=lambda row: -row[1][1]):
        ends = "" if interval is None else f"[{interval[0]:+.4f}, {interval[1]:+.4f}]"
        print(f"| {name} | {loss:.4f} | {difference:+.4f} | {ends} |")


if __name__ == "__main__":
    main()
