"""Many requests in one body: where each row begins and ends, and what it holds.

Each row means what a body of `/predict` means, and is read by the same functions. In a row that needs nothing from the
database one decoding finds that; only the others are read field by field.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from zap.errors import BatchTooLarge, InvalidRequest, MalformedCsv, MalformedJson
from zap.ml.features import NUMBERS
from zap.ml.json_body import Expected, error_at, kind_of, load_json, malformed, pointer, read_fields, read_time
from zap.ml.request import (
    FIELDS,
    START,
    USER_ID,
    VEHICLE_ID,
    Request,
    complete_decoder,
    complete_request,
    parse_request,
    unknown_request_field,
)

# One flat object, as a row or as the body of /predict; 64 KiB is generous, and the whole of it is logged.
LARGEST_ROW = 65_536
# Lines of NDJSON that are committed together, and the most bytes of them.
GROUP_LINES = 1_000
GROUP_BYTES = 4 * 2**20

INPUTS = "inputs"
_WANTED = '{"inputs": [...]} with a request in each place'
_DELIMITERS = (",", ";", "\t")
_JSON_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
# How tools that know no missing integer write whole numbers.
_WHOLE = re.compile(r"(0|[1-9][0-9]*)\.0+")
# Of so many each is told that is no field.
_MOST_COLUMNS = 100
_NUMBERS = frozenset({*(feature.name for feature in NUMBERS), VEHICLE_ID})

WallTime = Callable[[datetime], datetime]

_latest: tuple[Mapping[str, Any], msgspec.json.Decoder[Any], tuple[str, ...]] | None = None


class Refusal(NamedTuple):
    """Why a row is not answered: each bad field, with a JSON pointer into the row."""

    errors: list[dict[str, str]]

    @classmethod
    def of(cls, error: InvalidRequest | MalformedJson) -> "Refusal":
        return cls(error.details.get("errors") or [error_at((), error.message)])


class Rows(NamedTuple):
    """The rows of a batch in their order.

    Attributes:
        texts: the JSON of each, or why it cannot be read.
        lines: where each begins in a CSV body; none for JSON.
    """

    texts: list[bytes | Refusal]
    lines: list[int]


@dataclass(frozen=True, slots=True)
class Row:
    """A row that was read.

    Attributes:
        text: its JSON, as the client sent it.
        values: one for each of FEATURES, None where missing; None as a whole while they are not complete, or if they
            cannot be.
        request: what is there of a row that may be completed from the database, or cannot be answered.
        refusal: why it cannot.
        user_id: the driver, if the row names one.
    """

    text: str
    values: Mapping[str, Any] | None = None
    request: Request | None = None
    refusal: Refusal | None = None
    user_id: str | None = None


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    inputs: list[msgspec.Raw]


_document = msgspec.json.Decoder(_Document, strict=True)


def read_json(body: bytes, most_rows: int) -> Rows:
    """The rows of `{"inputs": [...]}`, each still as its text.

    Raises:
        MalformedJson: the body is no JSON document.
        InvalidRequest: it is one of another form.
        BatchTooLarge: it has more rows than `most_rows`.
    """
    _check_size(body, most_rows)
    try:
        text = body.decode()
        rows = _document.decode(body).inputs
    except msgspec.ValidationError:
        raise _wrong_document(text) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(body, error, _WANTED) from None
    if len(rows) > most_rows:
        raise too_many_rows(most_rows)
    # The decoder takes the last of two fields with one name.
    if body.count(b'"inputs"') > 1 or b"\\" in body:
        _check_document(load_json(text, _WANTED))
    return Rows([bytes(row).strip() for row in rows], [])


def _check_size(body: bytes, most_rows: int) -> None:
    """Refuse a body with more values than its rows can have, before there is an object for each.

    Raises:
        BatchTooLarge: it has them.
    """
    # A comma stands behind every value but the last of all, and behind every row.
    most = most_rows * len(FIELDS)
    if body.count(b",") > most and sum(part.count(b",") for part in _between_texts(body)) > most:
        raise BatchTooLarge(
            f"a batch has at most {most_rows:,} rows (ZAP_BATCH_ROWS) of {len(FIELDS)} fields; this has more values"
        )


def _between_texts(body: bytes) -> Iterator[bytes]:
    """What stands in JSON outside of its texts, where commas are those between values."""
    end = 0
    for text in _JSON_TEXT.finditer(body):
        yield body[end : text.start()]
        end = text.end()
    yield body[end:]


def _wrong_document(text: str) -> Exception:
    try:
        _check_document(load_json(text, _WANTED))
    except (InvalidRequest, MalformedJson) as error:
        return error
    return MalformedJson(f"send {_WANTED}")


def _check_document(document: Any) -> None:
    """Raises InvalidRequest with all that is wrong with the object around the rows."""
    errors: list[dict[str, str]] = []
    fields = read_fields(document, Expected(_WANTED, (INPUTS,), _wrong_inputs, _unknown_around), errors)
    if INPUTS not in fields and not any(error["pointer"] == pointer(INPUTS) for error in errors):
        errors.append(error_at((INPUTS,), "is required: a list of requests"))
    if errors:
        raise InvalidRequest(errors)


def _wrong_inputs(_name: str, value: Any) -> str | None:
    return None if isinstance(value, list) else f"must be a list of requests, not {kind_of(value)}"


def _unknown_around(name: str) -> str:
    if name in FIELDS:
        return f"is a field of a request: put each request into the list {INPUTS}"
    return f"is not a field; send {_WANTED}"


def read_csv(body: bytes, most_rows: int) -> Rows:
    """The rows of a CSV body as the JSON objects that they mean: an empty cell is null, a number is a JSON number.

    Raises:
        MalformedCsv: it is not UTF-8, or there is no line of column names.
        InvalidRequest: a column is no field, or is there twice.
        BatchTooLarge: it has more rows than `most_rows`.
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


