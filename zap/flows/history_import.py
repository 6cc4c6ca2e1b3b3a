"""The import of history files, from their bytes to the numbers of added and changed rows."""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, cast

from sqlalchemy import Engine

from zap.db.history.history_store import HistoryCounts, import_turn, store_history
from zap.db.history.row_upsert import TakenIds
from zap.db.history.session_upsert import taken_rows
from zap.errors import BadHistoryFile
from zap.formats.history_cells import ToWallTime
from zap.formats.history_file import NO_CHOICES, Choices, HistoryFile, RefusedRow, Survey, parse_table
from zap.formats.history_records import ParquetTable, Table, text_table
from zap.progress import Progress, no_progress

_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
# The beginnings of .xlsx files and other archives, and of .xls files.
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
# The marks at the beginning of a text that name its encoding.
_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
# How many refused rows and ignored columns a message shows, and after how many lines the reading reports its progress.
_SHOWN = 10
_SHOWN_COLUMNS = 30
_REPORT_EVERY = 20_000


@dataclass(frozen=True)
class ImportReport:
    """The result of an import.

    Attributes:
        file: the name of the file.
        rows: the number of its rows.
        refused: the rows that cannot be imported.
        counts: the numbers of rows for each table; None in a preview, which stores nothing.
        columns: for each column of zap the header in the file, how it is read, and its first values.
        ignored_columns: the headers that zap does not use.
        notes: lines for people, one for each decision about the file, each folded name, and each word for missing.
        outside: for each column the number of values out of range, which are stored but missing in training.
        without_user: the number of rows that describe a user or a vehicle but name no user.
    """

    file: str
    rows: int
    refused: list[RefusedRow]
    counts: HistoryCounts | None
    columns: dict[str, dict[str, Any]]
    ignored_columns: list[str]
    notes: list[str]
    outside: dict[str, int]
    without_user: int

    def as_dict(self) -> dict[str, Any]:
        """Return the result for programs."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield the lines that a person reads."""
        yield f"{self.file}: {_many(self.rows, 'row')}"
        if self.counts is None:
            yield "nothing was stored; the file would be read like this:"
            width = max(map(len, self.columns), default=0)
            for name, column in self.columns.items():
                values = ", ".join(map(repr, column["values"])) or "empty"
                yield f"  {name:{width}}  from {column['header']!r}: {values}"
        else:
            for name, count in vars(self.counts).items():
                parts = [f"{number:,} {what}" for what, number in vars(count).items() if what != "repeated" or number]
                yield f"{name}: {', '.join(parts)}"
        if self.refused:
            yield f"{'skipped' if self.counts else 'cannot import'} {_many(len(self.refused), 'bad row')}:"
            yield from _shown(self.refused)
        yield from self.notes
        for column_name, number in self.outside.items():
            yield f"{column_name}: {_many(number, 'value')} out of range: stored, but treated as missing in trainings"
        if self.without_user:
            yield f"{_many(self.without_user, 'row')} without a user: user type and vehicle are stored with the session"
        if self.ignored_columns:
            more = len(self.ignored_columns) - _SHOWN_COLUMNS
            names = ", ".join(map(repr, self.ignored_columns[:_SHOWN_COLUMNS]))
            yield f"ignored columns: {names}{f' and {more:,} more' if more > 0 else ''}"


def import_history(
    engine: Engine,
    path: Path,
    *,
    wall_time: ToWallTime,
    choices: Choices = NO_CHOICES,
    progress: Progress = no_progress,
) -> ImportReport:
    """Import a history file in one transaction. The file is CSV or JSON, gzipped or not, or Parquet.

    Args:
        engine: a database at head.
        path: the public "Electric Vehicle Charging Patterns" file, or a file with the column names of the tables.
        wall_time: Settings.wall_time, which converts times with an offset.
        choices: the user's choices about the file.
        progress: called with "reading" (in bytes, or in rows of Parquet), then with each table (in rows).

    Raises:
        BadHistoryFile: the file cannot be read, or rows are refused. Nothing was imported.
    """
    history = read_file(path, wall_time=wall_time, choices=choices, progress=progress)
    _check_refused(path, history, choices)
    try:
        with import_turn(engine) as connection:
            counts = store_history(connection, history.users, history.vehicles, history.sessions, progress)
    except TakenIds:
        # This is rare, so the rows are looked for only now.
        with import_turn(engine) as connection:
            history = history.without(taken_rows(connection, history.sessions))
            _check_refused(path, history, choices)
            counts = store_history(connection, history.users, history.vehicles, history.sessions, progress)
    return import_report(path, history, counts)


def read_file(
    path: Path,
    *,
    wall_time: ToWallTime,
    choices: Choices = NO_CHOICES,
    progress: Progress = no_progress,
) -> HistoryFile:
    """Return the content of a history file. The arguments are explained in `import_history`.

    Raises:
        BadHistoryFile: the file cannot be read. The message begins with its name.
    """
    try:
        with _open_table(path, choices.encoding, progress) as table:
            return parse_table(table, wall_time, choices)
    except (EOFError, zlib.error) as error:
        raise BadHistoryFile(f"{path.name} is damaged and cannot be unzipped: {error}") from None
    except OSError as error:
        raise BadHistoryFile(f"{path.name} cannot be read: {error.strerror or error}") from None
    except UnicodeError as error:
        what = f"{path.name} is not {choices.encoding or getattr(error, 'encoding', 'UTF-16')} text"
        raise BadHistoryFile(f"{what}: {error}; name its encoding with --encoding") from None
    except BadHistoryFile as error:
        if error.message.startswith(path.name):
            raise
        raise BadHistoryFile(f"{path.name}: {error.message}", **error.details) from None


