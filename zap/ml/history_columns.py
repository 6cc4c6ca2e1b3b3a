"""The names and the places of the history columns: first the driver's past, and then the present."""

from collections.abc import Sequence

from zap.ml.driver_columns import DRIVER_COLUMNS
from zap.ml.population_now import present_columns

# The columns that hold the code of a type, or -1 for a type that is not learned.
TYPE_CODES = tuple(name for columns in DRIVER_COLUMNS for name in columns.type_codes)


def history_columns(types: Sequence[str]) -> list[str]:
    """Return the names of the history columns. A column of a type has the type in brackets.

    The first columns are the values of `UserHistory.features`, the others the values of `PopulationNow.columns`.
    """
    return [*past_columns(types), *present_columns(types)]


def past_columns(types: Sequence[str]) -> list[str]:
    """Return the names of the values of `UserHistory.features`."""
    names: list[str] = []
    for columns in DRIVER_COLUMNS:
        names += [f"{name}[{type_}]" for name in columns.by_type for type_ in types]
        names += columns.of_driver
    return names


def present_places(n_types: int) -> slice:
    """Return the places in `history_columns` of the columns of the present."""
    names = [str(code) for code in range(n_types)]
    return slice(len(past_columns(names)), len(history_columns(names)))


def share_columns(types: Sequence[str]) -> list[str]:
    """Return the names of the columns with a driver's share of each type."""
    return [f"share[{type_}]" for type_ in types]


def type_columns(name: str, n_types: int) -> slice:
    """Return the places in `history_columns` of the columns with this name, one for each type."""
    start = driver_column(f"{name}[0]", n_types)
    return slice(start, start + n_types)


def driver_column(name: str, n_types: int) -> int:
    """Return the place in `history_columns` of a column of the driver."""
    return history_columns([str(code) for code in range(n_types)]).index(name)
