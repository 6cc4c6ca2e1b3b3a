"""The rows of an Excel file. One sheet is read once, cell by cell, and written to a temporary CSV file.

The rest of zap then reads this file like a CSV file, several times.
"""

import csv
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from zap.errors import BadHistoryFile
from zap.formats.history_records import CsvTable
from zap.formats.sheet_cells import sheet_text
from zap.progress import Progress

# XML cannot hold this character, so no cell holds it.
_DELIMITER = "\x1f"
# The most bytes of the parts of a file when they are unzipped. A sheet of a million rows and twenty columns has about
# 800 MB. It is read piece by piece; the texts of all sheets, and the other parts, are held in memory.
_LARGEST = {"xl/worksheets/": 2**30, "xl/sharedStrings.xml": 2**28, "xl/": 2**25}
# Excel has no more rows, and no table has more columns that zap could use.
_MOST_ROWS, _MOST_COLUMNS = 2**20, 1_000
# A sheet has data if one of its first rows is not empty.
_FIRST_ROWS = 1_000
_REPORT_EVERY = 5_000
_BOOK = "xl/workbook.xml"
# A formula without a value, and cells that are merged over several rows. openpyxl tells nothing of them here.
_NO_VALUE = re.compile(rb"<f\b[^>]*(?:/>|>[^<]*</f>)\s*(?:<v\s*/>|<v>\s*</v>|</c>)")
_MERGED = re.compile(rb'<mergeCell ref="([A-Z]+([0-9]+):[A-Z]+([0-9]+))"')
_PIECE, _OVERLAP = 2**20, 2**16
_AS_EXCEL = "save the sheet as .xlsx or as CSV"


def is_sheet_file(start: bytes) -> bool:
    """Return whether a file that begins with these four bytes is a spreadsheet or an archive."""
    return start in {b"PK\x03\x04", b"PK\x05\x06", b"\xd0\xcf\x11\xe0"}


@contextmanager
def open_sheet(path: Path, sheet: str | None, mapping: Mapping[str, str], progress: Progress) -> Iterator[CsvTable]:
    """Yield the rows of a sheet. A formula has the value that the file keeps for it.

    Args:
        path: an .xlsx or .xlsm file.
        sheet: the name of the sheet. Default: the first visible sheet with data.
        mapping: as in CsvTable.
        progress: called with "reading" (in bytes of the file).

    Raises:
        BadHistoryFile: the file is another spreadsheet, is damaged or too large, or has no such sheet; or the package
            openpyxl is not installed.
    """
    _check_parts(path)
    with TemporaryDirectory(prefix="zap-") as folder, path.open("rb") as file:
        written = Path(folder) / "sheet.csv"
        try:
            notes, merged = _write(file, sheet, written, path.stat().st_size, progress)
        except BadHistoryFile:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise BadHistoryFile(f"the Excel file is damaged and cannot be read: {error}") from None

        def lines() -> Iterator[str]:
            with written.open(encoding="utf-8", newline="") as text:
                yield from text

        table = CsvTable(lines, mapping, cells=_DELIMITER)
        below = [cells for cells, row in merged if row > table.header_line]
        if below:
            more = f" and {len(below) - 1:,} more" if len(below) > 1 else ""
            notes.append(f"cells are merged over several rows: {below[0]}{more}; only their first row has their value")
        table.notes = [*notes, *table.notes]
        try:
            yield table
        except BadHistoryFile as error:
            if "missing" not in error.details:
                raise
            # The columns may be in another sheet, which the notes name.
            raise BadHistoryFile("; ".join([error.message, *notes]), **error.details) from None


