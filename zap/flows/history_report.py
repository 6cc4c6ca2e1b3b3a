"""What people and programs are told about an import: how a file was read, what was stored, what was refused."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from zap.db.history.history_store import HistoryCounts
from zap.errors import BadHistoryFile
from zap.formats.history_cells import cut_cell
from zap.formats.history_file import HistoryFile, RefusedRow, RefusedRows
from zap.formats.history_survey import Survey
from zap.ml.features import FEATURES

# The width of the lines for people.
_WIDTH = 80
# How many refused rows, reasons, spellings and ignored columns are shown.
_SHOWN = 10
_SHOWN_SPELLINGS = 5
_SHOWN_COLUMNS = 30
# A longer value is cut in the table of a preview.
_LONGEST_VALUE = 24
# An import names these columns if it did not find them, because predictions depend on them.
_IMPORTANT = ("user_id", *(feature.name for feature in FEATURES))


@dataclass(frozen=True)
class ImportReport:
    """The result of an import.

    Attributes:
        file: the name of the file.
        rows: the number of its rows.
        refused: the rows that cannot be imported.
        reasons: for each reason the number of refused rows, and the first of them.
        stored: whether the rows were stored; False in a preview.
        counts: for each table, the numbers of rows that the import stored; in a preview, the numbers of rows that an
            import would store. None in a preview that was not compared with a database.
        columns: for each column of zap, the header in the file and the first values of the column. Columns of times
            also have `first`, the time that zap reads in the first value.
        ignored_columns: the headers that zap does not use.
        not_found: the columns of zap that the file does not have.
        notes: lines for people, one for each decision about the file, each changed spelling, and each word for a
            missing value.
        outside: for each column the number of values out of range, which are stored but missing in training.
        without_user: the number of rows that describe a user or a vehicle but name no user.
    """

    file: str
    rows: int
    refused: list[RefusedRow]
    reasons: list[RefusedRows]
    stored: bool
    counts: HistoryCounts | None
    columns: dict[str, dict[str, Any]]
    ignored_columns: list[str]
    not_found: list[str]
    notes: list[str]
    outside: dict[str, int]
    without_user: int

    def as_dict(self) -> dict[str, Any]:
        """Return the result for programs."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield the lines that a person reads, each at most 80 characters wide unless a word is longer."""
        if self.stored:
            yield f"{self.file}: {_many(self.rows, 'row')}"
        else:
            yield from _wrapped(f"{self.file}: {_many(self.rows, 'row')}. Nothing was stored. zap would read:")
            yield from self._table()
        for name, count in vars(self.counts).items() if self.counts else ():
            parts = [f"{number:,} {what}" for what, number in vars(count).items() if what != "repeated" or number]
            yield f"{'' if self.stored else 'would store '}{name}: {', '.join(parts)}"
        if self.refused:
            what = "skipped" if self.stored else "cannot import"
            yield f"{what} {len(self.refused):,} of {_many(self.rows, 'row')}:"
            grouped = not self.stored or len(self.refused) > _SHOWN
            for line in _reasons(self.reasons) if grouped else _rows(self.refused):
                yield from _wrapped(line)
        for line in self.notes:
            yield from _wrapped(line)
        for column_name, number in self.outside.items():
            yield from _wrapped(
                f"{column_name}: {_many(number, 'value')} out of range: stored, but treated as missing in trainings"
            )
        if self.without_user:
            yield from _wrapped(
                f"{_many(self.without_user, 'row')} without a user: user type and vehicle are stored with the session"
            )
        if self.ignored_columns:
            more = len(self.ignored_columns) - _SHOWN_COLUMNS
            names = ", ".join(map(repr, self.ignored_columns[:_SHOWN_COLUMNS]))
            yield from _wrapped(f"ignored columns: {names}{f' and {more:,} more' if more > 0 else ''}")
        for line in self._not_found():
            yield from _wrapped(line)

    def _not_found(self) -> Iterator[str]:
        """Yield lines about columns that were not found.

        The report of an import has these lines only if the file has ignored columns, which may be the missing columns.
        """
        if self.stored and not self.ignored_columns:
            return
        names = [name for name in self.not_found if not self.stored or name in _IMPORTANT]
        if names:
            example = next((name for name in names if name in _IMPORTANT), names[0])
            cure = f'; name them with --map "THEIRS={example}"' if self.ignored_columns else ""
            yield f"not found: {', '.join(names)}{cure}"
        if "user_id" in names:
            yield "no column is read as user_id, so the sessions have no driver"

    def _table(self) -> Iterator[str]:
        """Yield a table: the columns of zap, the columns of the file, and their first values."""
        rows = [
            (
                name,
                column["header"],
                ", ".join(repr(cut_cell(text, _LONGEST_VALUE)) for text in column["values"]) or "empty",
            )
            for name, column in self.columns.items()
        ]
        first = max((len(name) for name, _, _ in rows), default=0)
        second = min(max((len(header) for _, header, _ in rows), default=0), 25)
        third = _WIDTH - first - second - 6
        for name, header, values in (("zap", "file", "first values"), *rows):
            theirs, shown = wrap(header, second), wrap(values, third)
            for place in range(max(len(theirs), len(shown))):
                cells = [name if place == 0 else "", *((*one[place : place + 1], "")[0] for one in (theirs, shown))]
                yield f"  {cells[0]:{first}}  {cells[1]:{second}}  {cells[2]}".rstrip()


