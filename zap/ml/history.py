"""The history as it is learned from: raw sessions, users and vehicles become one validated frame.

The only place that knows the raw columns. Nothing is filled in with zeros or averages: what cannot be used is missing,
and counted.
"""

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
    frame["user_type"] = _user_types(frame, raw.users, dropped)
    vehicles = _vehicles_of(frame, raw.vehicles, dropped)
    for name in _SESSION_NUMBERS:
        frame[name] = sessions[name]
    for name in _VEHICLE_COLUMNS:
        frame[name] = vehicles[name]
    for feature in NUMBERS:
        numbers, unreadable = _readable_numbers(frame[feature.name])
        outside = ~np.isnan(numbers) & ~feature.inside(numbers)
        dropped.value(feature.name, "not a number", unreadable)
        dropped.value(feature.name, f"outside {feature.range}", int(outside.sum()))
        frame[feature.name] = np.where(outside, np.nan, numbers)
    for feature in CATEGORIES:
        frame[feature.name] = _text(frame[feature.name])
    synthetic = frame["user_id"].str.startswith(SAMPLE_USER_PREFIX).fillna(value=False)
    return History(frame, dropped, synthetic_sessions=int(synthetic.sum()))


def _usable_sessions(raw: pd.DataFrame, dropped: Dropped) -> pd.DataFrame:
    """The sessions with a charger type and a readable start, in their one order."""
    sessions = raw.assign(
        charger_type=_text(raw["charger_type"]),
        user_id=_text(raw["user_id"]),
        charging_start_time=_wall_times(raw["charging_start_time"]),
    )
    no_type = sessions["charger_type"].isna()
    no_start = sessions["charging_start_time"].isna() & ~no_type
    dropped.row("no charger type", int(no_type.sum()))
    dropped.row("no readable start", int(no_start.sum()))
    kept = sessions[~(no_type | no_start)]
    return kept.sort_values(["charging_start_time", "session_id"], kind="stable", ignore_index=True)


def _user_types(frame: pd.DataFrame, users: pd.DataFrame, dropped: Dropped) -> pd.Series:
    types = users.assign(user_id=_text(users["user_id"])).drop_duplicates("user_id").set_index("user_id")["user_type"]
    known = frame["user_id"].isin(types.index)
    dropped.stranger("sessions without a user", int(frame["user_id"].isna().sum()))
    dropped.stranger("sessions of a user that Users lacks", int((frame["user_id"].notna() & ~known).sum()))
    return frame["user_id"].map(types)


def _vehicles_of(frame: pd.DataFrame, vehicles: pd.DataFrame, dropped: Dropped) -> pd.DataFrame:
    """The vehicle of each session: the one it names, else the driver's only one."""
    owners = _text(vehicles["user_id"])
    only = owners.notna() & ~owners.duplicated(keep=False)
    only_vehicle = pd.Series(vehicles["vehicle_id"][only].to_numpy(), index=owners[only], dtype=object)
    named = frame["vehicle_id"].notna()
    vehicle_id = frame["vehicle_id"].where(named, frame["user_id"].map(only_vehicle))
    by_id = vehicles.drop_duplicates("vehicle_id").set_index("vehicle_id")
    dropped.stranger("sessions of a vehicle that Vehicles lacks", int((named & ~vehicle_id.isin(by_id.index)).sum()))
    return by_id.reindex(vehicle_id)[list(_VEHICLE_COLUMNS)].reset_index(drop=True)


def _text(values: pd.Series) -> pd.Series:
    """Trimmed text; what is empty or no text is missing."""
    text = values.astype("str").str.strip().where(values.notna())
    return text.where(text != "")


def _wall_times(values: pd.Series) -> pd.Series:
    """Naive times to the second; texts in another form, or with an offset, are missing."""
    if pd.api.types.is_datetime64_dtype(values):
        return values.astype("datetime64[s]")
    text = values.astype("str")
    readable = text.str.fullmatch(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?").fillna(value=False)
    times = pd.to_datetime(text.where(readable), format="ISO8601", errors="coerce")
    return times.astype("datetime64[s]")


def _readable_numbers(values: pd.Series) -> tuple[np.ndarray, int]:
    """float64 with NaN where there is no number, and how many entries were there but unreadable."""
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    unreadable = np.isnan(numbers) & values.notna().to_numpy()
    return numbers, int(unreadable.sum())
