"""FEATURES, the one list of inputs that are known before a session, and the functions that turn them into numbers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from zap.sentences import phrase, say


@dataclass(frozen=True)
class Feature:
    """One column of the history, in its natural unit. A request may carry the columns in FEATURES.

    Attributes:
        name: the name of the column in its table and in a history file, and of the field in a request and in a report.
        example: a value within the range, for the documents.
        context: whether a request may always leave the field out.
        table: the table that holds the column. Each session also keeps the facts about its user and its vehicle, in
            `session_facts`.
        header: the header in the public "Electric Vehicle Charging Patterns" file; empty if the file has no such
            column.
        constant: whether the value never changes. Other facts about a user or a vehicle may change between sessions.
        past: whether the value is an input for the driver's later sessions.
    """

    name: str
    kind: Literal["number", "category", "time"]
    description: str
    example: Any
    unit: str = ""
    minimum: float = -np.inf
    maximum: float = np.inf
    minimum_excluded: bool = False
    context: bool = False
    table: Literal["ChargingSessions", "Users", "Vehicles"] = "ChargingSessions"
    header: str = ""
    constant: bool = False
    past: bool = False

    @property
    def range(self) -> str:
        """Return the range in words, e.g. `above 0 to 400 kWh`."""
        maximum = f"{self.maximum:,} {self.unit}".rstrip()
        if self.minimum_excluded:
            return say("above {minimum:,} to {maximum}", minimum=self.minimum, maximum=maximum)
        return say("{minimum:,} to {maximum}", minimum=self.minimum, maximum=maximum)

    def inside(self, values: np.ndarray) -> np.ndarray:
        """Return for each value whether it lies in the range; False for a missing value."""
        above = values > self.minimum if self.minimum_excluded else values >= self.minimum
        return above & (values <= self.maximum)

    def masked(self, values: np.ndarray) -> np.ndarray:
        """Return the values as float64, with NaN for values outside the range, such as a charge of 152 %."""
        return np.where(self.inside(values), values, np.nan)


# The inputs of a prediction. Every other list of columns, of fields and of headers is derived from these three tuples.
FEATURES = (
    Feature(
        "state_of_charge_start", "number", phrase("charge left in the battery"), 30.5, "%", 0, 100,
        header="State of Charge (Start %)", past=True,
    ),
    Feature(
        "distance_driven_km", "number", phrase("distance driven since the last charge"), 120.0, phrase("km"), 0, 2000,
        header="Distance Driven (since last charge) (km)", past=True,
    ),
    Feature("temperature_c", "number", phrase("outside temperature"), 15.0, "°C", -60, 60, header="Temperature (°C)"),
    Feature(
        "battery_capacity_kwh", "number", phrase("usable battery size"), 64.0, phrase("kWh"), 0, 400,
        minimum_excluded=True, table="Vehicles", header="Battery Capacity (kWh)",
    ),
    Feature(
        "vehicle_age_years", "number", phrase("age of the vehicle"), 2.5, phrase("years"), 0, 50,
        table="Vehicles", header="Vehicle Age (years)",
    ),
    Feature(
        "user_type", "category", phrase("type of the driver, one of the user types in the history"), "Commuter",
        table="Users", header="User Type",
    ),
    Feature(
        "vehicle_model", "category", phrase("vehicle model; a model that is not in the history counts as missing"),
        "Nissan LEAF", context=True, table="Vehicles", header="Vehicle Model", constant=True,
    ),
    Feature(
        "charging_start_time", "time", phrase("start of the session, ISO 8601; default now"), "2026-03-02T18:30:00",
        context=True, header="Charging Start Time",
    ),
)  # fmt: skip
# Columns that are measured during or after charging. No request can carry them, so no model may learn from them.
MEASURED = (
    Feature("charger_type", "category", "the charger type that the driver uses", "Level 2", header="Charger Type"),
    Feature(
        "charging_end_time", "time", "end of the session, not before its start", "2026-03-02T20:00:00",
        header="Charging End Time",
    ),
    Feature(
        "energy_consumed_kwh", "number", "energy charged", 24.5, "kWh", 0, 1000,
        header="Energy Consumed (kWh)", past=True,
    ),
    Feature(
        "charging_duration_hours", "number", "time plugged in", 1.5, "hours", 0, 8784,
        header="Charging Duration (hours)", past=True,
    ),
    Feature("charging_rate_kw", "number", "average power", 16.3, "kW", 0, 2000, header="Charging Rate (kW)"),
    Feature("charging_cost_usd", "number", "price", 8.5, "USD", 0, 10_000, header="Charging Cost (USD)"),
    Feature(
        "state_of_charge_end", "number", "charge of the battery at the end", 68.5, "%", 0, 100,
        header="State of Charge (End %)",
    ),
)  # fmt: skip
# The driver asks where to charge, so the station of the session is not known yet.
STATION = (
    Feature("charging_station_id", "category", "the station", "Station_391", header="Charging Station ID"),
    Feature(
        "charging_station_location", "category", "where the station is", "Houston", header="Charging Station Location"
    ),
)
KNOWN_ONLY_AFTER = frozenset(feature.name for feature in MEASURED)
NOT_YET_CHOSEN = frozenset(feature.name for feature in STATION)

# The prefix of the user_id of every synthetic driver. The examples of the manual and of /docs name the second one.
SAMPLE_USER_PREFIX = "sample-"
MANUAL_USER = f"{SAMPLE_USER_PREFIX}42-00007"
_SAMPLE_USER = re.compile(rf"{SAMPLE_USER_PREFIX}[0-9]+-[0-9]{{5}}")

NUMBERS = tuple(feature for feature in FEATURES if feature.kind == "number")
CATEGORIES = tuple(feature for feature in FEATURES if feature.kind == "category")
# The names of the facts about the driver and the vehicle. A session keeps these facts as they were when it took place.
USER_FACTS = tuple(feature.name for feature in FEATURES if feature.table == "Users")
VEHICLE_FACTS = tuple(feature.name for feature in FEATURES if feature.table == "Vehicles")
FACTS = tuple(feature.name for feature in (*CATEGORIES, *NUMBERS) if feature.table != "ChargingSessions")
CHANGING_FACTS = tuple(
    feature.name for feature in (*CATEGORIES, *NUMBERS) if feature.name in FACTS and not feature.constant
)

_HOUR = 3600
_DAY = 24 * _HOUR

# The columns of the matrix that the booster sees, in order.
MATRIX_COLUMNS = (
    *(feature.name for feature in NUMBERS),
    *(feature.name for feature in CATEGORIES),
    "hour",
    "weekday",
)


def is_sample_user(user_id: str) -> bool:
    """Return whether an id is one that `zap sample-history` gives to its drivers, such as `sample-42-00007`."""
    return _SAMPLE_USER.fullmatch(user_id) is not None


def check_features(names: Iterable[str]) -> None:
    """Raise ValueError if a column cannot be known when the driver asks.

    Raises:
        ValueError: names each such column.
    """
    after = sorted(KNOWN_ONLY_AFTER.intersection(names))
    if after:
        raise ValueError(f"known only after the session, so never a feature: {', '.join(after)}")
    unchosen = sorted(NOT_YET_CHOSEN.intersection(names))
    if unchosen:
        raise ValueError(f"not chosen yet when the driver asks, so never a feature: {', '.join(unchosen)}")


check_features(feature.name for feature in FEATURES)
check_features(MATRIX_COLUMNS)


def matrix_columns(numbers: Iterable[Any], codes: Iterable[Any], seconds: Any) -> list[Any]:
    """Return MATRIX_COLUMNS of one session or of n sessions: serving passes numbers, training passes arrays.

    Args:
        numbers: for each of NUMBERS a float or an array of n floats; NaN where missing.
        codes: for each of CATEGORIES the code of the value, or an array of n codes; NaN where missing or unknown.
        seconds: the start in seconds on the wall clock since 1970-01-01, an int or an int64 array of n starts.
    """
    # 1970-01-01 was a Thursday; Monday is weekday 0.
    return [*numbers, *codes, seconds % _DAY / _HOUR, (seconds // _DAY + 3) % 7]


def build_features(
    columns: Mapping[str, Sequence[Any] | np.ndarray],
    categories: Mapping[str, Mapping[str, float]],
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Return the matrix of n sessions.

    Args:
        columns: n cleaned values for each of FEATURES: numbers as float64 with NaN where missing, categories as text,
            times as naive datetime64.
        categories: for each category feature the code of every known value. Other values count as missing.
        out: the array to write into; by default a new array.

    Returns:
        float64 of shape (n, len(MATRIX_COLUMNS)), NaN where missing.

    Raises:
        ValueError: a session has no start.
    """
    times = np.asarray(columns["charging_start_time"], dtype="datetime64[s]")
    if np.isnat(times).any():
        raise ValueError("charging_start_time is missing in some rows; give every session its start")
    matrix = np.empty((len(times), len(MATRIX_COLUMNS)), dtype=np.float64) if out is None else out
    codes = ([categories[feature.name].get(value, np.nan) for value in columns[feature.name]] for feature in CATEGORIES)
    numbers = (columns[feature.name] for feature in NUMBERS)
    for place, column in enumerate(matrix_columns(numbers, codes, times.astype(np.int64))):
        matrix[:, place] = column
    return matrix
