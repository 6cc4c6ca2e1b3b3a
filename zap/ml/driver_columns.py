"""The columns of a driver's past. Each class defines columns that share a state: their names, the state, their values.

To add a column, write a class and add it to DRIVER_COLUMNS. If the state of an existing class suffices, extend that
class instead.

The mix by vehicle model, the mix by site, and the overall mix were tried as columns on real sessions. They did not
improve the scores over rolling windows, so the overall mix only smooths a driver's shares.
"""

# ruff: noqa: ARG002 - each class of columns needs only some of the arguments

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

# The weight of the overall mix in a driver's shares, in sessions.
PRIOR_WEIGHT = 1.0
# The time after which a session has half its weight in the recent share.
HALF_LIFE_DAYS = 21

_MISSING = math.nan
_HOUR = 3600
DAY = 24 * _HOUR
_WEEK = 7 * DAY
_HOURS = 24
_BUCKET = 6 * _HOUR
_HALF_LIFE = HALF_LIFE_DAYS * DAY
# The weight of a near session is a bell curve of the hours between the sessions, with this width. It ends after
# _FARTHEST hours. For a session on the other kind of day, the weight is multiplied by _OTHER_DAY_KIND.
_WIDTH = 2.0
_FARTHEST = 4
_OTHER_DAY_KIND = 0.5
# These two numbers bound the size of the state. At most _MOST_IN_A_WEEK sessions of a week are counted. A session that
# is still open after _MOST_OPEN later sessions is dropped, and never counts as ended.
_MOST_IN_A_WEEK = 100
_MOST_OPEN = 20


class PastSession(NamedTuple):
    """A past session of a driver.

    Attributes:
        start: seconds on the wall clock since 1970-01-01.
        type_code: the place of the charger type in the learned types; -1 for any other type.
        end: seconds on the wall clock since 1970-01-01; None if the end is not known. Without an end, the energy and
            the duration are not used.
        energy_kwh, duration_hours, state_of_charge, distance_km: NaN where missing.
    """

    start: int
    type_code: int
    end: int | None = None
    energy_kwh: float = _MISSING
    duration_hours: float = _MISSING
    state_of_charge: float = _MISSING
    distance_km: float = _MISSING


class DriverColumns(ABC):
    """The columns of a driver's past that share a state.

    A subclass defines its columns completely: their names, the state, how a session changes it, and the values at a
    moment. The state of a new object is the state of a driver without a past. It holds numbers, tuples, lists and
    deques, and its size has a bound.

    Attributes:
        by_type: the names of the columns that have a value for each charger type.
        of_driver: the names of the columns that have one value. They follow the columns by type.
        type_codes: the columns of `of_driver` that hold the code of a type, or -1 for a type that is not learned.
    """

    by_type: ClassVar[tuple[str, ...]] = ()
    of_driver: ClassVar[tuple[str, ...]] = ()
    type_codes: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def __init__(self, n_types: int) -> None:
        """Start with the state of a driver without a past."""

    @abstractmethod
    def observe(self, session: PastSession) -> None:
        """Add a session to the state. Sessions come in order of start."""

    @abstractmethod
    def values(self, at: int, mix: Sequence[float]) -> list[float]:
        """Return the values at a moment, NaN where missing. Do not change the state.

        For a driver without a past the values must not depend on the moment.

        Args:
            at: seconds on the wall clock since 1970-01-01, after the start of every observed session.
            mix: the share of each type in the sessions of all drivers.
        """

    def copy(self) -> Self:
        """Return an independent copy."""
        other = object.__new__(type(self))
        for name, value in vars(self).items():
            setattr(other, name, _copied(value))
        return other


def _near_weights() -> np.ndarray:
    """Return the weight of a session of each hour for each other hour: first 24 hours of weekdays, then of weekends."""
    hours = np.arange(_HOURS)
    away = np.abs(hours[:, None] - hours)
    bell = [math.exp(-0.5 * (hour / _WIDTH) ** 2) if hour <= _FARTHEST else 0.0 for hour in hours.tolist()]
    same_kind = np.array(bell)[np.minimum(away, _HOURS - away)]
    other_kind = same_kind * _OTHER_DAY_KIND
    return np.block([[same_kind, other_kind], [other_kind, same_kind]])


# A list of rows, because a list gives a row in less time than an array.
_NEAR_WEIGHTS = [*_near_weights()]


