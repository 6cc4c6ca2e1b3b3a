"""Ids of predictions that the follower has passed, and that a transaction which still runs may have.

PostgreSQL gives ids to transactions that may commit later than transactions with larger ids, or never.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

# No transaction of the log lasts longer. After this time the ids are given up: their transactions were rolled back.
LONGEST = timedelta(minutes=10)
# The most ranges of ids that are remembered; the oldest ones are given up first.
MOST = 1_000


class MissingIds(NamedTuple):
    """The ids from `first` to `last`, which were missing at the time `since` on the clock of the database."""

    first: int
    last: int
    since: datetime


def gaps(after: int, ids: Iterable[int], since: datetime) -> Iterator[MissingIds]:
    """Yield the ids that are missing after the id `after`, between ids in order."""
    for one in ids:
        if one > after + 1:
            yield MissingIds(after + 1, one - 1, since)
        after = one


def without(missing: Iterable[MissingIds], found: Sequence[int]) -> tuple[MissingIds, ...]:
    """Return the ranges without the ids that were found, which are in order."""
    left: list[MissingIds] = []
    for first, last, since in missing:
        inside = [one for one in found if first <= one <= last]
        left += gaps(first - 1, [*inside, last + 1], since)
    return tuple(left)


def young(missing: Sequence[MissingIds], now: datetime, *, aged: bool) -> tuple[MissingIds, ...]:
    """Return the ranges that a transaction may still have, at most MOST.

    Args:
        missing: the ranges, the newest last.
        now: the time on the clock of the database.
        aged: whether to leave out old ranges, because all of them have just been looked for.
    """
    return tuple(one for one in missing if not aged or now - one.since < LONGEST)[-MOST:]
