"""The import of history files, from their bytes to the numbers of added and changed rows."""

import gzip
import pickle
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, cast

from sqlalchemy import Connection, Engine

from zap.db.audit import note
from zap.db.history.history_store import import_turn, store_history
from zap.db.history.row_upsert import TakenIds
from zap.db.history.session_upsert import taken_rows
from zap.db.history.spellings import KINDS, stored_spellings
from zap.errors import BadHistoryFile
from zap.flows.history_report import ImportReport, import_report, refusal, refusal_of_files
from zap.formats.history_cells import ToWallTime
from zap.formats.history_file import HistoryFile, parse_table
from zap.formats.history_records import ParquetTable, Table, text_table
from zap.formats.history_sheets import is_sheet_file, open_sheet
from zap.formats.history_survey import NO_CHOICES, Choices
from zap.progress import Progress, no_progress

_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
# The marks at the beginning of a text that name its encoding. The marks of UTF-32 begin like those of UTF-16.
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
)
# After how many lines the reading reports its progress.
_REPORT_EVERY = 20_000


@dataclass(frozen=True)
class CheckedFile:
    """A file that was read and can be imported.

    Attributes:
        path: the file.
        history: its content; None if the content waits in `kept`.
        kept: a file with the content.
    """

    path: Path
    history: HistoryFile | None
    kept: Path | None = None

    def content(self) -> HistoryFile:
        """Return the content of the file."""
        if self.history is not None:
            return self.history
        assert self.kept is not None  # noqa: S101 - one of both is always there
        with self.kept.open("rb") as file:
            return cast("HistoryFile", pickle.load(file))  # noqa: S301 - this process wrote it


def import_history(
    engine: Engine,
    path: Path,
    *,
    wall_time: ToWallTime,
    choices: Choices = NO_CHOICES,
    progress: Progress = no_progress,
) -> ImportReport:
    """Import a history file in one transaction. The file is CSV or JSON, gzipped or not, or Parquet, or Excel.

    Args:
        engine: a database at head.
        path: the public "Electric Vehicle Charging Patterns" file, or a file with the column names of the tables.
        wall_time: Settings.wall_time, which converts times with an offset.
        choices: the user's choices about the file.
        progress: called with "reading" (in bytes, or in rows of Parquet), then with each table (in rows).

    Raises:
        BadHistoryFile: the file cannot be read, or rows are refused. Nothing was imported.
    """
    with checked_files([path], wall_time=wall_time, choices=choices, progress=progress) as (checked,):
        (report,) = store_files(engine, [checked], choices=choices, progress=progress)
    return report


@contextmanager
def checked_files(
    paths: Sequence[Path], *, wall_time: ToWallTime, choices: Choices = NO_CHOICES, progress: Progress = no_progress
) -> Iterator[list[CheckedFile]]:
    """Yield the files when all of them are read and none is refused. The arguments are explained in `import_history`.

    The content of one file is in memory. The contents of several files wait in a temporary folder until they are
    stored, so that several files need no more memory than the largest of them.

    Raises:
        BadHistoryFile: a file cannot be read, or rows are refused. The message names each such file.
    """
    checked: list[CheckedFile] = []
    results: list[tuple[Path, ImportReport | BadHistoryFile]] = []
    with TemporaryDirectory(prefix="zap-") as folder:
        for number, path in enumerate(paths):
            named = progress if len(paths) == 1 else _named(progress, path)
            try:
                history = read_file(path, wall_time=wall_time, choices=choices, progress=named)
                if history.refused and not choices.skip_bad_rows:
                    raise refusal(path, history)
            except BadHistoryFile as error:
                results.append((path, error))
                continue
            results.append((path, import_report(path, history)))
            if len(paths) == 1:
                checked.append(CheckedFile(path, history))
            else:
                checked.append(CheckedFile(path, None, Path(folder) / str(number)))
                with (Path(folder) / str(number)).open("wb") as file:
                    pickle.dump(history, file, protocol=pickle.HIGHEST_PROTOCOL)
        if len(checked) < len(paths):
            raise refusal_of_files(results)
        yield checked


