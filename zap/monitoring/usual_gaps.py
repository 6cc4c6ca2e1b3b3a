"""The usual gaps between arrivals: whether nothing has arrived for longer than the past lets one expect.

Reports each minute have gaps of a night, and imports each week have gaps of a week. So the longest gap of each week is
kept. It ends in this week, and a week without an arrival has none. If the logarithms x of n such gaps are normally
distributed, the next x is below

    mean(x) + t s sqrt(1 + 1/n),  s^2 = (v s0^2 + sum (x - mean(x))^2) / (v + n - 1)

with the probability 1 - q, where t is the quantile 1 - q of Student's distribution with v + n - 1 degrees of freedom
(the predictive distribution of Gelman et al., Bayesian Data Analysis, 3rd edition, section 3.3). v = 4 weeks with the
spread s0 = 0.25 are taken as known before. A year has at most 52 such gaps, so with q = .05 / 52 a gap is longer at
most once in twenty years. Real gaps have other distributions: an import fails, and the next import comes after twice
the usual gap, and a little late. So the limit is also 2.2 times the longest gap at least.
`tests/simulations/usual_gaps.py` measures how often the limit is passed.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from math import exp, log
from typing import NamedTuple

import numpy as np

# So often a year the limit is passed, if the gaps follow the past.
FALSE_A_YEAR = 0.05
_WEEKS_A_YEAR = 52
# The gaps of this time are remembered.
REMEMBERED = timedelta(weeks=_WEEKS_A_YEAR)
# With fewer weeks with a gap, nothing is known.
FEWEST = 4
_KNOWN_WEEKS, _KNOWN_SPREAD = 4, 0.25
_TIMES_LONGEST = 2.2
_HOUR = timedelta(hours=1)


class UsualGap(NamedTuple):
    """What is known about the gaps.

    Attributes:
        longest: the longest usual gap.
        limit: a longer gap is not usual.
    """

    longest: timedelta
    limit: timedelta


def usual_gap(arrivals: Sequence[datetime], alarms: Sequence[datetime], now: datetime) -> UsualGap | None:
    """Return the usual gap; None if too few gaps are known.

    The gaps of the first and of the present week do not count, because these weeks are not whole. A gap in which an
    alarm was raised was a fault, so it does not count either; but two such gaps are a new habit.

    Args:
        arrivals: the hours in which something arrived, in order.
        alarms: when alarms about gaps were raised.
        now: the present moment.
    """
    if not arrivals:
        return None
    whole = range(_week(arrivals[0]) + 1, _week(now))
    gaps = [(start, end) for start, end in pairwise(arrivals) if _week(end) in whole]
    # The hour of an arrival begins before it. No alarm is raised in this hour after the arrival, but perhaps before it.
    alarmed = {gap for gap in gaps if any(gap[0] + _HOUR <= at < gap[1] + _HOUR for at in alarms)}
    longest: dict[int, timedelta] = {}
    for start, end in gaps:
        if (start, end) not in alarmed or len(alarmed) > 1:
            longest[_week(end)] = max(longest.get(_week(end), timedelta(0)), end - start)
    if len(longest) < FEWEST:
        return None
    most = max(longest.values())
    return UsualGap(most, max(_TIMES_LONGEST * most, _predicted([gap / _HOUR for gap in longest.values()]) * _HOUR))


def _predicted(gaps: Sequence[float]) -> float:
    """Return the gap that the next longest gap of a week passes with the probability of FALSE_A_YEAR / 52."""
    from scipy.special import stdtrit  # noqa: PLC0415 - only a service without outcomes needs it

    logs = np.log(gaps)
    n, free = len(gaps), _KNOWN_WEEKS + len(gaps) - 1
    squares = _KNOWN_WEEKS * _KNOWN_SPREAD**2 + float(((logs - logs.mean()) ** 2).sum())
    t = float(stdtrit(free, 1 - FALSE_A_YEAR / _WEEKS_A_YEAR))
    # A longer gap than ten thousand hours is longer than what is remembered.
    return exp(min(float(logs.mean()) + t * (squares / free * (1 + 1 / n)) ** 0.5, log(1e4)))


def _week(moment: datetime) -> int:
    """Return the number of the week, which begins on Monday."""
    return (moment.toordinal() - 1) // 7
