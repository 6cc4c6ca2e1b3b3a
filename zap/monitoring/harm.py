"""Harm: the version that serves is worse than its test promised, or worse than its best baseline.

The alarm that wakes somebody. Each day gives an e-value for each check (the promise, the baseline) and each window of
recent days, E[e] <= 1 if there is no harm. M is the sum of the e-values of all days, averaged over checks and windows,
and the alarm is raised at M >= c. As in `zap.monitoring.drift`, P(false alarm within T days) <= T / c (Shin, Ramdas and
Rinaldo, arXiv 2203.03532). The e-values are bets on bounded scores, see `zap.monitoring.betting`. To track the risk of
a model by bounds that hold at any time is the idea of Podkopaev and Ramdas (Tracking the risk of a deployed model and
detecting harmful distribution shifts, ICLR 2022, arXiv 2110.06177). `tests/simulations/harm.py` measures the rate and
the delay.

A window is whole weeks, because Sunday's drivers are harder or easier than Monday's, and in a window a driver counts
once, with the mean of its sessions, because a driver's sessions are alike.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import exp
from typing import Any, Literal, Self

import numpy as np

from zap.ml.intervals import effective_drivers
from zap.monitoring.betting import log_capital, lower_bound
from zap.monitoring.driver_means import driver_means
from zap.sentences import say

# Alarms of harm are false at most so often a year, if there is no harm.
FALSE_A_YEAR = 0.05
DAYS_A_YEAR = 365
THRESHOLD = DAYS_A_YEAR / FALSE_A_YEAR
# The days that are judged together.
WINDOWS = (7, 28, 91)
# So much worse than promised is no harm yet, on the scale of the halved Brier score.
TOLERANCE = 0.02
# The lower bound that an alarm shows, and without which none is raised, holds with 95 %.
_BOUND = 0.05
# The judged days that are kept for people.
MOST_JUDGED = 371
# Standard errors of a one-sided 95 % interval.
_ONE_SIDED = 1.645
_MOST_LOG = 600.0

Check = Literal["promise", "baseline"]
CHECKS: tuple[Check, ...] = ("promise", "baseline")


def promised(
    days: np.ndarray, drivers: np.ndarray, scores: np.ndarray, tolerance: float = TOLERANCE
) -> dict[int, float]:
    """Return for each window the mean score up to which there is no harm.

    It is the mean of all windows in the test, made as in production (a driver counts once a window), plus the
    tolerance, plus 1.645 standard errors over drivers, because the test has few drivers. A window that is longer than
    the test is not promised anything: it has drivers who come rarely, and whose sessions are harder. A test of less
    than a week counts as a week.

    Args:
        days: for each test session the number of its day.
        drivers: the code of its driver.
        scores: its halved Brier score.
        tolerance: how much worse is no harm yet.
    """
    if not len(days):
        return {}
    length = int(days.max() - days.min()) + 1
    whole = [window for window in WINDOWS if window <= length] or WINDOWS[:1]
    return {window: tolerance + _highest_mean(days, drivers, scores, min(window, length)) for window in whole}


def _highest_mean(days: np.ndarray, drivers: np.ndarray, scores: np.ndarray, window: int) -> float:
    """Return the mean score of drivers in windows of so many days, plus 1.645 standard errors."""
    who, means = [], []
    for last in range(int(days.min()) + window - 1, int(days.max()) + 1):
        inside = (days > last - window) & (days <= last)
        who.append(np.unique(drivers[inside]))
        means.extend(driver_means(drivers[inside], scores[inside]))
    people, values = np.concatenate(who), np.concatenate(means)
    mean = float(values.mean())
    _, codes = np.unique(people, return_inverse=True)
    apart = np.bincount(codes, values - mean)
    error = float(np.sqrt((apart**2).sum())) / len(values) if effective_drivers(people) > 1 else 0.5
    return mean + _ONE_SIDED * error


@dataclass(frozen=True)
class Window:
    """The drivers, or groups of drivers, of the latest days, each once.

    Attributes:
        scores: the mean halved Brier score of the version, for each driver or group.
        differences: the mean of the version's score minus the baseline's, for each driver or group; -1 to 1.
    """

    scores: np.ndarray
    differences: np.ndarray


@dataclass(frozen=True)
class Harm:
    """An alarm, or why it still stands.

    Attributes:
        day: the number of the day.
        check: what the version is worse than.
        window: the days that show it.
        drivers: how many drivers these days have.
        mean: the mean score of the drivers, or the mean difference to the baseline.
        limit: the mean up to which there is no harm.
        lower: the mean is below this with a probability of at most 5 %, in these days alone.
        evidence: M, which reached the threshold.
    """

    day: int
    check: Check
    window: int
    drivers: int
    mean: float
    limit: float
    lower: float
    evidence: float

    def in_words(self) -> str:
        """Return what is worse, and by how much."""
        if self.check == "baseline":
            return say(
                "The version is worse than its best baseline for {drivers:,} drivers of the last {window} days: its"
                " Brier score (0 to 1, halved) is higher by {mean:.3f}, and by {lower:.3f} at least.",
                **asdict(self),
            )
        return say(
            "The version is worse than its test promised for {drivers:,} drivers of the last {window} days: its Brier"
            " score (0 to 1, halved) is {mean:.3f}, and {lower:.3f} at least. Up to {limit:.3f} was no harm.",
            **asdict(self),
        )


@dataclass(frozen=True)
class JudgedDay:
    """What people see of a judged day. The keys are a check and a window, such as `promise 7`.

    Attributes:
        day: the number of the day.
        sums: the evidence of each check and window after this day, before an alarm uses it up.
        means: the mean score of the drivers, or the mean difference to the baseline.
        limits: the mean up to which there is no harm.
        drivers: how many drivers, or groups of drivers, the window has.
    """

    day: int
    sums: dict[str, float]
    means: dict[str, float]
    limits: dict[str, float]
    drivers: dict[str, int]


@dataclass
class HarmState:
    """All that the watch remembers, as plain numbers.

    Attributes:
        first_day: the first whole day on which the version served. A window does not reach back before it.
        last_day: the day that was added last.
        sums: for each check and window (`promise 7`), the sum of the e-values since the last alarm.
        raised: the standing alarm.
        judged: the newest judged days, at most MOST_JUDGED. No decision depends on them.
    """

    first_day: int
    last_day: int
    sums: dict[str, float] = field(default_factory=dict)
    raised: Harm | None = None
    judged: list[JudgedDay] = field(default_factory=list)

    @classmethod
    def beginning(cls, day: int) -> Self:
        """Return the state before the first whole day.

        Args:
            day: the number of that day.
        """
        return cls(day, day - 1)

    def to_plain(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Return the state that `to_plain` described."""
        raised = Harm(**plain["raised"]) if plain["raised"] else None
        # A state that an older zap stored has no judged days.
        judged = [JudgedDay(**day) for day in plain.get("judged", ())]
        return cls(plain["first_day"], plain["last_day"], dict(plain["sums"]), raised, judged)


