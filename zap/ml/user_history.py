"""The past of one driver as a state of constant size, and the mix of charger types of all drivers.

Training and serving use `UserHistory`: training lets it observe every driver's sessions in time order. A session may
use the type, start, charge and distance of sessions that started strictly earlier, and the energy and duration of
sessions that had ended by its start. Sessions with equal starts do not use each other. `driver_columns.py` defines the
columns.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import tee

from zap.ml.driver_columns import DAY, DRIVER_COLUMNS, DriverColumns, PastSession

# The columns that hold the code of a type, or -1 for a type that is not learned.
TYPE_CODES = tuple(name for columns in DRIVER_COLUMNS for name in columns.type_codes)
# The number of mixes for which the values of a driver without a past are remembered. There is one mix for each day.
_MOST_MIXES = 4096


class PopulationHistory:
    """The mix of types of all drivers on the days before a moment.

    A model keeps the counts of its training sessions, so after the last counted day the mix does not change.

    Args:
        counts: for each day (since 1970-01-01) the number of started sessions of each type; it is not copied.
        n_types: the number of types.
    """

    def __init__(self, counts: Mapping[int, Sequence[int]], n_types: int) -> None:
        self.counts = counts
        # The number of counted sessions.
        self.sessions = sum(map(sum, counts.values()))
        self._days = sorted(counts)
        # The counts begin with one session of each type: no share is zero, and the mix before the first day is even.
        total = [1] * n_types
        self._mixes = [_shares(total)]
        for day in self._days:
            total = [before + count for before, count in zip(total, counts[day], strict=True)]
            self._mixes.append(_shares(total))

    def mix(self, at: int) -> list[float]:
        """Return the share of each type in all sessions that started before the day of `at`."""
        return self._mixes[bisect_left(self._days, at // DAY)]


class UserHistory:
    """The past of one driver. `observe` adds sessions in order of start; `features` does not change the state.

    Attributes:
        newest: the start of the newest session; None without a session.
        sessions: the number of sessions.
        states: the states of DRIVER_COLUMNS.
    """

    __slots__ = ("newest", "sessions", "states")

    def __init__(self, n_types: int) -> None:
        self.newest: int | None = None
        self.sessions = 0
        self.states = [columns(n_types) for columns in DRIVER_COLUMNS]

    def copy(self) -> "UserHistory":
        """Return an independent copy of this past."""
        other = UserHistory.__new__(UserHistory)
        other.newest, other.sessions = self.newest, self.sessions
        other.states = [state.copy() for state in self.states]
        return other

    def observe(self, session: PastSession) -> None:
        """Add a session. Sessions must be added in order of start.

        Raises:
            ValueError: the session started before the last observed session.
        """
        start, last = session.start, self.newest
        if last is not None and start < last:
            raise ValueError(f"a session that started at {start} was observed after one that started at {last}")
        self.newest = start
        self.sessions += 1
        for state in self.states:
            state.observe(session)

    def features(self, at: int, mix: Sequence[float]) -> list[float]:
        """Return the values of `history_columns` that are known at a moment.

        Args:
            at: seconds on the wall clock since 1970-01-01, after the start of every observed session.
            mix: the mix at that moment, `PopulationHistory.mix(at)`.

        Raises:
            ValueError: an observed session started at that moment or later.
        """
        last = self.newest
        if last is None:
            return [*_without_past(tuple(mix))]
        if at <= last:
            raise ValueError(
                f"the features at {at} were asked for, but a session that started at {last} is observed already"
            )
        return _values(self.states, at, mix)


@cache
def no_past(n_types: int) -> UserHistory:
    """Return the shared past of drivers without sessions. It must not be changed."""
    return UserHistory(n_types)


def walk(sessions: Iterable[PastSession], population: PopulationHistory, n_types: int) -> Iterator[list[float]]:
    """Yield the history columns of each session of one driver, as known when the session started.

    Sessions with equal starts do not use each other.

    Args:
        sessions: the driver's sessions, in order of start.
        population: the mix of all drivers.
        n_types: the number of learned charger types.
    """
    past, asked = tee(sessions)
    return known_at(past, (session.start for session in asked), population, n_types)


def known_at(
    sessions: Iterable[PastSession], moments: Iterable[int], population: PopulationHistory, n_types: int
) -> Iterator[list[float]]:
    """Yield the history columns of one driver at each moment.

    Args:
        sessions: the driver's sessions, in order of start. At a moment, the sessions that started strictly earlier are
            known.
        moments: seconds on the wall clock since 1970-01-01, in order.
        population: the mix of all drivers.
        n_types: the number of learned charger types.
    """
    history = UserHistory(n_types)
    following = iter(sessions)
    session = next(following, None)
    last: int | None = None
    known: list[float] = []
    for at in moments:
        while session is not None and session.start < at:
            history.observe(session)
            session = next(following, None)
        if at != last:
            known, last = history.features(at, population.mix(at)), at
        yield known


def history_columns(types: Sequence[str]) -> list[str]:
    """Return the names of the values of `UserHistory.features`. A column of a type has the type in brackets."""
    names: list[str] = []
    for columns in DRIVER_COLUMNS:
        names += [f"{name}[{type_}]" for name in columns.by_type for type_ in types]
        names += columns.of_driver
    return names


def share_columns(types: Sequence[str]) -> list[str]:
    """Return the names of the columns with a driver's share of each type."""
    return [f"share[{type_}]" for type_ in types]


def type_columns(name: str, n_types: int) -> slice:
    """Return the places in `history_columns` of the columns with this name, one for each type."""
    start = driver_column(f"{name}[0]", n_types)
    return slice(start, start + n_types)


def driver_column(name: str, n_types: int) -> int:
    """Return the place in `history_columns` of a column of the driver."""
    return history_columns([str(code) for code in range(n_types)]).index(name)


@lru_cache(_MOST_MIXES)
def _without_past(mix: tuple[float, ...]) -> list[float]:
    """Return the values for a driver without a past. They depend on the mix, and not on the moment."""
    return _values([columns(len(mix)) for columns in DRIVER_COLUMNS], 0, mix)


def _values(states: Iterable[DriverColumns], at: int, mix: Sequence[float]) -> list[float]:
    values: list[float] = []
    for state in states:
        values += state.values(at, mix)
    return values


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total for count in counts]
