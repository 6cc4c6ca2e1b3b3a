"""The first and the last moment, or day, of what a client wants to see."""

from datetime import UTC, date, datetime

from zap.formats.json_body import DAY_PATTERN
from zap.formats.values import read_iso
from zap.sentences import say

_DATE = len("2026-03-02")
# Patterns for JSON Schema, of a day and of a moment in a query string. There a `+` that is not encoded arrives as a
# space. An empty text stands for no limit.
QUERY_DAY_PATTERN = r"^([0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01]))?$"
QUERY_MOMENT_PATTERN = rf"^({DAY_PATTERN[1:-1].replace('[+-]', '[+ -]')})?$"


def read_day(text: str) -> date | None:
    """Return the day of a text such as 2026-03-02; None for another text."""
    try:
        return date.fromisoformat(text) if len(text) == _DATE else None
    except ValueError:
        return None


def wrong_days(first: date, last: date, most: int) -> str | None:
    """Return why the days from a first to a last one are not accepted, or None.

    Args:
        first: the first day.
        last: the last day.
        most: the most days that are accepted.
    """
    if first > last:
        return say("is {first}; it must not be after {last}, the last day", first=first, last=last)
    if (last - first).days >= most:
        return say(
            "is {first}; it must be at most {value:,} days before {last}, the last day",
            first=first,
            value=most - 1,
            last=last,
        )
    return None


def wrong_moments(first: datetime | None, end: datetime | None) -> str | None:
    """Return why the moments from a first one to an end are not accepted, or None. None stands for no limit."""
    if first is None or end is None or first <= end:
        return None
    return say("is {first}; it must not be after {end}, the end", first=first.isoformat(), end=end.isoformat())


def read_moment(text: str) -> datetime | None:
    """Return the moment (UTC) of a day or of a date and time in ISO 8601; None for another text.

    A day is its midnight. A time without an offset is in UTC.
    """
    day = read_day(text)
    if day is not None:
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    if text[-6:-5] == " " and ":" in text[:-6]:
        # The offset of a query string whose `+` was not encoded.
        text = f"{text[:-6]}+{text[-5:]}"
    moment = read_iso(text)
    try:
        return moment and (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC))
    except OverflowError:
        return None
