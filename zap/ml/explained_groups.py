"""The groups of columns in explanations and importances, which people know. Each has groups of `column_groups`."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from zap.ml.column_groups import group_of

# What is expected before anything is known about the session: the usual mix of charger types.
USUAL_MIX = "usual_mix"
# Each group with its groups of columns. USUAL_MIX has no column.
EXPLAINED_GROUPS: dict[str, tuple[str, ...]] = {
    "habit": ("driver_shares", "driver_recent_shares", "driver_counts", "driver_types_used"),
    "last_sessions": ("driver_last_types", "driver_starts", "driver_energies"),
    "time": ("time",),
    "charge_and_distance": ("charge_and_distance", "driver_means"),
    "weather": ("temperature",),
    "vehicle": ("vehicle",),
    "user_type": ("user_type",),
    "other_drivers": ("open_sessions", "recent_mixes", "hour_of_week"),
    USUAL_MIX: (),
}
# The groups in words.
GROUP_WORDS = {
    "habit": "the driver's habit",
    "last_sessions": "the driver's last sessions",
    "time": "the time of day and the weekday",
    "charge_and_distance": "the charge left and the distance",
    "weather": "the weather",
    "vehicle": "the vehicle",
    "user_type": "the user type",
    "other_drivers": "the other drivers now",
    USUAL_MIX: "the usual mix",
}
_EXPLAINED = {one: name for name, groups in EXPLAINED_GROUPS.items() for one in groups}


def explained_group(column: str) -> str:
    """Return the group of a column of a model."""
    return _EXPLAINED[group_of(column)]


def sums_by_group(columns: Sequence[str], values: np.ndarray) -> dict[str, np.ndarray]:
    """Return the sum of the values of each group.

    Args:
        columns: the names of a model's columns.
        values: numbers of shape (..., columns + 1). The last place belongs to USUAL_MIX.

    Returns:
        For each of EXPLAINED_GROUPS an array of shape (...).
    """
    return {name: values[..., places].sum(axis=-1) for name, places in _places(tuple(columns)).items()}


# A server explains with few versions, and each explanation needs the places several times.
@lru_cache(maxsize=16)
def _places(columns: tuple[str, ...]) -> dict[str, list[int]]:
    groups = [*map(explained_group, columns), USUAL_MIX]
    return {name: [place for place, one in enumerate(groups) if one == name] for name in EXPLAINED_GROUPS}
