"""One import of a history file, from its bytes to the counts: the page that joins ml/ and db/."""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, cast

from sqlalchemy import Engine

from zap.db.history_store import HistoryCounts, upsert_history
from zap.errors import BadHistoryFile
from zap.ml.history_cells import ToWallTime
from zap.ml.history_file import HistoryFile, RefusedRow, parse_history, parse_records
from zap.progress import Progress, no_progress

_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
# How many refused rows a message shows, and how often the reading reports, in lines.
_SHOWN = 10
_REPORT_EVERY = 20_000


@dataclass(frozen=True)
class ImportReport:
    """What an import did. `outside` counts values that are kept, and count as missing in training."""

    file: str
    rows: int
    refused: list[RefusedRow]
    counts: HistoryCounts
    ignored_columns: list[str]
    outside: dict[str, int]
    without_user: int

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{self.file}: {_many(self.rows, 'row')}"
        for name, count in vars(self.counts).items():
            parts = [f"{number:,} {what}" for what, number in vars(count).items() if what != "repeated" or number]
            yield f"{name}: {', '.join(parts)}"
        if self.refused:
            yield f"skipped {_many(len(self.refused), 'bad row')}:"
            yield from _shown(self.refused)
        for column, count in self.outside.items():
            yield f"{column}: {_many(count, 'value')} out of range, kept, and missing in training"
        if self.without_user:
            yield f"{_many(self.without_user, 'row')} without a user: its user type and vehicle are not kept"
        if self.ignored_columns:
            yield f"ignored columns: {', '.join(map(repr, self.ignored_columns))}"


def import_history(
    engine: Engine,
    path: Path,
    *,
    wall_time: ToWallTime,
    skip_bad_rows: bool = False,
    progress: Progress = no_progress,
) -> ImportReport:
    """Import a CSV file, gzipped or not, or a Parquet file, in one transaction.

    Args:
        engine: a database at head.
        path: the public "Electric Vehicle Charging Patterns" file, or one with the tables' own column names.
        wall_time: Settings.wall_time, for times with an offset.
        skip_bad_rows: import the rest when rows are refused.
        progress: called with what is done ("reading", in bytes or in rows of Parquet, then each table, in rows).

    Raises:
        BadHistoryFile: when the file cannot be read, or rows are refused. Nothing is imported then.
    """
    if _is_parquet(path):
        with _open_parquet(path, progress) as (records, header):
            history = parse_records(records, header, wall_time)
    else:
        with _open(path, progress) as lines:
            history = parse_history(lines, wall_time)
    if history.refused and not skip_bad_rows:
        raise _refusal(path, history)
    counts = upsert_history(engine, history.users, history.vehicles, history.sessions, progress)
    return ImportReport(
        file=path.name,
        rows=history.rows,
        refused=history.refused,
        counts=counts,
        ignored_columns=history.ignored_columns,
        outside=history.outside,
        without_user=history.without_user,
    )


@contextmanager
def _open(path: Path, progress: Progress) -> Iterator[Iterator[str]]:
    """The lines of the file, unzipped; its bytes that are not UTF-8 become lone surrogates."""
    try:
        with path.open("rb") as file:
            zipped = file.read(len(_GZIP)) == _GZIP
            file.seek(0)
            plain = cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if zipped else file
            # The csv module sees to line ends itself: a quoted field may hold some.
            with TextIOWrapper(plain, encoding="utf-8", errors="surrogateescape", newline="") as text:
                yield _reported(text, file, path.stat().st_size, progress)
    except (EOFError, zlib.error) as error:
        raise BadHistoryFile(f"{path.name} is damaged and cannot be unzipped: {error}") from None
    except OSError as error:
        raise BadHistoryFile(f"{path.name} cannot be read: {error.strerror or error}") from None


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_PARQUET)) == _PARQUET
    except OSError:
        # Whoever opens it next says why.
        return False


@contextmanager
def _open_parquet(path: Path, progress: Progress) -> Iterator[tuple["_Records", list[str]]]:
    """The rows of a Parquet file as a CSV would have them, and its columns."""
    import pyarrow as pa  # noqa: PLC0415 - only who has such files needs it
    from pyarrow import parquet  # noqa: PLC0415

    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise BadHistoryFile(f"{path.name} has two columns of one name")
            yield _Records(file, progress), names
    except (pa.ArrowException, OSError) as error:
        raise BadHistoryFile(f"{path.name} is damaged and cannot be read: {error}") from None


class _Records:
    """The cells of each row of a Parquet file as texts; `line_num` is the number of the row that was read last."""

    def __init__(self, file: Any, progress: Progress) -> None:
        self.line_num = 0
        self._rows = self._read(file, progress)

    def __iter__(self) -> "_Records":
        return self

    def __next__(self) -> list[str]:
        row = next(self._rows)
        self.line_num += 1
        return row

    def _read(self, file: Any, progress: Progress) -> Iterator[list[str]]:
        rows = file.metadata.num_rows
        progress("reading", 0, rows)
        for batch in file.iter_batches(batch_size=_REPORT_EVERY):
            columns = [[_cell(value) for value in _values(column)] for column in batch.columns]
            yield from (list(row) for row in zip(*columns, strict=True))
            progress("reading", self.line_num, rows)


def _values(column: Any) -> Iterable[Any]:
    """The values of a column of Arrow, texts as their bytes: nobody has seen yet whether they are UTF-8."""
    import pyarrow as pa  # noqa: PLC0415

    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = column.cast(pa.binary() if pa.types.is_string(kind) else pa.large_binary())
    # A single-precision 20.1 is 20.1, not the double that is nearest to it.
    values: Iterable[Any] = column.to_numpy(zero_copy_only=False) if pa.types.is_float32(kind) else column.to_pylist()
    return values


def _cell(value: Any) -> str:
    """A value as a CSV has it; NaN is how some tools write what is missing."""
    if value is None or value != value:  # noqa: PLR0124 - the quickest test for NaN
        return ""
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    if isinstance(value, float) and value.is_integer():
        # So are whole numbers stored by tools that know no missing one.
        return str(int(value))
    return value.isoformat() if isinstance(value, date) else str(value)


def _reported(text: TextIOWrapper, file: IO[bytes], size: int, progress: Progress) -> Iterator[str]:
    for number, line in enumerate(text):
        if number % _REPORT_EVERY == 0:
            progress("reading", file.tell(), size)
        yield line
    progress("reading", size, size)


def _refusal(path: Path, history: HistoryFile) -> BadHistoryFile:
    message = (
        f"{path.name}: {len(history.refused):,} of {_many(history.rows, 'row')} cannot be imported, "
        "so nothing was; mend the file, or skip them (--skip-bad-rows)"
    )
    return BadHistoryFile(
        "\n".join([message, *_shown(history.refused)]), refused=[asdict(row) for row in history.refused]
    )


def _shown(refused: list[RefusedRow]) -> Iterator[str]:
    for row in refused[:_SHOWN]:
        yield f"  line {row.line}: {row.reason}"
    if len(refused) > _SHOWN:
        yield f"  and {len(refused) - _SHOWN:,} more"


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
