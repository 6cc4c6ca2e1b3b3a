"""The first reading of a history file, which decides for whole columns how dates and decimals are written."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from zap.formats.history_cells import cut_cell
from zap.formats.history_headers import IDS, NUMBERS, TIMES, Headers, match_headers
from zap.formats.history_ids import IdSurvey
from zap.formats.history_numbers import DecimalMark, NumberSurvey, decide_mark, note_on_mark, untyped_text
from zap.formats.history_orders import OrderDecision, TimeSurvey, decide_order
from zap.formats.history_records import Table
from zap.formats.history_times import DateOrder, is_clock, is_day, join_moment
from zap.ml.cells import is_nothing

# Rows that are looked at together: few enough that they stay in the cache of the processor.
_CHUNK = 1_000
# How many different values of a column a preview shows.
_SHOWN_VALUES = 3
_TOTALS = frozenset({"total", "totals", "grand total", "sum", "summe", "gesamt", "subtotal", "average", "avg", "mean"})


@dataclass(frozen=True)
class Choices:
    """The user's choices about a file. zap decides from the file what the user does not choose.

    Attributes:
        mapping: for a header, or for two headers joined by `+`, the column that it means.
        date_order: how dates such as 04/05/2024 or 24/05/04 are written.
        date_pattern: the `strptime` pattern of all times.
        decimal: the mark before the decimals.
        encoding: the encoding of the text. Default: UTF-16 or UTF-32 if the file has its mark, and UTF-8 otherwise.
        sheet: the sheet of an Excel file. Default: the first sheet with data.
        skip_bad_rows: whether to import the good rows if other rows are refused.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    date_order: DateOrder | None = None
    date_pattern: str | None = None
    decimal: DecimalMark | None = None
    encoding: str | None = None
    sheet: str | None = None
    skip_bad_rows: bool = False


NO_CHOICES = Choices()


@dataclass(frozen=True)
class Survey:
    """The decisions about how a file is read.

    Attributes:
        headers: which header means which column.
        dates: how dates such as 04/05/2024 are written, and why zap thinks so.
        decimal: the mark before the decimals.
        has_text_ids: whether the column of session ids holds texts.
        typed: whether numbers are marked as numbers (`history_numbers.typed_text`).
        date_only: for each column of times the number of dates without a time of day, which are read as 00:00.
        split: for each column of times that holds times of day without a date, the header of an unread column of dates.
        first_values: for each column its first different texts.
        totals: the number of rows with totals, which are left out.
        notes: sentences for people about the table itself.
        decimal_note: a sentence for people about the mark before the decimals; None if the mark is clear without it.
    """

    headers: Headers
    dates: OrderDecision
    decimal: DecimalMark
    has_text_ids: bool
    typed: bool
    date_only: Mapping[str, int]
    split: Mapping[str, str]
    first_values: Mapping[str, list[str]]
    totals: int
    notes: Sequence[str]
    decimal_note: str | None


def survey_table(table: Table, choices: Choices) -> Survey:
    """Read a file once, and return how its columns are written.

    Raises:
        BadHistoryFile: as `parse_table`.
    """
    headers = match_headers(table.header, choices.mapping)
    times = {name: TimeSurvey() for name in headers.places if name in TIMES}
    numbers = {name: NumberSurvey() for name in headers.places if name in NUMBERS}
    ids = IdSurvey()
    values: dict[str, list[str]] = {name: [] for name in headers.places}
    split: dict[str, str] = {}
    totals = 0
    for records in _chunks(table):
        starts = column_texts(records, headers.places["charging_start_time"][:1])
        # Most starts begin with a digit, but no word for totals does.
        certain = all(start[:1].isdigit() for start in starts)
        rows = records if certain else [row for row in records if not is_total(row, headers)]
        totals += len(records) - len(rows)
        split |= _split_times(table.header, headers, rows)
        for name, places in headers.places.items():
            full = len(values[name]) == _SHOWN_VALUES
            if full and not (name in times or name in numbers or name in IDS):
                continue
            texts = column_texts(rows, places)
            if table.typed and not (name in times or name in numbers):
                texts = [*map(untyped_text, texts)]
            if not full:
                _keep_first(values[name], texts)
            if name in times and not choices.date_pattern:
                times[name].look(texts)
            elif name in numbers:
                numbers[name].look(name, texts)
            elif name in IDS:
                ids.look(texts)
    decimal = decide_mark(numbers, choices.decimal)
    return Survey(
        headers,
        dates=decide_order(times, choices.date_order, spreadsheet=table.spreadsheet),
        decimal=decimal,
        has_text_ids=ids.has_texts,
        typed=table.typed,
        date_only={name: survey.date_only for name, survey in times.items() if survey.date_only},
        split=split,
        first_values=values,
        totals=totals,
        notes=table.notes,
        decimal_note=note_on_mark(numbers, decimal),
    )


def column_texts(rows: Sequence[list[str]], places: tuple[int, ...]) -> list[str]:
    """Return the texts of a column. If a date and a time of day are in two columns, join them with a space."""
    if len(places) == 1:
        (place,) = places
        return [row[place].strip() for row in rows]
    day, clock = places
    return [join_moment(row[day].strip(), row[clock].strip()) for row in rows]


def is_total(row: list[str], headers: Headers) -> bool:
    """Return whether a row holds totals: it has a word such as `total`, and no start of a session."""
    start = row[headers.places["charging_start_time"][0]].strip()
    # Most starts begin with a digit, but no word for totals does.
    return not start[:1].isdigit() and any(
        text.strip().lower().rstrip(":") in _TOTALS for text in (row if is_nothing(start) else [start])
    )


def _split_times(header: Sequence[str], headers: Headers, rows: Sequence[list[str]]) -> dict[str, str]:
    """Return the headers of unread columns of dates, by the columns of times that hold only times of day.

    If several columns hold dates, the header that is most similar to the header of the times of day is returned.
    """
    found = {}
    for name in headers.places.keys() & {*TIMES}:
        place = headers.places[name][0]
        first = next((text for row in rows if (text := row[place].strip())), "")
        # In most files the first value has a date, so zap need not look at the other values.
        if len(headers.places[name]) > 1 or not is_clock(first) or not all(map(is_clock, _values(rows, place))):
            continue
        read = {place for places in headers.places.values() for place in places}
        days = [
            text.strip()
            for other, text in enumerate(header)
            # --map joins headers by a "+", so a header that has a "+" cannot be joined.
            if other not in read
            and text.strip()
            and "+" not in text
            and (texts := _values(rows, other))
            and all(map(is_day, texts))
        ]
        if days:
            clock = header[place].casefold()
            found[name] = max(days, key=lambda day: SequenceMatcher(None, day.casefold()[:80], clock[:80]).ratio())
    return found


def _values(rows: Sequence[list[str]], place: int) -> list[str]:
    return [text for row in rows if not is_nothing(text := row[place].strip())]


def _chunks(table: Table) -> Iterator[list[list[str]]]:
    """Yield the rows that can be read, some at a time."""
    chunk: list[list[str]] = []
    for _, row in table.records():
        if not isinstance(row, str):
            chunk.append(row)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    yield chunk


def _keep_first(values: list[str], texts: Iterable[str]) -> None:
    """Add the first different texts to the values that a preview shows."""
    for text in texts:
        if (cut := cut_cell(text)) not in values and not is_nothing(text):
            values.append(cut)
            if len(values) == _SHOWN_VALUES:
                return
