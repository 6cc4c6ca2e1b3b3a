"""Lengths of time as people write them: `90d`, `12h`, `30m`."""

import re
from datetime import timedelta

# A number of days, hours or minutes, 1 to 999.
SPAN_PATTERN = r"^[1-9][0-9]{0,2}[dhm]$"
_SPAN = re.compile(SPAN_PATTERN, re.ASCII)
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def read_span(text: str) -> timedelta | None:
    """Return the length of time of a text such as `90d`; None for another text."""
    if not _SPAN.match(text) or text.endswith("\n"):
        return None
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
