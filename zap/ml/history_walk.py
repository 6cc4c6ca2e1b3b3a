"""A walk through the sessions of one driver: the columns of the past as they were known at each moment."""

from collections.abc import Iterable, Iterator
from itertools import tee

from zap.ml.driver_columns import PastSession
from zap.ml.population_history import PopulationHistory
from zap.ml.user_history import UserHistory


def walk(
    sessions: Iterable[PastSession],
    population: PopulationHistory,
    n_types: int,
    asked_before: int = 0,
    delay: int = 0,
) -> Iterator[list[float]]:
    """Yield the columns of the past of each session of one driver, as known when the session started.

    Sessions with equal starts do not use each other.

    Args:
        sessions: the driver's sessions, in order of start.
        population: the mix of all drivers.
        n_types: the number of learned charger types.
        asked_before: as in `known_at`.
        delay: as in `known_at`.
    """
    past, asked = tee(sessions)
    return known_at(past, (session.start for session in asked), population, n_types, asked_before, delay)


def known_at(  # noqa: PLR0913, PLR0917
    sessions: Iterable[PastSession],
    moments: Iterable[int],
    population: PopulationHistory,
    n_types: int,
    asked_before: int = 0,
    delay: int = 0,
) -> Iterator[list[float]]:
    """Yield the columns of the past of one driver at each moment.

    Args:
        sessions: the driver's sessions, in order of start. At a moment, the sessions are known that started more than
            `delay` before it.
        moments: seconds on the wall clock since 1970-01-01, in order.
        population: the mix of all drivers.
        n_types: the number of learned charger types.
        asked_before: how many minutes before each moment the driver asked.
        delay: how many minutes after their start sessions are stored. The mix of all drivers counts the days whose
            sessions were stored when the driver asked.
    """
    before, late = 60 * (asked_before + delay), 60 * delay
    history = UserHistory(n_types)
    following = iter(sessions)
    session = next(following, None)
    last: int | None = None
    known: list[float] = []
    for at in moments:
        while session is not None and session.start < at - late:
            history.observe(session)
            session = next(following, None)
        if at != last:
            known, last = history.features(at, population.mix(at - before)), at
        yield known
