"""A history file as text becomes the frames that are stored, and a list of the rows that cannot be.

Pure: it opens nothing and stores nothing. A row is taken whole or refused whole; no value is guessed or
repaired.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from zap.errors import BadHistoryFile
from zap.ml.features import NUMBERS as RANGES
from zap.ml.history_cells import (
    NOT_UTF8,
    Problems,
    ToWallTime,
    check_order,
    read_ids,
    read_moments,
    read_numbers,
    read_texts,
    to_wall_times,
)

# The headers of the public "Electric Vehicle Charging Patterns" file.
PUBLIC_HEADERS = {
    "User ID": "user_id",
    "Vehicle Model": "vehicle_model",
    "Battery Capacity (kWh)": "battery_capacity_kwh",
    "Charging Station ID": "charging_station_id",
    "Charging Station Location": "charging_station_location",
    "Charging Start Time": "charging_start_time",
    "Charging End Time": "charging_end_time",
    "Energy Consumed (kWh)": "energy_consumed_kwh",
    "Charging Duration (hours)": "charging_duration_hours",
    "Charging Rate (kW)": "charging_rate_kw",
    "Charging Cost (USD)": "charging_cost_usd",
    "Time of Day": "time_of_day",
    "Day of Week": "day_of_week",
    "State of Charge (Start %)": "state_of_charge_start",
    "State of Charge (End %)": "state_of_charge_end",
    "Distance Driven (since last charge) (km)": "distance_driven_km",
    "Temperature (°C)": "temperature_c",
    "Vehicle Age (years)": "vehicle_age_years",
    "Charger Type": "charger_type",
    "User Type": "user_type",
}
NEEDED = ("charger_type", "charging_start_time")
IDS = ("session_id",)
TIMES = ("charging_start_time", "charging_end_time", "timestamp")
NUMBERS = (
    "battery_capacity_kwh",
    "vehicle_age_years",
    "energy_consumed_kwh",
    "charging_duration_hours",
    "charging_rate_kw",
    "charging_cost_usd",
    "state_of_charge_start",
    "state_of_charge_end",
    "distance_driven_km",
    "temperature_c",
)
TEXTS = (
    "user_id",
    "user_type",
    "vehicle_model",
    "charging_station_id",
    "charging_station_location",
    "charger_type",
    "time_of_day",
    "day_of_week",
)
# These describe the user and the vehicle, not the session.
_OF_USER = ("user_type",)
_VEHICLE_VALUES = ("battery_capacity_kwh", "vehicle_age_years")
_OF_VEHICLE = ("vehicle_model", *_VEHICLE_VALUES)

_CHUNK = 20_000
_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class RefusedRow:
    """A row that cannot be imported. The header is line 1; a row of several lines is named by its first.

    Of a Parquet file it is the number of the row, from 1 on.
    """

    line: int
    reason: str


@dataclass(frozen=True)
class HistoryFile:
    """What a history file says.

    Attributes:
        users: `user_id`, `user_type`.
        vehicles: `user_id`, `vehicle_model`, `battery_capacity_kwh`, `vehicle_age_years`.
        sessions: the columns of ChargingSessions that the file has, and `vehicle_model`.
        rows: how many rows the file has, refused ones included.
        refused: the rows that are not in the frames, by line.
        ignored_columns: headers that zap does not use.
        outside: for each column how many values lie outside its physical range. They are kept, and missing in
            training.
        without_user: rows that describe a user or a vehicle and name no user: the session is kept, the
            description is not.
    """

    users: pd.DataFrame
    vehicles: pd.DataFrame
    sessions: pd.DataFrame
    rows: int
    refused: list[RefusedRow]
    ignored_columns: list[str]
    outside: dict[str, int]
    without_user: int


def parse_history(lines: Iterable[str], wall_time: ToWallTime) -> HistoryFile:
    """Read a history file: the public headers or the tables' own column names, in any order and case.

    Where a user has several types, or a vehicle several battery sizes or ages, that of the latest session (by
    start) holds; of two sessions with one start the later line. A missing value never replaces a known one.

    Args:
        lines: the text, undecodable bytes as lone surrogates. Comma, semicolon or tab separates the fields.
        wall_time: what happens to times with an offset; naive times are wall time already.

    Raises:
        BadHistoryFile: when there is no usable header. Rows that are not usable are listed in the result.
    """
    return parse_records(*_open(lines), wall_time)


def parse_records(records: Any, header: list[str], wall_time: ToWallTime) -> HistoryFile:
    """What `parse_history` makes of a text, of records that were read already.

    Args:
        records: an iterator of the cells of each row as texts, whose `line_num` is the line of the last.
        header: the names of the columns.
        wall_time: what happens to times with an offset.

    Raises:
        BadHistoryFile: when the header is not usable.
    """
    places, ignored = _columns(header)
    refused: list[RefusedRow] = []
    parts = [_parse(chunk, places, wall_time, refused) for chunk in _chunks(records, len(header), refused)]
    flat = pd.concat(parts, ignore_index=True)
    for name in ("user_id", "vehicle_model"):
        if name not in flat:
            flat[name] = pd.Series(None, index=flat.index, dtype="str")
    described = flat[[name for name in (*_OF_USER, *_OF_VEHICLE) if name in flat]].notna().any(axis="columns")
    nobody = flat["user_id"].isna()
    return HistoryFile(
        users=_users(flat[~nobody]),
        vehicles=_vehicles(flat[~nobody]),
        sessions=flat.drop(columns=[*_OF_USER, *_VEHICLE_VALUES], errors="ignore"),
        rows=len(flat) + len(refused),
        refused=sorted(refused, key=lambda row: row.line),
        ignored_columns=ignored,
        outside=_outside(flat),
        without_user=int((nobody & described).sum()),
    )


def _open(lines: Iterable[str]) -> tuple[Any, list[str]]:
    """A csv reader behind the header, with the delimiter that makes most of the header, and the header."""
    source = iter(lines)
    first = next(source, "").removeprefix("\ufeff")
    if not first.strip():
        raise BadHistoryFile("the first line is empty; a history file begins with a line of column names")
    if NOT_UTF8.search(first) or "\x00" in first:
        raise BadHistoryFile("the first line is not UTF-8 text; save the file as CSV in UTF-8")

    def known(delimiter: str) -> int:
        return sum(_plain(name) in _BY_PLAIN_NAME for name in first.replace('"', "").split(delimiter))

    reader = csv.reader(
        chain([first], source), delimiter=max(_DELIMITERS, key=known), strict=True, skipinitialspace=True
    )
    try:
        return reader, next(reader)
    except csv.Error as error:
        raise BadHistoryFile(f"the line of column names cannot be read: {error}") from None


def _plain(header: str) -> str:
    return " ".join(header.split()).casefold()


_BY_PLAIN_NAME = {_plain(header): column for header, column in PUBLIC_HEADERS.items()} | {
    column: column for column in (*IDS, *TIMES, *NUMBERS, *TEXTS)
}


def _columns(header: list[str]) -> tuple[dict[str, int], list[str]]:
    """The place of each column that zap uses, and the headers that it does not."""
    places: dict[str, int] = {}
    ignored = []
    for place, name in enumerate(header):
        column = _BY_PLAIN_NAME.get(_plain(name))
        if column is None:
            ignored.append(name.strip())
        elif column in places:
            both = f"{header[places[column]].strip()!r} and {name.strip()!r}"
            raise BadHistoryFile(f"two columns mean {column}: {both}; leave one out")
        else:
            places[column] = place
    missing = [name for name in NEEDED if name not in places]
    if missing:
        public = {column: header for header, column in PUBLIC_HEADERS.items()}
        names = " and ".join(f"{name} (or {public[name]!r})" for name in missing)
        raise BadHistoryFile(f"no column {names} among the {len(header)} in the first line", missing=missing)
    return places, ignored


@dataclass
class _Chunk:
    """Some records of the file, the line on which each begins, and what is wrong with them by record."""

    lines: list[int] = field(default_factory=list)
    records: list[list[str]] = field(default_factory=list)
    problems: Problems = field(default_factory=lambda: defaultdict(list))


def _chunks(reader: Any, width: int, refused: list[RefusedRow]) -> Iterator[_Chunk]:
    """The records with a field for each column, many at a time; at least one chunk, maybe an empty one."""
    chunk = _Chunk()
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            refused.append(RefusedRow(line, f"{_up_to(reader, line)}not readable as CSV: {error}"))
            continue
        if not any(record):
            continue
        if len(record) != width:
            reason = f"{_up_to(reader, line)}{len(record)} fields where the header has {width}"
            refused.append(RefusedRow(line, reason))
            continue
        chunk.lines.append(line)
        chunk.records.append(record)
        if len(chunk.lines) == _CHUNK:
            yield chunk
            chunk = _Chunk()
    yield chunk


def _up_to(reader: Any, line: int) -> str:
    # A quote that was never closed swallows the lines below: whoever skips the row should see how many.
    return f"(to line {reader.line_num}) " if reader.line_num > line else ""


def _parse(chunk: _Chunk, places: dict[str, int], wall_time: ToWallTime, refused: list[RefusedRow]) -> pd.DataFrame:
    """The rows that can be imported; the others go to `refused`, each with everything that is wrong."""
    columns: dict[str, Any] = {}
    moments: dict[str, list[datetime | None]] = {}
    for name, place in places.items():
        texts = [record[place].strip() for record in chunk.records]
        if name in TIMES:
            moments[name] = read_moments(name, texts, chunk.problems)
            columns[name] = to_wall_times(name, moments[name], wall_time, chunk.problems)
        elif name in NUMBERS:
            columns[name] = read_numbers(name, texts, chunk.problems)
        elif name in IDS:
            columns[name] = read_ids(name, texts, chunk.problems)
        else:
            columns[name] = read_texts(name, texts, chunk.problems)
        if name in NEEDED:
            for row in (row for row, text in enumerate(texts) if not text):
                chunk.problems[row].append(f"{name} is empty")
    if "charging_end_time" in moments:
        check_order(columns, moments, chunk.problems)
    refused += [RefusedRow(chunk.lines[row], "; ".join(reasons)) for row, reasons in chunk.problems.items()]
    return pd.DataFrame(columns).drop(index=list(chunk.problems))


def _users(flat: pd.DataFrame) -> pd.DataFrame:
    return _latest(flat, ["user_id"], [name for name in _OF_USER if name in flat])


def _vehicles(flat: pd.DataFrame) -> pd.DataFrame:
    described = flat[[name for name in _OF_VEHICLE if name in flat]].notna().any(axis="columns")
    values = [name for name in _VEHICLE_VALUES if name in flat]
    return _latest(flat[described], ["user_id", "vehicle_model"], values)


def _latest(rows: pd.DataFrame, key: list[str], values: list[str]) -> pd.DataFrame:
    """One row a key, with the last known of each value in order of start."""
    if not values:
        return rows[key].drop_duplicates(ignore_index=True)
    ordered = rows.sort_values("charging_start_time", kind="stable")
    return ordered.groupby(key, dropna=False)[values].last().reset_index()


def _outside(flat: pd.DataFrame) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for feature in RANGES:
        if feature.name in flat:
            values = flat[feature.name].to_numpy()
            counts[feature.name] = int((~np.isnan(values) & ~feature.inside(values)).sum())
    return dict(+counts)
