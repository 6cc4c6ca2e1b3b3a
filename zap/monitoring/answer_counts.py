"""The answers of a server, counted: how many, how many refused or failed, and how long they took, in fixed buckets.

A process adds to its counters and never resets them, so any thread can read them without a lock. Counts of several
processes and minutes are sums of whole numbers, so their order does not matter.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

# What is counted: answers of these routes, trainings, all other routes, and the commits of the log of predictions.
PREDICT, BATCH, TRAINING, OTHER, LOG = SUBJECTS = ("predict", "batch", "training", "other", "log")
ROUTES = (PREDICT, BATCH, TRAINING, OTHER)
# The routes that answer drivers.
PREDICTING = (PREDICT, BATCH)

# Round numbers in about equal steps, so that the histogram of any other program with round bounds is a sum of these.
_STEPS = (100, 120, 145, 170, 200, 240, 290, 350, 420, 500, 600, 710, 840)
# The upper bounds of the buckets in nanoseconds, from 100 microseconds to 10,000 seconds. One more bucket is for longer
# times.
BOUNDS: tuple[int, ...] = (*(step * 10**power for power in range(3, 11) for step in _STEPS), 10**13)
# By how much a bound is at most above the bound before it: how much too high a quantile may be.
RESOLUTION = max(after / before for before, after in pairwise(BOUNDS)) - 1

_REFUSED, _CLIENT_LEFT, _FAILED = 400, 499, 500


class Counts(NamedTuple):
    """Counts of answers in some time.

    Attributes:
        refused: replies 4xx.
        failed: replies 5xx.
        nanoseconds: how long all answers took together.
        buckets: the number of answers by the number of their bucket; buckets without answers are left out.
    """

    refused: int = 0
    failed: int = 0
    nanoseconds: int = 0
    buckets: Mapping[int, int] = {}

    @property
    def answered(self) -> int:
        """Return the number of answers."""
        return sum(self.buckets.values())

    def since(self, before: "Counts") -> "Counts":
        """Return the counts that a counter has added since an earlier reading."""
        earlier = before.buckets
        added = {place: n - earlier.get(place, 0) for place, n in self.buckets.items()}
        return Counts(
            self.refused - before.refused,
            self.failed - before.failed,
            self.nanoseconds - before.nanoseconds,
            {place: n for place, n in added.items() if n},
        )

    def quantile_ms(self, share: float) -> float | None:
        """Return a time in milliseconds that at least this share of the answers did not exceed.

        It is the upper bound of a bucket, at most RESOLUTION above the exact quantile, and at least 0.1. It is None if
        there are no answers, or if the quantile is above the last bound.
        """
        rank = math.ceil(share * self.answered)
        for place, n in sorted(self.buckets.items()):
            rank -= n
            if rank <= 0 and place < len(BOUNDS):
                return BOUNDS[place] / 1e6
        return None


NOTHING = Counts()


def total(counts: Iterable[Counts]) -> Counts:
    """Return the sum of counts."""
    refused = failed = nanoseconds = 0
    buckets: dict[int, int] = {}
    for one in counts:
        refused += one.refused
        failed += one.failed
        nanoseconds += one.nanoseconds
        for place, n in one.buckets.items():
            buckets[place] = buckets.get(place, 0) + n
    return Counts(refused, failed, nanoseconds, buckets)


class AnswerCounter:
    """Count answers since the start of a process. One thread adds; any thread may read."""

    __slots__ = ("_buckets", "_failed", "_nanoseconds", "_refused")

    def __init__(self) -> None:
        self._buckets = [0] * (len(BOUNDS) + 1)
        self._refused = self._failed = self._nanoseconds = 0

    def answered(self, nanoseconds: int) -> None:
        """Count an answer that took this long."""
        self._buckets[bisect_left(BOUNDS, nanoseconds)] += 1
        self._nanoseconds += nanoseconds

    def replied(self, status: int, nanoseconds: int) -> None:
        """Count a reply by its HTTP status; its time counts if it is an answer."""
        if status < _REFUSED:
            self._buckets[bisect_left(BOUNDS, nanoseconds)] += 1
            self._nanoseconds += nanoseconds
        elif status >= _FAILED:
            self._failed += 1
        elif status != _CLIENT_LEFT:
            self._refused += 1

    def read(self) -> Counts:
        """Return the counts so far. The time of the newest answer may be missing; the next reading has it."""
        buckets = {place: n for place, n in enumerate(self._buckets.copy()) if n}
        return Counts(self._refused, self._failed, self._nanoseconds, buckets)


def new_counters() -> dict[str, AnswerCounter]:
    """Return a counter for each subject."""
    return {subject: AnswerCounter() for subject in SUBJECTS}