class Shares(DriverColumns):
    """The share of each type in four groups of sessions: all, at this time of day, on this kind of day, at near hours.

    A time of day is a quarter of a day. The kinds of day are weekdays and weekends. The closer the hour of day of a
    near session is, the more weight the session has. It has less weight if its kind of day differs. The mix of all
    drivers smooths the share in all sessions, and this share smooths the other shares.
    """

    by_type = ("share", "share_time_of_day", "share_day_kind", "share_near")

    def __init__(self, n_types: int) -> None:
        self.counts = [0] * n_types
        self.by_bucket = [[0] * n_types for _ in range(DAY // _BUCKET)]
        self.by_day_kind = [[0] * n_types for _ in range(2)]
        # For each type: the sums of the weights of near sessions, for 24 hours of weekdays and then 24 of weekends.
        self.near = np.zeros((n_types, 2 * _HOURS))

    def observe(self, session: PastSession) -> None:
        start, code = session.start, session.type_code
        if code >= 0:
            second, weekend = start % DAY, _is_weekend(start)
            self.counts[code] += 1
            self.by_bucket[second // _BUCKET][code] += 1
            self.by_day_kind[weekend][code] += 1
            # One addition for all hours takes less time than one addition for each near hour. A weight of 0 changes
            # no bit.
            near = self.near[code]
            near += _NEAR_WEIGHTS[_HOURS * weekend + second // _HOUR]

    def values(self, at: int, mix: Sequence[float]) -> list[float]:
        second, weekend = at % DAY, _is_weekend(at)
        in_bucket, of_kind = self.by_bucket[second // _BUCKET], self.by_day_kind[weekend]
        near = self.near[:, _HOURS * weekend + second // _HOUR].tolist()
        # The formula of `_smoothed` for all groups in one loop, because a call for each group takes one and a half
        # times as long.
        sessions, of_bucket, of_day_kind, of_near = (
            sum(self.counts) + PRIOR_WEIGHT,
            sum(in_bucket) + PRIOR_WEIGHT,
            sum(of_kind) + PRIOR_WEIGHT,
            sum(near) + PRIOR_WEIGHT,
        )
        share: list[float] = []
        time_of_day: list[float] = []
        day_kind: list[float] = []
        share_near: list[float] = []
        # The lengths are equal; checking them would take time.
        for count, bucket_count, kind_count, weight, prior in zip(self.counts, in_bucket, of_kind, near, mix):  # noqa: B905
            one = (count + PRIOR_WEIGHT * prior) / sessions
            drawn = PRIOR_WEIGHT * one
            share.append(one)
            time_of_day.append((bucket_count + drawn) / of_bucket)
            day_kind.append((kind_count + drawn) / of_day_kind)
            share_near.append((weight + drawn) / of_near)
        return share + time_of_day + day_kind + share_near


class RecentShares(DriverColumns):
    """The share of each type in weighted sessions: a session loses half its weight every HALF_LIFE_DAYS."""

    by_type = ("share_recent",)

    def __init__(self, n_types: int) -> None:
        self.newest = -math.inf
        # The sum of the weights of each type's sessions, at the newest start.
        self.weights = [0.0] * n_types

    def observe(self, session: PastSession) -> None:
        self.weights = self._weights_at(session.start)
        self.newest = session.start
        if session.type_code >= 0:
            self.weights[session.type_code] += 1.0

    def values(self, at: int, mix: Sequence[float]) -> list[float]:
        return _smoothed(self._weights_at(at), mix)

    def _weights_at(self, at: int) -> list[float]:
        fading = 0.5 ** ((at - self.newest) / _HALF_LIFE)
        return [weight * fading for weight in self.weights]


class Means(DriverColumns):
    """The mean charge (%) and the mean distance (km) at the start of the sessions of each type."""

    by_type = ("mean_state_of_charge", "mean_distance")

    def __init__(self, n_types: int) -> None:
        # For each type: how many values are known, and their sum.
        self.charges = [[0, 0.0] for _ in range(n_types)]
        self.distances = [[0, 0.0] for _ in range(n_types)]

    def observe(self, session: PastSession) -> None:
        code, charge, distance = session.type_code, session.state_of_charge, session.distance_km
        if code >= 0:
            if charge == charge:  # noqa: PLR0124 - the quickest test for NaN
                known = self.charges[code]
                known[0] += 1
                known[1] += charge
            if distance == distance:  # noqa: PLR0124
                known = self.distances[code]
                known[0] += 1
                known[1] += distance

    def values(self, at: int, mix: Sequence[float]) -> list[float]:
        return [total / known if known else _MISSING for known, total in self.charges + self.distances]


class Counts(DriverColumns):
    """The number of the driver's sessions, the number at this time of day, and the number of types used."""

    of_driver = ("sessions", "sessions_time_of_day", "types_used")

    def __init__(self, n_types: int) -> None:
        self.sessions = 0
        self.by_bucket = [0] * (DAY // _BUCKET)
        self.used = [0] * n_types

    def observe(self, session: PastSession) -> None:
        self.sessions += 1
        if session.type_code >= 0:
            self.by_bucket[session.start % DAY // _BUCKET] += 1
            self.used[session.type_code] = 1

    def values(self, at: int, mix: Sequence[float]) -> list[float]:
        return [self.sessions, self.by_bucket[at % DAY // _BUCKET], sum(self.used)]


class TypesUsed(DriverColumns):
    """For each type the number of sessions that used it, and the days since the last of these sessions."""

    by_type = ("sessions_of_type", "days_since_type")

    def __init__(self, n_types: int) -> None:
        self.sessions = [0] * n_types
        self.last = [_MISSING] * n_types

    def observe(self, session: PastSession) -> None:
        if session.type_code >= 0:
            self.sessions[session.type_code] += 1
            self.last[session.type_code] = session.start

    def values(self, at: int, mix: Sequence[float]) -> list[float]:
        return self.sessions + [(at - last) / DAY for last in self.last]


class LastTypes(DriverColumns):
    """The types of the last three sessions, and the number of last sessions in a row that used one type."""

    type_codes = ("last_type", "second_last_type", "third_last_type")
    of_driver = (*type_codes, "same_type_in_a_row")

    def __init__(self, n_types: int) -> None:
        self.last = (_MISSING, _MISSING, _MISSING)
        self.in_a_row = 0

    def observe(self, session: PastSession) -> None:
        last, second, _ = self.last
        code = float(session.type_code)
        self.in_a_row = self.in_a_row + 1 if code == last else 1
        self.last = (code, last, second)

    def values(self, at: int, mix: Sequence[float]) -> list[float]:
        return [*self.last, self.in_a_row]


class Starts(DriverColumns):
    """The times since some of the driver's sessions (hours, days), and the number of sessions within seven days."""

    of_driver = ("hours_since_last", "hours_since_second_last", "days_since_first", "sessions_in_7_days")

    def __init__(self, n_types: int) -> None:
        self.first = self.second_last = self.last = _MISSING
        self.newest: deque[int] = deque(maxlen=_MOST_IN_A_WEEK)

    def observe(self, session: PastSession) -> None:
        if not self.newest:
            self.first = session.start
        self.second_last, self.last = self.last, session.start
        self.newest.append(session.start)

    def values(self, at: int, mix: Sequence[float]) -> list[float]:
        return [
            (at - self.last) / _HOUR,
            (at - self.second_last) / _HOUR,
            (at - self.first) / DAY,
            len(self.newest) - bisect_left(self.newest, at - _WEEK),
        ]


# A summary of numbers: their count, their sum, the last number, and the largest number.
_Numbers = tuple[int, float, float, float]
_NO_NUMBERS: _Numbers = (0, 0.0, _MISSING, _MISSING)


class Energies(DriverColumns):
    """The energy (kWh), duration (hours) and mean power (kW) of the sessions that have ended."""

    of_driver = ("mean_energy", "last_energy", "largest_energy", "mean_duration", "last_duration", "largest_power")

    def __init__(self, n_types: int) -> None:
        self.sessions = 0
        self.ended = (_NO_NUMBERS, _NO_NUMBERS, _NO_NUMBERS)
        # Each session that `ended` does not count yet, after its end and its number. How long a session may wait here
        # depends on the number of later starts, because the end of an open session is not known yet.
        self.open: list[tuple[int, int, PastSession]] = []

    def observe(self, session: PastSession) -> None:
        start, end = session.start, session.end
        self.sessions += 1
        if self.open:
            self.ended = self._ended_by(start)
            oldest = self.sessions - _MOST_OPEN
            self.open = [one for one in self.open if one[0] > start and one[1] > oldest]
        if end is not None:
            self.open.append((end, self.sessions, session))

    def values(self, at: int, mix: Sequence[float]) -> list[float]:
        energy, duration, power = self._ended_by(at)
        return [_mean(energy), energy[2], energy[3], _mean(duration), duration[2], power[3]]

    def _ended_by(self, at: int) -> tuple[_Numbers, _Numbers, _Numbers]:
        """Return the energies, durations and powers of the sessions that have ended by `at`."""
        energy, duration, power = self.ended
        for _, _, session in sorted([one for one in self.open if one[0] <= at]):
            kwh, hours = session.energy_kwh, session.duration_hours
            energy = _with_number(energy, kwh)
            duration = _with_number(duration, hours)
            power = _with_number(power, kwh / hours if hours > 0 else _MISSING)
        return energy, duration, power


# The order of the columns in a row.
DRIVER_COLUMNS: tuple[type[DriverColumns], ...] = (
    Shares,
    RecentShares,
    Means,
    Counts,
    TypesUsed,
    LastTypes,
    Starts,
    Energies,
)


def _copied(value: Any) -> Any:
    """Return a copy of a list, of a list of lists, of an array, or of a deque. Return any other value unchanged."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return [one.copy() for one in value]
    return value.copy() if isinstance(value, (list, deque, np.ndarray)) else value


def _smoothed(counts: Sequence[float], prior: Sequence[float]) -> list[float]:
    """Return the shares, smoothed by a prior: (count + PRIOR_WEIGHT * prior) / (sessions + PRIOR_WEIGHT)."""
    total = sum(counts) + PRIOR_WEIGHT
    # The lengths are equal; checking them would take a tenth of the time.
    return [(count + PRIOR_WEIGHT * share) / total for count, share in zip(counts, prior)]  # noqa: B905


def _with_number(numbers: _Numbers, value: float) -> _Numbers:
    """Return the numbers with one more value. NaN changes nothing."""
    if value != value:  # noqa: PLR0124 - the quickest test for NaN
        return numbers
    count, total, _, largest = numbers
    return count + 1, total + value, value, value if not value <= largest else largest


def _mean(numbers: _Numbers) -> float:
    return numbers[1] / numbers[0] if numbers[0] else _MISSING


def _is_weekend(at: int) -> bool:
    return (at // DAY + 3) % 7 >= 5  # 1970-01-01 was a Thursday
