"""Parsing of a history file: its texts become the frames to store, and a list of the refused rows.

The file is read twice. The first reading decides for whole columns how dates and decimals are written; the second reads
the rows. A row is accepted as a whole or refused as a whole; no value is guessed or repaired.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from zap.formats.history_cells import (
    Problems,
    ToWallTime,
    check_order,
    cut_cell,
    durations,
    read_moments,
    read_numbers,
    read_texts,
    to_wall_times,
)
from zap.formats.history_content import content_of
from zap.formats.history_headers import IDS, NEEDED, NUMBERS, TIMES, Headers, match_headers
from zap.formats.history_ids import SESSION_TEXT, IdSurvey, mixed_ids, read_session_ids
from zap.formats.history_numbers import DecimalMark, NumberSurvey, decide_mark
from zap.formats.history_records import Table, text_table
from zap.formats.history_times import DateOrder, TimeSurvey, decide_order, deciding_text
from zap.ml.cells import is_nothing

_CHUNK = 20_000
# How many different values of a column a preview shows.
_SHOWN_VALUES = 3
_TOTALS = frozenset({"total", "totals", "grand total", "sum", "summe", "subtotal"})
# The texts of these columns are names that people type, so one name may be spelt in several ways.
_FOLDED = ("charger_type", "user_type", "vehicle_model", "charging_station_location")


@dataclass(frozen=True)
class RefusedRow:
    """A row that cannot be imported.

    Attributes:
        line: the first line of the row, where the header is line 1; for a Parquet file the number of the row, from 1.
        reason: why the row is refused.
    """

    line: int
    reason: str


@dataclass(frozen=True)
class Choices:
    """The user's choices about a file. zap decides from the file what the user does not choose.

    Attributes:
        mapping: for a header, or for two headers joined by `+`, the column that it means.
        date_order: how dates that end with the year are written.
        date_pattern: the `strptime` pattern of all times.
        decimal: the mark before the decimals.
        encoding: the encoding of the text. Default: UTF-16 if the file has its mark, and UTF-8 otherwise.
        skip_bad_rows: whether to import the good rows if other rows are refused.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    date_order: DateOrder | None = None
    date_pattern: str | None = None
    decimal: DecimalMark | None = None
    encoding: str | None = None
    skip_bad_rows: bool = False


NO_CHOICES = Choices()


@dataclass(frozen=True)
class Survey:
    """The decisions about how a file is read.

    Attributes:
        headers: which header means which column.
        date_order: how dates that end with the year are written; None if there are no such dates.
        date_example: a text of the file that shows this order; None if there is no such text.
        decimal: the mark before the decimals.
        has_text_ids: whether the column of session ids holds texts.
        date_only: for each column of times the number of dates without a time of day, which are read as 00:00.
        values: for each column its first different texts.
    """

    headers: Headers
    date_order: DateOrder | None
    date_example: str | None
    decimal: DecimalMark
    has_text_ids: bool
    date_only: Mapping[str, int]
    values: Mapping[str, list[str]]


@dataclass(frozen=True)
class HistoryFile:
    """The content of a history file.

    Attributes:
        users: `user_id` and the columns of USER_FACTS that the file has.
        vehicles: `user_id`, `vehicle_model` and the columns of VEHICLE_FACTS that the file has.
        sessions: the columns of ChargingSessions and of FACTS that the file has, and `session_text` if it has ids that
            are texts. Each session has the values of its own row.
        lines: for each row of `sessions` its line.
        rows: the number of rows in the file, including refused rows.
        refused: the rows that are not in the frames, by line.
        survey: how the file was read.
        nothing: for each column, the number of words such as `NULL` or `n/a` that were read as missing.
        folded: for each column, the replaced spellings, each with the spelling that replaced it.
        totals: the number of rows left out because they hold totals.
        outside: for each column, the number of values outside its physical range. These values are stored, and count as
            missing in a training.
        without_user: the number of rows that describe a user or a vehicle but name no user. Only the session keeps
            that description.
    """

    users: pd.DataFrame
    vehicles: pd.DataFrame
    sessions: pd.DataFrame
    lines: np.ndarray
    rows: int
    refused: list[RefusedRow]
    survey: Survey
    nothing: dict[str, int]
    folded: dict[str, dict[str, str]]
    totals: int
    outside: dict[str, int]
    without_user: int

    @property
    def ignored_columns(self) -> list[str]:
        """Return the headers that zap does not use."""
        return list(self.survey.headers.ignored)

    def without(self, reasons: Mapping[int, str]) -> "HistoryFile":
        """Return the content without some sessions, which are refused.

        Args:
            reasons: the reason for each refused session, by its place in `sessions`.
        """
        if not reasons:
            return self
        kept = np.ones(len(self.sessions), dtype=bool)
        kept[list(reasons)] = False
        refused = [RefusedRow(int(self.lines[place]), reason) for place, reason in reasons.items()]
        sessions = self.sessions[kept].reset_index(drop=True)
        return replace(
            self,
            **content_of(sessions),
            lines=self.lines[kept],
            refused=sorted([*self.refused, *refused], key=lambda row: row.line),
        )


