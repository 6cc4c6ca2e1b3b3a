"""The values that zap accepts from outside: one definition for reports, requests and history files.

The manual has these bounds as a table, in reference.md.
"""

import re
from datetime import date, datetime, timedelta
from typing import Any

# PostgreSQL cannot index very long texts, and no real id or name is longer.
LONGEST_TEXT = 500
# The control characters of Unicode, as a part of a regular expression.
CONTROL_CHARACTERS = r"\x00-\x1f\x7f-\x9f"
# Characters that nobody sees, such as marks of the direction of writing, as a part of a regular expression.
INVISIBLE_CHARACTERS = r"\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
CONTROL = re.compile(f"[{CONTROL_CHARACTERS}]")
# Every JSON reader reads whole numbers up to this number exactly. The database can still assign larger ids.
LARGEST_SESSION_ID = 2**53
# Long enough for a UUID or a transaction id of OCPP.
LONGEST_SESSION_TEXT = 64
# The largest number that a column of the database holds.
LARGEST_ID = 2**63 - 1
# The years of the times of sessions. Other years are typing mistakes, or stand for "never".
FIRST_YEAR, LAST_YEAR = 1990, 2100
# A session that seems longer than a year has a wrong start or end.
LONGEST_SESSION = timedelta(days=366)

_SHORTEST_TIME = len("2026-03-02T18:30")


def read_iso(text: str) -> datetime | None:
    """Return the moment of a date and time in ISO 8601, with its offset if it has one; None for another text."""
    try:
        return datetime.fromisoformat(text) if len(text) >= _SHORTEST_TIME else None
    except ValueError:
        return None


def in_years(moment: datetime) -> bool:
    """Return whether a moment, as it is written, is in the years of sessions."""
    return FIRST_YEAR <= moment.year <= LAST_YEAR


def cell_text(value: Any) -> str:
    """Return a value of a table as the text of a CSV cell. Whole numbers are written without decimals.

    NaN becomes an empty text, because some tools write it for a missing value.
    """
    if isinstance(value, str):
        return value
    if value is None or value != value:  # noqa: PLR0124 - the quickest test for NaN
        return ""
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    if isinstance(value, float) and value.is_integer():
        # Tools that cannot store a missing integer store whole numbers as floats.
        return str(int(value))
    return value.isoformat() if isinstance(value, date) else str(value)