def import_report(path: Path, history: HistoryFile, counts: HistoryCounts | None = None) -> ImportReport:
    """Return the report of an import, or of a preview if there are no counts."""
    headers = history.survey.headers
    return ImportReport(
        file=path.name,
        rows=history.rows,
        refused=history.refused,
        counts=counts,
        columns={
            name: {"header": headers.shown[name], "values": [*map(_printable, history.survey.values[name])]}
            for name in headers.places
        },
        ignored_columns=history.ignored_columns,
        notes=list(_notes(history, history.survey)),
        outside=history.outside,
        without_user=history.without_user,
    )


def _printable(text: str) -> str:
    """Return a text with an escape for each byte that is not UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def _notes(history: HistoryFile, survey: Survey) -> Iterator[str]:
    """Yield a line for each decision about the file."""
    for name, header in survey.headers.taken.items():
        yield f"{name}: taken from {header!r}"
    if survey.date_order and survey.date_example:
        yield f"dates such as {survey.date_example!r} are read with the {survey.date_order.replace('-', ' ')}"
    for name, number in survey.date_only.items():
        yield f"{name}: {_many(number, 'date')} without a time of day, read as 00:00"
    if survey.decimal == "comma":
        yield "numbers are read with a decimal comma"
    for name, number in history.nothing.items():
        yield f"{name}: {_many(number, 'word')} for nothing, such as NULL or n/a, read as missing"
    for name, changed in history.folded.items():
        pairs = ", ".join(f"{text!r} as {to!r}" for text, to in list(changed.items())[:5])
        yield f"{name}: {_many(len(changed), 'other spelling')} read as one: {pairs}"
    if history.totals:
        yield f"left out {_many(history.totals, 'row')} of totals"


@contextmanager
def _open_table(path: Path, encoding: str | None, progress: Progress) -> Iterator[Table]:
    """Yield the rows of a file, unzipped. Bytes that are not UTF-8 become lone surrogates."""
    if path.exists() and not path.is_file():
        raise BadHistoryFile("this is no regular file; zap reads a history several times, so save it as a file first")
    with path.open("rb") as file:
        start = file.read(4)
    if start == _PARQUET:
        with _parquet(path, progress) as table:
            yield table
    elif start in _SPREADSHEETS:
        raise BadHistoryFile("this is a spreadsheet or an archive; save the sheet as CSV in UTF-8")
    else:
        yield text_table(lambda: _lines(path, encoding, progress))


@contextmanager
def _parquet(path: Path, progress: Progress) -> Iterator[ParquetTable]:
    import pyarrow as pa  # noqa: PLC0415 - only Parquet files need it
    from pyarrow import parquet  # noqa: PLC0415

    try:
        with parquet.ParquetFile(path) as file:
            yield ParquetTable(file, progress)
    except (pa.ArrowException, OSError) as error:
        raise BadHistoryFile(f"{path.name} is damaged and cannot be read: {error}") from None


def _lines(path: Path, encoding: str | None, progress: Progress) -> Iterator[str]:
    """Yield the lines of a text, unzipped."""
    size = path.stat().st_size
    with path.open("rb") as file:
        zipped = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        plain = cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if zipped else file
        mark = plain.read(3)
        plain.seek(0)
        known = next((name for bytes_, name in _MARKS if mark.startswith(bytes_)), "utf-8")
        strict = encoding is not None or known == "utf-16"
        # newline="": a quoted field may hold line ends, so the csv module has to see them unchanged.
        with TextIOWrapper(
            plain, encoding=encoding or known, errors="strict" if strict else "surrogateescape", newline=""
        ) as text:
            for number, line in enumerate(text):
                if number % _REPORT_EVERY == 0:
                    progress("reading", file.tell(), size)
                # A mark of the encoding is not a part of the first name, even if the user names the encoding.
                yield line if number else line.removeprefix("\ufeff")
    progress("reading", size, size)


def _check_refused(path: Path, history: HistoryFile, choices: Choices) -> None:
    """Raise BadHistoryFile if rows are refused, and the user has not chosen to skip them."""
    if not history.refused or choices.skip_bad_rows:
        return
    message = (
        f"{path.name}: {len(history.refused):,} of {_many(history.rows, 'row')} cannot be imported, so nothing was"
        " imported; correct the file, or skip these rows (--skip-bad-rows)"
    )
    raise BadHistoryFile(
        "\n".join([message, *_shown(history.refused)]), refused=[asdict(row) for row in history.refused]
    )


def _shown(refused: Sequence[RefusedRow]) -> Iterator[str]:
    for row in refused[:_SHOWN]:
        yield f"  line {row.line}: {row.reason}"
    if len(refused) > _SHOWN:
        yield f"  and {len(refused) - _SHOWN:,} more"


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
