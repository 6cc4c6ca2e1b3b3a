"""Cleaning: make one validated frame of the raw sessions, users and vehicles.

Only this module knows the raw columns. No value is filled in with a zero or an average: a value that cannot be used
counts as missing, and is counted for the report.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from zap.ml.cells import (
    PAST_COLUMNS,
    PAST_FEATURES,
    PAST_NUMBERS,
    read_id,
    read_number,
    read_text,
    read_wall_time,
)
from zap.ml.driver_columns import PastSession
from zap.ml.features import (
    CATEGORIES,
    CHANGING_FACTS,
    FACTS,
    FEATURES,
    NUMBERS,
    USER_FACTS,
    VEHICLE_FACTS,
    is_sample_user,
)
from zap.ml.population_history import PopulationHistory
from zap.ml.population_now import Started, started

SESSION_COLUMNS = ("session_id", "user_id", "vehicle_id", "charger_type", "charging_start_time")
# The values of the session itself.
_SESSION_VALUES = tuple(
    feature.name
    for feature in (*FEATURES, *PAST_NUMBERS)
    if feature.table == "ChargingSessions" and feature.name not in SESSION_COLUMNS
)
# The wall times that Arrow reads with the result of `read_wall_time`, many at once. Other texts are read one by one.
_PLAIN_WALL_TIME = (
    r"\A[1-9][0-9]{3}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
    r"[ T]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?\z"
)
_START, _END, _DURATION = "charging_start_time", "charging_end_time", "charging_duration_hours"


@dataclass(frozen=True)
class RawHistory:
    """The history tables as they are stored, including texts that cannot be read.

    Attributes:
        users, vehicles: the users and the vehicles in their current state.
        sessions: the sessions, each with FACTS at its own time, missing where they are not known.
    """

    users: pd.DataFrame
    vehicles: pd.DataFrame
    sessions: pd.DataFrame


@dataclass
class Dropped:
    """The data that cleaning could not use, with the reasons.

    Attributes:
        rows: the number of dropped sessions, by reason.
        values: the number of values that count as missing, by column and reason.
        unmatched: the number of sessions whose user or vehicle is not in the tables, by reason.
        undated: the number of sessions for which only the current value is known, not the value at their own time, by
            column.
    """

    rows: dict[str, int] = field(default_factory=dict)
    values: dict[str, dict[str, int]] = field(default_factory=dict)
    unmatched: dict[str, int] = field(default_factory=dict)
    undated: dict[str, int] = field(default_factory=dict)

    def row(self, reason: str, count: int) -> None:
        if count:
            self.rows[reason] = count

    def value(self, column: str, reason: str, count: int) -> None:
        if count:
            self.values.setdefault(column, {})[reason] = count

    def unmatched_sessions(self, reason: str, count: int) -> None:
        if count:
            self.unmatched[reason] = count

    def known_only_now(self, column: str, count: int) -> None:
        if count:
            self.undated[column] = count

    def as_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "values": self.values, "strangers": self.unmatched, "undated": self.undated}


@dataclass(frozen=True)
class History:
    """The cleaned history.

    Attributes:
        frame: one row for each session, ordered by start and then session_id. The columns are SESSION_COLUMNS, the
            names of FEATURES, and the values known after a session: charging_end_time and PAST_NUMBERS.
        dropped: the data that cleaning could not use.
        synthetic_sessions: the number of rows that `zap sample-history` made.
    """

    frame: pd.DataFrame
    dropped: Dropped
    synthetic_sessions: int


def clean_history(raw: RawHistory) -> History:
    """Return one validated frame in time order, and the counts of the data that could not be used.

    The user type and the vehicle of a session are the facts that the session keeps, or else the current values.
    """
    dropped = Dropped()
    sessions = _usable_sessions(raw.sessions, dropped)
    frame = sessions[list(SESSION_COLUMNS)].copy()
    vehicles = _vehicles_of(frame, raw.vehicles, dropped)
    # A past belongs to the user that the session names. The owner of the vehicle only supplies the user type.
    drivers = frame["user_id"].where(frame["user_id"].notna(), vehicles["user_id"])
    now = vehicles.join(_users_of(drivers, raw.users, dropped))
    for name in _SESSION_VALUES:
        frame[name] = sessions[name]
    kept = sessions[list(FACTS)].assign(**{feature.name: _texts(sessions[feature.name]) for feature in CATEGORIES})
    for name in FACTS:
        frame[name] = _kept_else_now(kept[name], now[name])
    frame["charging_end_time"] = _ends(sessions, dropped)
    for feature in (*NUMBERS, *PAST_NUMBERS):
        there = frame[feature.name].notna().to_numpy()
        numbers = _numbers(frame[feature.name])
        masked = feature.masked(numbers)
        dropped.value(feature.name, "not a number", int((there & np.isnan(numbers)).sum()))
        dropped.value(feature.name, f"outside {feature.range}", int((~np.isnan(numbers) & np.isnan(masked)).sum()))
        frame[feature.name] = masked
    for feature in CATEGORIES:
        frame[feature.name] = _texts(frame[feature.name])
    for name in CHANGING_FACTS:
        dropped.known_only_now(name, int((kept[name].isna() & frame[name].notna()).sum()))
    counts = frame["user_id"].value_counts()
    synthetic = sum(int(count) for user_id, count in counts.items() if is_sample_user(str(user_id)))
    return History(frame, dropped, synthetic_sessions=synthetic)


def time_order(sessions: pd.DataFrame) -> np.ndarray:
    """Return the places of the sessions in order of start and, if the frame has it, of session_id."""
    starts = sessions["charging_start_time"].to_numpy()
    if "session_id" not in sessions:
        return np.argsort(starts, kind="stable")
    ids = sessions["session_id"]
    ranks = ids.to_numpy() if pd.api.types.is_integer_dtype(ids.dtype) else pd.factorize(ids, sort=True)[0]
    return np.lexsort((ranks, starts))


def past_sessions(frame: pd.DataFrame, types: Sequence[str]) -> list[PastSession]:
    """Return the rows of a cleaned frame as past sessions. `types` are the learned charger types."""
    starts, ends = (frame[name].to_numpy(dtype="datetime64[s]") for name in (_START, _END))
    begin, stop, no_end = starts.astype(np.int64), ends.astype(np.int64), np.isnat(ends)
    numbers = {feature.name: frame[feature.name].to_numpy(dtype=np.float64) for feature in PAST_FEATURES}
    # The rules of `past_session`, for all rows at once.
    hours = numbers[_DURATION]
    no_hours = np.isnan(hours)
    later = no_end & ~no_hours
    stop[later] = begin[later] + np.rint(hours[later] * 3600).astype(np.int64)
    known = ~no_end & no_hours
    numbers[_DURATION] = np.where(known, (stop - begin) / 3600, hours)
    known_ends = stop.astype(object)
    known_ends[no_end & no_hours] = None
    codes = _type_codes(frame["charger_type"], types).tolist()
    columns = (one.tolist() for one in numbers.values())
    return [*map(PastSession, begin.tolist(), codes, known_ends.tolist(), *columns)]


def started_sessions(frame: pd.DataFrame, types: Sequence[str]) -> Started:
    """Return the rows of a cleaned frame as `PopulationNow` counts them. `types` are the learned charger types."""
    return started(
        frame["charging_start_time"].to_numpy(dtype="datetime64[s]"),
        frame["charging_end_time"].to_numpy(dtype="datetime64[s]"),
        frame["charging_duration_hours"].to_numpy(dtype=np.float64),
        _type_codes(frame["charger_type"], types),
    )


def population_history(starts: np.ndarray, used: pd.Series | np.ndarray, types: Sequence[str]) -> PopulationHistory:
    """Return the daily mixes of n sessions.

    Args:
        starts: n naive starts.
        used: the n charger types that the drivers used; a type that is not in `types` is not counted.
        types: the learned charger types.
    """
    type_codes = _type_codes(used, types)
    days = np.asarray(starts, dtype="datetime64[D]").astype(np.int64)
    known = type_codes >= 0
    every, places = np.unique(days[known], return_inverse=True)
    counts = np.zeros((len(every), len(types)), dtype=np.int64)
    np.add.at(counts, (places, type_codes[known]), 1)
    return PopulationHistory(dict(zip(every.tolist(), counts.tolist(), strict=True)), len(types))


def _type_codes(used: pd.Series | np.ndarray, types: Sequence[str]) -> np.ndarray:
    """Return the place of each of n charger types in `types`, -1 for other types."""
    code_of = {name: code for code, name in enumerate(types)}
    found, different = pd.factorize(used)
    codes: np.ndarray = np.array([*(code_of.get(name, -1) for name in different), -1])[found]
    return codes


def _usable_sessions(raw: pd.DataFrame, dropped: Dropped) -> pd.DataFrame:
    """Return the sessions that have a charger type and a readable start, in time order."""
    sessions = raw.assign(
        charger_type=_texts(raw["charger_type"]),
        user_id=_texts(raw["user_id"], read_id),
        charging_start_time=_wall_times(raw["charging_start_time"]),
        **{name: None for name in (*PAST_COLUMNS, *SESSION_COLUMNS, *_SESSION_VALUES, *FACTS) if name not in raw},
    )
    no_type = sessions["charger_type"].isna()
    no_start = sessions["charging_start_time"].isna() & ~no_type
    dropped.row("no charger type", int(no_type.sum()))
    dropped.row("no readable start", int(no_start.sum()))
    kept = sessions[~(no_type | no_start)]
    return kept.iloc[time_order(kept)].reset_index(drop=True)


def _ends(sessions: pd.DataFrame, dropped: Dropped) -> pd.Series:
    raw = sessions["charging_end_time"]
    ends = _wall_times(raw)
    reversed_ = ends < sessions["charging_start_time"]
    dropped.value("charging_end_time", "not readable", int((raw.notna() & ends.isna()).sum()))
    dropped.value("charging_end_time", "before the start", int(reversed_.sum()))
    return ends.mask(reversed_)


def _users_of(drivers: pd.Series, users: pd.DataFrame, dropped: Dropped) -> pd.DataFrame:
    """Return USER_FACTS of the driver of each session."""
    users = users.assign(user_id=_texts(users["user_id"], read_id))
    users = users[users["user_id"].notna()]
    places = _places(drivers, pd.Index(users["user_id"]))
    unnamed = drivers.isna().to_numpy()
    dropped.unmatched_sessions("sessions without a user", int(unnamed.sum()))
    dropped.unmatched_sessions("sessions of a user that Users lacks", int((~unnamed & (places < 0)).sum()))
    return _taken(users[list(USER_FACTS)], places)


def _vehicles_of(frame: pd.DataFrame, vehicles: pd.DataFrame, dropped: Dropped) -> pd.DataFrame:
    """Return the vehicle of each session and its owner: the named vehicle, or else the driver's only vehicle."""
    vehicles = vehicles.assign(user_id=_texts(vehicles["user_id"], read_id))
    owners = vehicles["user_id"]
    only = owners.notna() & ~owners.duplicated(keep=False)
    named = frame["vehicle_id"].notna().to_numpy()
    # The place of each session's vehicle in `vehicles`, -1 if it has none.
    places = _places(frame["vehicle_id"], pd.Index(vehicles["vehicle_id"]))
    of_driver = _places(frame["user_id"][~named], pd.Index(owners[only]))
    places[~named] = np.append(np.flatnonzero(only), -1)[of_driver]
    dropped.unmatched_sessions("sessions without a vehicle", int((~named & (places < 0)).sum()))
    dropped.unmatched_sessions("sessions of a vehicle that Vehicles lacks", int((named & (places < 0)).sum()))
    return _taken(vehicles[["user_id", *VEHICLE_FACTS]], places)


