"""Files of requests: CSV, NDJSON and Parquet. The ending of a file's name decides its format.

CSV and NDJSON may be compressed with gzip. A file may be a history file; `request_columns` says what is left out of it.
"""

import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import msgspec

from zap.errors import MalformedCsv, UnusableFile
from zap.formats.json_body import error_at
from zap.formats.parquet_cells import Unreadable, readable
from zap.formats.request import EXPLAIN, NAMES, START, VEHICLE_ID
from zap.formats.request_columns import FileColumns, file_columns, is_known, split_row
from zap.formats.request_csv import cells_as_json, check_columns, csv_records
from zap.formats.request_rows import GROUP_LINES, Lines, Refusal
from zap.formats.values import cell_text

FORMATS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet"}
GZIP = ".gz"
_GZIP_MARK = b"\x1f\x8b"
_PIECE = 2**16
# zap notes the names of bad rows of NDJSON until there are this many names. Each bad row may have other names.
_MOST_NAMES = 100
# The ids of a line of NDJSON that are numbers. An escaped quote does not match, so no text is changed.
_DRIVER_NUMBER = re.compile(rb'("user_id"\s*:\s*)(-?(?:0|[1-9][0-9]*))(\.[0-9]+|)(?=\s*[,}])')
_VEHICLE_FLOAT = re.compile(rb'("vehicle_id"\s*:\s*[0-9]+)\.0+(?=\s*[,}])')
encoder = msgspec.json.Encoder(enc_hook=str, decimal_format="number")


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file.

    Attributes:
        line: the first line of the row, where the header of a CSV is line 1; in a Parquet file the number of the row.
        text: the request of the row as JSON, or why the row is not a request.
        values: the cells of the row as a CSV or Parquet file has them, by header; empty for NDJSON.
        left_out: the values that are not a part of the request, by header.
    """

    line: int
    text: bytes | Refusal
    values: Mapping[str, Any]
    left_out: Mapping[str, Any] = field(default_factory=dict)

    def request(self) -> dict[str, Any]:
        """Return the fields of the request, or no fields if the row is not a JSON object."""
        try:
            found = msgspec.json.decode(b"" if isinstance(self.text, Refusal) else self.text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Source:
    """An open file of requests.

    Attributes:
        records: an iterator that reads the rows in order.
        headers: the headers of the file in order. NDJSON has no headers: here the reader adds the names of each row
            with a name that is not a field, until there are _MOST_NAMES.
        schema: the schema of a Parquet file; None for other formats.
        position: returns how much of the file has been read, in the unit of `size`.
        size: the size of the file in bytes; of a Parquet file in rows.
    """

    records: Iterator[Record]
    headers: dict[str, None]
    schema: Any
    position: Callable[[], int]
    size: int


class _Opened(NamedTuple):
    """An open file: its unzipped content, and the file itself, whose position tells the progress."""

    content: IO[bytes]
    file: IO[bytes]


def file_format(path: Path) -> str:
    """Return the format of a file: csv, ndjson or parquet.

    Raises:
        UnusableFile: the name has another ending.
    """
    ending = Path(path.name.lower().removesuffix(GZIP)).suffix
    if ending not in FORMATS or (is_zipped(path) and FORMATS[ending] == "parquet"):
        raise UnusableFile(f"{path.name} does not end in {', '.join(FORMATS)}, .csv.gz, .ndjson.gz or .jsonl.gz")
    return FORMATS[ending]


def is_zipped(path: Path) -> bool:
    """Return whether the name of a file says that it is compressed with gzip."""
    return path.name.lower().endswith(GZIP)


@contextmanager
def read_file(path: Path) -> Iterator[Source]:
    """Open a file of requests.

    Raises:
        UnusableFile: the file cannot be read.
        MalformedCsv: the file has no line of column names, or is not UTF-8.
        InvalidRequest: a column is not known, or two columns mean one field.
    """
    readers = {"csv": _read_csv, "ndjson": _read_ndjson, "parquet": _read_parquet}
    with reading(path.name), path.open("rb") as file:
        yield readers[file_format(path)](_Opened(unzipped(file), file), path)


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Raise UnusableFile, with the name of the file, if reading a file in this block fails."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnusableFile(f"{name} cannot be unzipped: {error}") from None
    except OSError as error:
        raise UnusableFile(f"{name}: {error.strerror or error}") from None


def unzipped(file: IO[bytes]) -> IO[bytes]:
    """Return the content of a file that can be read from its begin. The first bytes tell whether gzip compressed it."""
    mark = file.read(len(_GZIP_MARK))
    file.seek(0)
    return cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if mark == _GZIP_MARK else file


def _read_csv(opened: _Opened, path: Path) -> Source:
    headers, found = csv_records(_decoded(opened.content, path), is_known)
    columns = file_columns(headers)
    places, fields = [place for place, _ in columns.fields], [field for _, field in columns.fields]

    def records() -> Iterator[Record]:
        for line, cells in found:
            if isinstance(cells, Refusal):
                yield Record(line, cells, {})
                continue
            request = cells_as_json(fields, [cells[place] for place in places])
            values = {name: cell for name, cell in zip(headers, cells, strict=True) if name}
            yield Record(line, request, values, {name: cells[place] or None for place, name in columns.left_out})

    return Source(records(), dict.fromkeys(headers), None, opened.file.tell, path.stat().st_size)


def _decoded(content: IO[bytes], path: Path) -> Iterator[str]:
    try:
        for line in content:
            yield line.decode()
    except UnicodeDecodeError:
        raise MalformedCsv(f"{path.name} is not UTF-8") from None


def _read_ndjson(opened: _Opened, path: Path) -> Source:
    headers: dict[str, None] = {}

    def records() -> Iterator[Record]:
        lines = Lines()
        while piece := opened.content.read(_PIECE):
            yield from (_of_line(line, text, headers) for line, text in lines.feed(piece))
        yield from (_of_line(line, text, headers) for line, text in lines.end())

    return Source(records(), headers, None, opened.file.tell, path.stat().st_size)


def _of_line(line: int, text: bytes | Refusal, headers: dict[str, None]) -> Record:
    if isinstance(text, Refusal):
        return Record(line, text, {})
    row = split_row(_with_ids(text))
    if len(headers) < _MOST_NAMES:
        headers.update(dict.fromkeys(row.headers))
    return Record(line, row.request, {}, row.left_out)


def _read_parquet(opened: _Opened, path: Path) -> Source:
    import pyarrow as pa  # noqa: PLC0415 - only Parquet files need it
    from pyarrow import parquet  # noqa: PLC0415

    try:
        table = parquet.ParquetFile(opened.file)
        headers = table.schema_arrow.names
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UnusableFile(f"{path.name} is not a Parquet file: {error}") from None
    check_columns(headers, is_known)
    columns = file_columns(headers)
    read = 0

    def records() -> Iterator[Record]:
        nonlocal read
        for batch in batches():
            for cells in zip(*map(readable, batch.columns), strict=True):
                read += 1
                yield _parquet_record(read, dict(zip(headers, cells, strict=True)), headers, columns)

    def batches() -> Iterator[Any]:
        try:
            yield from table.iter_batches(batch_size=GROUP_LINES)
        except pa.ArrowException as error:
            raise UnusableFile(f"{path.name} is damaged and cannot be read: {error}") from None

    return Source(records(), dict.fromkeys(headers), table.schema_arrow, lambda: read, table.metadata.num_rows)


def _parquet_record(row: int, values: dict[str, Any], headers: list[str], columns: FileColumns) -> Record:
    """Return the record of a row of a Parquet file. A row with cells that cannot be read is refused."""
    broken = {name: cell.reason for name, cell in values.items() if isinstance(cell, Unreadable)}
    values |= dict.fromkeys(broken)
    left_out = {name: values[name] for _, name in columns.left_out}
    # A cell of a column that is left out does not matter, also if it cannot be read.
    errors = [error_at((field,), broken[headers[place]]) for place, field in columns.fields if headers[place] in broken]
    if errors:
        return Record(row, Refusal(errors), values, left_out)
    request = {field: _plain(field, values[headers[place]]) for place, field in columns.fields}
    if request.get(EXPLAIN, EXPLAIN) is None:
        # A missing value is no wish, as in CSV.
        del request[EXPLAIN]
    return Record(row, encoder.encode(request), values, left_out)


def _plain(name: str, value: Any) -> Any:
    """Return a Parquet value as a JSON value, as the import of a history reads it.

    NaN becomes None, because some tools write it for a missing value. A number in a column of texts becomes a text.
    """
    if isinstance(value, float | Decimal):
        if value != value:  # noqa: PLR0124 - the quickest test for NaN
            return None
        if not math.isfinite(value):
            # JSON has no infinite number, and the encoder would write null. The text is refused, as in CSV.
            return str(value)
        # Tools that cannot store missing integers write whole numbers as floats.
        if name == VEHICLE_ID and value == int(value):
            return int(value)
    if isinstance(value, bool | int | float | Decimal) and NAMES[name] is str and name != START:
        return cell_text(value)
    return value


def _with_ids(line: bytes) -> bytes:
    """Return a line of NDJSON with the ids that a tool has written as other numbers: 7 and 7.0 name the driver "7"."""
    if b"_id" not in line:
        return line
    line = _DRIVER_NUMBER.sub(lambda found: b'%b"%b%b"' % (found[1], found[2], found[3].rstrip(b".0")), line)
    return _VEHICLE_FLOAT.sub(rb"\1", line)