def csv_records(source: Iterable[str]) -> tuple[list[str], Iterator[tuple[int, list[str] | Refusal]]]:
    """The columns of a CSV text, and each record with the line on which it begins (the header is line 1).

    Comma, semicolon or tab separates the cells; blank lines are no records.

    Raises:
        MalformedCsv: there is no line of column names.
        InvalidRequest: a column is no field, or is there twice.
    """
    lines = iter(source)
    first = next(lines, "").removeprefix("\ufeff")
    if not first.strip():
        raise MalformedCsv("the first line is empty; CSV begins with a line of column names")
    delimiter = max(_DELIMITERS, key=lambda one: sum(name.strip(' "\r\n') in FIELDS for name in first.split(one)))
    reader = csv.reader(_chain(first, lines), delimiter=delimiter, strict=True)
    try:
        columns = [name.strip() for name in next(reader)]
    except csv.Error as error:
        raise MalformedCsv(f"the line of column names cannot be read: {error}") from None
    check_columns(columns)
    return columns, _records(reader, len(columns))


def check_columns(columns: Sequence[str]) -> None:
    """Raises InvalidRequest with each column that is no field of a request, or is there twice."""
    if len(columns) > _MOST_COLUMNS:
        raise InvalidRequest([error_at((), f"there are {len(columns):,} columns; a request has {len(FIELDS)} fields")])
    errors = [
        error_at((name,), "is there more than once" if name in FIELDS else unknown_request_field(name))
        for name in dict.fromkeys(columns)
        if name not in FIELDS or columns.count(name) > 1
    ]
    if errors:
        raise InvalidRequest(errors)


def cells_as_json(columns: Sequence[str], cells: Sequence[str]) -> bytes:
    """The JSON object that a record of a CSV means."""
    return msgspec.json.encode(
        {
            name: None if not cell else _number(name, cell) if name in _NUMBERS else cell
            for name, cell in zip(columns, cells, strict=True)
        }
    )


