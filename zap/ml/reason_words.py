"""The words for one column of a scored row: what the column says, its value, and its usual value."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from zap.ml.history_columns import TYPE_CODES
from zap.ml.usual_values import QUARTER, WEEKDAY, UsualValues, quarter_of
from zap.sentences import phrase, say, say_many

_WEEKDAYS = (
    phrase("Monday"),
    phrase("Tuesday"),
    phrase("Wednesday"),
    phrase("Thursday"),
    phrase("Friday"),
    phrase("Saturday"),
    phrase("Sunday"),
)
_QUARTERS = (
    phrase("0:00 and 6:00"),
    phrase("6:00 and 12:00"),
    phrase("12:00 and 18:00"),
    phrase("18:00 and 24:00"),
)
_WEEKEND = 5
# Columns with a number, each with what it is and its unit. In a column of a charger type, {type:s} is the type.
NUMBERS = {
    "state_of_charge_start": (phrase("the charge left in the battery"), "%"),
    "distance_driven_km": (phrase("the distance since the last charge"), phrase("km")),
    "temperature_c": (phrase("the outside temperature"), "°C"),
    "battery_capacity_kwh": (phrase("the size of the battery"), phrase("kWh")),
    "vehicle_age_years": (phrase("the age of the vehicle"), phrase("years")),
    "types_used": (phrase("the number of charger types that the driver has used"), ""),
    "days_since_type": (phrase("the time since the driver's last session with {type:s}"), phrase("days")),
    "mean_state_of_charge": (phrase("the mean charge at the start of the driver's sessions with {type:s}"), "%"),
    "mean_distance": (phrase("the mean distance before the driver's sessions with {type:s}"), phrase("km")),
    "hours_since_last": (phrase("the time since the start of the driver's last session"), phrase("hours")),
    "hours_since_second_last": (
        phrase("the time since the start of the driver's second last session"),
        phrase("hours"),
    ),
    "days_since_first": (phrase("the time since the driver's first session"), phrase("days")),
    "sessions_in_7_days": (phrase("the number of the driver's sessions in the last seven days"), ""),
    "mean_energy": (phrase("the mean energy of the driver's sessions"), phrase("kWh")),
    "last_energy": (phrase("the energy of the driver's last session"), phrase("kWh")),
    "largest_energy": (phrase("the largest energy of a session of the driver"), phrase("kWh")),
    "mean_duration": (phrase("the mean duration of the driver's sessions"), phrase("hours")),
    "last_duration": (phrase("the duration of the driver's last session"), phrase("hours")),
    "largest_power": (phrase("the largest mean power of a session of the driver"), phrase("kW")),
    "open": (phrase("the number of sessions with {type:s} that are open now"), ""),
}
# Columns with a share of a charger type, each with what it is.
SHARES = {
    "share_recent": phrase("the share of {type:s} in the driver's recent sessions"),
    "open_share": phrase(
        "the number of sessions with {type:s} that are open now, in percent of the most in eight weeks,"
    ),
    "mix_week": phrase("the share of {type:s} in the sessions of all drivers in the last seven days"),
    "mix_day": phrase("the share of {type:s} in the sessions of all drivers in the last 24 hours"),
    "mix_hour": phrase("the share of {type:s} in the sessions of all drivers in the last hour"),
    "mix_hour_of_week": phrase("the share of {type:s} in the sessions of all drivers at this hour of the week"),
}
# Columns that say how often the driver used a type in all sessions, or at this time of day.
COUNTS = ("share", "sessions", "sessions_of_type")
COUNTS_AT_TIME = ("share_time_of_day", "share_near", "sessions_time_of_day")
CATEGORIES = {"user_type": phrase("the user type"), "vehicle_model": phrase("the vehicle model")}
LAST_TYPES = (*TYPE_CODES, "same_type_in_a_row")


class _Used(NamedTuple):
    """The templates for how many of the driver's sessions used a type: of several sessions, and of the only one."""

    of_many: str
    of_one: str
    not_of_one: str