def parse_history(lines: Iterable[str], wall_time: ToWallTime, choices: Choices = NO_CHOICES) -> HistoryFile:
    """Read the lines of a history file; see `parse_table`."""
    kept = list(lines)
    return parse_table(text_table(lambda: iter(kept)), wall_time, choices)


def parse_table(table: Table, wall_time: ToWallTime, choices: Choices = NO_CHOICES) -> HistoryFile:
    """Read a history file. Its columns may have any order; `match_headers` says which headers are known.

    If the rows give a user several types, or a vehicle several battery sizes or ages, `users` and `vehicles` have the
    value of the session with the latest start. If several sessions have this start, the last line of the file counts.
    A missing value never replaces a known value. Each session keeps the values of its own row.

    Args:
        table: the rows, as texts.
        wall_time: converts a time with an offset to the drivers' wall time. Naive times are wall time already.
        choices: the user's choices about the file.

    Raises:
        BadHistoryFile: the header is not usable, or nothing in the file decides how its dates or numbers are written.
            Rows that are not usable are listed in the result.
    """
    survey = survey_table(table, choices)
    reading = _Reading(survey, choices.date_pattern, wall_time)
    parts = [reading.parse(chunk) for chunk in _chunks(table, reading)]
    flat = pd.concat(parts, ignore_index=True)
    for name in _FOLDED:
        if name in flat:
            _fold(flat, name, reading.spelt[name])
    if SESSION_TEXT in flat and flat[SESSION_TEXT].isna().all():
        flat = flat.drop(columns=SESSION_TEXT)
    history = HistoryFile(
        **content_of(flat),
        lines=np.array(reading.lines, dtype=np.int64),
        rows=len(flat) + len(reading.refused),
        refused=sorted(reading.refused, key=lambda row: row.line),
        survey=survey,
        nothing=dict(+reading.nothing),
        folded={name: spelt for name, spelt in reading.spelt.items() if spelt},
        totals=reading.totals,
    )
    return history.without(mixed_ids(flat, history.lines))


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
    looked_at = headers.places
    for _, row in table.records():
        if isinstance(row, str) or _is_total(row, headers):
            continue
        full = False
        for name, places in looked_at.items():
            text = _joined(row, places)
            shown = values[name]
            if len(shown) < _SHOWN_VALUES and (cut := cut_cell(text)) not in shown and not is_nothing(text):
                shown.append(cut)
                full = len(shown) == _SHOWN_VALUES
            if name in times and not choices.date_pattern:
                times[name].look(text)
            elif name in numbers:
                numbers[name].look(name, text)
            elif name in IDS:
                ids.look(text)
        if full:
            # The columns that are left out have enough values to show, and nothing is decided from them.
            looked_at = {
                name: places
                for name, places in looked_at.items()
                if name in times or name in numbers or name in IDS or len(values[name]) < _SHOWN_VALUES
            }
    date_order = decide_order(times, choices.date_order)
    return Survey(
        headers,
        date_order=date_order,
        date_example=deciding_text(times, date_order),
        decimal=decide_mark(numbers, choices.decimal),
        has_text_ids=ids.has_texts,
        date_only={name: survey.date_only for name, survey in times.items() if survey.date_only},
        values=values,
    )


@dataclass
class _Chunk:
    """Records of the file, the first line of each record, and the problems by record."""

    lines: list[int] = field(default_factory=list)
    records: list[list[str]] = field(default_factory=list)
    problems: Problems = field(default_factory=lambda: defaultdict(list))


