"""Readers for the cells of a history file, one column at a time.

If a reader cannot read a cell, it adds the reason to `problems`, by row, and leaves the value missing.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from math import nan
from sys import intern
from typing import TypeGuard

import numpy as np
import pandas as pd

from zap.formats.history_numbers import DecimalMark, parse_number
from zap.formats.history_times import DateOrder, parse_time, parse_with
from zap.formats.values import (
    CONTROL,
    FIRST_YEAR,
    LAST_YEAR,
    LONGEST_SESSION,
    LONGEST_TEXT,
    in_years,
    read_iso,
)
from zap.ml.cells import is_nothing, plain_id, plain_text

# The reasons why rows cannot be read, by the place of the row in the column.
Problems = defaultdict[int, list[str]]
# A function that converts a time with an offset to the drivers' naive wall time, as Settings.wall_time does.
ToWallTime = Callable[[datetime], datetime]

_FIRST_TIME, _LAST_TIME = np.datetime64(f"{FIRST_YEAR}-01-01", "s"), np.datetime64(f"{LAST_YEAR}-12-31T23:59:59", "s")
_LONGEST_SESSION = np.timedelta64(LONGEST_SESSION)
_NOT_PLAIN = {"point": re.compile(r"[^0-9.\n-]"), "comma": re.compile(r"[^0-9\n-]")}
# The ids that are texts. Tools may store them as numbers.
_ID_TEXTS = ("user_id", "charging_station_id")
# A file is decoded with errors="surrogateescape", which replaces bytes that are not UTF-8 with these characters.
NOT_UTF8 = re.compile(r"[\ud800-\udfff]")


def read_numbers(name: str, texts: Sequence[str], problems: Problems, mark: DecimalMark = "point") -> np.ndarray:
    """Return numbers as float64, NaN where a cell is missing or not readable."""
    plain = _plain_numbers(texts, mark)
    if plain is not None:
        return plain
    numbers = [nan] * len(texts)
    for row, text in enumerate(texts):
        if (number := parse_number(name, text, mark)) is not None:
            numbers[row] = number
        elif not is_nothing(text):
            problems[row].append(
                f"{name} {_shown(text)} is not a number such as {'12.5' if mark == 'point' else '12,5'}"
            )
    return np.array(numbers, dtype=np.float64)


def read_texts(name: str, texts: Sequence[str], problems: Problems, spelt: dict[str, str]) -> pd.Series:
    """Return texts, missing where a cell is missing or not readable.

    Texts get their plain form, and ids the form of `plain_id`. Add each changed text to `spelt`, with the text that
    replaces it.
    """
    refused = set()
    odd = any(len(text) > LONGEST_TEXT or not text.isprintable() for text in set(texts))
    for row, text in enumerate(texts if odd else ()):
        if len(text) > LONGEST_TEXT:
            problems[row].append(f"{name} is longer than {LONGEST_TEXT} characters")
        elif text.isprintable():
            continue
        elif CONTROL.search(text):
            problems[row].append(f"{name} {_shown(text)} holds a control character")
        elif NOT_UTF8.search(text):
            problems[row].append(f"{name} {_shown(text)} is not UTF-8; name the encoding of the file with --encoding")
        else:
            continue
        refused.add(row)
    # pandas cannot hold a text that is not UTF-8. A refused row is not stored, so its text is not needed.
    texts = ["" if row in refused else text for row, text in enumerate(texts)] if refused else texts
    # A million rows have only a few different texts, so each text is read once, and equal texts are one object.
    plain = plain_id if name in _ID_TEXTS else plain_text
    read = {text: None if is_nothing(text) else intern(plain(text)) for text in set(texts)}
    spelt |= {text: value for text, value in read.items() if value is not None and value != text}
    return pd.Series([read[text] for text in texts], dtype="str")


def read_moments(
    name: str, texts: Sequence[str], problems: Problems, order: DateOrder | None = None, pattern: str | None = None
) -> list[datetime | None]:
    """Return times as they are written, with or without an offset; None where a cell is missing or not readable.

    Args:
        name: the column.
        texts: its cells.
        problems: gets the reasons why cells cannot be read.
        order: how dates that end with the year are written.
        pattern: the `strptime` pattern of all cells, if the user gives one.
    """
    moments: list[datetime | None] = [None] * len(texts)
    for row, text in enumerate(texts):
        if is_nothing(text):
            continue
        moment = parse_with(text, pattern) if pattern else read_iso(text) or parse_time(text, order)
        if moment is None:
            like = f"written as {pattern}" if pattern else "a time such as 2024-01-31 18:05:00"
            problems[row].append(f"{name} {_shown(text)} is not {like}")
        elif in_years(moment):
            moments[row] = moment
        else:
            problems[row].append(f"{name} {_shown(text)} is not in the years {FIRST_YEAR} to {LAST_YEAR}")
    return moments


def read_plain_times(texts: Sequence[str]) -> np.ndarray | None:
    """Return naive wall times to the second, if all cells are empty or such as `2024-01-31 18:05:00`; else None.

    This is several times quicker than `read_moments`, and gives the same times.
    """
    if not all(
        not text
        or (len(text) in {16, 19} and text[4] == text[7] == "-" and text[13] == ":" and text[16:17] in {"", ":"})
        for text in texts
    ):
        return None
    try:
        times = np.array(texts, dtype="datetime64[s]")
    except ValueError:
        # A day or an hour that does not exist.
        return None
    inside = np.isnat(times) | ((times >= _FIRST_TIME) & (times <= _LAST_TIME))
    return times if inside.all() else None


def to_wall_times(moments: Sequence[datetime | None], wall_time: ToWallTime) -> np.ndarray:
    """Return naive wall times to the second, without fractions of a second."""
    times = [moment if moment is None or moment.tzinfo is None else wall_time(moment) for moment in moments]
    return np.array(times, dtype="datetime64[s]")


def durations(starts: Sequence[datetime | None], ends: Sequence[datetime | None]) -> np.ndarray:
    """Return the hours between starts and ends; NaN unless both have an offset.

    Wall times are not enough: in a night when the clocks change, their difference is not the length of a session.
    """
    return np.array(
        [
            (end - start).total_seconds() / 3600 if _with_offset(start) and _with_offset(end) else nan
            for start, end in zip(starts, ends, strict=True)
        ],
        dtype=np.float64,
    )


def check_order(columns: dict[str, np.ndarray], moments: dict[str, list[datetime | None]], problems: Problems) -> None:
    """Add a problem for each session that ends before its start, or more than a year after its start.

    If both times have an offset, the moments are compared, not the wall times: in the night when clocks go back, a
    session from 02:50 to 02:10 may have lasted twenty minutes.
    """
    starts, ends = columns["charging_start_time"], columns["charging_end_time"]
    reversed_ = ends < starts
    # The times of a column without moments have no offsets.
    pairs = zip(moments.get("charging_start_time", ()), moments.get("charging_end_time", ()), strict=False)
    for row, (start, end) in enumerate(pairs):
        if _with_offset(start) and _with_offset(end):
            reversed_[row] = end < start
    for row in np.flatnonzero(reversed_).tolist():
        problems[row].append(f"charging_end_time {ends[row]} is before charging_start_time {starts[row]}")
    for row in np.flatnonzero(ends - starts > _LONGEST_SESSION).tolist():
        problems[row].append(
            f"charging_end_time {ends[row]} is more than a year after charging_start_time {starts[row]}"
        )


def _plain_numbers(texts: Sequence[str], mark: DecimalMark) -> np.ndarray | None:
    """Return numbers as float64 if all cells are empty or such as `-12.5` (with a decimal comma: `-12`); else None."""
    if _NOT_PLAIN[mark].search("\n".join(texts)):
        return None
    try:
        numbers = np.array([float(text) if text else nan for text in texts], dtype=np.float64)
    except ValueError:
        return None
    return None if np.isinf(numbers).any() else numbers


def cut_cell(text: str, longest: int = 40) -> str:
    """Return a text as a message or a preview shows it. A long text is cut."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _with_offset(moment: datetime | None) -> TypeGuard[datetime]:
    return moment is not None and moment.tzinfo is not None


def _shown(text: str) -> str:
    return repr(cut_cell(text))
