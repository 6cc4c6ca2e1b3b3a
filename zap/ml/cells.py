"""Readers for the stored cells of one session. Training and serving read the cells with these functions."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from zap.ml.driver_columns import PastSession
from zap.ml.features import FEATURES, MEASURED, Feature

# These numbers are known only after a session has ended. They are inputs for the driver's later sessions, and never for
# the session itself.
PAST_NUMBERS = tuple(feature for feature in MEASURED if feature.past)
PAST_FEATURES = (*PAST_NUMBERS, *(feature for feature in FEATURES if feature.past))
# The columns that `read_past_session` reads.
PAST_COLUMNS = (
    "charger_type",
    "charging_start_time",
    "charging_end_time",
    *(feature.name for feature in PAST_FEATURES),
)
_WALL_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall time
# The words that tools write for a missing value, in lower case.
_NOTHING = frozenset(
    {"", "-", "--", "?", "null", "(null)", "<null>", "nan", "nat", "<na>", "na", "n/a", "n.a.", "#n/a", "#na", "#null!",
     "#value!", "#ref!", "none", "nil", "\\n", "undefined"}
)  # fmt: skip
# Characters without width, and marks for the direction of writing. A reader sees no difference between texts with and
# without them, but a program does.
INVISIBLE = {
    ord(character): None
    for character in "\u00ad\u180e\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064"
    "\u2066\u2067\u2068\u2069\ufeff"
}
# A whole number that a tool has written as a float, because the tool cannot store missing integers.
_WHOLE = re.compile(r"(-?[1-9][0-9]*)\.0+|-?(0)\.0+")


def is_nothing(text: str) -> bool:
    """Return whether a text means that the value is missing: `NULL`, `n/a`, `-` and similar words, or only spaces."""
    return (text if text.isascii() else text.translate(INVISIBLE)).strip().lower() in _NOTHING


def plain_text(text: str) -> str:
    """Return a text without invisible characters, with exactly one usual space between two words.

    Texts with one plain form are the same name. Upper and lower case stay as they are.
    """
    return " ".join((text if text.isascii() else text.translate(INVISIBLE)).split())


def plain_id(text: str) -> str:
    """Return the plain form of the id of a driver or a station, as reports and imports store it: `12.0` becomes 12."""
    return whole_number(plain_text(text))


def whole_number(text: str) -> str:
    """Return the digits of a whole number that is written with decimals, such as `12.0`; another text unchanged."""
    return match[1] or match[2] if text[-1:] == "0" and (match := _WHOLE.fullmatch(text)) else text


class Spellings:
    """The known names of one kind, such as the user types that a model has learned, found by other spellings.

    Args:
        known: the names. The names of an older version may have a form that is not plain.
    """

    def __init__(self, known: Sequence[str]) -> None:
        self._plain = {plain_text(name): name for name in reversed(known)}
        self._plain |= {name: name for name in known if name in self._plain}
        cases: dict[str, list[str]] = {}
        for plain, name in self._plain.items():
            cases.setdefault(plain.casefold(), []).append(name)
        self._without_case = {case: names[0] for case, names in cases.items() if len(names) == 1}

    def spaced(self, text: str) -> str | None:
        """Return the known name that differs from a text only in spaces and invisible characters, or None."""
        return self._plain.get(plain_text(text))

    def meant(self, text: str) -> str | None:
        """Return the known name that a text means, or None.

        The text may also differ from the name in upper and lower case, if no other known name differs only in this.
        """
        plain = plain_text(text)
        found = self._plain.get(plain)
        return self._without_case.get(plain.casefold()) if found is None else found


def read_text(value: object) -> str | None:
    """Return the plain form of a stored text; None if it means that the value is missing."""
    return None if value is None else _read_text(str(value))


# A history has few different texts of charger types, user types and vehicle models.
@lru_cache(maxsize=4096)
def _read_text(text: str) -> str | None:
    return None if is_nothing(text) else plain_text(text)


def read_number(value: object) -> float:
    """Return a stored number, or a number that is stored as text, as a float; NaN if the value is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        # Python's float() reads 1_000 as a number, but no database does.
        return math.nan if isinstance(value, str) and "_" in value else float(value)
    except (ValueError, OverflowError):
        return math.nan


def read_wall_time(value: object) -> datetime | None:
    """Return a stored wall time to the second; None if the text has another form or an offset."""
    if not isinstance(value, str) or not _WALL_TIME.fullmatch(value):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment.replace(microsecond=0) if moment.microsecond else moment


def read_id(value: object) -> str | None:
    """Return a stored user_id unchanged, as an SQL query matches it; None if it means that there is no user."""
    text = None if value is None else str(value)
    return None if text is None or is_nothing(text) else text


def to_seconds(time: datetime) -> int:
    """Return the seconds on the wall clock since 1970-01-01."""
    return int((time - _EPOCH).total_seconds())


def read_past_session(row: Mapping[str, Any], types: Sequence[str]) -> PastSession | None:
    """Return the past session of one raw row, as `clean_history` would read it; None if it would drop the row.

    Args:
        row: the raw value of each of PAST_COLUMNS.
        types: the charger types that the model has learned.
    """
    name, start = read_text(row["charger_type"]), read_wall_time(row["charging_start_time"])
    if name is None or start is None:
        return None
    end = read_wall_time(row["charging_end_time"])
    return past_session(
        code_of_type(name, types),
        to_seconds(start),
        None if end is None or end < start else to_seconds(end),
        [_masked(feature, read_number(row[feature.name])) for feature in PAST_FEATURES],
    )


def code_of_type(name: str, types: Sequence[str]) -> int:
    """Return the code of a charger type as `read_text` reads it, -1 if the type is not learned."""
    return types.index(name) if name in types else _code_of_another_spelling(name, tuple(types))


# A driver may have many sessions of one type that is not learned.
@lru_cache(maxsize=256)
def _code_of_another_spelling(name: str, types: tuple[str, ...]) -> int:
    """Return the code of a type that an older version has learned in a form that is not plain; -1 if there is none."""
    # Not `meant`: for a training, types that differ in upper and lower case are different types.
    spelling = Spellings(types).spaced(name)
    return -1 if spelling is None else types.index(spelling)


def past_session(type_code: int, start: int, end: int | None, values: Iterable[float]) -> PastSession:
    """Return a past session. A missing end is computed from the duration, and a missing duration from the end.

    Args:
        type_code: the code of the charger type, -1 if the type is not learned.
        start: seconds on the wall clock since 1970-01-01.
        end: seconds on the wall clock since 1970-01-01; None if it is missing.
        values: the values of PAST_FEATURES, NaN where missing.
    """
    energy, duration, charge, distance = values
    if end is None and not math.isnan(duration):
        end = start + round(duration * 3600)
    elif end is not None and math.isnan(duration):
        duration = (end - start) / 3600
    return PastSession(start, type_code, end, energy, duration, charge, distance)


def _masked(feature: Feature, number: float) -> float:
    return number if feature.inside(number) else math.nan  # type: ignore[arg-type]
