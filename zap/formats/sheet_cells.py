"""The cells of an Excel sheet as the texts of a CSV file."""

import re
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Any

from zap.formats.history_numbers import typed_text

# Parts of a number format that are only shown: quoted texts, characters after a backslash, and colours or conditions.
_SHOWN_ONLY = re.compile(r'"[^"]*"|\\.|\[[^\]]*[^\]hms][^\]]*\]', re.IGNORECASE)
_HALF = timedelta(microseconds=500_000)
_MIDNIGHT = time(0)


def sheet_text(cell: Any) -> str:
    """Return the text of a cell of openpyxl.

    A date has the form of ISO 8601, to the second, as Excel shows it. A date without a time of day in its format is
    only a date. A number with a percent format is a percentage: 0.8 that Excel shows as 80 % is `80%`. A line end in a
    cell is a space. An error such as #DIV/0! is `#N/A`, which means a missing value.
    """
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, str):
        return "#N/A" if cell.data_type == "e" else " ".join(value.splitlines())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number_text(value, percent=_has(cell.number_format, "%"))
    if isinstance(value, datetime):
        value = _to_second(value)
        only_date = value.time() == _MIDNIGHT and not _has(cell.number_format, "h")
        return value.date().isoformat() if only_date else value.isoformat(" ")
    if isinstance(value, time):
        value = timedelta(hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond)
    if isinstance(value, timedelta):
        seconds = round(value.total_seconds())
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return value.isoformat() if isinstance(value, date) else str(value)


def _number_text(value: float, *, percent: bool) -> str:
    if percent:
        # 0.07 * 100 is 7.000000000000001.
        return f"{typed_text(f'{value * 100:.12g}')}%"
    return str(int(value)) if isinstance(value, int) or value.is_integer() else typed_text(repr(value))


def _to_second(value: datetime) -> datetime:
    """Return a time to the nearest second. Excel keeps days as a number, which is seldom a whole second."""
    return value if value.microsecond == 0 else (value + _HALF).replace(microsecond=0)


@lru_cache(maxsize=1_000)
def _has(number_format: str | None, letter: str) -> bool:
    return letter in _SHOWN_ONLY.sub("", number_format or "").lower()
