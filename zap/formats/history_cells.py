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
from zap.ml.cells import INVISIBLE, is_nothing

# The reasons why rows cannot be read, by the place of the row in the column.
Problems = defaultdict[int, list[str]]
# A function that converts a time with an offset to the drivers' naive wall time, as Settings.wall_time does.
ToWallTime = Callable[[datetime], datetime]

# The years in which a session can start. Other years are typing mistakes, or stand for "never".
FIRST_YEAR, LAST_YEAR = 1990, 2100
# A session that seems longer than a year has a wrong start or end.
_LONGEST_SESSION = np.timedelta64(366, "D")
# PostgreSQL cannot index very long texts, and no real id or name is longer.
_LONGEST_TEXT = 500
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T]([01][0-9]|2[0-3]):[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?"
    r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)?"
)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# A file is decoded with errors="surrogateescape", which replaces bytes that are not UTF-8 with these characters.
NOT_UTF8 = re.compile(r"[\ud800-\udfff]")


def read_numbers(name: str, texts: Sequence[str], problems: Problems, mark: DecimalMark = "point") -> np.ndarray:
    """Return numbers as float64, NaN where a cell is missing or not readable."""
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

    Other spaces become one usual space, and invisible characters are removed. Add each changed text to `spelt`, with
    the text that replaces it.
    """
    refused = set()
    for row, text in enumerate(texts):
        if len(text) > _LONGEST_TEXT:
            problems[row].append(f"{name} is longer than {_LONGEST_TEXT} characters")
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
    read = {text: None if is_nothing(text) else intern(folded(text)) for text in set(texts)}
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
        moment = parse_with(text, pattern) if pattern else _iso(text) or parse_time(text, order)
        if moment is None:
            like = f"written as {pattern}" if pattern else "a time such as 2024-01-31 18:05:00"
            problems[row].append(f"{name} {_shown(text)} is not {like}")
        elif FIRST_YEAR <= moment.year <= LAST_YEAR:
            moments[row] = moment
        else:
            problems[row].append(f"{name} {_shown(text)} is not in the years {FIRST_YEAR} to {LAST_YEAR}")
    return moments


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
    pairs = zip(moments["charging_start_time"], moments["charging_end_time"], strict=True)
    for row, (start, end) in enumerate(pairs):
        if _with_offset(start) and _with_offset(end):
            reversed_[row] = end < start
    for row in np.flatnonzero(reversed_).tolist():
        problems[row].append(f"charging_end_time {ends[row]} is before charging_start_time {starts[row]}")
    for row in np.flatnonzero(ends - starts > _LONGEST_SESSION).tolist():
        problems[row].append(
            f"charging_end_time {ends[row]} is more than a year after charging_start_time {starts[row]}"
        )


def cut_cell(text: str) -> str:
    """Return a text as a message or a preview shows it. A long text is cut."""
    return text if len(text) <= 40 else f"{text[:39]}…"


def folded(text: str) -> str:
    """Return a text without invisible characters, with exactly one usual space between two words."""
    return " ".join((text if text.isascii() else text.translate(INVISIBLE)).split())


def _iso(text: str) -> datetime | None:
    """Return the moment of a text in the most usual form; None for other texts. `parse_time` is slower."""
    try:
        return datetime.fromisoformat(text) if _TIME.fullmatch(text) else None
    except ValueError:
        return None


def _with_offset(moment: datetime | None) -> TypeGuard[datetime]:
    return moment is not None and moment.tzinfo is not None


def _shown(text: str) -> str:
    return repr(cut_cell(text))