def _number(name: str, cell: str) -> msgspec.Raw | str:
    """The number as it is written; what is none stays text, which is refused as in JSON."""
    cell = cell.strip()
    if name == VEHICLE_ID and (whole := _WHOLE.fullmatch(cell)):
        cell = whole[1]
    return msgspec.Raw(cell.encode()) if _JSON_NUMBER.fullmatch(cell) else cell


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _records(reader: Any, width: int) -> Iterator[tuple[int, list[str] | Refusal]]:
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, _unreadable(f"is not readable as CSV: {error}")
            continue
        if not any(record) and len(record) <= 1:
            continue
        yield (
            line,
            record
            if len(record) == width
            else _unreadable(f"has {len(record)} cells where the first line has {width}"),
        )


def _unreadable(detail: str) -> Refusal:
    return Refusal([error_at((), detail)])


class Lines:
    """The lines of NDJSON as they come in pieces. It holds no more than one line that has not ended."""

    def __init__(self) -> None:
        self._begun = b""
        self._dropped = 0
        self._number = 0

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes | Refusal]]:
        """The lines that end in this piece, without blank ones, each with its number from 1 on."""
        *ended, rest = piece.split(b"\n")
        for line in ended:
            yield from self._end(line)
        self._begun += rest
        if len(self._begun) > LARGEST_ROW + 1:
            self._dropped += len(self._begun)
            self._begun = b""

    def end(self) -> Iterator[tuple[int, bytes | Refusal]]:
        """The last line, where it has no line end."""
        yield from self._end(b"")

    def _end(self, rest: bytes) -> Iterator[tuple[int, bytes | Refusal]]:
        line, dropped = (self._begun + rest).strip(b" \t\r"), self._dropped
        self._begun, self._dropped = b"", 0
        self._number += 1
        if dropped or len(line) > LARGEST_ROW:
            yield self._number, _unreadable(f"has {dropped + len(line):,} bytes; a line has at most {LARGEST_ROW:,}")
        elif line:
            yield self._number, line


def too_many_rows(most_rows: int) -> BatchTooLarge:
    return BatchTooLarge(f"a batch has at most {most_rows:,} rows (ZAP_BATCH_ROWS); NDJSON has no such limit")


def read_rows(
    texts: Sequence[bytes | Refusal], contract: Mapping[str, Any], wall_time: WallTime, now: datetime
) -> list[Row]:
    """Each row complete where it needs nothing from the database, else read as far as it goes.

    Args:
        texts: the JSON of each row; those that cannot be read stay refused.
        contract: of the version that serves.
        wall_time: turns a time with an offset into the drivers' wall time.
        now: the wall time that stands in for a missing start.
    """
    decoder, optional = _complete_decoder(contract)
    decoded = [_decode(decoder, text) for text in texts]
    told_apart = not _each_field_once(texts, decoded)
    rows = []
    shown = 0
    for text, one in zip(texts, decoded, strict=True):
        row = None
        if one is not None and not ((told_apart or _is_escaped(text)) and _has_repeated(text)):
            row = _complete_row(text, one, optional, wall_time, now)
        if row is None:
            # Beyond those that anybody reads, errors are told without looking for what may be meant.
            row = _read_row(text, wall_time, hints=shown < InvalidRequest.SHOWN)
            shown += len(row.refusal.errors if row.refusal else row.request.errors if row.request else ())
        rows.append(row)
    return rows


def completed(row: Row, facts: Mapping[str, Any], contract: Mapping[str, Any], now: datetime) -> Row:
    """A row with a value for each of FEATURES, or with why it cannot have them; see `complete_request`."""
    if row.request is None:
        return row
    try:
        return replace(row, values=complete_request(row.request, facts, contract, now), request=None)
    except InvalidRequest as error:
        return replace(row, request=None, refusal=Refusal.of(error))


def refusals(rows: Sequence[Row]) -> list[tuple[int, Refusal]]:
    """The places of the rows that cannot be answered, and why."""
    return [(place, row.refusal) for place, row in enumerate(rows) if row.refusal is not None]


