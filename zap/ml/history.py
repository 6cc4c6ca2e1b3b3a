"""The history as it is learned from: raw sessions, users and vehicles become one validated frame.

The only place that knows the raw columns. Nothing is filled in with zeros or averages: what cannot be used is missing,
and counted.
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
    past_session,
    read_id,
    read_number,
    read_text,
    read_wall_time,
)
from zap.ml.features import CATEGORIES, NUMBERS
from zap.ml.sample import SAMPLE_USER_PREFIX
from zap.ml.user_history import PastSession, PopulationHistory

SESSION_COLUMNS = ("session_id", "user_id", "vehicle_id", "charger_type", "charging_start_time")
_SESSION_NUMBERS = ("state_of_charge_start", "distance_driven_km", "temperature_c")
_VEHICLE_COLUMNS = ("vehicle_model", "battery_capacity_kwh", "vehicle_age_years")
# The wall times that Arrow reads as `read_wall_time` does, many at once; what has another form is read one by one.
_PLAIN_WALL_TIME = (
    r"\A[1-9][0-9]{3}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
    r"[ T]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?\z"
)
# What a missing datetime64 is as a whole number.
_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True)
class RawHistory:
    """The three history tables as they were found, unreadable texts included."""

    users: pd.DataFrame
    vehicles: pd.DataFrame
    sessions: pd.DataFrame


@dataclass
class Dropped:
    """What cleaning could not use, and why."""

    rows: dict[str, int] = field(default_factory=dict)
    values: dict[str, dict[str, int]] = field(default_factory=dict)
    strangers: dict[str, int] = field(default_factory=dict)

    def row(self, reason: str, count: int) -> None:
        if count:
            self.rows[reason] = count

    def value(self, column: str, reason: str, count: int) -> None:
        if count:
            self.values.setdefault(column, {})[reason] = count

    def stranger(self, reason: str, count: int) -> None:
        if count:
            self.strangers[reason] = count

    def as_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "values": self.values, "strangers": self.strangers}


@dataclass(frozen=True)
class History:
    """The cleaned history.

    Attributes:
        frame: one row a session, ordered by start and then session_id: SESSION_COLUMNS, the columns of FEATURES, and
            what is known after it: charging_end_time and PAST_NUMBERS.
        dropped: what cleaning could not use.
        synthetic_sessions: how many rows were made by `zap sample-history`.
    """

    frame: pd.DataFrame
    dropped: Dropped
    synthetic_sessions: int


def clean_history(raw: RawHistory) -> History:
    """One validated frame in time order, and a count of everything that could not be used."""
    dropped = Dropped()
    sessions = _usable_sessions(raw.sessions, dropped)
    frame = sessions[list(SESSION_COLUMNS)].copy()
    vehicles = _vehicles_of(frame, raw.vehicles, dropped)
    # A past belongs to the user that a session names. The owner of the vehicle says only what kind of driver it is.
    drivers = frame["user_id"].where(frame["user_id"].notna(), vehicles["user_id"])
    frame["user_type"] = _user_types(drivers, raw.users, dropped)
    for name in (*_SESSION_NUMBERS, *(feature.name for feature in PAST_NUMBERS)):
        frame[name] = sessions[name]
    for name in _VEHICLE_COLUMNS:
        frame[name] = vehicles[name]
    frame["charging_end_time"] = _ends(sessions, dropped)
    for feature in (*NUMBERS, *PAST_NUMBERS):
        there = frame[feature.name].notna().to_numpy()
        numbers = _numbers(frame[feature.name])
        kept = feature.masked(numbers)
        dropped.value(feature.name, "not a number", int((there & np.isnan(numbers)).sum()))
        dropped.value(feature.name, f"outside {feature.range}", int((~np.isnan(numbers) & np.isnan(kept)).sum()))
        frame[feature.name] = kept
    for feature in CATEGORIES:
        frame[feature.name] = _texts(frame[feature.name])
    synthetic = frame["user_id"].str.startswith(SAMPLE_USER_PREFIX).fillna(value=False)
    return History(frame, dropped, synthetic_sessions=int(synthetic.sum()))


def past_sessions(frame: pd.DataFrame, types: Sequence[str]) -> list[PastSession]:
    """The rows of a cleaned frame as they are remembered; `types` are the charger types that are learned from."""
    kinds = {name: kind for kind, name in enumerate(types)}
    numbers = [feature.name for feature in PAST_FEATURES]
    return [
        past_session(kinds.get(name, -1), start, None if end == _NEVER else end, values)
        for name, start, end, values in zip(
            frame["charger_type"].tolist(),
            _seconds(frame["charging_start_time"]),
            _seconds(frame["charging_end_time"]),
            zip(*(frame[name].tolist() for name in numbers), strict=True),
            strict=True,
        )
    ]


def population_history(starts: np.ndarray, used: pd.Series | np.ndarray, types: Sequence[str]) -> PopulationHistory:
    """The daily mixes of n sessions with these naive starts and charger types, of those that `types` has."""
    places_of = {name: kind for kind, name in enumerate(types)}
    codes, different = pd.factorize(used)
    kinds = np.array([*(places_of.get(name, -1) for name in different), -1])[codes]
    days = np.asarray(starts, dtype="datetime64[D]").astype(np.int64)
    known = kinds >= 0
    every, places = np.unique(days[known], return_inverse=True)
    counts = np.zeros((len(every), len(types)), dtype=np.int64)
    np.add.at(counts, (places, kinds[known]), 1)
    return PopulationHistory(dict(zip(every.tolist(), counts.tolist(), strict=True)), len(types))


def _usable_sessions(raw: pd.DataFrame, dropped: Dropped) -> pd.DataFrame:
    """The sessions with a charger type and a readable start, in their one order."""
    sessions = raw.assign(
        charger_type=_texts(raw["charger_type"]),
        user_id=_texts(raw["user_id"], read_id),
        charging_start_time=_wall_times(raw["charging_start_time"]),
        **{name: None for name in (*PAST_COLUMNS, *SESSION_COLUMNS) if name not in raw},
    )
    no_type = sessions["charger_type"].isna()
    no_start = sessions["charging_start_time"].isna() & ~no_type
    dropped.row("no charger type", int(no_type.sum()))
    dropped.row("no readable start", int(no_start.sum()))
    kept = sessions[~(no_type | no_start)]
    return kept.iloc[_order(kept)].reset_index(drop=True)


def _order(sessions: pd.DataFrame) -> np.ndarray:
    """The places of the sessions in order of start and then session_id."""
    ids = sessions["session_id"]
    ranks = ids.to_numpy() if pd.api.types.is_integer_dtype(ids.dtype) else pd.factorize(ids, sort=True)[0]
    return np.lexsort((ranks, sessions["charging_start_time"].to_numpy()))


def _ends(sessions: pd.DataFrame, dropped: Dropped) -> pd.Series:
    raw = sessions["charging_end_time"]
    ends = _wall_times(raw)
    reversed_ = ends < sessions["charging_start_time"]
    dropped.value("charging_end_time", "not readable", int((raw.notna() & ends.isna()).sum()))
    dropped.value("charging_end_time", "before the start", int(reversed_.sum()))
    return ends.mask(reversed_)


def _user_types(drivers: pd.Series, users: pd.DataFrame, dropped: Dropped) -> pd.Series:
    users = users.assign(user_id=_texts(users["user_id"], read_id))
    users = users[users["user_id"].notna()]
    places = _places(drivers, pd.Index(users["user_id"]))
    unnamed = drivers.isna().to_numpy()
    dropped.stranger("sessions without a user", int(unnamed.sum()))
    dropped.stranger("sessions of a user that Users lacks", int((~unnamed & (places < 0)).sum()))
    return _taken(users[["user_type"]], places)["user_type"]


def _vehicles_of(frame: pd.DataFrame, vehicles: pd.DataFrame, dropped: Dropped) -> pd.DataFrame:
    """The vehicle of each session, and its owner: the one that the session names, else the driver's only one."""
    vehicles = vehicles.assign(user_id=_texts(vehicles["user_id"], read_id))
    owners = vehicles["user_id"]
    only = owners.notna() & ~owners.duplicated(keep=False)
    named = frame["vehicle_id"].notna().to_numpy()
    # The places of the vehicles among all, -1 where there is none.
    places = _places(frame["vehicle_id"], pd.Index(vehicles["vehicle_id"]))
    of_driver = _places(frame["user_id"][~named], pd.Index(owners[only]))
    places[~named] = np.append(np.flatnonzero(only), -1)[of_driver]
    dropped.stranger("sessions without a vehicle", int((~named & (places < 0)).sum()))
    dropped.stranger("sessions of a vehicle that Vehicles lacks", int((named & (places < 0)).sum()))
    return _taken(vehicles[["user_id", *_VEHICLE_COLUMNS]], places)