def import_report(
    path: Path, history: HistoryFile, counts: HistoryCounts | None = None, *, stored: bool = False
) -> ImportReport:
    """Return the report of an import, or of a preview that stored nothing."""
    survey = history.survey
    columns = {
        name: {"header": survey.headers.shown[name], "values": [*map(_printable, survey.first_values[name])]}
        for name in survey.headers.places
    }
    for name, (_, meant) in history.read.items():
        columns[name]["first"] = meant
    return ImportReport(
        file=path.name,
        rows=history.rows,
        refused=history.refused,
        reasons=history.reasons,
        stored=stored,
        counts=counts,
        columns=columns,
        ignored_columns=history.ignored_columns,
        not_found=survey.headers.not_found,
        notes=list(_notes(history, survey, preview=not stored)),
        outside=history.outside,
        without_user=history.without_user,
    )


def refusal(path: Path, history: HistoryFile) -> BadHistoryFile:
    """Return the error of a file with rows that cannot be imported. A few rows are listed, many rows are counted."""
    few = len(history.refused) <= _SHOWN
    rows = _rows(history.refused) if few else _reasons(history.reasons)
    return BadHistoryFile(
        "\n".join([_sentence(path.name, history, "was"), *rows, *_notes_on_split_times(history.survey)]),
        refused=[asdict(row) for row in history.refused],
        reasons=[asdict(reason) for reason in history.reasons],
    )


def refusal_of_preview(report: ImportReport) -> BadHistoryFile:
    """Return the error of a preview with rows that cannot be imported. The problem has the whole report."""
    return BadHistoryFile(_sentence(report.file, report, "would be"), **report.as_dict())


def _sentence(name: str, result: HistoryFile | ImportReport, was: str) -> str:
    return (
        f"{name}: {len(result.refused):,} of {_many(result.rows, 'row')} cannot be imported, so nothing {was} imported;"
        " correct the file, or skip these rows (--skip-bad-rows)"
    )


def refusal_of_files(results: Sequence[tuple[Path, ImportReport | BadHistoryFile]]) -> BadHistoryFile:
    """Return the error of several files of which some cannot be imported. `files` has what is known of each of them."""
    errors = [result for _, result in results if isinstance(result, BadHistoryFile)]
    if len(results) == 1:
        return errors[0]
    return BadHistoryFile(
        "\n".join(
            [
                f"{len(errors):,} of {_many(len(results), 'file')} cannot be imported, so no file was imported",
                *(error.message for error in errors),
            ]
        ),
        files=[
            {"file": path.name, "detail": result.message, **result.details}
            if isinstance(result, BadHistoryFile)
            else result.as_dict()
            for path, result in results
        ],
    )


def _notes(history: HistoryFile, survey: Survey, *, preview: bool) -> Iterator[str]:
    """Yield a line for each decision about the file."""
    yield from survey.notes
    if not preview:
        # A preview shows this in its table.
        for name, header in survey.headers.taken.items():
            yield f"{name}: read from {header!r}"
    yield from _notes_on_times(history, survey, preview=preview)
    if survey.decimal_note:
        yield survey.decimal_note
    for name, number in history.nothing.items():
        yield f"{name}: {_many(number, 'word')} for a missing value, such as NULL or n/a"
    for name, changed in history.folded.items():
        pairs = ", ".join(f"{text!r} as {to!r}" for text, to in list(changed.items())[:_SHOWN_SPELLINGS])
        yield f"{name}: {_many(len(changed), 'spelling')} read as another spelling: {pairs}"
    if survey.totals:
        yield f"left out {_many(survey.totals, 'row')} with totals"


def _notes_on_times(history: HistoryFile, survey: Survey, *, preview: bool) -> Iterator[str]:
    dates = survey.dates
    if dates.order and dates.example:
        order = dates.order.replace("-", " ")
        yield f"dates such as {dates.example!r} are read with the {order}, {dates.reason}"
    if preview:
        for name, (text, meant) in history.read.items():
            yield f"{name}: {text!r} is read as {meant}"
    for name, number in survey.date_only.items():
        yield f"{name}: {_many(number, 'date')} without a time of day, read as 00:00"
    yield from _notes_on_split_times(survey)
    if late := history.after_today:
        number, line, start = late
        yield (
            f"{_many(number, 'session')} start{'s' * (number == 1)} after today (first: line {line}, {start}); is the"
            " year right, and the order of day and month?"
        )


def _notes_on_split_times(survey: Survey) -> Iterator[str]:
    for name, day in survey.split.items():
        clock = survey.headers.shown[name]
        yield (
            f"{name}: the values of {clock!r} are times of day without a date; to join them with the dates of {day!r},"
            f' use --map "{day}+{clock}={name}"'
        )


def _rows(refused: Sequence[RefusedRow]) -> Iterator[str]:
    for row in refused:
        yield f"  line {row.line}: {row.reason}"


def _reasons(reasons: Sequence[RefusedRows]) -> Iterator[str]:
    """Yield a line for each of the most frequent reasons, with the first row as an example."""
    width = max((len(_many(reason.rows, "row")) for reason in reasons), default=0)
    for reason in reasons[:_SHOWN]:
        where = f"{'first ' if reason.rows > 1 else ''}line {reason.line}"
        yield f"  {_many(reason.rows, 'row'):>{width}}, {where}: {reason.reason}"
    if len(reasons) > _SHOWN:
        yield f"  and {_many(len(reasons) - _SHOWN, 'other reason')}"


def _wrapped(line: str) -> Iterator[str]:
    """Yield a line in pieces that fit the width. The pieces after the first are indented."""
    indent = len(line) - len(line.lstrip())
    yield from wrap(
        line, _WIDTH, initial_indent="", subsequent_indent=" " * (indent + 4), drop_whitespace=True,
        break_long_words=False, break_on_hyphens=False,
    ) or [line]  # fmt: skip


def _printable(text: str) -> str:
    """Return a text with an escape for each byte that is not UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
