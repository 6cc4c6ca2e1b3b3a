"""The past of one driver as a state of constant size.

Training and serving use `UserHistory`: training lets it observe every driver's sessions in time order. A session may
use the type, start, charge and distance of sessions that started strictly earlier, and the energy and duration of
sessions that had ended by its start. Sessions with equal starts do not use each other. `driver_columns.py` defines the
columns.
"""

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache

from zap.ml.driver_columns import DRIVER_COLUMNS, DriverColumns, PastSession

# The number of mixes for which the values of a driver without a past are remembered. There is one mix for each day.
_MOST_MIXES = 4096


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


@lru_cache(_MOST_MIXES)
def _without_past(mix: tuple[float, ...]) -> list[float]:
    """Return the values for a driver without a past. They depend on the mix, and not on the moment."""
    return _values([columns(len(mix)) for columns in DRIVER_COLUMNS], 0, mix)


def _values(states: Iterable[DriverColumns], at: int, mix: Sequence[float]) -> list[float]:
    values: list[float] = []
    for state in states:
        values += state.values(at, mix)
    return values