def _kept_else_now(kept: pd.Series, now: pd.Series) -> pd.Series:
    """Return the value that each session keeps, or the current value if the session keeps none."""
    there = kept.notna()
    if not there.any():
        return now
    if kept.dtype != now.dtype:
        kept, now = kept.astype(object), now.astype(object)
    return kept.where(there, now)


def _places(values: pd.Series, index: pd.Index) -> np.ndarray:
    """Return the place of each value in `index`, -1 if it is missing or not in the index. Look up equal values once."""
    codes, different = pd.factorize(values)
    return np.append(index.get_indexer(pd.Index(different)), -1)[codes]


def _taken(values: pd.DataFrame, places: np.ndarray) -> pd.DataFrame:
    """Return the rows at these places; a row is missing where its place is -1."""
    return values.reset_index(drop=True).reindex(places).reset_index(drop=True)


def _texts(values: pd.Series, read: Callable[[object], str | None] = read_text) -> pd.Series:
    # A million rows repeat few texts, so each text is read once. A missing text has the code -1: the last place.
    codes, different = pd.factorize(values)
    texts = [*map(read, different), None]
    if values.dtype == "str" and texts[:-1] == list(different):
        return values
    return pd.Series(texts, dtype="str").take(codes).set_axis(values.index)


def _wall_times(values: pd.Series) -> pd.Series:
    """Return naive times to the second. Texts in another form or with an offset count as missing."""
    if pd.api.types.is_datetime64_dtype(values):
        return values.astype("datetime64[s]")
    if values.dtype != "str":
        # A time has only ASCII characters.
        values = pd.Series(
            [value if isinstance(value, str) and value.isascii() else None for value in values],
            index=values.index,
            dtype="str",
        )
    texts = pa.array(values, pa.large_string())
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    plain = pc.fill_null(pc.match_substring_regex(texts, _PLAIN_WALL_TIME), fill_value=False)
    seconds = pc.utf8_slice_codeunits(pc.if_else(plain, texts, None), 0, 19).cast(pa.timestamp("s"))
    times = seconds.to_numpy(zero_copy_only=False).astype("datetime64[s]")
    others = np.flatnonzero(~plain.to_numpy(zero_copy_only=False) & values.notna().to_numpy())
    times[others] = np.array([read_wall_time(text) for text in values.iloc[others]], dtype="datetime64[s]")
    return pd.Series(times, index=values.index)


def _numbers(values: pd.Series) -> np.ndarray:
    """Return the numbers as float64, NaN where a value is no number."""
    if values.dtype == np.float64:
        return values.to_numpy()
    return np.array([read_number(value) for value in values], dtype=np.float64)
