"""The scores of the latest days by driver group: what the watch of harm needs, of bounded size.

A driver belongs to one of GROUPS groups, so a service with millions of drivers needs no more memory than one with a
thousand. Groups are as independent of each other as drivers are. The scores are whole numbers, so that their order does
not matter.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from zap.monitoring.driver_sample import driver_hash
from zap.monitoring.harm import WINDOWS, Window

GROUPS = 1024
# A score is stored as a multiple of this.
_UNIT = 2.0**-40

# For each group: the sessions, the sum of the version's scores, and the sum of the baseline's scores.
Sums = dict[str, list[int]]


def group_of(driver: str) -> int:
    """Return the number of the group of a driver."""
    return driver_hash(driver) % GROUPS


def add_scores(sums: Sums, drivers: Iterable[str], scores: np.ndarray, of_baseline: np.ndarray) -> None:
    """Add the scores of sessions to the sums of a day.

    Args:
        sums: the sums, which are changed.
        drivers: the driver of each session.
        scores: the halved Brier score of the version for each session.
        of_baseline: the halved Brier score of the baseline.
    """
    whole = np.rint(np.stack([scores, of_baseline]) / _UNIT).astype(np.int64).T.tolist()
    for driver, (score, baseline) in zip(drivers, whole, strict=True):
        one = sums.setdefault(str(group_of(driver)), [0, 0, 0])
        one[0] += 1
        one[1] += score
        one[2] += baseline


def windows_until(today: int, days: Mapping[int, Sums]) -> dict[int, Window]:
    """Return the windows that end today, each group once, with the mean of its sessions.

    Args:
        today: the number of the day.
        days: the sums of each day.
    """
    found = {}
    for window in WINDOWS:
        total = np.zeros((GROUPS, 3), dtype=np.int64)
        for day in range(today - window + 1, today + 1):
            for group, one in days.get(day, {}).items():
                total[int(group)] += one
        seen = total[total[:, 0] > 0]
        means = seen[:, 1:] / seen[:, :1] * _UNIT
        found[window] = Window(means[:, 0], means[:, 0] - means[:, 1])
    return found


def kept_days(today: int, days: Mapping[int, Sums]) -> dict[int, Sums]:
    """Return the days that a later window may need."""
    return {day: sums for day, sums in days.items() if day > today - max(WINDOWS)}


def to_plain(days: Mapping[int, Sums]) -> dict[str, Any]:
    """Return the days as JSON values."""
    return {str(day): sums for day, sums in days.items()}


def from_plain(plain: Mapping[str, Any]) -> dict[int, Sums]:
    """Return the days that `to_plain` described."""
    return {int(day): sums for day, sums in plain.items()}
