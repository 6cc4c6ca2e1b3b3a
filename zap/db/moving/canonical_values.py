"""The one form that a value has on both engines: numbers, texts, bytes; a time and a JSON document are texts.

The form is how SQLite stores what zap writes, so a value has to be rewritten only if another program or an older zap
has written it.
"""

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Integer, LargeBinary

from zap.db.stored_json import StoredJson
from zap.db.tables import Stamp, WallTime

# The types of columns with JSON.
JSONS = (JSON, StoredJson)
_WALL = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d*[1-9])?")
_STAMP_LENGTH = len("2024-01-31T18:05:00.000000+00:00")
# The longest part of a value that a message shows.
_SHOWN = 60
_NOTHING: Final = object()


class Undecodable(bytes):
    """The bytes of a text that is not UTF-8."""


class OddValue(Exception):
    """A value that has another form than zap's, or that PostgreSQL cannot hold.

    Attributes:
        value: as it is stored.
        why: what is odd, such as `is no time`.
        instead: the value that means this in zap's form; only if `has_instead`.
        fits_sqlite: whether another SQLite file can hold the value as it is.
    """

    def __init__(self, value: Any, why: str, instead: Any = _NOTHING) -> None:
        super().__init__(why)
        self.value = value
        self.why = why
        self.instead = instead

    @property
    def has_instead(self) -> bool:
        """Return whether there is another form for the value."""
        return self.instead is not _NOTHING

    @property
    def fits_sqlite(self) -> bool:
        """Return whether another SQLite file can hold the value as it is: it takes any value but NaN and bad texts."""
        is_nan = isinstance(self.value, float) and math.isnan(self.value)
        return not (is_nan or isinstance(self.value, Undecodable))

    @property
    def shown(self) -> str:
        """Return the value for a message."""
        found = repr(bytes(self.value)) if isinstance(self.value, Undecodable) else repr(self.value)
        return found if len(found) <= _SHOWN else f"{found[:_SHOWN]}..."


def decoded(stored: bytes) -> str | Undecodable:
    """Return a text of SQLite, or its bytes if it is not UTF-8."""
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return Undecodable(stored)


def canonical_form(column: Column[Any]) -> Callable[[Any], Any]:
    """Return the function that returns a stored value in its canonical form. It raises OddValue. None is not given."""
    kind = column.type
    for of, form in _FORMS:
        if isinstance(kind, of):
            return form
    return _text


def of_postgresql(column: Column[Any], name: str) -> str:
    """Return the SQL that reads a column of PostgreSQL in its canonical form, as far as SQL can.

    Args:
        column: the column.
        name: its quoted name.
    """
    if isinstance(column.type, Stamp):
        usual = f"{name} >= '0001-01-01 00:00+00' AND {name} < '10000-01-01 00:00+00'"
        form = f"to_char({name} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"+00:00\"')"
        return f"CASE WHEN {usual} THEN {form} ELSE {name}::text END"
    if isinstance(column.type, (WallTime, *JSONS)):
        return f"{name}::text"
    if isinstance(column.type, Boolean):
        return f"{name}::int"
    return name


def _text(value: Any) -> str:
    if type(value) is not str:
        raise OddValue(value, "is no text in UTF-8" if isinstance(value, Undecodable) else "is no text")
    if "\0" in value:
        raise OddValue(value, "has the character U+0000")
    return value


def _whole(value: Any, bits: int) -> int:
    if type(value) is not int:
        raise OddValue(value, "is no whole number")
    if not -(1 << bits) <= value < 1 << bits:
        raise OddValue(value, f"is no number of {bits + 1} bits")
    return value


def _whole_64(value: Any) -> int:
    return _whole(value, 63)


def _whole_32(value: Any) -> int:
    return _whole(value, 31)


def _truth(value: Any) -> int:
    if value not in (0, 1):
        raise OddValue(value, "is neither 0 nor 1")
    return int(value)


def _real(value: Any) -> float:
    if type(value) is not float:
        raise OddValue(value, "is no number")
    if math.isnan(value):
        raise OddValue(value, "is not a number, which counts as missing", None)
    # -0.0 becomes 0.0, as in SQLite.
    return value + 0.0


def _bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise OddValue(value, "is a text, not bytes")
    return value


def _json(value: Any) -> str:
    try:
        # RecursionError: PostgreSQL has a limit of its own, which is larger.
        json.loads(_text(value), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise OddValue(value, "is no JSON") from None
    return str(value)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _wall_time(value: Any) -> str:
    moment = _moment(value)
    if moment.tzinfo is not None:
        raise OddValue(value, "has an offset, so it is no wall time")
    if _WALL.fullmatch(value):
        return str(value)
    fraction = f".{moment.microsecond:06}".rstrip("0") if moment.microsecond else ""
    raise OddValue(value, "is in another form", f"{moment.replace(microsecond=0)}{fraction}")


def _stamp(value: Any) -> str:
    moment = _moment(value)
    if moment.tzinfo is None:
        instead = moment.replace(tzinfo=UTC).isoformat(timespec="microseconds")
        raise OddValue(value, "has no offset, and counts as UTC", instead)
    if len(value) == _STAMP_LENGTH and value.endswith("+00:00") and value[10] == "T":
        return str(value)
    try:
        raise OddValue(value, "is in another form", moment.astimezone(UTC).isoformat(timespec="microseconds"))
    except OverflowError:
        raise OddValue(value, "is no time") from None


def _moment(value: Any) -> datetime:
    try:
        # Python would read some counts of milliseconds as times without dashes.
        if type(value) is str and value[4:5] == "-":
            return datetime.fromisoformat(value)
    except ValueError:
        pass
    raise OddValue(value, "is no time")


_FORMS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (Stamp, _stamp),
    (WallTime, _wall_time),
    *((kind, _json) for kind in JSONS),
    (LargeBinary, _bytes),
    (Boolean, _truth),
    (BigInteger, _whole_64),
    (Integer, _whole_32),
    (Float, _real),
)
