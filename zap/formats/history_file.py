"""Parsing of a history file: its texts become the frames to store, and a list of the refused rows.

The file is read twice. The first reading (history_survey.py) decides for whole columns how dates and decimals are
written; the second reads the rows. A row is accepted as a whole or refused as a whole; no value is guessed or repaired.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from zap.formats.history_cells import (
    Problems,
    ToWallTime,
    check_order,
    durations,
    read_moments,
    read_numbers,
    read_plain_times,
    read_texts,
    to_wall_times,
)
from zap.formats.history_content import content_of
from zap.formats.history_headers import IDS, NEEDED, NUMBERS, TIMES
from zap.formats.history_ids import SESSION_TEXT, mixed_ids, read_session_ids
from zap.formats.history_numbers import untyped_text
from zap.formats.history_records import Table, text_table
from zap.formats.history_survey import NO_CHOICES, Choices, Survey, column_texts, is_total, survey_table
from zap.formats.spellings import frequent_spellings, joined_spellings
from zap.ml.cells import is_nothing

_CHUNK = 20_000
# The values in a reason, which differ from row to row.
_VALUES = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[0-9]+""")
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


@dataclass
class RefusedRows:
    """The rows that are refused for one reason.

    Attributes:
        column: the column of zap that the reason is about; None if it is about the whole row.
        rows: the number of these rows.
        line: the first line of the first of them, as in RefusedRow.
        reason: why this first row is refused.
    """

    column: str | None
    rows: int
    line: int
    reason: str


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
        reasons: for each reason the number of refused rows, the most frequent reason first. A row can have several.
        survey: how the file was read.
        read: for each column of times the first text of the file, and the wall time that it means.
        nothing: for each column, the number of words such as `NULL` or `n/a` that were read as missing.
        folded: for each column, the replaced spellings, each with the spelling that replaced it.
        outside: for each column, the number of values outside its physical range. These values are stored, and count as
            missing in a training.
        without_user: the number of rows that describe a user or a vehicle but name no user. Only the session keeps
            that description.
        today: the date on the drivers' clocks when the file was read.
    """

    users: pd.DataFrame
    vehicles: pd.DataFrame
    sessions: pd.DataFrame
    lines: np.ndarray
    rows: int
    refused: list[RefusedRow]
    reasons: list[RefusedRows]
    survey: Survey
    read: dict[str, tuple[str, str]]
    nothing: dict[str, int]
    folded: dict[str, dict[str, str]]
    outside: dict[str, int]
    without_user: int
    today: date

    @property
    def after_today(self) -> tuple[int, int, str] | None:
        """Return the number of sessions that start after today, and the line and the start of the first of them."""
        starts = self.sessions["charging_start_time"].to_numpy()
        late = np.flatnonzero(starts >= np.datetime64(self.today + timedelta(days=1)))
        if not len(late):
            return None
        start = str(starts[late[0]].astype("datetime64[s]")).replace("T", " ")
        return len(late), int(self.lines[late[0]]), start

    @property
    def ignored_columns(self) -> list[str]:
        """Return the headers that zap does not use."""
        return list(self.survey.headers.ignored)

    def respelt(self, name: str, changed: Mapping[str, str]) -> "HistoryFile":
        """Return the content with other spellings of some texts of a column. No two texts may become equal.

        Args:
            name: the column.
            changed: the texts to replace, each with its replacement.
        """
        if not changed:
            return self
        frames = {
            part: frame.assign(**{name: _replaced(frame[name], changed)})
            for part, frame in (("users", self.users), ("vehicles", self.vehicles), ("sessions", self.sessions))
            if name in frame
        }
        spelt = joined_spellings(self.folded.get(name, {}), changed)
        return replace(self, **frames, folded={**self.folded, name: spelt})  # type: ignore[arg-type]

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
        counted = {_without_values(one.reason): replace(one) for one in self.reasons}
        for row in refused:
            _count(counted, row.line, row.reason, self.survey.headers.places)
        sessions = self.sessions[kept].reset_index(drop=True)
        return replace(
            self,
            **content_of(sessions),
            lines=self.lines[kept],
            refused=sorted([*self.refused, *refused], key=lambda row: row.line),
            reasons=_by_frequency(counted),
        )


def parse_history(lines: Iterable[str], wall_time: ToWallTime, choices: Choices = NO_CHOICES) -> HistoryFile:
    """Read the lines of a history file; see `parse_table`."""
    kept = list(lines)
    return parse_table(text_table(lambda: iter(kept), choices.mapping), wall_time, choices)


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
        reasons=_by_frequency(reading.reasons),
        survey=survey,
        read=reading.first_times(),
        nothing=dict(+reading.nothing),
        folded={name: spelt for name, spelt in reading.spelt.items() if spelt},
        today=wall_time(datetime.now(UTC)).date(),
    )
    return history.without(mixed_ids(flat, history.lines))


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
    reasons: dict[str, RefusedRows] = field(default_factory=dict)
    nothing: Counter[str] = field(default_factory=Counter)
    spelt: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def refuse(self, line: int, reasons: list[str]) -> None:
        """Add a row to the refused rows, and count each of its reasons."""
        self.refused.append(RefusedRow(line, "; ".join(reasons)))
        for reason in reasons:
            _count(self.reasons, line, reason, self.survey.headers.places)

    def first_times(self) -> dict[str, tuple[str, str]]:
        """Return for each column of times its first text that zap can read, and what the text means."""
        found = {}
        for name in self.survey.headers.places:
            for text in self.survey.first_values[name] if name in TIMES else ():
                (moment,) = read_moments(name, [text], defaultdict(list), self.survey.dates.order, self.date_pattern)
                if moment is not None:
                    found[name] = (text, str(to_wall_times([moment], self.wall_time)[0]).replace("T", " "))
                    break
        return found

    def parse(self, chunk: _Chunk) -> pd.DataFrame:
        """Return the rows that can be imported. Add the other rows to `refused`, each with all its problems."""
        columns: dict[str, Any] = {}
        moments: dict[str, list[datetime | None]] = {}
        for name, places in self.survey.headers.places.items():
            texts = column_texts(chunk.records, places)
            if self.survey.typed and not (name in TIMES or name in NUMBERS):
                texts = [*map(untyped_text, texts)]
            if name in TIMES:
                columns[name] = self._times(name, texts, chunk, moments)
            elif name in NUMBERS:
                columns[name] = read_numbers(name, texts, chunk.problems, self.survey.decimal)
            elif name in IDS:
                columns[name], columns[SESSION_TEXT] = read_session_ids(
                    name, texts, chunk.problems, has_texts=self.survey.has_text_ids
                )
            else:
                columns[name] = read_texts(name, texts, chunk.problems, self.spelt[name])
            self._look_at_missing(name, texts, columns[name], chunk)
        if "charging_end_time" in columns:
            check_order(columns, moments, chunk.problems)
            _take_durations(columns, moments)
        for row, reasons in sorted(chunk.problems.items()):
            self.refuse(chunk.lines[row], reasons)
        self.lines += [line for row, line in enumerate(chunk.lines) if row not in chunk.problems]
        return pd.DataFrame(columns).drop(index=list(chunk.problems))

    def _times(
        self, name: str, texts: list[str], chunk: _Chunk, moments: dict[str, list[datetime | None]]
    ) -> np.ndarray:
        """Return naive wall times. Add them to `moments` as they are written, if one of them may have an offset."""
        times = None if self.date_pattern else read_plain_times(texts)
        if times is None:
            moments[name] = read_moments(name, texts, chunk.problems, self.survey.dates.order, self.date_pattern)
            times = to_wall_times(moments[name], self.wall_time)
        return times

    def _look_at_missing(self, name: str, texts: list[str], values: Any, chunk: _Chunk) -> None:
        """Count the words for nothing, and refuse the rows without a needed value."""
        missing = np.flatnonzero(pd.isna(values)).tolist()
        words = [row for row in missing if texts[row] and is_nothing(texts[row])]
        self.nothing[name] += len(words)
        if name in NEEDED:
            for row in words:
                chunk.problems[row].append(f"{name} is {texts[row]!r}: no value")
            for row in missing:
                if not texts[row]:
                    chunk.problems[row].append(f"{name} is empty")


def _count(counted: dict[str, RefusedRows], line: int, reason: str, columns: Container[str]) -> None:
    """Count a refused row among the rows that are refused for one reason."""
    column = reason.partition(" ")[0]
    first = RefusedRows(column if column in columns else None, 0, line, reason)
    counted.setdefault(_without_values(reason), first).rows += 1


def _without_values(reason: str) -> str:
    return _VALUES.sub("", reason)


def _by_frequency(counted: Mapping[str, RefusedRows]) -> list[RefusedRows]:
    return sorted(counted.values(), key=lambda reason: (-reason.rows, reason.line))


def _chunks(table: Table, reading: _Reading) -> Iterator[_Chunk]:
    """Yield the records in chunks; at least one chunk, which may be empty. Refuse the rows that cannot be read."""
    chunk = _Chunk()
    for line, row in table.records():
        if isinstance(row, str):
            reading.refuse(line, [row])
        elif not (reading.survey.totals and is_total(row, reading.survey.headers)):
            chunk.lines.append(line)
            chunk.records.append(row)
        if len(chunk.lines) == _CHUNK:
            yield chunk
            chunk = _Chunk()
    yield chunk


def _take_durations(columns: dict[str, Any], moments: Mapping[str, list[datetime | None]]) -> None:
    """Compute each missing duration, if the start and the end of the session have offsets."""
    name = "charging_duration_hours"
    if not {"charging_start_time", "charging_end_time"} <= moments.keys():
        # The times of this chunk have no offsets.
        return
    found = durations(moments["charging_start_time"], moments["charging_end_time"])
    if name in columns:
        columns[name] = np.where(np.isnan(columns[name]), found, columns[name])
    elif not np.isnan(found).all():
        columns[name] = found


def _fold(flat: pd.DataFrame, name: str, spelt: dict[str, str]) -> None:
    """Give names that differ in case only their most frequent spelling. Add the changed spellings to `spelt`."""
    changed = frequent_spellings({str(text): number for text, number in flat[name].value_counts().items()})
    if changed:
        flat[name] = _replaced(flat[name], changed)
        kept = joined_spellings(spelt, changed)
        spelt.clear()
        spelt |= kept


def _replaced(texts: pd.Series, changed: Mapping[str, str]) -> pd.Series:
    return texts.map(lambda text: changed.get(text, text), na_action="ignore").astype("str")
