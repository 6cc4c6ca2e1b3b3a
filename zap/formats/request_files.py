"""Files of requests and of predictions: CSV, NDJSON and Parquet. The ending of a file's name decides its format."""

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec

from zap.errors import MalformedCsv, UnusableFile
from zap.formats.json_body import error_at
from zap.formats.parquet_cells import Unreadable, readable
from zap.formats.request import FIELDS, VEHICLE_ID
from zap.formats.request_csv import cells_as_json, check_columns, csv_records
from zap.formats.request_rows import GROUP_LINES, Lines, Refusal

FORMATS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet"}
_PIECE = 2**16
_encoder = msgspec.json.Encoder(enc_hook=str, decimal_format="number")


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file.

    Attributes:
        line: the first line of the row, where the header of a CSV is line 1; in a Parquet file the number of the row.
        text: the request of the row as JSON, or why the row is not a request.
        values: the cells of the row as the file has them, by column.
    """

    line: int
    text: bytes | Refusal
    values: Mapping[str, Any]

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
        columns: the names of the columns; None for NDJSON, where each row has its own fields.
        schema: the schema of a Parquet file; None for other formats.
        position: returns how much of the file has been read, in the unit of `size`.
        size: the size of the file in bytes; of a Parquet file in rows.
    """

    records: Iterator[Record]
    columns: list[str] | None
    schema: Any
    position: Callable[[], int]
    size: int


class Output(Protocol):
    """An open file of predictions, to which groups of rows are written."""

    def write(self, records: Sequence[Record], answers: Sequence[Mapping[str, Any]]) -> None: ...


def file_format(path: Path) -> str:
    """Return the format of a file: csv, ndjson or parquet.

    Raises:
        UnusableFile: the name has another ending.
    """
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise UnusableFile(f"{path.name} does not end in {', '.join(FORMATS)}") from None


@contextmanager
def read_file(path: Path) -> Iterator[Source]:
    """Open a file of requests.

    Raises:
        UnusableFile: the file cannot be read.
        MalformedCsv: the file has no line of column names, or is not UTF-8.
        InvalidRequest: a column is not a field of a request, or appears more than once.
    """
    readers = {"csv": _read_csv, "ndjson": _read_ndjson, "parquet": _read_parquet}
    try:
        with path.open("rb") as file:
            yield readers[file_format(path)](file, path)
    except OSError as error:
        raise UnusableFile(f"{path.name}: {error.strerror or error}") from None


def _read_csv(file: IO[bytes], path: Path) -> Source:
    columns, found = csv_records(_decoded(file, path))

    def records() -> Iterator[Record]:
        for line, cells in found:
            if isinstance(cells, Refusal):
                yield Record(line, cells, {})
            else:
                yield Record(line, cells_as_json(columns, cells), dict(zip(columns, cells, strict=True)))

    return Source(records(), columns, None, file.tell, path.stat().st_size)


def _decoded(file: IO[bytes], path: Path) -> Iterator[str]:
    try:
        for line in file:
            yield line.decode()
    except UnicodeDecodeError:
        raise MalformedCsv(f"{path.name} is not UTF-8") from None


def _read_ndjson(file: IO[bytes], path: Path) -> Source:
    def records() -> Iterator[Record]:
        lines = Lines()
        while piece := file.read(_PIECE):
            yield from (Record(line, text, {}) for line, text in lines.feed(piece))
        yield from (Record(line, text, {}) for line, text in lines.end())

    return Source(records(), None, None, file.tell, path.stat().st_size)


def _read_parquet(file: IO[bytes], path: Path) -> Source:
    import pyarrow as pa  # noqa: PLC0415 - only Parquet files need it
    from pyarrow import parquet  # noqa: PLC0415

    try:
        opened = parquet.ParquetFile(file)
        columns = opened.schema_arrow.names
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UnusableFile(f"{path.name} is not a Parquet file: {error}") from None
    check_columns(columns)
    read = 0

    def records() -> Iterator[Record]:
        nonlocal read
        for batch in batches():
            for cells in zip(*map(readable, batch.columns), strict=True):
                read += 1
                yield _parquet_record(read, dict(zip(columns, cells, strict=True)))

    def batches() -> Iterator[Any]:
        try:
            yield from opened.iter_batches(batch_size=GROUP_LINES)
        except pa.ArrowException as error:
            raise UnusableFile(f"{path.name} is damaged and cannot be read: {error}") from None

    return Source(records(), columns, opened.schema_arrow, lambda: read, opened.metadata.num_rows)


def _parquet_record(row: int, values: dict[str, Any]) -> Record:
    """Return the record of a row of a Parquet file. A row with cells that cannot be read is refused."""
    broken = {name: cell.reason for name, cell in values.items() if isinstance(cell, Unreadable)}
    if broken:
        errors = [error_at((name,), reason) for name, reason in broken.items()]
        return Record(row, Refusal(errors), values | dict.fromkeys(broken))
    return Record(row, _encoder.encode({name: _plain(name, value) for name, value in values.items()}), values)


