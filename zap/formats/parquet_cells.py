"""The values of a Parquet column, also of a column whose texts or times are broken."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A cell that has no value in Python, with the reason, such as `is not a text in UTF-8`."""

    reason: str


def readable(column: Any) -> list[Any]:
    """Return the values of an Arrow column as Python objects; an `Unreadable` for each broken cell."""
    try:
        values: list[Any] = column.to_pylist()
    except _BROKEN:
        return [_value(cell) for cell in column]
    return values


# Text that is not UTF-8, a time after the year 9999, or a time zone that does not exist.
_BROKEN = (ValueError, OverflowError, LookupError)


def _value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return Unreadable("is not a text in UTF-8")
    except _BROKEN as error:
        return Unreadable(f"is not a time of the years 1 to 9999, or has an unknown time zone ({error})")
