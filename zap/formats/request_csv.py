"""Reading of CSV: each record of a body or a file becomes a request in JSON."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec

from zap.errors import InvalidRequest, MalformedCsv
from zap.formats.json_body import error_at
from zap.formats.request import EXPLAIN, NAMES, VEHICLE_ID, unknown_request_field
from zap.formats.request_rows import Refusal, Rows, too_many_rows, unreadable
from zap.ml.cells import is_nothing, whole_number

_DELIMITERS = (",", ";", "\t")
_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_TRUTHS = {"true": True, "false": False}
# The most columns for which unknown names are reported one by one.
_MOST_COLUMNS = 100


def read_csv(body: bytes, most_rows: int) -> Rows:
    """Return the rows of a CSV body as JSON objects. An empty cell becomes null, a number becomes a JSON number.

    In a column of numbers a word such as `NULL` or `n/a` becomes null too. In other columns it stays as it is sent; the
    reader of requests reads it as null.

    Raises:
        MalformedCsv: the body is not UTF-8, or has no line of column names.
        InvalidRequest: a column is not a field, or appears more than once.
        BatchTooLarge: the body has more rows than `most_rows`.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise MalformedCsv(f"the body is not UTF-8 at byte {error.start}") from None
    texts: list[bytes | Refusal] = []
    lines = []
    columns, records = csv_records(io.StringIO(text, newline=""))
    for line, record in records:
        if len(texts) == most_rows:
            raise too_many_rows(most_rows)
        lines.append(line)
        texts.append(record if isinstance(record, Refusal) else cells_as_json(columns, record))
    return Rows(texts, lines)


def is_field(name: str) -> bool:
    """Return whether a request has this field."""
    return name in NAMES


def csv_records(
    source: Iterable[str], is_known: Callable[[str], bool] = is_field
) -> tuple[list[str], Iterator[tuple[int, list[str] | Refusal]]]:
    """Return the columns of a CSV text, and an iterator over its records, each with its first line.

    The header is line 1. Comma, semicolon or tab separates the cells; blank lines are skipped.

    Args:
        source: the lines of the text.
        is_known: whether the text may have a column.

    Raises:
        MalformedCsv: the text has no line of column names.
        InvalidRequest: a column is not known, or appears more than once.
    """
    lines = iter(source)
    first = next(lines, "").removeprefix("\ufeff")
    if not first.strip():
        raise MalformedCsv("the first line is empty; begin the CSV with a line of column names")
    delimiter = max(_DELIMITERS, key=lambda one: _known_names(first.split(one), is_known))
    reader = csv.reader(chain((first,), lines), delimiter=delimiter, strict=True)
    try:
        columns = [name.strip() for name in next(reader)]
    except csv.Error as error:
        raise MalformedCsv(f"the line of column names cannot be read: {error}") from None
    check_columns(columns, is_known)
    return columns, _records(reader, len(columns))


def check_columns(columns: Sequence[str], is_known: Callable[[str], bool] = is_field) -> None:
    """Raise InvalidRequest with each column that is not known, or has a name and appears more than once."""
    if len(columns) > _MOST_COLUMNS:
        raise InvalidRequest(
            [error_at((), f"there are {len(columns):,} columns, but a request has only {len(NAMES)} fields")]
        )
    errors = [
        error_at((name,), "appears more than once" if is_known(name) else unknown_request_field(name))
        for name in dict.fromkeys(columns)
        if not is_known(name) or (name and columns.count(name) > 1)
    ]
    if errors:
        raise InvalidRequest(errors)


def cells_as_json(columns: Sequence[str], cells: Sequence[str]) -> bytes:
    """Return a record of a CSV as a JSON object. An empty cell of EXPLAIN leaves this field out."""
    return msgspec.json.encode(
        {name: _value(name, cell) for name, cell in zip(columns, cells, strict=True) if cell or name != EXPLAIN}
    )


def _value(name: str, cell: str) -> Any:
    if not cell or NAMES[name] is str:
        return cell or None
    # Spreadsheets and pandas write TRUE and True.
    return _TRUTHS.get(cell.strip().lower(), cell) if name == EXPLAIN else _number(name, cell)


def _known_names(names: Sequence[str], is_known: Callable[[str], bool]) -> int:
    return sum(is_known(name) for text in names[:_MOST_COLUMNS] if (name := text.strip(' "\r\n')))


def _number(name: str, cell: str) -> msgspec.Raw | str | None:
    """Return a number as it is written, and None for a word that means that the value is missing.

    Another cell stays a text, which is refused later as in JSON.
    """
    cell = cell.strip()
    if name == VEHICLE_ID:
        cell = whole_number(cell)
    if _JSON_NUMBER.fullmatch(cell):
        return msgspec.Raw(cell.encode())
    return None if is_nothing(cell) else cell


def _records(reader: Any, width: int) -> Iterator[tuple[int, list[str] | Refusal]]:
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, unreadable(f"is not readable as CSV: {error}")
            continue
        if not any(record) and len(record) <= 1:
            continue
        yield (
            line,
            record if len(record) == width else unreadable(f"has {len(record)} cells where the first line has {width}"),
        )
