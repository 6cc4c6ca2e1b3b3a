"""What drift watches: the values of a request, whether its driver is new, and the type that was answered.

The values come from the scored row, so training and production are read by one code.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zap.ml.driver_columns import DAY
from zap.ml.features import CATEGORIES, MATRIX_COLUMNS
from zap.monitoring.reference import Reference, reference_of
from zap.sentences import phrase

# Of the driver and of the answer, beside MATRIX_COLUMNS.
DRIVER, ANSWERED = "driver", "answered_type"
NEW, KNOWN = phrase("new"), phrase("known")
# 1970-01-01 was a Thursday.
_MONDAY = 3


class Rows(NamedTuple):
    """Watched values of n rows, in the order of time.

    Attributes:
        columns: n values of each watched feature.
        drivers: n codes of drivers.
        weeks: n numbers of weeks, from `week_of`.
    """

    columns: Mapping[str, Any]
    drivers: np.ndarray
    weeks: np.ndarray


def week_of(seconds: Any) -> Any:
    """Return the number of the week, which begins on Monday, of a moment or of an array of moments.

    Args:
        seconds: on the wall clock, since 1970-01-01.
    """
    return (seconds // DAY + _MONDAY) // 7


def request_values(
    matrix: np.ndarray, columns: Sequence[str], categories: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return n values of each feature of the request; NaN or None where missing.

    Args:
        matrix: float64 of shape (n, columns).
        columns: the names of the columns. Only MATRIX_COLUMNS are read.
        categories: the known values of each category, in the order of their codes.
    """
    texts = {feature.name for feature in CATEGORIES}
    found = {name: matrix[:, place] for place, name in enumerate(columns) if name in MATRIX_COLUMNS}
    return {name: _in_words(categories[name], one) if name in texts else one for name, one in found.items()}


def answer_values(sessions: np.ndarray, answered: Sequence[str]) -> dict[str, Any]:
    """Return for n rows whether the driver was new, and the answered type.

    Args:
        sessions: the number of earlier sessions of each driver.
        answered: the answered types.
    """
    return {DRIVER: np.where(sessions == 0, NEW, KNOWN).tolist(), ANSWERED: list(answered)}


def reference_of_version(trained: Rows, tested: Rows) -> Reference | None:
    """Return the reference of a version; None if it has too few drivers.

    Args:
        trained: the values of `request_values` for the training rows.
        tested: the values of `answer_values` for the test rows. The answers for training rows are too good, and in the
            first weeks of a history all drivers are new.
    """
    parts = [reference_of(rows.columns, rows.drivers, rows.weeks) for rows in (trained, tested)]
    features = tuple(feature for part in parts if part is not None for feature in part.features)
    return Reference(features) if features else None


def by_row(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return n dictionaries, each with the values of one row."""
    every = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*every, strict=True)]


def _in_words(names: Sequence[str], codes: np.ndarray) -> list[str | None]:
    return [None if code != code else names[int(code)] for code in codes.tolist()]  # noqa: PLR0124 - NaN
