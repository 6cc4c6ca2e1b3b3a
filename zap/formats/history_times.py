"""The times of a history file. How the file writes dates is decided once, and never row by row."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal

from zap.errors import BadHistoryFile

DateOrder = Literal["day-first", "month-first"]
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = range(1, 13)
# Each pattern matches a text in only one way. With two ways, a long text could be read many times.
_YEAR_FIRST = re.compile(r"([0-9]{4})([-/.])([0-9]{1,2})\2([0-9]{1,2})")
_YEAR_LAST = re.compile(r"([0-9]{1,2})([-/.])([0-9]{1,2})\2([0-9]{4}|[0-9]{2})")
_DAY_MONTH_NAME = re.compile(r"([0-9]{1,2})[ -]([A-Za-z]{3,9})\.?[ -]([0-9]{4}|[0-9]{2})")
_MONTH_NAME_DAY = re.compile(r"([A-Za-z]{3,9})\.? ([0-9]{1,2}),? ([0-9]{4})")
_CLOCK = re.compile(
    r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?(?: ?([AaPp])\.?[Mm]\.?)?"
    r"(?: ?(Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?))?"
)
# A longer text is not read, because no time is longer.
_LONGEST = 64


@dataclass
class TimeSurvey:
    """A count of the texts of one column, by the way in which they write dates, with the first text of each way."""

    day_first: int = 0
    month_first: int = 0
    either: int = 0
    date_only: int = 0
    examples: dict[str, str] = field(default_factory=dict)

    def look(self, text: str) -> None:
        """Count a text."""
        if len(text) > 10 and text[4] == "-" and text[:4].isdigit():
            # Most files write times in this form, which leaves nothing to decide.
            return
        date, rest = _date_part(text)
        if date is None:
            return
        if not rest:
            self.date_only += 1
        match = _YEAR_LAST.fullmatch(date)
        if match is None:
            return
        first, second = int(match[1]), int(match[3])
        if first == second or min(first, second) not in _MONTH:
            return
        kind = "day_first" if first > 12 else "month_first" if second > 12 else "either"
        setattr(self, kind, getattr(self, kind) + 1)
        self.examples.setdefault(kind, text)


def decide_order(surveys: Mapping[str, TimeSurvey], given: DateOrder | None) -> DateOrder | None:
    """Return how the file writes dates that end with the year; None if it has no such dates.

    Args:
        surveys: the survey of each column of times. All columns of a file write dates in one way.
        given: the order that the user gives, which decides.

    Raises:
        BadHistoryFile: the columns contradict each other, or no text decides.
    """
    if given is not None:
        return given
    day = _first(surveys, "day_first")
    month = _first(surveys, "month_first")
    if day and month:
        raise BadHistoryFile(
            f"{day[0]} {day[1]!r} can only have the day first and {month[0]} {month[1]!r} only the month; write all"
            " dates in one way; or say with --date-format which ones zap reads, and it refuses the others"
        )
    if day or month:
        return "day-first" if day else "month-first"
    if either := _first(surveys, "either"):
        raise BadHistoryFile(
            f"{either[0]} {either[1]!r} can have the day or the month first, and no other date of the file decides;"
            " say which with --date-format day-first or --date-format month-first"
        )
    return None


def deciding_text(surveys: Mapping[str, TimeSurvey], order: DateOrder | None) -> str | None:
    """Return the first text that only this order can read, or else the first text that both orders can read.

    Return None if there is no such text.
    """
    kinds = () if order is None else (order.replace("-", "_"), "either")
    return next((found[1] for kind in kinds if (found := _first(surveys, kind))), None)


def parse_time(text: str, order: DateOrder | None) -> datetime | None:
    """Return the moment that a text means, with its offset if it has one; None if the text is not a time.

    Args:
        text: such as `2024-01-31 18:05`, `31/01/2024 6:05 PM`, `31 Jan 2024 18:05:00` or `2024-01-31T18:05:00Z`.
        order: how dates that end with the year are written.
    """
    date, rest = _date_part(text)
    if date is None:
        return None
    numbers = _numbers(date, order)
    if numbers is None:
        return None
    try:
        if not rest:
            return datetime(*numbers)  # noqa: DTZ001 - wall time
        clock = _CLOCK.fullmatch(rest)
        return None if clock is None else _moment(numbers, clock)
    except ValueError:
        return None


def parse_with(text: str, pattern: str) -> datetime | None:
    """Return the moment that a text means in a `strptime` pattern such as `%d.%m.%Y %H:%M`; None if it does not fit."""
    try:
        return datetime.strptime(text, pattern)  # noqa: DTZ007 - wall time, unless the pattern has an offset
    except ValueError:
        return None


def _date_part(text: str) -> tuple[str | None, str]:
    """Return the date at the start of a text, None without a date, and the text after the date."""
    if len(text) > _LONGEST:
        return None, ""
    for pattern in (_YEAR_FIRST, _YEAR_LAST, _DAY_MONTH_NAME, _MONTH_NAME_DAY):
        if match := pattern.match(text):
            rest = text[match.end() :]
            if not rest:
                return match[0], ""
            if rest[0] in "T ," and len(rest) > 1:
                return match[0], rest[1:].strip()
            return None, ""
    return None, ""


def _numbers(date: str, order: DateOrder | None) -> tuple[int, int, int] | None:
    if match := _YEAR_FIRST.fullmatch(date):
        return int(match[1]), int(match[3]), int(match[4])
    if match := _YEAR_LAST.fullmatch(date):
        first, second, year = int(match[1]), int(match[3]), _year(match[4])
        if first != second and order is None:
            return None
        return (year, second, first) if order == "day-first" else (year, first, second)
    if match := _DAY_MONTH_NAME.fullmatch(date):
        day, name, year = int(match[1]), match[2], _year(match[3])
    elif match := _MONTH_NAME_DAY.fullmatch(date):
        day, name, year = int(match[2]), match[1], int(match[3])
    else:
        return None
    month = name[:3].lower()
    return (year, _MONTHS.index(month) + 1, day) if month in _MONTHS else None


def _year(text: str) -> int:
    """Return a year. A year of two digits is in this century, because no session of zap is older."""
    return int(text) + 2000 * (len(text) == 2)


def _moment(numbers: tuple[int, int, int], clock: re.Match[str]) -> datetime | None:
    hour, minute, second = int(clock[1]), int(clock[2]), int(clock[3] or 0)
    if half := clock[5]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (half in "Pp")
    fraction = int((clock[4] or "0")[:6].ljust(6, "0"))
    moment = datetime(*numbers, hour, minute, second, fraction)  # noqa: DTZ001 - wall time
    return moment if clock[6] is None else moment.replace(tzinfo=_offset(clock[6]))


def _offset(text: str) -> timezone:
    if text in {"Z", "UTC", "GMT"}:
        return UTC
    digits = text[1:].replace(":", "")
    minutes = int(digits[:2]) * 60 + int(digits[2:] or 0)
    return timezone(timedelta(minutes=minutes if text[0] == "+" else -minutes))


def _first(surveys: Mapping[str, TimeSurvey], kind: str) -> tuple[str, str] | None:
    found: Iterable[tuple[str, str]] = (
        (name, survey.examples[kind]) for name, survey in surveys.items() if kind in survey.examples
    )
    return next(iter(found), None)