def _plain(name: str, value: Any) -> Any:
    """Return a Parquet value as a JSON value. NaN becomes None, because some tools write it for a missing value."""
    if isinstance(value, float | Decimal):
        if value != value:  # noqa: PLR0124 - the quickest test for NaN
            return None
        if not math.isfinite(value):
            # JSON has no infinite number, and the encoder would write null. The text is refused, as in CSV.
            return str(value)
        # Tools that cannot store missing integers write whole numbers as floats.
        return int(value) if name == VEHICLE_ID and value == int(value) else value
    return value


@contextmanager
def write_file(
    path: Path, kind: str, columns: Sequence[str], added: Mapping[str, type], schema: Any
) -> Iterator[Output]:
    """Create a file for rows with their predictions.

    Args:
        path: the path of the file; an existing file is replaced.
        kind: the format: csv, ndjson or parquet.
        columns: the columns of the rows.
        added: the columns of the predictions, with the types of their values.
        schema: the schema of the rows if they come from Parquet, otherwise None.

    Raises:
        UnusableFile: the file cannot be written.
    """
    try:
        if kind == "parquet":
            with _ParquetOutput(path, columns, added, schema) as output:
                yield output
            return
        with path.open("w", encoding="utf-8", newline="") as file:
            yield _NdjsonOutput(file) if kind == "ndjson" else _CsvOutput(file, columns, added)
    except OSError as error:
        raise UnusableFile(f"{path.name} cannot be written: {error.strerror or error}") from None


class _NdjsonOutput:
    """Write one line for each row: the fields of the row, then the fields of its prediction."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, records: Sequence[Record], answers: Sequence[Mapping[str, Any]]) -> None:
        rows = [{**_beside(record), **answer} for record, answer in zip(records, answers, strict=True)]
        self._file.write(msgspec.json.Encoder().encode_lines(rows).decode())


def _beside(record: Record) -> dict[str, Any]:
    """Return the fields of a row. Unknown names of a refused row are in `other_fields`, so that no name is repeated."""
    sent = record.request()
    fields = {name: value for name, value in sent.items() if name in FIELDS}
    others = {name: value for name, value in sent.items() if name not in FIELDS}
    return {**fields, "other_fields": others} if others else fields


class _CsvOutput:
    """Write one record for each row: the unchanged cells of the row, then its prediction."""

    def __init__(self, file: IO[str], columns: Sequence[str], added: Mapping[str, type]) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._columns, self._added = columns, added
        self._writer.writerow([*columns, *added])

    def write(self, records: Sequence[Record], answers: Sequence[Mapping[str, Any]]) -> None:
        for record, answer in zip(records, answers, strict=True):
            values = record.values or record.request()
            self._writer.writerow(
                [
                    *(_cell(values.get(name)) for name in self._columns),
                    *(_cell(answer.get(name)) for name in self._added),
                ]
            )


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list | bool):
        return msgspec.json.encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else value


class _ParquetOutput:
    """Write the columns of the rows, then the columns of the predictions. Types from a Parquet source are kept."""

    def __init__(self, path: Path, columns: Sequence[str], added: Mapping[str, type], schema: Any) -> None:
        import pyarrow as pa  # noqa: PLC0415 - only Parquet files need it
        from pyarrow import parquet  # noqa: PLC0415

        kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
        own = {field.name: _written_type(pa, field.type) for field in schema} if schema is not None else {}
        self._typed = schema is not None
        fields = [(name, own.get(name) or kinds[FIELDS.get(name, str)]) for name in columns]
        self._schema = pa.schema([*fields, *((name, kinds[kind]) for name, kind in added.items())])
        self._columns, self._added, self._pa = columns, added, pa
        self._writer = parquet.ParquetWriter(path, self._schema)

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, records: Sequence[Record], answers: Sequence[Mapping[str, Any]]) -> None:
        if self._typed:
            rows: list[Mapping[str, Any]] = [record.values for record in records]
        else:
            rows = [_typed(record.request()) for record in records]
        columns = [[row.get(name) for row in rows] for name in self._columns]
        columns += [[answer.get(name) for answer in answers] for name in self._added]
        arrays = [self._pa.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        self._writer.write_batch(self._pa.record_batch(arrays, schema=self._schema))


def _written_type(pa: Any, kind: Any) -> Any:
    """Return the type of a written column. A dictionary column is written as its values."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _typed(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a request that fit the types of their columns. In a refused row some may not fit."""
    return {name: value for name, value in request.items() if _fits(FIELDS.get(name, str), value)}


def _fits(kind: type, value: Any) -> bool:
    if kind is str:
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return kind is float or (isinstance(value, int) and abs(value) < 2**63)