def _check_parts(path: Path) -> None:
    """Raise if the file is no Excel file of this kind, or if one of its parts is too large."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.read(2) == b"PK":
                raise BadHistoryFile(f"the Excel file or archive is damaged and cannot be read; {_AS_EXCEL}")
        raise BadHistoryFile(f"this is an old Excel file (.xls), or it needs a password; {_AS_EXCEL}, with no password")
    with zipfile.ZipFile(path) as archive:
        sizes = {part.filename: part.file_size for part in archive.infolist()}
    if _BOOK not in sizes:
        if "xl/workbook.bin" in sizes or "content.xml" in sizes or any(name.endswith(".iwa") for name in sizes):
            raise BadHistoryFile(f"this is a spreadsheet of a kind that zap cannot read; {_AS_EXCEL}")
        raise BadHistoryFile("this is an archive; unpack it, and import the files that are in it")
    for name, size in sizes.items():
        most = next((most for start, most in _LARGEST.items() if name.startswith(start)), 2**25)
        if size > most and not name.startswith("xl/media/"):
            raise BadHistoryFile(
                f"{name} in the Excel file has {size:,} bytes, and zap reads at most {most:,}; save the sheet as CSV"
            )


def _write(
    file: IO[bytes], sheet: str | None, written: Path, size: int, progress: Progress
) -> tuple[list[str], list[tuple[str, int]]]:
    """Write a sheet as CSV. An empty row is an empty line.

    Return notes for people, and each group of cells that are merged over several rows, with its first row.
    """
    try:
        from openpyxl import load_workbook  # noqa: PLC0415 - only Excel files need it
    except ImportError:
        raise BadHistoryFile(
            "zap reads Excel files with the package openpyxl, which is not installed: run pip install openpyxl (it is"
            " in the extra zap[excel]), or save the sheet as CSV"
        ) from None
    with warnings.catch_warnings():
        # openpyxl warns about styles and other things that it leaves out.
        warnings.simplefilter("ignore")
        progress("reading", 0, size)
        book = load_workbook(file, read_only=True, data_only=True, keep_links=False)
        try:
            chosen, notes = _chosen(book.worksheets, sheet)
            with chosen._get_source() as part:  # noqa: SLF001 - openpyxl has no other way to the XML of a sheet
                empty, merged = _look_for_holes(part)
            if empty:
                notes.append(
                    f"{empty:,} cell{'s' * (empty != 1)} with a formula but no value, read as empty; open the file in a"
                    " spreadsheet program and save it, so that it keeps the values"
                )
            with written.open("w", encoding="utf-8", newline="") as text:
                writer = csv.writer(text, delimiter=_DELIMITER)
                width = 0
                for number, cells in enumerate(chosen.iter_rows(), 1):
                    if number > _MOST_ROWS:
                        raise BadHistoryFile(f"the sheet {chosen.title!r} has more than {_MOST_ROWS:,} rows")
                    row = [sheet_text(cell) for cell in cells[:_MOST_COLUMNS]]
                    # A short row is filled, because openpyxl leaves out empty cells at the end.
                    width = max(width, len(row))
                    writer.writerow([*row, *[""] * (width - len(row))] if any(row) else [])
                    if number % _REPORT_EVERY == 0:
                        progress("reading", file.tell(), size)
            progress("reading", size, size)
        finally:
            book.close()
    return notes, merged


def _look_for_holes(part: IO[bytes]) -> tuple[int, list[tuple[str, int]]]:
    """Return the number of formulas without a value, and the cells that are merged over several rows."""
    formulas, rest = 0, b""
    merged: dict[str, int] = {}
    while piece := part.read(_PIECE):
        whole, end, rest = (rest + piece).rpartition(b"</row>")
        formulas += len(_NO_VALUE.findall(whole + end)) if b"<f" in whole else 0
        # Merged cells are listed below the last row.
        found = _MERGED.findall(rest)
        merged |= {cells.decode(): int(first) for cells, first, last in found if first != last}
        rest = rest if end else rest[-_OVERLAP:]
    return formulas, [*merged.items()]


def _chosen(sheets: Sequence[Any], name: str | None) -> tuple[Any, list[str]]:
    """Return the sheet to read, and a note if other sheets have data."""
    for sheet in sheets:
        # Some programs write a wrong size, and openpyxl would then leave out cells.
        sheet.reset_dimensions()
    titles = ", ".join(repr(sheet.title) for sheet in sheets)
    if name is not None:
        # Excel itself does not distinguish upper and lower case here.
        named = [sheet for sheet in sheets if sheet.title.strip().casefold() == name.strip().casefold()]
        if not named:
            raise BadHistoryFile(f"--sheet {name!r} is not in the file; its sheets are {titles}")
        return named[0], [f"read the sheet {named[0].title!r}"] if len(sheets) > 1 else []
    filled = [sheet for sheet in sheets if sheet.sheet_state == "visible" and _has_data(sheet)]
    if not filled:
        raise BadHistoryFile(f"no visible sheet of the Excel file has data; its sheets are {titles}")
    first, *others = filled
    others_ = ", ".join(repr(sheet.title) for sheet in others)
    return first, [
        f"read the sheet {first.title!r}; to read another sheet, name it with --sheet: {others_}"
    ] if others else []


def _has_data(sheet: Any) -> bool:
    rows = sheet.iter_rows(max_row=_FIRST_ROWS, values_only=True)
    return any(value is not None for row in rows for value in row)
