"""The columns of a file of requests: the field that each column means, and the columns that no request may have.

A file of requests may be a history file. Its columns that are not known before a session are left out of the requests.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from zap.errors import InvalidRequest
from zap.formats.history_headers import meaning
from zap.formats.json_body import error_at, names_are_unique, plain_name, shown_name, without_bom
from zap.formats.request import NAMES

# What `field_of` returns for a column that is left out.
LEFT_OUT = ""
# The names of an index that pandas and pyarrow write into a file.
_INDEX = re.compile(r"Unnamed: [0-9]+|__index_level_[0-9]+__")
# How many unknown names are shown.
_SHOWN = 10

_decode_row = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class FileColumns(NamedTuple):
    """The columns of a file.

    Attributes:
        fields: the place and the field of each column that belongs to the requests.
        left_out: the place and the header of each other column that has a header.
    """

    fields: list[tuple[int, str]]
    left_out: list[tuple[int, str]]


@lru_cache(maxsize=512)
def field_of(header: str) -> str | None:
    """Return the field that a column of a file means.

    Returns:
        The name of the field; LEFT_OUT for a column of a history that no request may have, for an index and for an
        empty header; None for a column that zap does not know.
    """
    if header in NAMES:
        return header
    if not header or _INDEX.fullmatch(header):
        return LEFT_OUT
    if (known := meaning(header)) is not None:
        return known if known in NAMES else LEFT_OUT
    plain = plain_name(header)
    return plain if plain in NAMES else None


def is_known(header: str) -> bool:
    """Return whether a file of requests may have this column."""
    return field_of(header) is not None


def file_columns(headers: Sequence[str]) -> FileColumns:
    """Return the columns of a file whose headers are all known.

    Raises:
        InvalidRequest: two headers mean one field.
    """
    fields: list[tuple[int, str]] = []
    by_field: dict[str, str] = {}
    errors = []
    for place, header in enumerate(headers):
        if field := field_of(header):
            if field in by_field:
                errors.append(error_at((header,), f"means {field}, and so does {by_field[field]!r}; leave one out"))
            by_field.setdefault(field, header)
            fields.append((place, field))
    if errors:
        raise InvalidRequest(errors)
    left_out = [(place, header) for place, header in enumerate(headers) if header and not field_of(header)]
    return FileColumns(fields, left_out)


class SplitRow(NamedTuple):
    """A JSON object in two parts.

    Attributes:
        request: the JSON of the request.
        left_out: the values that are left out of the request, by name.
        headers: all names of the object; empty if the request is the object itself.
    """

    request: bytes
    left_out: Mapping[str, Any]
    headers: Collection[str]


def split_row(text: bytes) -> SplitRow:
    """Return the request of a JSON object, and the values that are left out of the request.

    The values of the request stay as they are written. A text that is not such an object is returned unchanged, so that
    the reader of requests names its errors.
    """
    unchanged = SplitRow(text, {}, ())
    try:
        plain = without_bom(text)
        row = _decode_row(plain)
        if row.keys() <= NAMES.keys():
            return unchanged
        fields = {name: field_of(name) for name in row}
        named = [field or name for name, field in fields.items() if field != LEFT_OUT]
        if len(named) > len(set(named)) or not names_are_unique(plain):
            return unchanged
        request = {fields[name] or name: value for name, value in row.items() if fields[name] != LEFT_OUT}
        left_out = {name: msgspec.json.decode(row[name]) for name in row if fields[name] == LEFT_OUT}
        return SplitRow(msgspec.json.encode(request), left_out, row.keys())
    except (ValueError, RecursionError):
        return unchanged


def told_columns(headers: Iterable[str]) -> list[str]:
    """Return in sentences which columns are left out or unknown, and which are read as a field of another name."""
    told, fields = [], {header: field_of(header) for header in headers}
    if left_out := [header for header, field in fields.items() if field == LEFT_OUT]:
        names = ", ".join(shown_name(header) or "a column without a name" for header in left_out)
        told.append(f"left out of the requests (not known before the session, or not a field of a request): {names}")
    if unknown := [header for header, field in fields.items() if field is None]:
        names = ", ".join(repr(shown_name(header)) for header in unknown[:_SHOWN])
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        told.append(f"rows with these names are refused, because the names are not fields of a request: {names}{more}")
    if renamed := [f"{header!r} as {field}" for header, field in fields.items() if field and field != header]:
        told.append(f"read {', '.join(renamed)}")
    return told