def _places(values: pd.Series, index: pd.Index) -> np.ndarray:
    """The place of each value in `index`, -1 where it is missing or not there; each different one is looked up once."""
    codes, different = pd.factorize(values)
    return np.append(index.get_indexer(pd.Index(different)), -1)[codes]


def _taken(values: pd.DataFrame, places: np.ndarray) -> pd.DataFrame:
    """The rows at these places, missing where a place is -1."""
    return values.reset_index(drop=True).reindex(places).reset_index(drop=True)


def _texts(values: pd.Series, read: Callable[[object], str | None] = read_text) -> pd.Series:
    # A million rows repeat few texts; each is read once. What is missing has the code -1, the last place.
    codes, different = pd.factorize(values)
    texts = [*map(read, different), None]
    if values.dtype == "str" and texts[:-1] == list(different):
        return values
    return pd.Series(texts, dtype="str").take(codes).set_axis(values.index)


def _wall_times(values: pd.Series) -> pd.Series:
    """Naive times to the second; texts in another form, or with an offset, are missing."""
    if pd.api.types.is_datetime64_dtype(values):
        return values.astype("datetime64[s]")
    if values.dtype != "str":
        # No time has letters that are not ASCII.
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


def _seconds(times: pd.Series) -> list[int]:
    """Seconds since 1970-01-01, _NEVER where missing."""
    seconds: list[int] = times.to_numpy(dtype="datetime64[s]").astype(np.int64).tolist()
    return seconds


def _numbers(values: pd.Series) -> np.ndarray:
    """float64 with NaN where there is no number."""
    if values.dtype == np.float64:
        return values.to_numpy()
    return np.array([read_number(value) for value in values], dtype=np.float64)
