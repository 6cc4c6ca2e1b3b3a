"""The parameters `from` and `to` of lists and reports."""

from datetime import date, datetime
from typing import Annotated

from litestar.exceptions import ValidationException
from litestar.params import QueryParameter

from zap.formats.time_range import QUERY_DAY_PATTERN, QUERY_MOMENT_PATTERN, read_day, read_moment

_LONGEST_SHOWN = 40
# A parameter that may be null would also accept the text "null". The empty text, which is the default, sets no limit.
# The patterns are only described: Litestar would name the parameter in its error as Python does, and not `from`.
FromDay = Annotated[
    str,
    QueryParameter(
        name="from",
        schema_extra={"pattern": QUERY_DAY_PATTERN},
        description="the first day (UTC), such as 2026-03-02; default: 30 days",
    ),
]
ToDay = Annotated[
    str,
    QueryParameter(
        name="to", schema_extra={"pattern": QUERY_DAY_PATTERN}, description="the last day (UTC); default: today"
    ),
]
FromMoment = Annotated[
    str,
    QueryParameter(
        name="from",
        schema_extra={"pattern": QUERY_MOMENT_PATTERN},
        description="the first moment, ISO 8601: a date (its midnight), or a date and time; in UTC unless it has an"
        " offset",
    ),
]
ToMoment = Annotated[
    str,
    QueryParameter(
        name="to",
        schema_extra={"pattern": QUERY_MOMENT_PATTERN},
        description="the moment at which the range ends, in the form of `from`; the moment itself is not in the range",
    ),
]


def day_parameter(name: str, text: str) -> date | None:
    """Return the day of a parameter; None if it is not given.

    Raises:
        ValidationException: the text is no day.
    """
    day = read_day(text)
    if day is None and text:
        raise wrong_parameter(name, f"is {text[:_LONGEST_SHOWN]!r}; give a day such as 2026-03-02")
    return day


def moment_parameter(name: str, text: str) -> datetime | None:
    """Return the moment (UTC) of a parameter; None if it is not given.

    Raises:
        ValidationException: the text is no moment.
    """
    moment = read_moment(text)
    if moment is None and text:
        raise wrong_parameter(name, f"is {text[:_LONGEST_SHOWN]!r}; give a day such as 2026-03-02, or a date and time")
    return moment


def check_range(wrong: str | None) -> None:
    """Refuse the parameters `from` and `to` together.

    Args:
        wrong: what `wrong_days` or `wrong_moments` says.

    Raises:
        ValidationException: something is wrong.
    """
    if wrong is not None:
        raise wrong_parameter("from", wrong)


def wrong_parameter(name: str, detail: str) -> ValidationException:
    """Return the error of a parameter of the query."""
    return ValidationException(f"{name} {detail}", extra=[{"key": name, "message": detail}])
