"""The id of a session: a whole number, or a text such as a UUID or a transaction id of OCPP.

Reports, files, the command line and the paths of routes read an id with these functions, so that an id means one
session everywhere.
"""

import re
from typing import Any

from zap.formats.json_body import is_unicode, kind_of
from zap.formats.values import LARGEST_SESSION_ID, LONGEST_SESSION_TEXT
from zap.ml.cells import is_nothing

# Words of visible characters, with one ordinary space between two words. At least one character is not a dot: in the
# path of a route, `.` and `..` lead to another path, and clients change such a path before they send the request.
_UNSEEN = r"\s\x00-\x1f\x7f-\x9f\u200b\u2060\ufeff"
SESSION_TEXT = rf"^(\.+ )*\.*[^.{_UNSEEN}][^{_UNSEEN}]*( [^{_UNSEEN}]+)*$"
_DIGITS = re.compile(r"-?[0-9]+", re.ASCII)


def read_session_id(text: str) -> int | str:
    """Return the id that a text means. A text of digits means the number, so `"12"` and 12 are one session.

    Negative numbers are ids that zap gives to sessions without an id. Numbers that are too large for a number in JSON
    stay texts.
    """
    # Python's int() raises an error for thousands of digits.
    short = len(text) <= LONGEST_SESSION_TEXT
    if short and _DIGITS.fullmatch(text) and abs(number := int(text)) <= LARGEST_SESSION_ID:
        return number
    return text


def wrong_session_id(value: Any) -> str | None:
    """Return why a value of a report is not accepted as a session_id, or None."""
    if type(value) is int:
        return None if 0 <= value <= LARGEST_SESSION_ID else f"must be 0 to {LARGEST_SESSION_ID}"
    if not isinstance(value, str):
        return f"must be a whole number or a text, not {value if isinstance(value, float) else kind_of(value)}"
    return wrong_session_text(value) or (
        f"is {value!r}: zap gives negative numbers to sessions without an id; send an id of your own"
        if value.startswith("-") and _DIGITS.fullmatch(value)
        else None
    )


def wrong_session_text(text: str) -> str | None:
    """Return why a text is not accepted as the id of a session, or None."""
    if not 1 <= len(text) <= LONGEST_SESSION_TEXT:
        return f"has {len(text)} characters; a text has 1 to {LONGEST_SESSION_TEXT}"
    if not is_unicode(text):
        return "holds half of a surrogate pair"
    if is_nothing(text):
        return f"is {text!r}, which means that there is no value; send the id of the session"
    if not text.strip(". "):
        return f"is {text!r}; an id of dots cannot be in the path of a request; send an id with another character"
    if not re.fullmatch(SESSION_TEXT, text):
        return f"is {text!r}; a text has no control characters, no spaces around it, and single spaces inside"
    return None