_USED = _Used(
    phrase("{used:d} of the driver's {n:d} earlier sessions used {type:s}"),
    phrase("the driver's only earlier session used {type:s}"),
    phrase("the driver's only earlier session did not use {type:s}"),
)
_USED_AT_TIME = _Used(
    phrase("{used:d} of the driver's {n:d} earlier sessions between {quarter} used {type:s}"),
    phrase("the driver's only earlier session between {quarter} used {type:s}"),
    phrase("the driver's only earlier session between {quarter} did not use {type:s}"),
)


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
        return _is(say(SHARES[name], type=type_), None if math.isnan(share) else percent(share), usual)

    def _weekday(self) -> Words:
        day = int(self.values[WEEKDAY])
        return Words(
            say("the session starts on a {day}", day=_WEEKDAYS[day]), _WEEKDAYS[day], self._share(WEEKDAY, str(day))
        )

    def _share_of(self, name: str, type_: str) -> float:
        own = self.values.get(f"{name}[{type_}]", math.nan) if name.startswith("share") else math.nan
        return self.values[f"share[{type_}]"] if math.isnan(own) else own

    def _used(self, name: str, type_: str, *, at_time: bool) -> Words:
        """Return how often the driver used a type."""
        if not self.values["sessions"]:
            return Words(say("the driver has no earlier sessions"), phrase("no sessions"), None)
        usual = of_all(self.usual.mix[type_])
        if name == "share_day_kind":
            share = percent(self.values[f"{name}[{type_}]"])
            if self.values[WEEKDAY] >= _WEEKEND:
                said = say("about {share} of the driver's sessions on weekends used {type:s}", share=share, type=type_)
            else:
                said = say("about {share} of the driver's sessions on weekdays used {type:s}", share=share, type=type_)
            return Words(said, share, usual)
        count = self._count(type_, at_time=at_time)
        if count is None:
            share = percent(self.values[f"share[{type_}]"])
            return Words(
                say("about {share} of the driver's sessions used {type:s}", share=share, type=type_), share, usual
            )
        used, sessions = count
        templates = _USED_AT_TIME if at_time else _USED
        template = templates.of_many if sessions != 1 else templates.of_one if used else templates.not_of_one
        quarter = _QUARTERS[quarter_of(self.values["hour"])]
        return Words(
            say(template, used=used, n=sessions, type=type_, quarter=quarter),
            say("{used:d} of {n:d}", used=used, n=sessions),
            usual,
        )

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
            return Words(say("the driver has no last session"), phrase("no session"), None)
        learned = 0 <= code < len(self.types)
        type_ = self.types[int(code)] if learned else phrase("another type")
        usual = of_all(self.usual.mix[type_]) if learned else None
        in_a_row = round(told) if (told := self.values.get("same_type_in_a_row", 1)) > 1 else 1
        if in_a_row == 1:
            return Words(say("the driver's last session used {type}", type=type_), type_, usual)
        said = say_many(
            "the driver's last {n} session used {type}",
            "the driver's last {n} sessions used {type}",
            in_a_row,
            type=type_,
        )
        return Words(said, say("{n:d} in a row", n=in_a_row), usual)

    def _number(self, column: str, said: str, unit: str, type_: str) -> Words:
        value = self.values[column]
        shown = None if math.isnan(value) else number(value, unit)
        return _is(say(said, type=type_), shown, self._median(column, unit))

    def _category(self, name: str) -> Words:
        said, code, known = CATEGORIES[name], self.values[name], self.categories[name]
        # A stored row that somebody has changed may have any code.
        if not 0 <= code < len(known):
            return _is(said, None, None)
        value = known[int(code)]
        return Words(say("{what} is {value}", what=said, value=value), value, self._share(name, value))

    def _hour(self) -> Words:
        hour = self.values["hour"]
        minutes = round(hour * 60)
        between = say("the session starts between {quarter}", quarter=_QUARTERS[quarter_of(hour)])
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
    return say("{share} of all sessions", share=percent(share))


def number(value: float, unit: str) -> str:
    """Return a number with its unit: two digits below 10, and otherwise whole."""
    if math.isinf(value):
        return phrase("very large")
    digits = f"{value:,.0f}" if abs(value) >= 9.95 else f"{value:.1f}".removesuffix(".0")
    return f"{digits} {unit}".rstrip()


def _is(said: str, value: str | None, usual: str | None) -> Words:
    if value is None:
        return Words(say("{what} is not known", what=said), phrase("not known"), usual)
    return Words(say("{what} is {value}", what=said, value=value), value, usual)
