"""Reading of many requests: the rows of JSON and NDJSON, and the requests in rows. `request_csv` reads CSV.

A row means what it would mean as a body of `/predict`. A row that needs no facts from the database is decoded in one
step. Other rows are read field by field, with the functions for `/predict`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET
from pydantic import Field

from zap.errors import BatchTooLarge, InvalidRequest, MalformedJson
from zap.formats.body_model import BodyModel, explained
from zap.formats.json_body import (
    error_at,
    kind_of,
    malformed,
    pointer,
    without_bom,
)
from zap.formats.request import (
    EXPLAIN,
    NAMES,
    START,
    USER_ID,
    Request,
    complete_decoder,
    complete_request,
    is_each_once,
    parse_request,
    read_start,
)

# The most bytes of one request, as a row or as the body of /predict. 64 KiB is generous, and all bytes are logged.
LARGEST_ROW = 65_536
# The most lines of NDJSON that are committed together, and the most bytes of these lines.
GROUP_LINES = 1_000
GROUP_BYTES = 4 * 2**20

INPUTS = "inputs"
_JSON_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)

WallTime = Callable[[datetime], datetime]

_latest: tuple[Mapping[str, Any], msgspec.json.Decoder[Any], tuple[str, ...]] | None = None


class Refusal(NamedTuple):
    """The reasons why a row is not answered: an error for each bad field, with a JSON pointer into the row."""

    errors: list[dict[str, str]]

    @classmethod
    def of(cls, error: InvalidRequest | MalformedJson) -> "Refusal":
        return cls(error.details.get("errors") or [error_at((), error.message)])


class Rows(NamedTuple):
    """The rows of a batch in order.

    Attributes:
        texts: the JSON of each row, or why the row cannot be read.
        lines: the first line of each row in a CSV body; empty for JSON.
    """

    texts: list[bytes | Refusal]
    lines: list[int]


@dataclass(frozen=True, slots=True)
class Row:
    """A row that was read.

    Attributes:
        text: the JSON of the row, as the client sent it.
        values: a value for each of FEATURES, None where missing. The attribute is None until the row is completed, and
            if the row is refused.
        request: the request of a row that is not completed yet: facts from the database may complete it.
        refusal: why the row is not answered.
        user_id: the driver, if the row names one.
        explain: whether the client wants an explanation.
    """

    text: str
    values: Mapping[str, Any] | None = None
    request: Request | None = None
    refusal: Refusal | None = None
    user_id: str | None = None
    explain: bool = False


class _Batch(BodyModel):
    """The object around the rows, read field by field to find its errors."""

    WANTED = '{"inputs": [...]} with a request in each place'

    inputs: Annotated[
        list[Any],
        explained(lambda value: f"must be a list of requests, not {kind_of(value)}"),
        Field(description="a list of requests"),
    ]

    @classmethod
    def unknown(cls, *names: str) -> str:
        if names[-1] in NAMES:
            return f"is a field of a request: put each request into the list {INPUTS}"
        return f"is not a field; send {cls.WANTED}"


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    inputs: list[msgspec.Raw]


_document = msgspec.json.Decoder(_Document, strict=True)


def read_json(body: bytes, most_rows: int) -> Rows:
    """Return the rows of `{"inputs": [...]}`, each as its text.

    Raises:
        MalformedJson: the body is not JSON.
        InvalidRequest: the body has another form.
        BatchTooLarge: the body has more rows than `most_rows`.
    """
    body = without_bom(body)
    _check_size(body, most_rows)
    try:
        text = body.decode()
        rows = _document.decode(body).inputs
    except msgspec.ValidationError:
        raise _wrong_document(text) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(body, error, _Batch.WANTED) from None
    if len(rows) > most_rows:
        raise too_many_rows(most_rows)
    # If a name appears twice, the decoder takes the last value.
    if body.count(b'"inputs"') > 1 or b"\\" in body:
        _Batch.parse(body)
    return Rows([bytes(row).strip() for row in rows], [])


def _check_size(body: bytes, most_rows: int) -> None:
    """Raise BatchTooLarge if a body has more values than its rows can have, before the values are decoded.

    Raises:
        BatchTooLarge: the body has too many values.
    """
    # A comma follows each value except the last value of the body, either directly or after the end of the row.
    most = most_rows * len(NAMES)
    if body.count(b",") > most and sum(part.count(b",") for part in _between_texts(body)) > most:
        raise BatchTooLarge(
            f"a batch has at most {most_rows:,} rows (ZAP_BATCH_ROWS) of {len(NAMES)} fields; the body has more"
        )


def _between_texts(body: bytes) -> Iterator[bytes]:
    """Yield the parts of a JSON body outside of texts. Every comma in them separates values."""
    end = 0
    for text in _JSON_TEXT.finditer(body):
        yield body[end : text.start()]
        end = text.end()
    yield body[end:]


def _wrong_document(text: str) -> Exception:
    try:
        _Batch.parse(text.encode())
    except (InvalidRequest, MalformedJson) as error:
        return error
    return MalformedJson(f"send {_Batch.WANTED}")


def unreadable(detail: str) -> Refusal:
    """Return the refusal of a row whose fields cannot be read."""
    return Refusal([error_at((), detail)])


class Lines:
    """The lines of NDJSON that arrives in pieces. At most one unfinished line is kept in memory."""

    def __init__(self) -> None:
        self._begun = b""
        self._dropped = 0
        self._number = 0

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes | Refusal]]:
        """Yield the lines that end in this piece, each with its number from 1. Blank lines are skipped."""
        *ended, rest = piece.split(b"\n")
        for line in ended:
            yield from self._end(line)
        self._begun += rest
        if len(self._begun) > LARGEST_ROW + 1:
            self._dropped += len(self._begun)
            self._begun = b""

    def end(self) -> Iterator[tuple[int, bytes | Refusal]]:
        """Yield the last line if it has no line end."""
        yield from self._end(b"")

    def _end(self, rest: bytes) -> Iterator[tuple[int, bytes | Refusal]]:
        begun = self._begun + rest
        line, dropped = (without_bom(begun) if self._number == 0 else begun).strip(b" \t\r"), self._dropped
        self._begun, self._dropped = b"", 0
        self._number += 1
        if dropped or len(line) > LARGEST_ROW:
            yield self._number, unreadable(f"has {dropped + len(line):,} bytes; a line has at most {LARGEST_ROW:,}")
        elif line:
            yield self._number, line


def too_many_rows(most_rows: int) -> BatchTooLarge:
    """Return the error for a body with more rows than `most_rows`."""
    return BatchTooLarge(f"a batch has at most {most_rows:,} rows (ZAP_BATCH_ROWS); NDJSON has no such limit")


def read_rows(
    texts: Sequence[bytes | Refusal], contract: Mapping[str, Any], wall_time: WallTime, now: datetime
) -> list[Row]:
    """Return the rows. A row that needs no facts from the database is complete; another row has a request or a refusal.

    Args:
        texts: the JSON of each row, or its refusal.
        contract: the contract of the version in production.
        wall_time: converts a time with an offset to the drivers' wall time.
        now: the wall time that replaces a missing start.
    """
    decoder, optional = _complete_decoder(contract)
    rows = []
    shown = 0
    for text in texts:
        row = _complete_row(text, decoder, optional, wall_time, now)
        if row is None:
            # A reply shows only the first errors; later errors get no suggestion of a field, which would take time.
            row = _read_row(text, wall_time, hints=shown < InvalidRequest.SHOWN)
            shown += len(row.refusal.errors if row.refusal else row.request.errors if row.request else ())
        rows.append(row)
    return rows


def completed(row: Row, facts: Mapping[str, Any], contract: Mapping[str, Any], now: datetime) -> Row:
    """Return a row with a value for each of FEATURES or with a refusal, from `complete_request`."""
    if row.request is None:
        return row
    try:
        values = complete_request(row.request, facts, contract, now)
        return replace(row, values=values, request=None, explain=row.request.explain)
    except InvalidRequest as error:
        return replace(row, request=None, refusal=Refusal.of(error))


def of_driver(row: Row, user_id: str) -> Row:
    """Return a row that is not completed yet, with another id of its driver."""
    request = row.request and replace(row.request, values=row.request.values | {USER_ID: user_id})
    return replace(row, request=request, user_id=user_id)


def refusals(rows: Sequence[Row]) -> list[tuple[int, Refusal]]:
    """Return the places of the refused rows, each with its refusal."""
    return [(place, row.refusal) for place, row in enumerate(rows) if row.refusal is not None]


def placed(place: int, refusal: Refusal) -> list[dict[str, str]]:
    """Return the errors of a row, with the place of the row in the batch in each pointer."""
    row = pointer(INPUTS, place)
    return [error | {"pointer": row + error["pointer"].removeprefix("#")} for error in refusal.errors]


def invalid_batch(refused: Iterable[tuple[int, Refusal]], lines: Sequence[int]) -> InvalidRequest:
    """Return all errors of a batch, each with the place of its row and, for CSV, the line of the row.

    Args:
        refused: the places of the refused rows, each with its refusal.
        lines: the first line of each row of the batch; empty for JSON.
    """
    errors: list[dict[str, Any]] = []
    for place, refusal in refused:
        if len(errors) >= InvalidRequest.SHOWN:
            # A reply shows only the first errors; these errors are only counted.
            errors += errors[-1:] * len(refusal.errors)
            continue
        line = {"line": lines[place]} if lines else {}
        errors += [error | line for error in placed(place, refusal)]
    return InvalidRequest(errors)


def _complete_decoder(contract: Mapping[str, Any]) -> tuple[msgspec.json.Decoder[Any], tuple[str, ...]]:
    """Return the decoder of rows that need no facts from the database, and the names of the optional fields."""
    global _latest  # noqa: PLW0603 - one version serves at a time: the decoder of the latest contract is kept
    latest = _latest
    if latest is None or latest[0] is not contract:
        decoder = complete_decoder(contract)
        optional = tuple(
            field.name
            for field in msgspec.structs.fields(decoder.type)
            if field.default is UNSET and field.name != EXPLAIN
        )
        latest = _latest = contract, decoder, optional
    return latest[1:]


def _complete_row(
    text: bytes | Refusal,
    decoder: msgspec.json.Decoder[Any],
    optional: Sequence[str],
    wall_time: WallTime,
    now: datetime,
) -> Row | None:
    """Return the row that `parse_request` and `complete_request` would give; None if they have to read it."""
    if isinstance(text, Refusal) or len(text) > LARGEST_ROW:
        return None
    try:
        decoded = decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not is_each_once(text, decoded):
        return None
    values = msgspec.structs.asdict(decoded)
    explain = values.pop(EXPLAIN) is True
    for name in optional:
        if values[name] is UNSET:
            values[name] = None
    errors: list[dict[str, str]] = []
    read_start(values, errors, wall_time)
    if errors:
        return None
    values[START] = values[START] or now
    return Row(text.decode(), values, explain=explain)


def _read_row(text: bytes | Refusal, wall_time: WallTime, *, hints: bool) -> Row:
    """Return a row that the decoder of complete rows refused. It is read field by field."""
    if isinstance(text, Refusal):
        return Row("", refusal=text)
    if len(text) > LARGEST_ROW:
        return Row("", refusal=unreadable(f"has {len(text):,} bytes; a request has at most {LARGEST_ROW:,}"))
    try:
        request = parse_request(text, wall_time, hints=hints)
    except (InvalidRequest, MalformedJson) as error:
        return Row("", refusal=Refusal.of(error))
    return Row(request.text, request=request, user_id=request.values.get(USER_ID))