class HarmWatch:
    """The harm of one version. The windows of a day go in, an alarm comes out."""

    def __init__(self, limits: Mapping[int, float], state: HarmState, threshold: float = THRESHOLD) -> None:
        self.limits = limits
        self.state = state
        self.threshold = threshold

    def add_day(self, day: int, windows: Mapping[int, Window]) -> Harm | None:
        """Add the e-values of a day, and return the alarm that this day raises; None if it raises none.

        While an alarm stands, none is raised; it is over when the window that raised it is no longer above its limit.

        Args:
            day: the number of the day. A day that was added before changes nothing.
            windows: what `zap.monitoring.harm_days.windows_until` returned.
        """
        state = self.state
        if day <= state.last_day:
            return None
        state.last_day = day
        if state.raised is not None:
            scores, limit = self._asked(state.raised.check, state.raised.window, windows)
            if len(scores) and scores.mean() > limit:
                return None
            state.raised = None
        for check in CHECKS:
            for window in WINDOWS:
                scores, limit = self._asked(check, window, windows)
                if state.first_day <= day - window + 1 and len(scores):
                    e = exp(min(log_capital(scores, limit), _MOST_LOG))
                    state.sums[f"{check} {window}"] = state.sums.get(f"{check} {window}", 0.0) + e
        self._keep(day, windows)
        evidence = evidence_of(state.sums)
        if evidence < self.threshold:
            return None
        return self._alarm(day, windows, evidence)

    def _keep(self, day: int, windows: Mapping[int, Window]) -> None:
        """Keep what people see of a judged day, and forget the oldest one."""
        means, limits, drivers = {}, {}, {}
        for name in self.state.sums:
            check, window = _named(name)
            scores, limit = self._asked(check, window, windows)
            if len(scores):
                mean = float(scores.mean())
                means[name], limits[name] = _shown(check, mean, limit)
                drivers[name] = len(scores)
        self.state.judged.append(JudgedDay(day, dict(self.state.sums), means, limits, drivers))
        del self.state.judged[:-MOST_JUDGED]

    def _asked(self, check: Check, window: int, windows: Mapping[int, Window]) -> tuple[np.ndarray, float]:
        """Return scores between 0 and 1, and the mean up to which there is no harm."""
        if check == "baseline":
            return (windows[window].differences + 1) / 2, 0.5
        return windows[window].scores, min(self.limits.get(window, 1.0), 1.0)

    def _alarm(self, day: int, windows: Mapping[int, Window], evidence: float) -> Harm | None:
        """Return the alarm of the check with most evidence among the checks that the newest window confirms."""
        for name in sorted(self.state.sums, key=lambda name: -self.state.sums[name]):
            asked, window = _named(name)
            scores, limit = self._asked(asked, window, windows)
            if (lower := lower_bound(scores, _BOUND)) > limit:
                mean = float(scores.mean())
                if asked == "baseline":
                    mean, limit, lower = 2 * mean - 1, 0.0, 2 * lower - 1
                self.state.sums = {}
                self.state.raised = Harm(day, asked, window, len(scores), mean, limit, lower, evidence)
                return self.state.raised
        return None


def evidence_of(sums: Mapping[str, float]) -> float:
    """Return M: the sums of all checks and windows, averaged."""
    return sum(sums.values()) / (len(CHECKS) * len(WINDOWS))


def _named(name: str) -> tuple[Check, int]:
    """Return the check and the window of a key of the sums."""
    check, _, days = name.partition(" ")
    return "baseline" if check == "baseline" else "promise", int(days)


def _shown(check: Check, mean: float, limit: float) -> tuple[float, float]:
    """Return the mean and the limit as people read them: the difference to the baseline has no harm up to 0."""
    return (2 * mean - 1, 0.0) if check == "baseline" else (mean, limit)
