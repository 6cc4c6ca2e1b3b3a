"""JSON read strictly: what the bodies of all routes have in common.

A value that cannot be accepted is described in words (`wrong_...`), and its place by a JSON pointer.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from zap.errors import InvalidRequest, MalformedJson
from zap.ml.features import Feature

LARGEST_ID = 2**63 - 1
LONGEST_TEXT = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Expected:
    """An object that a body may hold.

    Attributes:
        words: what it is.
        names: its fields.
        wrong_value: what is wrong with the value of a field, or None.
        unknown: what to say of a name that is none of `names`.
    """

    words: str
    names: Collection[str]
    wrong_value: Callable[[str, Any], str | None]
    unknown: Callable[[str], str]


class Repeated(dict[str, Any]):
    """An object that holds some names more than once; which of the values is meant nobody can tell."""

    names: frozenset[str]


def load_json(document: str | bytes, wanted: str) -> Any:
    """A document in which an object that names a field twice is told from others.

    Args:
        document: its text, or that in UTF-8.
        wanted: what the body should be, in words.

    Raises:
        MalformedJson: it is no JSON document.
    """
    try:
        # Python's own int() refuses thousands of digits; such a number is out of every range here anyway.
        return json.loads(
            document if isinstance(document, str) else document.decode(),
            parse_int=lambda digits: int(digits) if len(digits) < 30 else math.inf,
            object_pairs_hook=_object,
        )
    except (RecursionError, ValueError) as error:
        raise malformed(document.encode() if isinstance(document, str) else document, error, wanted) from None


def malformed(body: bytes, error: Exception, wanted: str) -> MalformedJson:
    """Why a body is no JSON document, from what its reader raised."""
    if not body.strip():
        return MalformedJson(f"the body is empty; send {wanted}")
    if isinstance(error, RecursionError):
        return MalformedJson(f"the body is nested too deeply; send {wanted}")
    if isinstance(error, UnicodeDecodeError):
        return MalformedJson(f"the body is not UTF-8 at byte {error.start}")
    return MalformedJson(str(error))


def read_fields(
    fields: Any, expected: Expected, errors: list[dict[str, str]], place: tuple[str | int, ...] = ()
) -> dict[str, Any]:
    """Field by field what is usable of an object; what is not is added to `errors`.

    Args:
        fields: what `load_json` made of it.
        expected: what it should be.
        errors: those found so far in the body.
        place: where in the body it stands.

    Raises:
        MalformedJson: a name is no text.
        InvalidRequest: it is no object.
    """
    if not isinstance(fields, dict):
        raise InvalidRequest([*errors, error_at(place, f"is {kind_of(fields)}; send {expected.words}")])
    if not _is_unicode("".join(fields)):
        raise MalformedJson("the name of a field holds half of a surrogate pair")
    values = {}
    repeated = fields.names if isinstance(fields, Repeated) else ()
    for name, value in fields.items():
        if name not in expected.names and len(errors) >= InvalidRequest.SHOWN:
            # No more than these are shown: it is only counted.
            errors.append(errors[-1])
            continue
        if name in repeated:
            wrong: str | None = "is there more than once"
        elif name in expected.names:
            wrong = expected.wrong_value(name, value)
        else:
            wrong = expected.unknown(name)
        if wrong:
            errors.append(error_at((*place, name), wrong))
        else:
            values[name] = value
    return values


def wrong_number(feature: Feature, value: Any) -> str | None:
    if type(value) not in {int, float}:
        return f"must be a number{in_range(feature)}, not {kind_of(value)}"
    return None if feature.inside(value) else f"is {value}; must be {feature.range}"


def wrong_id(value: Any, largest: int = LARGEST_ID) -> str | None:
    if type(value) is not int:
        return f"must be a whole number, not {value if isinstance(value, float) else kind_of(value)}"
    return None if 0 <= value <= largest else f"must be 0 to {largest}"


def wrong_text(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"must be a string, not {kind_of(value)}"
    if len(value) > LONGEST_TEXT:
        return f"has {len(value)} characters; at most {LONGEST_TEXT} are accepted"
    if not _is_unicode(value):
        return "holds half of a surrogate pair"
    return "holds a control character" if _CONTROL.search(value) else None


def wrong_time(text: str) -> str:
    return f"is {text!r}; must be an ISO 8601 date and time such as 2026-03-02T18:30:00"


def unknown_field(name: str, fields: Collection[str]) -> str:
    """That a name is none of `fields`, and which of them may be meant."""
    plain = plain_name(name)
    if plain in fields:
        return f"is not a field; it is called {plain} now"
    # Histories put remarks and units in brackets behind their names.
    close = get_close_matches(plain_name(re.sub(r"\([^)]*\)", "", name)), fields, n=1, cutoff=0.7)
    return f"is not a field; did you mean {close[0]}?" if close else "is not a field; /docs lists those that are"


def plain_name(name: str) -> str:
    return re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")


def read_time(text: str, wall_time: Callable[[datetime], datetime]) -> tuple[datetime, datetime] | None:
    """The moment as it is written, and its wall time to the second; None where the text is no time of a day."""
    try:
        if len(text) < len("2026-03-02T18:30"):
            return None
        moment = datetime.fromisoformat(text)
        return moment, wall_time(moment).replace(microsecond=0)
    except (ValueError, OverflowError, OSError):
        return None


def in_range(feature: Feature) -> str:
    return f", {feature.range}" if feature.kind == "number" else ""


def number_schema(feature: Feature) -> dict[str, Any]:
    """The range of a number in JSON Schema."""
    lowest = "exclusiveMinimum" if feature.minimum_excluded else "minimum"
    return {lowest: feature.minimum, "maximum": feature.maximum}


def kind_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    return {bool: "true or false", str: "a string", list: "a list"}.get(type(value), "a number")


def pointer(*names: str | int) -> str:
    """The JSON pointer to a place in the body, e.g. `#/3/charger_type`."""
    return "#" + "".join("/" + str(name).replace("~", "~0").replace("/", "~1") for name in names)


def error_at(place: tuple[str | int, ...], detail: str) -> dict[str, str]:
    return {"pointer": pointer(*place), "detail": detail}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Repeated:
    fields = dict(pairs)
    if len(fields) == len(pairs):
        return fields
    times = Counter(name for name, _ in pairs)
    repeated = Repeated(fields)
    repeated.names = frozenset(name for name in fields if times[name] > 1)
    return repeated


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
