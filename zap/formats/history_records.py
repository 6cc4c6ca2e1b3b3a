"""The rows of a history file as texts. The file may be CSV, JSON, one JSON object on each line, or Parquet.

The rows of an Excel file are CSV here (history_sheets.py).
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Protocol, cast

import msgspec

from zap.errors import BadHistoryFile
from zap.formats.history_headers import NEEDED, known_names
from zap.formats.history_numbers import typed_text
from zap.formats.parquet_cells import Unreadable, readable
from zap.formats.values import cell_text
from zap.progress import Progress

# A row: the number of its first line, and its cells, or the reason why it cannot be read.
Record = tuple[int, list[str] | str]

_DELIMITERS = (",", ";", "\t", "|")
# How many lines at the top may hold a title instead of the column names.
_TITLE_LINES = 20
# Known names are searched in at most this many cells of a line.
_MOST_COMPARED = 5_000
_ROWS_AT_A_TIME = 20_000


class Table(Protocol):
    """A table of texts that can be read several times.

    Attributes:
        header: the names of the columns.
        notes: sentences for people about what was read and what was left out.
        spreadsheet: whether the cells had types, so that a text which begins with the year was a date.
        typed: whether numbers are marked as numbers (`history_numbers.typed_text`).
    """

    header: list[str]
    notes: list[str]
    spreadsheet: bool
    typed: bool

    def records(self) -> Iterator[Record]:
        """Yield the rows from the first row on, each with one cell for each column."""


class CsvTable:
    """The rows of a text whose fields are separated by a comma, semicolon, tab or bar.

    Lines above the column names, such as a title, are left out.

    Args:
        lines: returns the lines from the first one, with undecodable bytes as lone surrogates.
        mapping: the columns that the user gives for headers. They help to find the line of the column names.
        cells: the delimiter of a table whose cells have columns of their own, as in a spreadsheet: a row may then be
            shorter or longer than the line of the column names.

    Attributes:
        header_line: the line of the column names.

    Raises:
        BadHistoryFile: there are no column names.
    """

    def __init__(
        self, lines: Callable[[], Iterator[str]], mapping: Mapping[str, str] | None = None, cells: str = ""
    ) -> None:
        self._lines = lines
        self.spreadsheet = self.typed = bool(cells)
        top = [line.removeprefix("\ufeff") for line in islice(lines(), _TITLE_LINES)]
        self._delimiter, self._skipped = _find_header(top, mapping, cells or _DELIMITERS)
        self.header_line = self._skipped + 1
        titles = sum(any(map(str.isalnum, line)) and not _is_sep(line) for line in top[: self._skipped])
        self.notes = [f"left out {titles} line{'s' * (titles != 1)} above the names of the columns"] if titles else []
        _line, header = next(self._rows(), (0, []))
        if isinstance(header, str):
            raise BadHistoryFile(f"the line of column names cannot be read: {header}")
        self.header = header
        if not any(text.strip() for text in header):
            raise BadHistoryFile("the first line is empty; begin a history file with a line of column names")
        if any("\x00" in text or (not text.isprintable() and _not_utf8(text)) for text in header):
            raise BadHistoryFile(
                "the first line is not UTF-8 text; save the file as CSV in UTF-8, or name its encoding with --encoding,"
                " such as cp1252 for many files of Windows"
            )

    def records(self) -> Iterator[Record]:
        width = len(self.header)
        for line, row in islice(self._rows(), 1, None):
            if isinstance(row, str):
                yield line, row
            elif any(row):
                yield line, row if len(row) == width else self._as_wide(row)

    def _as_wide(self, row: list[str]) -> list[str] | str:
        """Return a row with one cell for each column, or the reason why the row is refused.

        A row may have too many cells if the additional cells are empty. It may have too few cells if the columns of
        the missing cells have no name. A row of a spreadsheet may have any number of cells.
        """
        width = len(self.header)
        if len(row) > width and (self.spreadsheet or not any(text.strip() for text in row[width:])):
            return row[:width]
        if len(row) < width and (self.spreadsheet or not any(text.strip() for text in self.header[len(row) :])):
            return [*row, *[""] * (width - len(row))]
        return f"{len(row)} fields where the header has {width}"

    def _rows(self) -> Iterator[Record]:
        """Yield the column names and then the rows."""
        source = self._lines()
        first = "".join(islice(source, self._skipped, self._skipped + 1)).removeprefix("\ufeff")
        reader = csv.reader(chain([first], source), delimiter=self._delimiter, strict=True, skipinitialspace=True)
        skipped, line = self._skipped, 1
        while True:
            try:
                for record in reader:
                    yield skipped + line, record
                    line = reader.line_num + 1
            except csv.Error as error:
                # A quote that is not closed takes the lines below into the row; the message names the last of them.
                several = f"(to line {skipped + reader.line_num}) " if reader.line_num > line else ""
                yield skipped + line, f"{several}not readable as CSV: {error}"
                line = reader.line_num + 1
            else:
                return


class JsonTable:
    """The rows of a JSON text: a list of objects, an object that holds one such list, or one object on each line.

    Args:
        lines: returns the lines from the first one.

    Raises:
        BadHistoryFile: the text is not JSON, or holds no objects.
    """

    def __init__(self, lines: Callable[[], Iterator[str]]) -> None:
        self.notes: list[str] = []
        self.spreadsheet, self.typed = False, True
        self._lines = lines
        self._whole: list[Any] | None = None
        first, *more = [*islice(_filled(lines()), 2), ""]
        # A single line may be an object that holds the list.
        if not (more[0] and _is_object(first)):
            self._whole = _list_in("".join(lines()))
        # A dict has each name once, in the order of the first rows that have it.
        names = {name: None for _, row in self._objects() if isinstance(row, dict) for name in row}
        self.header = list(names)
        if not names:
            raise BadHistoryFile("the file holds no JSON objects; a session is an object with the names of the columns")

    def records(self) -> Iterator[Record]:
        for line, row in self._objects():
            yield line, [_cell(row.get(name)) for name in self.header] if isinstance(row, dict) else row

    def _objects(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        if self._whole is not None:
            for number, row in enumerate(self._whole, 1):
                yield number, row if isinstance(row, dict) else "is not a JSON object"
            return
        for number, line in enumerate(self._lines(), 1):
            if line.strip():
                row = _decoded(line)
                yield number, row if isinstance(row, dict) else "is not a JSON object"


class ParquetTable:
    """The rows of a Parquet file. The number of a row stands for its line.

    Args:
        file: a `pyarrow.parquet.ParquetFile`.
        progress: called with "reading", the number of rows read, and the number of all rows.

    Raises:
        BadHistoryFile: two columns have one name.
    """

    def __init__(self, file: Any, progress: Progress) -> None:
        self.notes: list[str] = []
        self.spreadsheet, self.typed = False, True
        self._file = file
        self._progress = progress
        self.header = file.schema_arrow.names
        if len(set(self.header)) < len(self.header):
            raise BadHistoryFile("two columns have one name; rename or remove one of them")

    def records(self) -> Iterator[Record]:
        rows, number = self._file.metadata.num_rows, 0
        self._progress("reading", 0, rows)
        for batch in self._file.iter_batches(batch_size=_ROWS_AT_A_TIME):
            columns = [[*map(_text, _values(column))] for column in batch.columns]
            for row in zip(*columns, strict=True):
                number += 1
                yield number, _whole(row, self.header)
            self._progress("reading", number, rows)


def text_table(lines: Callable[[], Iterator[str]], mapping: Mapping[str, str] | None = None) -> Table:
    """Return the table in a text: JSON if it begins with a bracket or a brace, and CSV otherwise."""
    first = next(_filled(lines()), "").removeprefix("\ufeff").lstrip()
    return JsonTable(lines) if first[:1] in {"[", "{"} else CsvTable(lines, mapping)


def _is_sep(line: str) -> bool:
    """Return whether a line tells a spreadsheet program the delimiter, such as `sep=;`."""
    text = line.strip("\r\n \"'").lower()
    return text.startswith("sep=") and len(text) == 5


def _find_header(top: Sequence[str], mapping: Mapping[str, str] | None, delimiters: Sequence[str]) -> tuple[str, int]:
    """Return the delimiter with the most known names in one line, and the number of lines above this line.

    If no line has known names, this line is the first line that is not empty, with its most frequent delimiter.
    """
    filled = next((place for place, line in enumerate(top) if any(map(str.isalnum, line))), 0)
    best, found = (max(delimiters, key=top[filled].count) if top else delimiters[0], filled), 0
    for place, line in enumerate(top):
        if place == 0 and _is_sep(line):
            best = (line.strip("\r\n \"'")[4], 1)
            delimiters = [*dict.fromkeys([best[0], *delimiters])]
            continue
        for delimiter in delimiters:
            cells = line.split(delimiter, _MOST_COMPARED)[:_MOST_COMPARED]
            known = known_names([text.strip().strip('"') for text in cells], mapping)
            # Below the first line one known name is not enough, because it may be a cell of a row.
            if len(known) > max(found, 1 if place else 0):
                best, found = (delimiter, place), len(known)
            if known.issuperset(NEEDED):
                return best
    return best


def _not_utf8(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _filled(lines: Iterator[str]) -> Iterator[str]:
    return (line for line in lines if line.strip())


def _is_object(line: str) -> bool:
    return isinstance(_decoded(line.removeprefix("\ufeff")), dict)


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text.encode(errors="surrogateescape"))
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None


def _list_in(text: str) -> list[Any]:
    whole = _decoded(text.removeprefix("\ufeff"))
    if isinstance(whole, dict):
        lists = [value for value in whole.values() if isinstance(value, list)]
        # An object without a list is one session.
        whole = lists[0] if len(lists) == 1 else [whole] if not lists else None
    if not isinstance(whole, list):
        raise BadHistoryFile("the file is not JSON in UTF-8: neither one list of objects nor an object in each line")
    return whole


def _values(column: Any) -> Iterable[Any]:
    """Return the values of an Arrow column. Texts are bytes, because it is not known yet whether they are UTF-8."""
    import pyarrow as pa  # noqa: PLC0415 - only Parquet files need it

    type_ = column.type
    if pa.types.is_dictionary(type_):
        column, type_ = column.dictionary_decode(), type_.value_type
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        column = column.cast(pa.binary() if pa.types.is_string(type_) else pa.large_binary())
    # NumPy keeps single precision, so that 20.1 is written as 20.1; a Python float would add digits.
    values: Iterable[Any] = column.to_numpy(zero_copy_only=False) if pa.types.is_float32(type_) else readable(column)
    return values


def _text(value: Any) -> str | Unreadable:
    """Return the text of a cell; a cell that cannot be read stays as it is."""
    return value if isinstance(value, Unreadable) else _cell(value)


def _cell(value: Any) -> str:
    """Return the text of a value, which may be a number or a text."""
    text = cell_text(value)
    return text if isinstance(value, str | bytes) else typed_text(text)


def _whole(row: Sequence[str | Unreadable], header: Sequence[str]) -> list[str] | str:
    """Return the cells of a row, or the reason why one of them cannot be read."""
    for name, cell in zip(header, row, strict=True):
        if isinstance(cell, Unreadable):
            return f"{name} {cell.reason}"
    return cast("list[str]", list(row))
