"""The cells of a history file, one column at a time: text becomes values.

A reader adds to `problems`, by row, whatever it cannot read, and leaves that value missing.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from math import isfinite, nan
from sys import intern

import numpy as np
import pandas as pd

# What is wrong with a row, by its place in the column.
Problems = defaultdict[int, list[str]]
# Turns a moment with an offset into the naive time on the drivers' wall, as Settings.wall_time does.
ToWallTime = Callable[[datetime], datetime]

# PostgreSQL cannot index texts of any length, and no honest id or name is longer.
_LONGEST_TEXT = 500
# Every JSON reader keeps whole numbers up to here exact, and the database can go on counting above.
_LARGEST_ID = 2**53
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_ID = re.compile(r"([0-9]{1,16})(\.0+)?")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T]([01][0-9]|2[0-3]):[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?"
    r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)?"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# A file is decoded with errors="surrogateescape": bytes that are not UTF-8 arrive as these.
NOT_UTF8 = re.compile(r"[\ud800-\udfff]")


def read_numbers(name: str, texts: Sequence[str], problems: Problems) -> np.ndarray:
    numbers = [nan] * len(texts)
    for row, text in enumerate(texts):
        if _NUMBER.fullmatch(text) and isfinite(number := float(text)):
            numbers[row] = number
        elif text and text.lower() != "nan":
            problems[row].append(f"{name} {_shown(text)} is not a plain decimal number")
    return np.array(numbers, dtype=np.float64)


def read_ids(name: str, texts: Sequence[str], problems: Problems) -> pd.Series:
    """Whole numbers; `12.0` is one too, for so they are written by tools that know no missing integer."""
    ids: list[int | None] = [None] * len(texts)
    for row, text in enumerate(texts):
        match = _ID.fullmatch(text)
        if match and (number := int(match[1])) <= _LARGEST_ID:
            ids[row] = number
        elif text and text.lower() != "nan":
            problems[row].append(f"{name} {_shown(text)} is not a whole number from 0 to {_LARGEST_ID}")
    return pd.Series(ids, dtype="Int64")


def read_texts(name: str, texts: Sequence[str], problems: Problems) -> pd.Series:
    refused = set()
    for row, text in enumerate(texts):
        if len(text) > _LONGEST_TEXT:
            problems[row].append(f"{name} is longer than {_LONGEST_TEXT} characters")
        elif text.isprintable():
            continue
        elif _CONTROL.search(text):
            problems[row].append(f"{name} {_shown(text)} holds a control character")
        elif NOT_UTF8.search(text):
            problems[row].append(f"{name} {_shown(text)} is not UTF-8")
        else:
            continue
        refused.add(row)
    # pandas cannot hold what is not UTF-8, and nobody asks for a text of a row that is refused.
    texts = ["" if row in refused else text for row, text in enumerate(texts)] if refused else texts
    # A million rows repeat few texts; interned, each is kept once.
    return pd.Series([intern(text) if text else None for text in texts], dtype="str")


def read_moments(name: str, texts: Sequence[str], problems: Problems) -> list[datetime | None]:
    """Times as they are written, with an offset or without."""
    moments: list[datetime | None] = [None] * len(texts)
    for row, text in enumerate(texts):
        if not text:
            continue
        try:
            if _TIME.fullmatch(text):
                moments[row] = datetime.fromisoformat(text)
                continue
        except ValueError:
            pass
        problems[row].append(f"{name} {_shown(text)} is not a time such as 2024-01-31 18:05:00")
    return moments


def to_wall_times(
    name: str, moments: Sequence[datetime | None], wall_time: ToWallTime, problems: Problems
) -> np.ndarray:
    """Naive times to the second; fractions are cut off."""
    times = list(moments)
    for row, moment in enumerate(moments):
        if moment is None or moment.tzinfo is None:
            continue
        try:
            times[row] = wall_time(moment)
        except OverflowError:
            times[row] = None
            problems[row].append(f"{name} {_shown(str(moment))} leaves the years 1 to 9999 as wall time")
    return np.array(times, dtype="datetime64[s]")


def check_order(columns: dict[str, np.ndarray], moments: dict[str, list[datetime | None]], problems: Problems) -> None:
    """Refuse a session that ends before it starts.

    Where both times have an offset the moments are compared, not the clocks: in the night when the clocks go
    back, a session from 02:50 to 02:10 may have lasted twenty minutes.
    """
    starts, ends = columns["charging_start_time"], columns["charging_end_time"]
    reversed_ = ends < starts
    pairs = zip(moments["charging_start_time"], moments["charging_end_time"], strict=True)
    for row, (start, end) in enumerate(pairs):
        if start is not None and end is not None and start.tzinfo is not None and end.tzinfo is not None:
            reversed_[row] = end < start
    for row in np.flatnonzero(reversed_).tolist():
        problems[row].append(f"charging_end_time {ends[row]} is before charging_start_time {starts[row]}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:39]}…")
