"""Strict reading of JSON, shared by the bodies of all routes.

The functions `wrong_...` say in words why a value is not accepted. A JSON pointer names its place.
"""

import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from difflib import get_close_matches
from itertools import islice
from typing import Any

from zap.errors import InvalidRequest, MalformedJson
from zap.formats.values import (
    CONTROL,
    CONTROL_CHARACTERS,
    FIRST_YEAR,
    LARGEST_ID,
    LAST_YEAR,
    LONGEST_TEXT,
    in_years,
    read_iso,
)
from zap.ml.features import Feature
from zap.sentences import phrase, say

# The most characters of an unknown name that an error shows. No field has a longer name.
LONGEST_NAME = 100
# The most errors of a body with a suggested field. Each search for a similar name takes a tenth of a millisecond.
_HINTS = 25
# The number of names in the longest pointer to a field, such as `#/inputs/3/temperature_c`.
_DEEPEST = 3
_BOM = b"\xef\xbb\xbf"
_NO_NUMBER = "which is not a number in JSON; send a number or null"
_NOT_A_FIELD = say("is not a field; /docs lists the fields")
# The value of a name that appears more than once in an object. zap cannot know which of its values was meant.
REPEATED = object()
APPEARS_TWICE = say("appears more than once")
BROKEN_NAME = say("the name of a field holds half of a surrogate pair")
# Patterns for JSON Schema, which are read by many languages: of a text, of the date and time of a session (or an empty
# text, which counts as null), and of a date with or without a time. A time without an offset is no `date-time`, because
# RFC 3339 needs an offset.
TEXT_PATTERN = f"^[^{CONTROL_CHARACTERS}]*$"
_DAY = r"(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
# FIRST_YEAR to LAST_YEAR.
_YEAR = r"(199[0-9]|20[0-9]{2}|2100)"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]+)?)?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?"
TIME_PATTERN = rf"^({_YEAR}-{_DAY}[T ]{_CLOCK})?$"
DAY_PATTERN = rf"^[0-9]{{4}}-{_DAY}([T ]{_CLOCK})?$"


class NotANumber(str):
    """`NaN`, `Infinity` or `-Infinity`: Python's reader accepts these words, but JSON has no such number."""

    __slots__ = ()


def load_json(document: str | bytes, wanted: str) -> Any:
    """Return a JSON document. A name that appears more than once in an object has the value REPEATED.

    Args:
        document: the text, or its bytes in UTF-8, with or without a byte order mark.
        wanted: the expected body in words.

    Raises:
        MalformedJson: the document is not JSON. The error names the places of numbers such as NaN.
    """
    body = document.encode() if isinstance(document, str) else without_bom(document)
    try:
        read, constants = _read(body.decode())
    except (RecursionError, ValueError) as error:
        raise malformed(body, error, wanted) from None
    if constants:
        raise _no_numbers(read, constants)
    return read


def without_bom(body: bytes) -> bytes:
    """Return a body without the byte order mark that some tools write at its start."""
    return body.removeprefix(_BOM)


def malformed(body: bytes, error: Exception, wanted: str) -> MalformedJson:
    """Return the error for a body that is not JSON.

    Args:
        body: the bytes of the body.
        error: the error of the JSON reader.
        wanted: the expected body in words.
    """
    if not body.strip():
        return MalformedJson(f"the body is empty; send {wanted}")
    if isinstance(error, RecursionError):
        return MalformedJson(f"the body is nested too deeply; send {wanted}")
    if isinstance(error, UnicodeDecodeError):
        return MalformedJson(f"the body is not UTF-8 at byte {error.start}")
    if b"N" in body or b"Infinity" in body:
        # A stricter reader refused the body. Python's reader finds the places of numbers such as NaN.
        with contextlib.suppress(RecursionError, ValueError):
            read, constants = _read(body.decode())
            if constants:
                return _no_numbers(read, constants)
    return MalformedJson(str(error))


def wrong_number(feature: Feature, value: Any) -> str | None:
    """Return why a value is not accepted as this number, or None."""
    if type(value) not in {int, float}:
        return say("must be a number, {range}, not {kind}", range=feature.range, kind=kind_of(value))
    return None if feature.inside(value) else say("is {value}; must be {range}", value=value, range=feature.range)


def wrong_whole(feature: Feature, value: Any) -> str | None:
    """Return why a value is not accepted as this whole number, or None."""
    if type(value) is float:
        return say("must be a whole number, {range}, not {value}", range=feature.range, value=value)
    return wrong_number(feature, value)


def wrong_id(value: Any, largest: int = LARGEST_ID) -> str | None:
    """Return why a value is not accepted as an id from 0 to `largest`, or None."""
    if type(value) is not int:
        found = value if isinstance(value, float) else kind_of(value)
        return say("must be a whole number, not {found}", found=found)
    return None if 0 <= value <= largest else say("must be 0 to {largest}", largest=largest)


def wrong_text(value: Any) -> str | None:
    """Return why a value is not accepted as a text, or None."""
    if not isinstance(value, str):
        return say("must be a string, not {kind}", kind=kind_of(value))
    if len(value) > LONGEST_TEXT:
        return say("has {n} characters; at most {most} are accepted", n=len(value), most=LONGEST_TEXT)
    if not is_unicode(value):
        return say("holds half of a surrogate pair")
    return say("holds a control character") if CONTROL.search(value) else None


