"""Readers for the stored cells of one session. Training and serving read the cells with these functions."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from zap.ml.driver_columns import PastSession
from zap.ml.features import FEATURES, MEASURED, Feature

# These numbers are known only after a session has ended. They are inputs for the driver's later sessions, and never for
# the session itself.
PAST_NUMBERS = tuple(feature for feature in MEASURED if feature.past)
PAST_FEATURES = (*PAST_NUMBERS, *(feature for feature in FEATURES if feature.past))
# The columns that `read_past_session` reads.
PAST_COLUMNS = (
    "charger_type",
    "charging_start_time",
    "charging_end_time",
    *(feature.name for feature in PAST_FEATURES),
)
_WALL_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall time
# The words that tools write for a missing value, in lower case.
_NOTHING = frozenset(
    {"", "-", "--", "?", "null", "(null)", "<null>", "nan", "nat", "<na>", "na", "n/a", "n.a.", "#n/a", "#na", "#null!",
     "#value!", "#ref!", "none", "nil", "\\n", "undefined"}
)  # fmt: skip
# Characters without width. A reader sees no difference between texts with and without them, but a program does.
INVISIBLE = {ord(character): None for character in "\u200b\u2060\ufeff"}


def is_nothing(text: str) -> bool:
    """Return whether a text means that the value is missing: `NULL`, `n/a`, `-` and similar words, or only spaces."""
    return (text if text.isascii() else text.translate(INVISIBLE)).strip().lower() in _NOTHING


def read_text(value: object) -> str | None:
    """Return a stored text without the spaces around it; None if it means that the value is missing."""
    return None if value is None or is_nothing(text := str(value)) else text.strip()


def read_number(value: object) -> float:
    """Return a stored number, or a number that is stored as text, as a float; NaN if the value is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        # Python's float() reads 1_000 as a number, but no database does.
        return math.nan if isinstance(value, str) and "_" in value else float(value)
    except (ValueError, OverflowError):
        return math.nan


def read_wall_time(value: object) -> datetime | None:
    """Return a stored wall time to the second; None if the text has another form or an offset."""
    if not isinstance(value, str) or not _WALL_TIME.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value).replace(microsecond=0)
    except ValueError:
        return None


def read_id(value: object) -> str | None:
    """Return a stored user_id unchanged, as an SQL query matches it; None if it means that there is no user."""
    text = None if value is None else str(value)
    return None if text is None or is_nothing(text) else text


def to_seconds(time: datetime) -> int:
    """Return the seconds on the wall clock since 1970-01-01."""
    return int((time - _EPOCH).total_seconds())


def read_past_session(row: Mapping[str, Any], types: Sequence[str]) -> PastSession | None:
    """Return the past session of one raw row, as `clean_history` would read it; None if it would drop the row.

    Args:
        row: the raw value of each of PAST_COLUMNS.
        types: the charger types that the model has learned.
    """
    name, start = read_text(row["charger_type"]), read_wall_time(row["charging_start_time"])
    if name is None or start is None:
        return None
    end = read_wall_time(row["charging_end_time"])
    return past_session(
        types.index(name) if name in types else -1,
        to_seconds(start),
        None if end is None or end < start else to_seconds(end),
        [_masked(feature, read_number(row[feature.name])) for feature in PAST_FEATURES],
    )


def past_session(type_code: int, start: int, end: int | None, values: Iterable[float]) -> PastSession:
    """Return a past session. A missing end is computed from the duration, and a missing duration from the end.

    Args:
        type_code: the code of the charger type, -1 if the type is not learned.
        start: seconds on the wall clock since 1970-01-01.
        end: seconds on the wall clock since 1970-01-01; None if it is missing.
        values: the values of PAST_FEATURES, NaN where missing.
    """
    energy, duration, charge, distance = values
    if end is None and not math.isnan(duration):
        end = start + round(duration * 3600)
    elif end is not None and math.isnan(duration):
        duration = (end - start) / 3600
    return PastSession(start, type_code, end, energy, duration, charge, distance)


def _masked(feature: Feature, number: float) -> float:
    return number if feature.inside(number) else math.nan  # type: ignore[arg-type]
