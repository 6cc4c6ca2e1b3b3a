"""Arrivals of outcomes: how late after their start sessions become known, and what is the usual delay.

The follower sees when an outcome arrives: when it finds the session of an answer that waited for one. Reports at
plug-in arrive within minutes, a weekly import after up to a week.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from math import ceil

from zap.monitoring.matching import LIVE, MATCHED, NO_DRIVER, WAITING
from zap.monitoring.outcome_change import OutcomeChange

# The upper ends in hours of the classes of delays. A longer delay is no usual delay: older sessions were added.
LONGEST = timedelta(days=91)
CLASSES = (1, 2, 3, 6, 12, *(24 * day for day in range(1, LONGEST.days + 1)))
_WITHOUT = {WAITING, NO_DRIVER}
# On nine of ten days with arrivals, 95 % of the arrived sessions were not later. So one load of older sessions does not
# change the usual delay, but an import each week besides reports at plug-in does.
_OF_A_DAY = 0.95
_OF_DAYS = 0.9
# The usual delay is measured on this number of the newest days with arrivals.
_MOST_DAYS = 28


def arrived(changes: Iterable[OutcomeChange]) -> list[datetime]:
    """Return the starts of the sessions whose live outcomes arrive with changes.

    An outcome arrives when an answer that was followed before gets a session for the first time. If an answer gets its
    session as soon as it is followed, nobody knows when the session was stored.

    Args:
        changes: changes of outcomes.
    """
    return [
        after.asked_at + timedelta(seconds=after.lag_seconds)
        for _, *_, before, after in changes
        if before is not None
        and after is not None
        and (before.status in _WITHOUT and after.status == MATCHED and after.kind == LIVE)
        and after.lag_seconds is not None
    ]


def count_delays(starts: Iterable[datetime], now: datetime) -> Counter[int]:
    """Return how many sessions have arrived, by the class of their delay in hours.

    Args:
        starts: the starts of the sessions, as the drivers' wall time.
        now: the present moment, as the drivers' wall time.
    """
    places = (bisect_left(CLASSES, (now - start) / timedelta(hours=1)) for start in starts)
    return Counter(CLASSES[place] for place in places if place < len(CLASSES))


def usual_delay(days: Mapping[datetime, Mapping[int, int]]) -> timedelta | None:
    """Return within which time after their start sessions are usually known; None if no outcome has arrived.

    Args:
        days: for each day, how many outcomes arrived, by the class of their delay.
    """
    newest = sorted(days)[-_MOST_DAYS:]
    of_days = sorted(_quantile(days[day]) for day in newest)
    if not of_days:
        return None
    return timedelta(hours=of_days[ceil(_OF_DAYS * len(of_days)) - 1])


def _quantile(counts: Mapping[int, int]) -> int:
    """Return the class of a day within which 95 % of its arrivals lie."""
    needed, seen = _OF_A_DAY * sum(counts.values()), 0
    for hours, count in sorted(counts.items()):
        seen += count
        if seen >= needed:
            return hours
    return CLASSES[-1]
