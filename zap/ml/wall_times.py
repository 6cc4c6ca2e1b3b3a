"""Read the wall times of many stored cells at once, with results that equal the results of `read_wall_time`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from zap.ml.cells import read_wall_time

# The lengths of plain texts: `2024-01-31 18:05:00`, and with six decimals of the second, as SQLAlchemy stores it.
_TO_SECOND, _TO_MICROSECOND = 19, 26
_LENGTHS = frozenset({0, _TO_SECOND, _TO_MICROSECOND})
_DIGITS = np.array([0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18])
_MARKS = {4: "-", 7: "-", 13: ":", 16: ":"}


def read_wall_times(cells: Sequence[object]) -> np.ndarray:
    """Return the wall times of n stored cells: datetime64[s], NaT where a cell is no wall time.

    Plain texts are read at once, in a tenth of the time. All other cells are read one by one.
    """
    plain: list[Any] = ["" if cell is None else cell for cell in cells]
    if {*map(type, plain)} != {str} or not {*map(len, plain)} <= _LENGTHS:
        plain = [cell if isinstance(cell, str) and len(cell) in _LENGTHS else "" for cell in plain]
    # One row for each place in the texts, and 0 after the end of a text.
    codes = (
        np.array(plain, dtype=f"U{_TO_MICROSECOND}")
        .view(np.uint32)
        .reshape(len(plain), _TO_MICROSECOND)
        .T.astype(np.int32)
    )
    times, valid = _dated(codes[_DIGITS] - ord("0"))
    for place, mark in _MARKS.items():
        valid &= codes[place] == ord(mark)
    valid &= (codes[10] == ord(" ")) | (codes[10] == ord("T"))
    # A text of 26 characters may end with NUL characters, which look like the end of a text in `codes`.
    lengths = np.fromiter(map(len, plain), dtype=np.int64, count=len(plain))
    valid &= (lengths == _TO_SECOND) | _is_fraction(codes[_TO_SECOND:])
    times[~valid] = np.datetime64("NaT")
    others = [place for place in np.flatnonzero(~valid).tolist() if cells[place] is not None]
    if others:
        times[others] = np.array([read_wall_time(cells[place]) for place in others], dtype="datetime64[s]")
    return times


def _dated(digits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the times of the 14 digits of n texts, and whether each is a time. A time that is none has no meaning."""
    valid = ((digits >= 0) & (digits <= 9)).all(axis=0)
    digits = np.where(valid, digits, 0)
    year = digits[0] * 1000 + digits[1] * 100 + digits[2] * 10 + digits[3]
    month, day, hour, minute, second = digits[4::2] * 10 + digits[5::2]
    valid &= (year >= 1) & (month >= 1) & (month <= 12) & (hour < 24) & (minute < 60) & (second < 60)
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    first, after = months.astype("datetime64[D]"), (months + 1).astype("datetime64[D]")
    valid &= (day >= 1) & (day <= (after - first).astype(np.int64))
    seconds = (hour * 60 + minute) * 60 + second
    return (first + (day - 1)).astype("datetime64[s]") + seconds, valid


def _is_fraction(codes: np.ndarray) -> np.ndarray:
    """Return whether each of n texts has a point and six digits at its end."""
    digits = codes[1:] - ord("0")
    found: np.ndarray = (codes[0] == ord(".")) & ((digits >= 0) & (digits <= 9)).all(axis=0)
    return found
