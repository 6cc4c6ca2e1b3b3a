"""The forms in which history files write times."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from typing import Literal, get_args

from zap.ml.cells import is_nothing

# How dates of three numbers are written whose year is not written with four digits at the beginning.
DateOrder = Literal["day-first", "month-first", "year-first"]
DATE_ORDERS: tuple[DateOrder, ...] = get_args(DateOrder)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# Each pattern matches a text in only one way. With two ways, a long text could be read many times.
_YEAR_FIRST = re.compile(r"([0-9]{4})([-/.])([0-9]{1,2})\2([0-9]{1,2})")
_YEAR_LAST = re.compile(r"([0-9]{1,2})([-/.])([0-9]{1,2})\2([0-9]{4}|[0-9]{2})")
_DAY_MONTH_NAME = re.compile(r"([0-9]{1,2})[ -]([A-Za-z]{3,9})\.?[ -]([0-9]{4}|[0-9]{2})")
_MONTH_NAME_DAY = re.compile(r"([A-Za-z]{3,9})\.? ([0-9]{1,2}),? ([0-9]{4})")
_CLOCK = re.compile(
    r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?(?: ?([AaPp])\.?[Mm]\.?)?"
    r"(?: ?(Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?))?"
)
_MIDNIGHT = re.compile(r"0?0:00(:00(\.0+)?)?")
# The years of the days that spreadsheet programs write with a time of day alone.
_NO_YEARS = ("1899", "1900", "1904")
# A date with a time of day has more characters than this.
_SHORTEST_MOMENT = 11
# A longer text is not read, because no time is longer.
_LONGEST = 64


def parse_time(text: str, order: DateOrder | None) -> datetime | None:
    """Return the moment that a text means, with its offset if it has one; None if the text is not a time.

    Args:
        text: such as `2024-01-31 18:05`, `31/01/2024 6:05 PM`, `31 Jan 2024 18:05:00` or `2024-01-31T18:05:00Z`.
        order: how dates such as `31/01/2024` or `24/01/31` are written.
    """
    written, rest = date_part(text)
    if written is None:
        return None
    numbers = _numbers(written, order)
    if numbers is None:
        return None
    try:
        if not rest:
            return datetime(*numbers)  # noqa: DTZ001 - wall time
        clock = _CLOCK.fullmatch(rest)
        return None if clock is None else _moment(numbers, clock)
    except ValueError:
        return None


def join_moment(day: str, clock: str) -> str:
    """Return the text of a moment whose date and time of day are in two columns.

    A date may have a time of day of 00:00, and a time of day may have a date, because programs that know only moments
    write them: `2024-01-31 00:00:00` and `1899-12-30 18:05:00` are `2024-01-31 18:05:00`.
    """
    if is_nothing(day) or is_nothing(clock):
        return " ".join(text for text in (day, clock) if not is_nothing(text))
    if len(day) > _SHORTEST_MOMENT or len(clock) > _SHORTEST_MOMENT:
        written, rest = date_part(day)
        other, only_clock = date_part(clock)
        if other is not None and (other == written or any(year in other for year in _NO_YEARS)):
            clock = only_clock
        if written is not None and (_MIDNIGHT.fullmatch(rest) or rest == clock):
            day = written
    return f"{day} {clock}"


def is_clock(text: str) -> bool:
    """Return whether a text is a time of day without a date, such as `18:05`."""
    return len(text) <= _LONGEST and _CLOCK.fullmatch(text) is not None


def is_day(text: str) -> bool:
    """Return whether a text is a date that has no time of day, or only 00:00."""
    written, rest = date_part(text)
    return written is not None and (not rest or _MIDNIGHT.fullmatch(rest) is not None)


def parse_with(text: str, pattern: str) -> datetime | None:
    """Return the moment that a text means in a `strptime` pattern such as `%d.%m.%Y %H:%M`; None if it does not fit."""
    try:
        return datetime.strptime(text, pattern)  # noqa: DTZ007 - wall time, unless the pattern has an offset
    except ValueError:
        return None


def date_part(text: str) -> tuple[str | None, str]:
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


@lru_cache(maxsize=10_000)
def readings(written: str) -> Mapping[DateOrder, date]:
    """Return what a date of three numbers can mean, by the order of the numbers.

    Return nothing for dates in other forms, such as `2024-01-31`, and for texts that no order makes a date.
    """
    match = _YEAR_LAST.fullmatch(written)
    if match is None:
        return {}
    first, second, last = int(match[1]), int(match[3]), match[4]
    found: dict[DateOrder, tuple[int, int, int]] = {
        "day-first": (_year(last), second, first),
        "month-first": (_year(last), first, second),
    }
    if len(match[1]) == len(last) == 2:
        found["year-first"] = (_year(match[1]), second, int(last))
    return {order: date(*numbers) for order, numbers in found.items() if _is_date(*numbers)}


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _numbers(written: str, order: DateOrder | None) -> tuple[int, int, int] | None:
    """Return the year, the month and the day of a date."""
    if match := _YEAR_FIRST.fullmatch(written):
        return int(match[1]), int(match[3]), int(match[4])
    if found := readings(written):
        # Without an order, only a date that means one day in all orders is read, such as 05/05/2024.
        one = {*found.values()} if order is None else {found[order]} if order in found else set()
        return next(((day.year, day.month, day.day) for day in one), None) if len(one) == 1 else None
    if match := _DAY_MONTH_NAME.fullmatch(written):
        number, name, year = int(match[1]), match[2], _year(match[3])
    elif match := _MONTH_NAME_DAY.fullmatch(written):
        number, name, year = int(match[2]), match[1], int(match[3])
    else:
        return None
    month = name[:3].lower()
    return (year, _MONTHS.index(month) + 1, number) if month in _MONTHS else None


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
