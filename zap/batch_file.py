"""Files of many requests and of their answers: CSV, NDJSON and Parquet, told apart by their names."""

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
from zap.ml.batch import GROUP_LINES, Lines, Refusal, cells_as_json, check_columns, csv_records
from zap.ml.features import NUMBERS
from zap.ml.request import FIELDS, VEHICLE_ID

FORMATS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet"}
_NUMBERS = frozenset(feature.name for feature in NUMBERS)
_PIECE = 2**16
_encoder = msgspec.json.Encoder(enc_hook=str, decimal_format="number")


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file.

    Attributes:
        line: where it begins; the header of a CSV is line 1, the first row of a Parquet file is 1.
        text: the request that it means, in JSON, or why it means none.
        values: its cells as the file has them, by column.
    """

    line: int
    text: bytes | Refusal
    values: Mapping[str, Any]

    def request(self) -> dict[str, Any]:
        """The request as far as it can be read: nothing of what is no JSON object."""
        try:
            found = msgspec.json.decode(b"" if isinstance(self.text, Refusal) else self.text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Source:
    """A file that is being read.

    Attributes:
        records: its rows in order, read as they are asked for.
        columns: their names; None for NDJSON, where each row has its own.
        schema: of a Parquet file.
        position: how much of it is read, of `size`.
    """

    records: Iterator[Record]
    columns: list[str] | None
    schema: Any
    position: Callable[[], int]
    size: int


class Output(Protocol):
    """A file that is being written, a group of rows at a time."""

    def write(self, records: Sequence[Record], answers: Sequence[Mapping[str, Any]]) -> None: ...


def file_format(path: Path) -> str:
    """csv, ndjson or parquet.

    Raises:
        UnusableFile: the name does not say which.
    """
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise UnusableFile(f"{path.name} does not end in {', '.join(FORMATS)}") from None


@contextmanager
def read_file(path: Path) -> Iterator[Source]:
    """The requests in a file.

    Raises:
        UnusableFile: it cannot be read.
        MalformedCsv: it has no line of column names, or is not UTF-8.
        InvalidRequest: a column is no field of a request, or is there twice.
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
    import pyarrow as pa  # noqa: PLC0415 - only who has such files needs it
    from pyarrow import parquet  # noqa: PLC0415

    try:
        opened = parquet.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise UnusableFile(f"{path.name} is no Parquet file: {error}") from None
    columns = opened.schema_arrow.names
    check_columns(columns)
    read = 0

    def records() -> Iterator[Record]:
        nonlocal read
        for batch in opened.iter_batches(batch_size=GROUP_LINES):
            for values in batch.to_pylist():
                read += 1
                request = {name: _plain(name, values[name]) for name in columns}
                yield Record(read, _encoder.encode(request), values)

    return Source(records(), columns, opened.schema_arrow, lambda: read, opened.metadata.num_rows)


def _plain(name: str, value: Any) -> Any:
    """A value of Parquet as it stands in JSON: NaN is how some tools write what is missing."""
    if isinstance(value, float | Decimal):
        if value != value:  # noqa: PLR0124 - the quickest test for NaN
            return None
        if not math.isfinite(value):
            # JSON has no such number, and would have null in its place: the text is refused as in CSV.
            return str(value)
        # Tools that know no missing integer write whole numbers as floats.
        return int(value) if name == VEHICLE_ID and value == int(value) else value
    return value


@contextmanager
def write_file(
    path: Path, kind: str, columns: Sequence[str], added: Mapping[str, type], schema: Any
) -> Iterator[Output]:
    """A file for rows with their answers.

    Args:
        path: where; what is there is replaced.
        kind: csv, ndjson or parquet.
        columns: those of the rows.
        added: those of the answers, with the types of their values.
        schema: of the rows, where they come from Parquet.

    Raises:
        UnusableFile: it cannot be written.
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
    """A line for a row: its fields, and beside them its answer."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, records: Sequence[Record], answers: Sequence[Mapping[str, Any]]) -> None:
        rows = [{**_beside(record), **answer} for record, answer in zip(records, answers, strict=True)]
        self._file.write(msgspec.json.Encoder().encode_lines(rows).decode())


def _beside(record: Record) -> dict[str, Any]:
    """The fields of a row; what else a refused row holds is kept apart, that no name is there twice."""
    sent = record.request()
    fields = {name: value for name, value in sent.items() if name in FIELDS}
    others = {name: value for name, value in sent.items() if name not in FIELDS}
    return {**fields, "other_fields": others} if others else fields


class _CsvOutput:
    """A record for a row: its cells as they were, and behind them its answer."""

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
    """The columns of the rows, of their own types where these come from Parquet, and behind them the answers."""

    def __init__(self, path: Path, columns: Sequence[str], added: Mapping[str, type], schema: Any) -> None:
        import pyarrow as pa  # noqa: PLC0415 - only who has such files needs it
        from pyarrow import parquet  # noqa: PLC0415

        kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
        own = {field.name: _written_type(pa, field.type) for field in schema} if schema is not None else {}
        self._typed = schema is not None
        fields = [(name, own.get(name) or kinds[_kind(name)]) for name in columns]
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
    """A column of codes is written as what they stand for."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _kind(name: str) -> type:
    return float if name in _NUMBERS else int if name == VEHICLE_ID else str


def _typed(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request that fit into their columns; those of a refused row may not."""
    return {name: value for name, value in request.items() if _fits(_kind(name), value)}


def _fits(kind: type, value: Any) -> bool:
    if kind is str:
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return kind is float or (isinstance(value, int) and abs(value) < 2**63)
