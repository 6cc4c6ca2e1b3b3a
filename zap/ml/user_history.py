"""What a driver plugged into before, and when: one driver's past in O(1) state, and the mix of all drivers.

Training walks the sessions of every driver in time order through `UserHistory`; serving asks the same class. At a
moment are known: the type, start, charge and distance of sessions that started strictly earlier, and the energy and
duration of those that had ended. Sessions with equal starts do not see each other.

Mixes by vehicle model, by site, and the overall mix as columns of their own were tried on real sessions and did not
hold up over rolling windows; the overall mix is what a driver's shares are smoothed towards.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

# How many sessions of the driver's own the usual mix weighs as much as.
PRIOR_WEIGHT = 1.0
# After how long a session counts half in the recent share.
HALF_LIFE_DAYS = 21

_MISSING = math.nan
_HOUR = 3600
DAY = 24 * _HOUR
_WEEK = 7 * DAY
_BUCKET = 6 * _HOUR
_HALF_LIFE = HALF_LIFE_DAYS * DAY
# More sessions in a week are no driver's, and a session that is still open after so many later ones never counts as
# ended: the state stays small.
_MOST_IN_A_WEEK = 100
_MOST_OPEN = 20

# Of each charger type, in its order; then those of the driver.
_TYPE_COLUMNS = (
    "share",
    "share_time_of_day",
    "share_day_kind",
    "share_recent",
    "mean_state_of_charge",
    "mean_distance",
)
_DRIVER_COLUMNS = (
    "sessions",
    "sessions_time_of_day",
    "types_used",
    "last_type",
    "second_last_type",
    "third_last_type",
    "same_type_in_a_row",
    "hours_since_last",
    "hours_since_second_last",
    "days_since_first",
    "sessions_in_7_days",
    "mean_energy",
    "last_energy",
    "largest_energy",
    "mean_duration",
    "last_duration",
    "largest_power",
)
# The columns that hold the place of a type, or -1 for one that was not learned from.
TYPE_CODES = ("last_type", "second_last_type", "third_last_type")


class PastSession(NamedTuple):
    """One session as it is remembered.

    Attributes:
        start: seconds on the wall clock since 1970-01-01.
        kind: the place of its charger type among those learned from; -1 for any other type.
        end: like start; None where it is not known, and then its energy and duration are not used.
        energy_kwh, duration_hours, state_of_charge, distance_km: NaN where missing.
    """

    start: int
    kind: int
    end: int | None = None
    energy_kwh: float = _MISSING
    duration_hours: float = _MISSING
    state_of_charge: float = _MISSING
    distance_km: float = _MISSING


class _Energy(NamedTuple):
    """What is remembered of the sessions that have ended: energies in kWh, durations in hours, power in kW."""

    energies: int = 0
    energy: float = 0.0
    last_energy: float = _MISSING
    largest_energy: float = _MISSING
    durations: int = 0
    duration: float = 0.0
    last_duration: float = _MISSING
    largest_power: float = _MISSING

    def with_session(self, session: PastSession) -> "_Energy":
        energies, energy, last_energy, largest_energy, durations, duration, last_duration, largest_power = self
        kwh, hours = session.energy_kwh, session.duration_hours
        if kwh == kwh:  # noqa: PLR0124 - the quickest test for NaN
            energies, energy, last_energy = energies + 1, energy + kwh, kwh
            largest_energy = kwh if not kwh <= largest_energy else largest_energy
        if hours == hours:  # noqa: PLR0124
            durations, duration, last_duration = durations + 1, duration + hours, hours
            if hours > 0 and kwh == kwh:  # noqa: PLR0124
                power = kwh / hours
                largest_power = power if not power <= largest_power else largest_power
        return _Energy(energies, energy, last_energy, largest_energy, durations, duration, last_duration, largest_power)


class PopulationHistory:
    """The mix of types of all drivers on the days before a moment.

    A model keeps it as it was when it was trained: after the last day that is counted the mix stays what it was.

    Args:
        counts: for each day (since 1970-01-01) how many sessions of each type started on it; kept as it is.
        n_types: how many types there are.
    """

    def __init__(self, counts: Mapping[int, Sequence[int]], n_types: int) -> None:
        self.counts = counts
        self._days = sorted(counts)
        # The mix before the first day is even; one session of each type keeps every share above zero.
        total = [1] * n_types
        self._mixes = [_shares(total)]
        for day in self._days:
            total = [before + count for before, count in zip(total, counts[day], strict=True)]
            self._mixes.append(_shares(total))

    def mix(self, at: int) -> list[float]:
        """The share of each type among all sessions that started on a day before that of `at`."""
        return self._mixes[bisect_left(self._days, at // DAY)]


class UserHistory:
    """One driver's past. `observe` takes sessions in order of their start; `features` changes nothing."""

    __slots__ = (
        "_buckets",
        "_day_kinds",
        "_ended",
        "_first",
        "_kinds",
        "_last",
        "_means",
        "_n_types",
        "_recent",
        "_second_last",
        "_streak",
        "_types",
        "_week",
        "newest",
        "sessions",
    )

    def __init__(self, n_types: int) -> None:
        self._n_types = n_types
        # The start of the newest session.
        self.newest: int | None = None
        self.sessions = 0
        self._first = self._second_last = 0
        self._types = [0] * n_types
        self._buckets = [[0] * n_types for _ in range(DAY // _BUCKET)]
        self._day_kinds = [[0] * n_types for _ in range(2)]
        self._recent = [0.0] * n_types
        # Of each type: how often the charge and the distance were known, and their sums.
        self._means = [[0, 0.0, 0, 0.0] for _ in range(n_types)]
        self._kinds = (_MISSING, _MISSING, _MISSING)
        self._streak = 0
        self._week: deque[int] = deque(maxlen=_MOST_IN_A_WEEK)
        # The last sessions; those that have been counted as ended have no end any more. What falls out depends on
        # starts alone: of a session that is open nobody knows yet when it will end.
        self._last: deque[PastSession] = deque(maxlen=_MOST_OPEN)
        self._ended = _Energy()

    def copy(self) -> "UserHistory":
        """The past as it is now: what either observes later the other does not know."""
        other = UserHistory.__new__(UserHistory)
        for name in self.__slots__:
            setattr(other, name, _copied(getattr(self, name)))
        return other

    def observe(self, session: PastSession) -> None:
        """Add a session that started no earlier than those before it.

        Raises:
            ValueError: it started earlier.
        """
        start, kind = session.start, session.kind
        last = self.newest
        if last is None:
            self._first = start
        elif start < last:
            raise ValueError(f"a session that started at {start} comes after one that started at {last}")
        else:
            self._second_last = last
            if start > last:
                fading = 0.5 ** ((start - last) / _HALF_LIFE)
                self._recent = [weight * fading for weight in self._recent]
        self.newest = start
        self.sessions += 1
        if kind >= 0:
            self._types[kind] += 1
            self._buckets[start % DAY // _BUCKET][kind] += 1
            self._day_kinds[_is_weekend(start)][kind] += 1
            self._recent[kind] += 1.0
            sums = self._means[kind]
            if session.state_of_charge == session.state_of_charge:
                sums[0] += 1
                sums[1] += session.state_of_charge
            if session.distance_km == session.distance_km:
                sums[2] += 1
                sums[3] += session.distance_km
        self._streak = self._streak + 1 if kind == self._kinds[0] else 1
        self._kinds = (float(kind), self._kinds[0], self._kinds[1])
        self._week.append(start)
        for place, ended in self._ended_by(start):
            self._ended = self._ended.with_session(ended)
            self._last[place] = ended._replace(end=None)
        self._last.append(session)

    def features(self, at: int, mix: Sequence[float]) -> list[float]:
        """The columns of `history_columns` as they are known at a moment.

        Args:
            at: seconds on the wall clock, later than the start of every session that was observed.
            mix: `PopulationHistory.mix(at)`, what the driver's shares are smoothed towards:
                (count + PRIOR_WEIGHT * mix) / (sessions + PRIOR_WEIGHT), and the shares by time of day and by
                weekend in the same way towards the driver's own.

        Raises:
            ValueError: a session that was observed started no earlier.
        """
        last = self.newest
        if last is None:
            return [*mix, *mix, *mix, *mix, *_nothing_known(self._n_types)]
        if at <= last:
            raise ValueError(f"at {at} the session that started at {last} is not known yet")
        share = _smoothed(self._types, mix)
        bucket = self._buckets[at % DAY // _BUCKET]
        fading = 0.5 ** ((at - last) / _HALF_LIFE)
        week_ago = at - _WEEK
        energy = self._ended
        for _, session in self._ended_by(at):
            energy = energy.with_session(session)
        several = self.sessions > 1
        return [
            *share,
            *_smoothed(bucket, share),
            *_smoothed(self._day_kinds[_is_weekend(at)], share),
            *_smoothed([weight * fading for weight in self._recent], mix),
            *[charge / known if known else _MISSING for known, charge, _, _ in self._means],
            *[distance / known if known else _MISSING for _, _, known, distance in self._means],
            self.sessions,
            sum(bucket),
            self._n_types - self._types.count(0),
            *self._kinds,
            self._streak,
            (at - last) / _HOUR,
            (at - self._second_last) / _HOUR if several else _MISSING,
            (at - self._first) / DAY,
            len([start for start in self._week if start >= week_ago]),
            energy.energy / energy.energies if energy.energies else _MISSING,
            energy.last_energy,
            energy.largest_energy,
            energy.duration / energy.durations if energy.durations else _MISSING,
            energy.last_duration,
            energy.largest_power,
        ]

    def _ended_by(self, at: int) -> list[tuple[int, PastSession]]:
        """Those of the last sessions that have ended since they were counted, with their places, in order of end."""
        ended = [(one.end, place, one) for place, one in enumerate(self._last) if one.end is not None and one.end <= at]
        return [(place, session) for _, place, session in sorted(ended)]


@cache
def nobody(n_types: int) -> UserHistory:
    """A driver without a past; not to be changed."""
    return UserHistory(n_types)


def walk(sessions: Iterable[PastSession], population: PopulationHistory, n_types: int) -> Iterator[list[float]]:
    """For each session of one driver, in order of start, the features that were known when it started.

    Sessions with equal starts do not see each other.
    """
    history = UserHistory(n_types)
    same_start: list[PastSession] = []
    known: list[float] = []
    for session in sessions:
        if not same_start or session.start != same_start[0].start:
            for earlier in same_start:
                history.observe(earlier)
            same_start.clear()
            known = history.features(session.start, population.mix(session.start))
        same_start.append(session)
        yield known


def history_columns(types: Sequence[str]) -> list[str]:
    """The names of what `features` gives, those of a type with the type in brackets."""
    return [*(f"{name}[{kind}]" for name in _TYPE_COLUMNS for kind in types), *_DRIVER_COLUMNS]


def type_columns(name: str, n_types: int) -> slice:
    """Where the columns of a name stand among `history_columns`, one for each type."""
    start = _TYPE_COLUMNS.index(name) * n_types
    return slice(start, start + n_types)


def driver_column(name: str, n_types: int) -> int:
    """Where a column of the driver stands among `history_columns`."""
    return len(_TYPE_COLUMNS) * n_types + _DRIVER_COLUMNS.index(name)


@cache
def _nothing_known(n_types: int) -> tuple[float, ...]:
    """The columns behind the shares of a driver without a past."""
    none_yet = {"sessions", "sessions_time_of_day", "types_used", "same_type_in_a_row", "sessions_in_7_days"}
    driver = [0.0 if name in none_yet else _MISSING for name in _DRIVER_COLUMNS]
    return (*[_MISSING] * (2 * n_types), *driver)


def _copied(value: Any) -> Any:
    """What is changed in place, once more; the rest as it is."""
    if isinstance(value, list):
        return [_copied(one) for one in value]
    return value.copy() if isinstance(value, deque) else value


def _smoothed(counts: Sequence[float], prior: Sequence[float]) -> list[float]:
    total = sum(counts) + PRIOR_WEIGHT
    return [(count + PRIOR_WEIGHT * share) / total for count, share in zip(counts, prior, strict=True)]


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total for count in counts]


def _is_weekend(at: int) -> bool:
    return (at // DAY + 3) % 7 >= 5  # 1970-01-01 was a Thursday