def placed(place: int, refusal: Refusal) -> list[dict[str, str]]:
    """The errors of a row with its place in the batch in each pointer."""
    row = pointer(INPUTS, place)
    return [error | {"pointer": row + error["pointer"].removeprefix("#")} for error in refusal.errors]


def invalid_batch(refused: Iterable[tuple[int, Refusal]], lines: Sequence[int]) -> InvalidRequest:
    """All errors of a batch, each with the place of its row, and the line of that where it has one.

    Args:
        refused: the places of the rows that cannot be answered, and why.
        lines: where each row of the batch begins; none for JSON.
    """
    errors: list[dict[str, Any]] = []
    for place, refusal in refused:
        if len(errors) >= InvalidRequest.SHOWN:
            # Beyond those that are shown they are only counted.
            errors += errors[-1:] * len(refusal.errors)
            continue
        line = {"line": lines[place]} if lines else {}
        errors += [error | line for error in placed(place, refusal)]
    return InvalidRequest(errors)


def _complete_decoder(contract: Mapping[str, Any]) -> tuple[msgspec.json.Decoder[Any], tuple[str, ...]]:
    """The decoder of rows that are complete, and the fields that it lets be left out."""
    global _latest  # noqa: PLW0603 - one version serves at a time: the decoder of the latest contract is kept
    latest = _latest
    if latest is None or latest[0] is not contract:
        decoder = complete_decoder(contract)
        optional = tuple(field.name for field in msgspec.structs.fields(decoder.type) if field.default is UNSET)
        latest = _latest = contract, decoder, optional
    return latest[1:]


def _decode(decoder: msgspec.json.Decoder[Any], text: bytes | Refusal) -> Any:
    if isinstance(text, Refusal) or len(text) > LARGEST_ROW:
        return None
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _each_field_once(texts: Sequence[bytes | Refusal], decoded: Sequence[Any]) -> bool:
    """Whether no decoded row can hold a field twice: the decoder takes the last of two with one name.

    A field that it dropped has left its quotes in the text. In those with a backslash quotes cannot be counted: they
    are left out here.
    """
    plain = [(text, one) for text, one in zip(texts, decoded, strict=True) if one is not None and not _is_escaped(text)]
    whole = b"".join([text for text, _ in plain])  # type: ignore[misc]
    return whole.count(b'"') == msgspec.json.encode([one for _, one in plain]).count(b'"')


def _is_escaped(text: bytes | Refusal) -> bool:
    return not isinstance(text, Refusal) and b"\\" in text


def _has_repeated(text: bytes | Refusal) -> bool:
    return isinstance(text, Refusal) or json.loads(text, object_pairs_hook=lambda pairs: len(dict(pairs)) < len(pairs))


def _complete_row(
    text: bytes | Refusal, decoded: Any, optional: Sequence[str], wall_time: WallTime, now: datetime
) -> Row | None:
    """The row as `parse_request` and `complete_request` would give it; None where it has an error."""
    values = msgspec.structs.asdict(decoded)
    for name in optional:
        if values[name] is UNSET:
            values[name] = None
    start = values[START]
    if start is None:
        values[START] = now
    elif (time := read_time(start, wall_time)) is None:
        return None
    else:
        values[START] = time[1]
    return Row(text.decode(), values)  # type: ignore[union-attr]


def _read_row(text: bytes | Refusal, wall_time: WallTime, *, hints: bool) -> Row:
    """A row field by field, for whatever the decoder of complete rows refused."""
    if isinstance(text, Refusal):
        return Row("", refusal=text)
    if len(text) > LARGEST_ROW:
        return Row("", refusal=_unreadable(f"has {len(text):,} bytes; a request has at most {LARGEST_ROW:,}"))
    try:
        request = parse_request(text, wall_time, hints=hints)
    except (InvalidRequest, MalformedJson) as error:
        return Row("", refusal=Refusal.of(error))
    return Row(request.text, request=request, user_id=request.values.get(USER_ID))
