"""Whether something happens much more often, or not at all any more, compared with the usual days.

A count X among N chances is doubted against a usual share p by e = exp((k X - (exp(k) - 1) p N) / c), where k > 0 bets
on more and k < 0 on fewer. If things happen in independent clusters of at most c, at a mean rate of at most p (for
k > 0), then e is a supermartingale with E[e] <= 1 at any moment at which somebody looks (the exponential martingale of
a Poisson process, and the convexity of exp: see Howard, Ramdas, McAuliffe and Sekhon, Time-uniform Chernoff bounds via
nonnegative supermartingales, Probability Surveys 2020, arXiv 1808.03204). By Ville's inequality P(e >= E at any look)
<= 1 / E. A new e begins each day, so with E = 365 / .05 an alarm is false at most once in twenty years.

p and c are not known, but estimated from the usual days, with room on the safe side.
`tests/simulations/usual_counts.py` measures how often the alarms are false then.
"""

from collections.abc import Sequence
from datetime import date
from math import exp, log
from typing import NamedTuple

# Each of the two alarms is false at most this often a year.
FALSE_A_YEAR = 0.05
_DAYS_A_YEAR = 365
_LOG_THRESHOLD = log(_DAYS_A_YEAR / FALSE_A_YEAR)
# The number of usual days, and the fewest days from which a usual share is computed.
USUAL_DAYS = 28
FEWEST_DAYS = 14
# The bets on more: on one and a half times, twice, four times and ten times the usual share.
_MORE = tuple(map(log, (1.5, 2.0, 4.0, 10.0)))
# The estimated size of clusters is multiplied by this, because four weeks do not show the largest cluster.
_LARGER = 2.0
# Fewer refused requests, or a smaller share of the requests of a day, raise no alarm.
_FEWEST_REFUSED = 50
_LEAST_SHARE = 0.05
# A day with at least this many chances can end an alarm.
_WHOLE_DAY = 100


class DayCount(NamedTuple):
    """What was counted on one day.

    Attributes:
        day: the day.
        chances: how often it could have happened, such as the requests.
        times: how often it happened.
    """

    day: date
    chances: int
    times: int


class Unusual(NamedTuple):
    """What is not usual.

    Attributes:
        since: the first day of it.
        chances: how often it could have happened since.
        times: how often it happened since.
        usual_share: its usual share of the chances.
    """

    since: date
    chances: int
    times: int
    usual_share: float


def missing(days: Sequence[DayCount]) -> Unusual | None:
    """Return since when something does not happen any more; None if it still happens, or if this is not clear.

    Args:
        days: the days in order, without a day that is too young to be counted.
    """
    known = [one for one in days if one.chances]
    last = max((place for place, one in enumerate(known) if one.times), default=-1)
    silent, before = known[last + 1 :], known[: last + 1][-USUAL_DAYS:]
    usual = _usual(before)
    if not silent or usual is None:
        return None
    share, cluster = usual
    chances = sum(one.chances for one in silent)
    # The bet on nothing at all: k goes to minus infinity, and nothing has happened.
    if share * chances / cluster < _LOG_THRESHOLD:
        return None
    return Unusual(silent[0].day, chances, 0, share)


def risen(days: Sequence[DayCount]) -> Unusual | None:
    """Return that something happens much more often on the last day; None if it does not, or if this is not clear.

    Args:
        days: the days in order. The last day may not be over.
    """
    known = [one for one in days if one.chances]
    if not known:
        return None
    today, usual = known[-1], _usual(known[:-1][-USUAL_DAYS:])
    if usual is None or today.times < max(_FEWEST_REFUSED, _LEAST_SHARE * today.chances):
        return None
    share, cluster = usual
    expected = share * today.chances
    logs = [(k * today.times - (exp(k) - 1) * expected) / cluster for k in _MORE]
    largest = max(logs)
    evidence = largest + log(sum(exp(one - largest) for one in logs) / len(logs))
    return Unusual(today.day, today.chances, today.times, share) if evidence >= _LOG_THRESHOLD else None


def still_missing(days: Sequence[DayCount]) -> bool:
    """Return whether a standing alarm of `missing` goes on: nothing has happened on the last day with chances."""
    return next((one.times == 0 for one in reversed(days) if one.chances), True)


def still_risen(days: Sequence[DayCount], usual_share: float) -> bool:
    """Return whether a standing alarm of `risen` goes on: the share of the last day is not near the usual share.

    The morning of a day says little, so then the day before counts too.

    Args:
        days: the days in order.
        usual_share: the usual share when the alarm was raised.
    """
    known = [one for one in days if one.chances]
    late = known[-1:] if known and known[-1].chances >= _WHOLE_DAY else known[-2:]
    chances, times = sum(one.chances for one in late), sum(one.times for one in late)
    return not late or times > max(_LEAST_SHARE, 2 * usual_share) * chances


def _usual(days: Sequence[DayCount]) -> tuple[float, float] | None:
    """Return the usual share, and the size of clusters; None if there are too few days.

    The size is the variance of the counts of days divided by their expected variance, at least one (Pearson's
    dispersion, see McCullagh and Nelder, Generalized Linear Models, 1989, section 6.2), twice. The share has half a
    count added, because a count of zero in four weeks does not prove that it never happens.
    """
    if len(days) < FEWEST_DAYS:
        return None
    chances = sum(one.chances for one in days)
    share = (sum(one.times for one in days) + 0.5) / (chances + 1)
    squares = sum((one.times - share * one.chances) ** 2 / (share * one.chances) for one in days)
    return share, _LARGER * max(1.0, squares / (len(days) - 1))
