"""Files with the rows of a table: CSV, NDJSON or Parquet, written in groups."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from zap.errors import UnusableFile
from zap.formats.answer_files import opened_text


class Table(Protocol):
    """An open file, to which groups of rows are written."""

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None: ...


@contextmanager
def write_table(path: Path, kind: str, columns: Mapping[str, type]) -> Iterator[Table]:
    """Create a file of rows.

    A missing value is an empty cell in CSV, and null in NDJSON and Parquet.

    Args:
        path: the path of the file, with or without PART; an existing file is replaced.
        kind: the format: csv, ndjson or parquet.
        columns: the columns, with the types of their values.

    Raises:
        UnusableFile: the file cannot be written.
    """
    try:
        if kind == "parquet":
            with _ParquetTable(path, columns) as table:
                yield table
            return
        with opened_text(path, "wt") as file:
            yield _NdjsonTable(file) if kind == "ndjson" else _CsvTable(file, columns)
    except OSError as error:
        raise UnusableFile(f"{path.name} cannot be written: {error.strerror or error}") from None


class _NdjsonTable:
    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._file.write(msgspec.json.Encoder().encode_lines(rows).decode())


class _CsvTable:
    def __init__(self, file: Any, columns: Mapping[str, type]) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._columns = columns
        self._writer.writerow(columns)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._writer.writerows([row[name] for name in self._columns] for row in rows)


class _ParquetTable:
    def __init__(self, path: Path, columns: Mapping[str, type]) -> None:
        import pyarrow as pa  # noqa: PLC0415 - only Parquet files need it
        from pyarrow import parquet  # noqa: PLC0415

        kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
        self._schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
        self._pa = pa
        self._writer = parquet.ParquetWriter(path, self._schema)

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._writer.write_batch(self._pa.RecordBatch.from_pylist(list(rows), schema=self._schema))
