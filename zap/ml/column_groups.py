"""The groups of the columns that the trees read. A training may leave groups out: the trees then never split on them.

The matrix, the logged rows and the logistic regression do not change.
"""

from collections.abc import Iterable, Sequence

from zap.ml.fitted import booster_columns, computed_columns
from zap.ml.population_now import PRESENT_GROUPS
from zap.sentences import say

# Each group with its columns. A column of a charger type has the type in brackets; here its name has no brackets.
GROUPS: dict[str, tuple[str, ...]] = {
    "charge_and_distance": ("state_of_charge_start", "distance_driven_km"),
    "temperature": ("temperature_c",),
    "vehicle": ("battery_capacity_kwh", "vehicle_age_years", "vehicle_model"),
    "user_type": ("user_type",),
    "time": ("hour", "weekday"),
    "driver_shares": ("share", "share_time_of_day", "share_day_kind", "share_near"),
    "driver_recent_shares": ("share_recent",),
    "driver_means": ("mean_state_of_charge", "mean_distance"),
    "driver_counts": ("sessions", "sessions_time_of_day", "types_used"),
    "driver_types_used": ("sessions_of_type", "days_since_type"),
    "driver_last_types": ("last_type", "second_last_type", "third_last_type", "same_type_in_a_row"),
    "driver_starts": ("hours_since_last", "hours_since_second_last", "days_since_first", "sessions_in_7_days"),
    "driver_energies": (
        "mean_energy",
        "last_energy",
        "largest_energy",
        "mean_duration",
        "last_duration",
        "largest_power",
    ),
    **PRESENT_GROUPS,
}
_GROUP_OF = {column: group for group, columns in GROUPS.items() for column in columns}


def group_of(column: str) -> str:
    """Return the group of a column of `computed_columns`."""
    return _GROUP_OF[column.partition("[")[0]]


def group_places(n_classes: int) -> dict[str, list[int]]:
    """Return for each group that has columns the places of its columns in the matrix.

    Args:
        n_classes: the number of charger types.
    """
    places: dict[str, list[int]] = {}
    for place, column in enumerate(computed_columns([str(code) for code in range(n_classes)])):
        places.setdefault(group_of(column), []).append(place)
    return places


def wrong_group(name: object) -> str | None:
    """Return why a value is not the name of a group, or None."""
    if isinstance(name, str) and name in GROUPS:
        return None
    return say("there is no group of columns {name!r}; the groups are {groups:s}", name=name, groups=", ".join(GROUPS))


def check_groups(left_out: Iterable[str]) -> None:
    """Check the names of groups that the trees do not use.

    Raises:
        ValueError: a name is not the name of a group.
        TypeError: the names are one text.
    """
    if isinstance(left_out, str):
        raise TypeError(f"left_out is the text {left_out!r}; give a list of groups of columns")
    if wrong := next(filter(None, map(wrong_group, left_out)), None):
        raise ValueError(wrong)


def gain_factors(left_out: Sequence[str], n_classes: int) -> dict[str, list[float]]:
    """Return the parameter of LightGBM with which trees never split on columns of left-out groups; {} without groups.

    LightGBM multiplies the gain of each split by the factor of its column, and never splits without a gain.
    """
    if not left_out:
        return {}
    factors = [1.0] * len(booster_columns(n_classes))
    for group, places in group_places(n_classes).items():
        for place in places if group in left_out else ():
            factors[place] = 0.0
    return {"feature_contri": factors}
