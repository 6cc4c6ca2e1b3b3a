"""The words for one column of a scored row: what the column says, its value, and its usual value."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from zap.ml.history_columns import TYPE_CODES
from zap.ml.usual_values import QUARTER, WEEKDAY, UsualValues, quarter_of

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_QUARTERS = ("0:00 and 6:00", "6:00 and 12:00", "12:00 and 18:00", "18:00 and 24:00")
_WEEKEND = 5
# Columns with a number, each with what it is and its unit. In a column of a charger type, {} is the type.
NUMBERS = {
    "state_of_charge_start": ("the charge left in the battery", "%"),
    "distance_driven_km": ("the distance since the last charge", "km"),
    "temperature_c": ("the outside temperature", "°C"),
    "battery_capacity_kwh": ("the size of the battery", "kWh"),
    "vehicle_age_years": ("the age of the vehicle", "years"),
    "types_used": ("the number of charger types that the driver has used", ""),
    "days_since_type": ("the time since the driver's last session with {}", "days"),
    "mean_state_of_charge": ("the mean charge at the start of the driver's sessions with {}", "%"),
    "mean_distance": ("the mean distance before the driver's sessions with {}", "km"),
    "hours_since_last": ("the time since the start of the driver's last session", "hours"),
    "hours_since_second_last": ("the time since the start of the driver's second last session", "hours"),
    "days_since_first": ("the time since the driver's first session", "days"),
    "sessions_in_7_days": ("the number of the driver's sessions in the last seven days", ""),
    "mean_energy": ("the mean energy of the driver's sessions", "kWh"),
    "last_energy": ("the energy of the driver's last session", "kWh"),
    "largest_energy": ("the largest energy of a session of the driver", "kWh"),
    "mean_duration": ("the mean duration of the driver's sessions", "hours"),
    "last_duration": ("the duration of the driver's last session", "hours"),
    "largest_power": ("the largest mean power of a session of the driver", "kW"),
    "open": ("the number of sessions with {} that are open now", ""),
}
# Columns with a share of a charger type, each with what it is.
SHARES = {
    "share_recent": "the share of {} in the driver's recent sessions",
    "open_share": "the number of sessions with {} that are open now, in percent of the most in eight weeks,",
    "mix_week": "the share of {} in the sessions of all drivers in the last seven days",
    "mix_day": "the share of {} in the sessions of all drivers in the last 24 hours",
    "mix_hour": "the share of {} in the sessions of all drivers in the last hour",
    "mix_hour_of_week": "the share of {} in the sessions of all drivers at this hour of the week",
}
# Columns that say how often the driver used a type in all sessions, or at this time of day.
COUNTS = ("share", "sessions", "sessions_of_type")
COUNTS_AT_TIME = ("share_time_of_day", "share_near", "sessions_time_of_day")
LAST_TYPES = (*TYPE_CODES, "same_type_in_a_row")


class Words(NamedTuple):
    """What a column says.

    Attributes:
        said: a clause with the value.
        value: the value.
        usual: the usual value; None if it is not known.
    """

    said: str
    value: str
    usual: str | None


@dataclass(frozen=True)
class Row:
    """A scored row with what is needed to say it in words.

    Attributes:
        values: the numbers of the row by column, NaN where missing.
        types: the charger types, in the order of their codes.
        categories: the known values of each category, in the order of their codes.
        usual: the usual values of the version.
    """

    values: Mapping[str, float]
    types: Sequence[str]
    categories: Mapping[str, Sequence[str]]
    usual: UsualValues

    def words(self, column: str, favoured: str, other: str) -> Words:
        """Return what a column says.

        Args:
            column: the name of the column, with its charger type in brackets if it has one.
            favoured: the charger type that the column makes more probable.
            other: the other of the two compared types.
        """
        name, _, type_ = column.partition("[")
        if name in NUMBERS:
            return self._number(column, *NUMBERS[name], type_[:-1])
        if name in SHARES:
            return self._share_of_type(name, type_[:-1])
        if name in self.categories:
            return self._category(name)
        without_type = {"hour": self._hour, WEEKDAY: self._weekday, **dict.fromkeys(LAST_TYPES, self._last_types)}
        return without_type[name]() if name in without_type else self._habit(name, favoured, other)

    def _habit(self, name: str, favoured: str, other: str) -> Words:
        """Return how often the driver used one of the two compared types."""
        at_time = name in COUNTS_AT_TIME and self.values.get("sessions_time_of_day", 0) > 0
        shares = {one: self._share_of(name, one) for one in (favoured, other)}
        # A low share of the other type may say more than the share of the favoured type.
        low = shares[favoured] < self.usual.mix[favoured] and shares[other] < self.usual.mix[other]
        return self._used(name, other if low else favoured, at_time=at_time)

    def _share_of_type(self, name: str, type_: str) -> Words:
        share = self.values[f"{name}[{type_}]"]
        usual = self._median(f"{name}[{type_}]", "%", 100)
        if usual is None and name != "open_share":
            usual = percent(self.usual.mix[type_])
        return _is(SHARES[name].format(type_), None if math.isnan(share) else percent(share), usual)

    def _weekday(self) -> Words:
        day = int(self.values[WEEKDAY])
        return Words(f"the session starts on a {_WEEKDAYS[day]}", _WEEKDAYS[day], self._share(WEEKDAY, str(day)))

    def _share_of(self, name: str, type_: str) -> float:
        own = self.values.get(f"{name}[{type_}]", math.nan) if name.startswith("share") else math.nan
        return self.values[f"share[{type_}]"] if math.isnan(own) else own

    def _used(self, name: str, type_: str, *, at_time: bool) -> Words:
        """Return how often the driver used a type."""
        if not self.values["sessions"]:
            return Words("the driver has no earlier sessions", "no sessions", None)
        usual = of_all(self.usual.mix[type_])
        if name == "share_day_kind":
            days = "weekends" if self.values[WEEKDAY] >= _WEEKEND else "weekdays"
            share = percent(self.values[f"{name}[{type_}]"])
            return Words(f"about {share} of the driver's sessions on {days} used {type_}", share, usual)
        count = self._count(type_, at_time=at_time)
        if count is None:
            share = percent(self.values[f"share[{type_}]"])
            return Words(f"about {share} of the driver's sessions used {type_}", share, usual)
        used, sessions = count
        when = f" between {_QUARTERS[quarter_of(self.values['hour'])]}" if at_time else ""
        one = "only earlier session" if sessions == 1 else "earlier sessions"
        of = f"the driver's {one}{when}" if sessions == 1 else f"{used} of the driver's {sessions} {one}{when}"
        verb = "used" if sessions > 1 or used else "did not use"
        return Words(f"{of} {verb} {type_}", f"{used} of {sessions}", usual)

    def _count(self, type_: str, *, at_time: bool) -> tuple[int, int] | None:
        """Return in how many sessions the driver used a type, and the number of sessions; None if it is not known."""
        if at_time:
            # The share is (count + overall share) / (sessions + 1), see `driver_columns.Shares`.
            sessions = self.values["sessions_time_of_day"]
            share = self.values.get(f"share_time_of_day[{type_}]", math.nan)
            used = share * (sessions + 1) - self.values[f"share[{type_}]"]
        else:
            # The versions of an older zap do not have this column.
            sessions, used = self.values["sessions"], self.values.get(f"sessions_of_type[{type_}]", math.nan)
        return None if math.isnan(used) else (round(used), int(sessions))

    def _last_types(self) -> Words:
        code = self.values["last_type"]
        if math.isnan(code):
            return Words("the driver has no last session", "no session", None)
        learned = 0 <= code < len(self.types)
        type_ = self.types[int(code)] if learned else "another type"
        usual = of_all(self.usual.mix[type_]) if learned else None
        if (in_a_row := self.values.get("same_type_in_a_row", 1)) > 1:
            return Words(f"the driver's last {in_a_row:.0f} sessions used {type_}", f"{in_a_row:.0f} in a row", usual)
        return Words(f"the driver's last session used {type_}", type_, usual)

    def _number(self, column: str, said: str, unit: str, type_: str) -> Words:
        value = self.values[column]
        shown = None if math.isnan(value) else number(value, unit)
        return _is(said.format(type_), shown, self._median(column, unit))

    def _category(self, name: str) -> Words:
        said, code, known = f"the {name.replace('_', ' ')}", self.values[name], self.categories[name]
        # A stored row that somebody has changed may have any code.
        if not 0 <= code < len(known):
            return _is(said, None, None)
        value = known[int(code)]
        return Words(f"{said} is {value}", value, self._share(name, value))

    def _hour(self) -> Words:
        hour = self.values["hour"]
        minutes = round(hour * 60)
        between = f"the session starts between {_QUARTERS[quarter_of(hour)]}"
        return Words(between, f"{minutes // 60 % 24}:{minutes % 60:02}", self._share(QUARTER, str(quarter_of(hour))))

    def _share(self, name: str, value: str) -> str | None:
        share = self.usual.shares.get(name, {}).get(value)
        return None if share is None else of_all(share)

    def _median(self, column: str, unit: str, factor: float = 1) -> str | None:
        median = self.usual.medians.get(column)
        return None if median is None else number(median * factor, unit)


def percent(share: float) -> str:
    """Return a share in percent: 0.034 is 3.4 %."""
    return number(100 * share, "%")


def of_all(share: float) -> str:
    """Return a share of all sessions in words."""
    return f"{percent(share)} of all sessions"


def number(value: float, unit: str) -> str:
    """Return a number with its unit: two digits below 10, and otherwise whole."""
    if math.isinf(value):
        return "very large"
    digits = f"{value:,.0f}" if abs(value) >= 9.95 else f"{value:.1f}".removesuffix(".0")
    return f"{digits} {unit}".rstrip()


def _is(said: str, value: str | None, usual: str | None) -> Words:
    if value is None:
        return Words(f"{said} is not known", "not known", usual)
    return Words(f"{said} is {value}", value, usual)
