"""FEATURES, the one list of what may be known before a session, and the one function that turns it into numbers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

# Measured while or after charging. A model that sees one of these answers a question nobody can ask in time.
KNOWN_ONLY_AFTER = frozenset(
    {
        "charger_type",
        "charging_cost_usd",
        "charging_duration_hours",
        "charging_end_time",
        "charging_rate_kw",
        "energy_consumed_kwh",
        "state_of_charge_end",
    }
)
# The driver is asking where to go: the station of the session itself is not known either.
NOT_YET_CHOSEN = frozenset({"charging_station_id", "charging_station_location"})


@dataclass(frozen=True)
class Feature:
    """One natural-unit column of the history that a request may carry."""

    name: str
    kind: Literal["number", "category", "time"]
    description: str
    example: Any
    unit: str = ""
    minimum: float = -np.inf
    maximum: float = np.inf
    minimum_excluded: bool = False
    # Context is never required of a request.
    context: bool = False

    @property
    def range(self) -> str:
        """The range in words, e.g. `above 0 to 400 kWh`."""
        above = "above " if self.minimum_excluded else ""
        return f"{above}{self.minimum:,} to {self.maximum:,} {self.unit}".rstrip()

    def inside(self, values: np.ndarray) -> np.ndarray:
        """For each value whether it lies in the range; missing ones do not."""
        above = values > self.minimum if self.minimum_excluded else values >= self.minimum
        return above & (values <= self.maximum)

    def masked(self, values: np.ndarray) -> np.ndarray:
        """float64 `values` with NaN where they lie outside the range: nobody drives at 152 % of a battery."""
        return np.where(self.inside(values), values, np.nan)


FEATURES = (
    Feature("state_of_charge_start", "number", "charge left in the battery", 30.5, "%", 0, 100),
    Feature("distance_driven_km", "number", "distance driven since the last charge", 120.0, "km", 0, 2000),
    Feature("temperature_c", "number", "outside temperature", 15.0, "°C", -60, 60),
    Feature("battery_capacity_kwh", "number", "usable battery size", 64.0, "kWh", 0, 400, minimum_excluded=True),
    Feature("vehicle_age_years", "number", "age of the vehicle", 2.5, "years", 0, 50),
    Feature("user_type", "category", "kind of driver, one of those in the history", "Commuter"),
    Feature(
        "vehicle_model",
        "category",
        "vehicle model; one that the history lacks counts as missing",
        "Nissan LEAF",
        context=True,
    ),
    Feature(
        "charging_start_time",
        "time",
        "start of the session, ISO 8601; default now",
        "2026-03-02T18:30:00",
        context=True,
    ),
)
NUMBERS = tuple(feature for feature in FEATURES if feature.kind == "number")
CATEGORIES = tuple(feature for feature in FEATURES if feature.kind == "category")

_HOUR = 3600
_DAY = 24 * _HOUR

# The columns of the matrix that the booster sees, in order.
MATRIX_COLUMNS = (
    *(feature.name for feature in NUMBERS),
    *(feature.name for feature in CATEGORIES),
    "hour",
    "weekday",
)


def check_features(names: Iterable[str]) -> None:
    """Refuse columns that cannot be known when the driver asks.

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
    """MATRIX_COLUMNS of one session, or of n sessions at once: the same arithmetic for numbers and for arrays.

    Args:
        numbers: for each of NUMBERS a float, or n in an array; NaN where missing.
        codes: for each of CATEGORIES the code of its value; NaN where missing or unknown.
        seconds: the start on the wall clock since 1970-01-01, an int or n in an int64 array.
    """
    # 1970-01-01 was a Thursday, and Monday is 0.
    return [*numbers, *codes, seconds % _DAY / _HOUR, (seconds // _DAY + 3) % 7]


def build_features(
    columns: Mapping[str, Sequence[Any] | np.ndarray],
    categories: Mapping[str, Mapping[str, int]],
    out: np.ndarray | None = None,
) -> np.ndarray:
    """The matrix of n sessions.

    Args:
        columns: n values for each of FEATURES, cleaned: numbers as float64 with NaN where missing, categories as
            text, times as naive datetime64.
        categories: for each category feature the code of every known value; any other value is missing.
        out: where to write the matrix; by default it is made.

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
