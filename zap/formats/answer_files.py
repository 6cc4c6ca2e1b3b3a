"""Files of answers: the rows of a file of requests with their predictions, as CSV, NDJSON or Parquet.

CSV and NDJSON are compressed with gzip if the name says so. Until the last row is written, the name ends in `.part`.
"""

import csv
import gzip
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec

from zap.errors import UnusableFile
from zap.formats.request import NAMES
from zap.formats.request_columns import field_of
from zap.formats.request_files import Record, encoder, is_zipped

PART = ".part"


class Output(Protocol):
    """An open file of predictions, to which groups of rows are written."""

    def write(self, records: Sequence[Record], answers: Sequence[Mapping[str, Any]]) -> None: ...


def part_of(out: Path) -> Path:
    """Return the path of a file until its last row is written."""
    return out.with_name(f"{out.name}{PART}")


@contextmanager
def write_file(
    path: Path, kind: str, columns: Sequence[str], added: Mapping[str, type], schema: Any
) -> Iterator[Output]:
    """Create a file for rows with their predictions.

    Args:
        path: the path of the file, with or without PART; an existing file is replaced.
        kind: the format: csv, ndjson or parquet.
        columns: the columns of the rows, by their headers.
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
        with opened_text(path, "wt") as file:
            yield _NdjsonOutput(file) if kind == "ndjson" else _CsvOutput(file, columns, added)
    except OSError as error:
        raise UnusableFile(f"{path.name} cannot be written: {error.strerror or error}") from None


def answers_in(path: Path, kind: str) -> int | None:
    """Return how many predictions a file of answers holds, of which the end may be missing; None if it cannot be read.

    Args:
        path: the path of the file, with or without PART.
        kind: the format: csv, ndjson or parquet.
    """
    try:
        if kind == "parquet":
            return _parquet_answers(path)
        with opened_text(path, "rt") as file:
            lines = _up_to_the_end(file)
            return _csv_answers(lines) if kind == "csv" else _ndjson_answers(lines)
    except (ValueError, OSError, csv.Error):
        return None


def opened_text(path: Path, mode: str) -> IO[str]:
    """Open a text, which is compressed with gzip if the name says so."""
    zipped = is_zipped(Path(path.name.removesuffix(PART)))
    opened: Any = gzip.open if zipped else open
    return opened(path, mode, encoding="utf-8", newline="")  # type: ignore[no-any-return]


def _up_to_the_end(file: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a text. A process that was killed leaves a gzip file without its end."""
    try:
        yield from file
    except EOFError:
        return


def _csv_answers(lines: Iterator[str]) -> int | None:
    reader = csv.reader(lines)
    header = next(reader, None)
    if header is None:
        return 0
    if "predicted_class" not in header:
        return None
    place = header.index("predicted_class")
    return sum(len(cells) > place and bool(cells[place]) for cells in reader)


def _ndjson_answers(lines: Iterator[str]) -> int | None:
    found = 0
    for line in lines:
        if not line.endswith("\n"):
            # The process was killed while it wrote this line.
            break
        row = msgspec.json.decode(line)
        if not isinstance(row, dict) or not row.keys() & {"predicted_class", "errors"}:
            return None
        found += "predicted_class" in row
    return found


def _parquet_answers(path: Path) -> int | None:
    from pyarrow import parquet  # noqa: PLC0415 - only Parquet files need it

    with parquet.ParquetFile(path) as file:
        if "predicted_class" not in file.schema_arrow.names:
            return None
        column = file.read(columns=["predicted_class"]).column(0)
    return len(column) - int(column.null_count)


class _NdjsonOutput:
    """Write one line for each row: its request, what was left out of the request, and then its prediction."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, records: Sequence[Record], answers: Sequence[Mapping[str, Any]]) -> None:
        rows = [{**_beside(record), **answer} for record, answer in zip(records, answers, strict=True)]
        self._file.write(encoder.encode_lines(rows).decode())
        self._file.flush()


def _beside(record: Record) -> dict[str, Any]:
    """Return the fields of a row. Unknown names of a refused row are in `other_fields`, so that no name is repeated."""
    sent = record.request()
    fields = {name: value for name, value in sent.items() if name in NAMES}
    others = {name: value for name, value in sent.items() if name not in NAMES}
    return {**fields, **record.left_out, **({"other_fields": others} if others else {})}


class _CsvOutput:
    """Write one record for each row: the unchanged cells of the row, then its prediction."""

    def __init__(self, file: IO[str], columns: Sequence[str], added: Mapping[str, type]) -> None:
        self._file = file
        self._writer = csv.writer(file, lineterminator="\n")
        self._columns, self._added = columns, added
        self._writer.writerow([*columns, *added])

    def write(self, records: Sequence[Record], answers: Sequence[Mapping[str, Any]]) -> None:
        for record, answer in zip(records, answers, strict=True):
            values = record.values or {**record.request(), **record.left_out}
            self._writer.writerow(
                [
                    *(_cell(values.get(name)) for name in self._columns),
                    *(_cell(answer.get(name)) for name in self._added),
                ]
            )
        self._file.flush()


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list | bool):
        return msgspec.json.encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else value


class _ParquetOutput:
    """Write the columns of the rows, then the columns of the predictions. Types from a Parquet source are kept."""

    def __init__(self, path: Path, columns: Sequence[str], added: Mapping[str, type], schema: Any) -> None:
        import pyarrow as pa  # noqa: PLC0415 - only Parquet files need it
        from pyarrow import parquet  # noqa: PLC0415

        kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
        own = {field.name: _written_type(pa, field.type) for field in schema} if schema is not None else {}
        self._typed = schema is not None
        fields = [(name, own.get(name) or kinds[NAMES.get(field_of(name) or "", str)]) for name in columns]
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
            rows = [{**_typed(record.request()), **_as_texts(record.left_out)} for record in records]
        named = [name if self._typed else field_of(name) or name for name in self._columns]
        columns = [[row.get(name) for row in rows] for name in named]
        columns += [[answer.get(name) for answer in answers] for name in self._added]
        arrays = [self._pa.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        self._writer.write_batch(self._pa.record_batch(arrays, schema=self._schema))


def _written_type(pa: Any, kind: Any) -> Any:
    """Return the type of a written column. A dictionary column is written as its values."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _typed(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a request that fit the types of their columns. In a refused row some may not fit."""
    kinds = {name: NAMES.get(name, str) for name in request}
    # Arrow does not write a very large whole number into a column of floats.
    return {name: kinds[name](value) for name, value in request.items() if _fits(kinds[name], value)}


def _as_texts(left_out: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the values that were left out of a request. zap does not read them, so they stay as they are written."""
    return {
        name: value if value is None or isinstance(value, str) else encoder.encode(value).decode()
        for name, value in left_out.items()
    }


def _fits(kind: type, value: Any) -> bool:
    if kind in {bool, str}:
        return isinstance(value, kind)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max if kind is float else isinstance(value, int) and abs(value) < 2**63