def store_files(
    engine: Engine, checked: Sequence[CheckedFile], *, choices: Choices = NO_CHOICES, progress: Progress = no_progress
) -> list[ImportReport]:
    """Store checked files in one transaction. The arguments are explained in `import_history`.

    Raises:
        BadHistoryFile: the id of a row belongs to another session. Nothing was imported.
    """
    try:
        return _store(engine, checked, choices, progress, without_taken=False)
    except TakenIds:
        # This is rare, so the rows are looked for only now.
        return _store(engine, checked, choices, progress, without_taken=True)


def _store(
    engine: Engine, checked: Sequence[CheckedFile], choices: Choices, progress: Progress, *, without_taken: bool
) -> list[ImportReport]:
    """Store the files. With `without_taken`, first refuse the rows whose ids belong to other sessions."""
    reports, noted = [], []
    with import_turn(engine) as connection:
        for one in checked:
            history = spelt_as_stored(connection, one.content())
            if without_taken:
                history = history.without(taken_rows(connection, history.sessions))
            if history.refused and not choices.skip_bad_rows:
                raise refusal(one.path, history)
            named = progress if len(checked) == 1 else _named(progress, one.path)
            counts = store_history(connection, history.users, history.vehicles, history.sessions, named)
            reports.append(import_report(one.path, history, counts, stored=True))
            noted.append((one.path.name, asdict(counts)))
        for name, after in noted:
            note(connection, "history.import", f"file {name}", after=after)
    return reports


def spelt_as_stored(connection: Connection, history: HistoryFile) -> HistoryFile:
    """Return the content with the stored spellings of its charger types, user types and vehicle models."""
    for kind in KINDS:
        if kind in history.sessions:
            counts = {str(text): number for text, number in history.sessions[kind].value_counts().items()}
            history = history.respelt(kind, stored_spellings(connection, kind, counts))
    return history


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
        with _open_table(path, choices, progress) as table:
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


def _named(progress: Progress, path: Path) -> Progress:
    """Return a progress whose phases have the name of the file."""

    def named(what: str, done: int, total: int, log_loss: float | None = None, /) -> None:
        progress(f"{what} {path.name}", done, total, log_loss)

    return named


@contextmanager
def _open_table(path: Path, choices: Choices, progress: Progress) -> Iterator[Table]:
    """Yield the rows of a file, unzipped. Bytes that are not UTF-8 become lone surrogates."""
    if path.exists() and not path.is_file():
        raise BadHistoryFile("this is no regular file; zap reads a history several times, so save it as a file first")
    with path.open("rb") as file:
        start = file.read(4)
    if is_sheet_file(start):
        with open_sheet(path, choices.sheet, choices.mapping, progress) as table:
            yield table
    elif choices.sheet is not None:
        raise BadHistoryFile(f"this is no Excel file, so it has no sheet {choices.sheet!r}; leave out --sheet")
    elif start == _PARQUET:
        with _parquet(path, progress) as rows:
            yield rows
    else:
        yield text_table(lambda: _lines(path, choices.encoding, progress), choices.mapping)


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
        mark = plain.read(4)
        plain.seek(0)
        known = next((name for bytes_, name in _MARKS if mark.startswith(bytes_)), "utf-8")
        strict = encoding is not None or not known.startswith("utf-8")
        # newline="": a quoted field may hold line ends, so the csv module has to see them unchanged.
        with TextIOWrapper(
            plain, encoding=encoding or known, errors="strict" if strict else "surrogateescape", newline=""
        ) as text:
            progress("reading", 0, size)
            for line in islice(text, 1):
                # A mark of the encoding is not a part of the first name, even if the user names the encoding.
                yield line.removeprefix("\ufeff")
            # The lines between two reports are passed on without a step of Python for each of them.
            for line in text:
                yield line
                yield from islice(text, _REPORT_EVERY)
                progress("reading", file.tell(), size)
    progress("reading", size, size)