@dataclass
class _Reading:
    """The second reading of a file, and what it has counted so far."""

    survey: Survey
    date_pattern: str | None
    wall_time: ToWallTime
    lines: list[int] = field(default_factory=list)
    refused: list[RefusedRow] = field(default_factory=list)
    nothing: Counter[str] = field(default_factory=Counter)
    spelt: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    totals: int = 0

    def parse(self, chunk: _Chunk) -> pd.DataFrame:
        """Return the rows that can be imported. Add the other rows to `refused`, each with all its problems."""
        columns: dict[str, Any] = {}
        moments: dict[str, list[datetime | None]] = {}
        for name, places in self.survey.headers.places.items():
            texts = [_joined(record, places) for record in chunk.records]
            if name in TIMES:
                order = self.survey.date_order
                moments[name] = read_moments(name, texts, chunk.problems, order, self.date_pattern)
                columns[name] = to_wall_times(moments[name], self.wall_time)
            elif name in NUMBERS:
                columns[name] = read_numbers(name, texts, chunk.problems, self.survey.decimal)
            elif name in IDS:
                columns[name], columns[SESSION_TEXT] = read_session_ids(
                    name, texts, chunk.problems, has_texts=self.survey.has_text_ids
                )
            else:
                columns[name] = read_texts(name, texts, chunk.problems, self.spelt[name])
            missing = [row for row in np.flatnonzero(pd.isna(columns[name])).tolist() if is_nothing(texts[row])]
            self.nothing[name] += sum(bool(texts[row]) for row in missing)
            if name in NEEDED:
                for row in missing:
                    chunk.problems[row].append(f"{name} is {f'{texts[row]!r}: no value' if texts[row] else 'empty'}")
        if "charging_end_time" in moments:
            check_order(columns, moments, chunk.problems)
            _take_durations(columns, moments)
        self.refused += [RefusedRow(chunk.lines[row], "; ".join(reasons)) for row, reasons in chunk.problems.items()]
        self.lines += [line for row, line in enumerate(chunk.lines) if row not in chunk.problems]
        return pd.DataFrame(columns).drop(index=list(chunk.problems))


def _chunks(table: Table, reading: _Reading) -> Iterator[_Chunk]:
    """Yield the records in chunks; at least one chunk, which may be empty. Refuse the rows that cannot be read."""
    chunk = _Chunk()
    for line, row in table.records():
        if isinstance(row, str):
            reading.refused.append(RefusedRow(line, row))
        elif _is_total(row, reading.survey.headers):
            reading.totals += 1
        else:
            chunk.lines.append(line)
            chunk.records.append(row)
        if len(chunk.lines) == _CHUNK:
            yield chunk
            chunk = _Chunk()
    yield chunk


def _joined(record: list[str], places: tuple[int, ...]) -> str:
    """Return the text of a column. If a date and a time of day are in two columns, join them with a space."""
    if len(places) == 1:
        return record[places[0]].strip()
    return " ".join(text for place in places if not is_nothing(text := record[place].strip()))


def _is_total(record: list[str], headers: Headers) -> bool:
    """Return whether a row holds totals: it has a word such as `total`, and no start of a session."""
    start = record[headers.places["charging_start_time"][0]].strip()
    # Most starts begin with a digit, but no word for totals does.
    return not start[:1].isdigit() and any(
        text.strip().lower().rstrip(":") in _TOTALS for text in (record if is_nothing(start) else [start])
    )


def _take_durations(columns: dict[str, Any], moments: Mapping[str, list[datetime | None]]) -> None:
    """Compute each missing duration, if the start and the end of the session have offsets."""
    name = "charging_duration_hours"
    found = durations(moments["charging_start_time"], moments["charging_end_time"])
    if name in columns:
        columns[name] = np.where(np.isnan(columns[name]), found, columns[name])
    elif not np.isnan(found).all():
        columns[name] = found


def _fold(flat: pd.DataFrame, name: str, spelt: dict[str, str]) -> None:
    """Give names that differ in case only their most frequent spelling. Add the changed spellings to `spelt`."""
    # If spellings are equally frequent, the first in the order of texts is kept. The order of the rows has no effect.
    counts = {str(text): number for text, number in flat[name].value_counts().items()}
    ordered = sorted(counts, key=lambda text: (-counts[text], text))
    spellings: dict[str, str] = {}
    for text in ordered:
        spellings.setdefault(text.casefold(), text)
    changed = {text: to for text in ordered if (to := spellings[text.casefold()]) != text}
    if changed:
        flat[name] = flat[name].map(lambda text: changed.get(text, text), na_action="ignore").astype("str")
        spelt |= {text: changed.get(to, to) for text, to in spelt.items()} | changed
