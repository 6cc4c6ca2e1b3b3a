"""The history as it is learned from: raw sessions, users and vehicles become one validated frame.

The only place that knows the raw columns. Nothing is filled in with zeros or averages: what cannot be used is missing,
and counted.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from zap.ml.features import CATEGORIES, NUMBERS
from zap.ml.sample import SAMPLE_USER_PREFIX

SESSION_COLUMNS = ("session_id", "user_id", "vehicle_id", "charger_type", "charging_start_time")
_SESSION_NUMBERS = ("state_of_charge_start", "distance_driven_km", "temperature_c")
_VEHICLE_COLUMNS = ("vehicle_model", "battery_capacity_kwh", "vehicle_age_years")


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
        frame: one row a session, ordered by start and then session_id: SESSION_COLUMNS and the columns of FEATURES.
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
    frame["user_id"] = frame["user_id"].where(frame["user_id"].notna(), vehicles["user_id"])
    frame["user_type"] = _user_types(frame, raw.users, dropped)
    for name in _SESSION_NUMBERS:
        frame[name] = sessions[name]
    for name in _VEHICLE_COLUMNS:
        frame[name] = vehicles[name]
    for feature in NUMBERS:
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


def read_text(value: object) -> str | None:
    """What a stored text means: without the spaces around it; None where nothing is left."""
    return None if value is None else str(value).strip() or None


def read_number(value: object) -> float:
    """What a stored number means: a float, also where it was stored as text; NaN where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        # Python would read 1_000 too, which no database does.
        return math.nan if isinstance(value, str) and "_" in value else float(value)
    except (ValueError, OverflowError):
        return math.nan


def read_id(value: object) -> str | None:
    """What a stored user_id means: itself, to the letter, as whoever looks it up by SQL finds it; None where blank."""
    text = None if value is None else str(value)
    return text if text and not text.isspace() else None


def _usable_sessions(raw: pd.DataFrame, dropped: Dropped) -> pd.DataFrame:
    """The sessions with a charger type and a readable start, in their one order."""
    sessions = raw.assign(
        charger_type=_texts(raw["charger_type"]),
        user_id=_texts(raw["user_id"], read_id),
        charging_start_time=_wall_times(raw["charging_start_time"]),
    )
    no_type = sessions["charger_type"].isna()
    no_start = sessions["charging_start_time"].isna() & ~no_type
    dropped.row("no charger type", int(no_type.sum()))
    dropped.row("no readable start", int(no_start.sum()))
    kept = sessions[~(no_type | no_start)]
    return kept.sort_values(["charging_start_time", "session_id"], kind="stable", ignore_index=True)


def _user_types(frame: pd.DataFrame, users: pd.DataFrame, dropped: Dropped) -> pd.Series:
    types = users.set_index(_texts(users["user_id"], read_id))["user_type"]
    types = types[types.index.notna()]
    known = frame["user_id"].isin(types.index)
    dropped.stranger("sessions without a user", int(frame["user_id"].isna().sum()))
    dropped.stranger("sessions of a user that Users lacks", int((frame["user_id"].notna() & ~known).sum()))
    return frame["user_id"].map(types)


def _vehicles_of(frame: pd.DataFrame, vehicles: pd.DataFrame, dropped: Dropped) -> pd.DataFrame:
    """The vehicle of each session, and its owner: the one that the session names, else the driver's only one."""
    vehicles = vehicles.assign(user_id=_texts(vehicles["user_id"], read_id))
    owners = vehicles["user_id"]
    only = owners.notna() & ~owners.duplicated(keep=False)
    only_vehicle = pd.Series(vehicles["vehicle_id"][only].to_numpy(), index=owners[only], dtype=object)
    named = frame["vehicle_id"].notna()
    vehicle_id = frame["vehicle_id"].where(named, frame["user_id"].map(only_vehicle))
    by_id = vehicles.set_index("vehicle_id")
    dropped.stranger("sessions without a vehicle", int(vehicle_id.isna().sum()))
    dropped.stranger("sessions of a vehicle that Vehicles lacks", int((named & ~vehicle_id.isin(by_id.index)).sum()))
    return by_id.reindex(vehicle_id)[["user_id", *_VEHICLE_COLUMNS]].reset_index(drop=True)


def _texts(values: pd.Series, read: Callable[[object], str | None] = read_text) -> pd.Series:
    # A million rows repeat few texts; each is read once. What is missing has the code -1, the last place.
    codes, different = pd.factorize(values)
    texts = np.array([*map(read, different), None], dtype=object)
    return pd.Series(texts[codes], index=values.index, dtype="str")


def _wall_times(values: pd.Series) -> pd.Series:
    """Naive times to the second; texts in another form, or with an offset, are missing."""
    if pd.api.types.is_datetime64_dtype(values):
        return values.astype("datetime64[s]")
    text = values.astype("str")
    readable = text.str.fullmatch(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?").fillna(value=False)
    times = pd.to_datetime(text.where(readable), format="ISO8601", errors="coerce")
    return times.astype("datetime64[s]")


def _numbers(values: pd.Series) -> np.ndarray:
    """float64 with NaN where there is no number."""
    if values.dtype == np.float64:
        return values.to_numpy()
    return np.array([read_number(value) for value in values], dtype=np.float64)
