"""The usual values of the columns: what a version keeps about its training sessions, so that a reason can name them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zap.ml.features import CATEGORIES

# The usual values are those of the newest training sessions, at most this many.
_MOST_ROWS = 50_000
# The most values of a category whose shares are kept: the most frequent ones.
_MOST_VALUES = 50
# The columns of which a version keeps the share of each value, beside the categories.
QUARTER, WEEKDAY = "quarter_of_day", "weekday"
_HOURS = 6


class UsualValues(NamedTuple):
    """The usual values of a version.

    Attributes:
        mix: the share of each charger type in the training sessions.
        medians: the median of each column with numbers. An older version has none.
        shares: the share of each value of the categories, of QUARTER and of WEEKDAY, by the value as a text. An older
            version has none.
    """

    mix: Mapping[str, float]
    medians: Mapping[str, float]
    shares: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, mix: Mapping[str, float], stored: Mapping[str, Any] | None) -> "UsualValues":
        """Return the usual values of a version from the result of `usual_values`; None for an older version."""
        known = stored or {}
        return cls(mix, known.get("medians", {}), known.get("shares", {}))


def usual_values(matrix: np.ndarray, columns: Sequence[str], categories: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the usual values of training sessions, as JSON can hold them.

    Args:
        matrix: float64, n rows of the columns, in order of start.
        columns: the names of the columns.
        categories: the known values of each category, in the order of their codes.

    Returns:
        `sessions`, the number of sessions that were used, and `medians` and `shares` of UsualValues.
    """
    rows = matrix[-_MOST_ROWS:]
    names = [feature.name for feature in CATEGORIES]
    counted: dict[str, np.ndarray] = {
        name: np.bincount(_codes(rows[:, columns.index(name)]), minlength=len(categories[name]))
        for name in names
        if name in columns
    }
    shares = {
        name: {categories[name][code]: int(n) / len(rows) for code, n in _most(counts)}
        for name, counts in counted.items()
    }
    for name, values in (
        (QUARTER, rows[:, columns.index("hour")] // _HOURS),
        (WEEKDAY, rows[:, columns.index(WEEKDAY)]),
    ):
        shares[name] = {str(code): int(n) / len(rows) for code, n in _most(np.bincount(_codes(values)))}
    return {"sessions": len(rows), "medians": _medians(rows, columns, (*names, "hour", WEEKDAY)), "shares": shares}


def quarter_of(hour: float) -> int:
    """Return the quarter of the day of an hour: 0 from 0:00 to 6:00, and so on."""
    return int(hour // _HOURS)


def _codes(values: np.ndarray) -> np.ndarray:
    codes: np.ndarray = values[~np.isnan(values)].astype(np.int64)
    return codes


def _most(counts: np.ndarray) -> list[tuple[int, int]]:
    """Return the codes with the largest counts, each with its count."""
    order = np.argsort(-counts, kind="stable")[:_MOST_VALUES]
    return [(int(code), int(counts[code])) for code in order if counts[code]]


def _medians(rows: np.ndarray, columns: Sequence[str], without: Sequence[str]) -> dict[str, float]:
    found = {}
    for place, name in enumerate(columns):
        known = rows[:, place][~np.isnan(rows[:, place])]
        if name not in without and len(known) and np.isfinite(median := float(np.median(known))):
            found[name] = median
    return found