def wrong_session_time(text: str) -> str:
    """Return the error for a text that `read_session_time` does not read."""
    return say(
        "is {text!r}; must be an ISO 8601 date and time in the years {first} to {last}, such as 2026-03-02T18:30:00",
        text=text,
        first=FIRST_YEAR,
        last=LAST_YEAR,
    )


def unknown_field(name: str, fields: Collection[str]) -> str:
    """Return the error for a name that is not in `fields`, with a suggestion if a field has a similar name."""
    if len(name) > LONGEST_NAME:
        # The time of the search grows with the square of the name's length.
        return _NOT_A_FIELD
    plain = plain_name(name)
    if plain in fields:
        return say("is not a field; it is called {plain} now", plain=plain)
    # Column names in histories end with remarks and units in brackets.
    close = get_close_matches(plain_name(re.sub(r"\([^)]*\)", "", name)), fields, n=1, cutoff=0.7)
    return say("is not a field; did you mean {close}?", close=close[0]) if close else _NOT_A_FIELD


def suggested(name: str, before: int, unknown: Callable[[str], str]) -> str:
    """Return the error of `unknown` for a name, or an error without a suggestion where the search would take too long.

    Args:
        name: the name that is not a field.
        before: the number of errors found so far in the body.
        unknown: returns the error for the name, with a suggestion.
    """
    return unknown(name) if len(name) <= LONGEST_NAME and before < _HINTS else _NOT_A_FIELD


def plain_name(name: str) -> str:
    return re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")


def read_time(text: str, wall_time: Callable[[datetime], datetime]) -> tuple[datetime, datetime] | None:
    """Return the moment as it is written, and its wall time to the second; None if the text is not a date and time."""
    moment = read_iso(text)
    try:
        return None if moment is None else (moment, wall_time(moment).replace(microsecond=0))
    except (ValueError, OverflowError, OSError):
        return None


def read_session_time(text: str, wall_time: Callable[[datetime], datetime]) -> tuple[datetime, datetime] | None:
    """Return the result of `read_time`; None also if the year is not one of the years of sessions."""
    time = read_time(text, wall_time)
    return time if time is not None and in_years(time[0]) else None


def in_range(feature: Feature) -> str:
    return f", {feature.range}" if feature.kind == "number" else ""


def number_schema(feature: Feature) -> dict[str, Any]:
    """Return the range of a number in JSON Schema."""
    lowest = "exclusiveMinimum" if feature.minimum_excluded else "minimum"
    return {lowest: feature.minimum, "maximum": feature.maximum}


def kind_of(value: Any) -> str:
    """Return the JSON type of a value in words."""
    if value is None:
        return phrase("null")
    if isinstance(value, dict):
        return phrase("an object")
    kinds = {bool: phrase("true or false"), str: phrase("a string"), list: phrase("a list")}
    return kinds.get(type(value), phrase("a number"))


def pointer(*names: str | int) -> str:
    """Return the JSON pointer to a place in the body, e.g. `#/3/charger_type`; very long names are cut."""
    return "#" + "".join("/" + shown_name(str(name)).replace("~", "~0").replace("/", "~1") for name in names)


def shown_name(name: str) -> str:
    """Return a name as an error shows it. A very long name is cut."""
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"


def error_at(place: tuple[str | int, ...], detail: str) -> dict[str, str]:
    return {"pointer": pointer(*place), "detail": detail}


def names_are_unique(text: bytes) -> bool:
    """Return whether each name of a JSON object appears once."""
    return bool(json.loads(text, object_pairs_hook=lambda pairs: len(dict(pairs)) == len(pairs)))


def _read(text: str) -> tuple[Any, set[str]]:
    """Return a document, and the set of words such as NaN in it that are not JSON numbers.

    Raises:
        ValueError, RecursionError: the text is not JSON, even if such words are allowed.
    """
    constants: set[str] = set()

    def constant(name: str) -> NotANumber:
        constants.add(name)
        return NotANumber(name)

    read = json.loads(
        text,
        # Python's int() raises an error for thousands of digits; such a number is outside every range here.
        parse_int=lambda digits: int(digits) if len(digits) < 30 else math.inf,
        parse_constant=constant,
        object_pairs_hook=_object,
    )
    return read, constants


def _no_numbers(read: Any, constants: set[str]) -> MalformedJson:
    """Return the error for a document with numbers such as NaN, with the places of the first of these numbers."""
    errors = [
        error_at(place, f"is {value}, {_NO_NUMBER}") for place, value in islice(_places(read), InvalidRequest.SHOWN)
    ]
    where = f" at {errors[0]['pointer']}" if errors else ""
    said = f"{', '.join(sorted(constants))} is in the body{where}, {_NO_NUMBER}"
    return MalformedJson(said, errors=errors) if errors else MalformedJson(said)


def _places(read: Any) -> Iterator[tuple[tuple[str | int, ...], NotANumber]]:
    """Yield each number such as NaN with its place, down to the depth of zap's fields."""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), read)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, NotANumber):
            yield place, value
        elif isinstance(value, dict | list) and len(place) < _DEEPEST:
            inside = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += reversed([((*place, name), one) for name, one in inside])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        times = Counter(name for name, _ in pairs)
        fields |= {name: REPEATED for name in fields if times[name] > 1}
    return fields


def is_unicode(text: str) -> bool:
    """Return whether a text has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
