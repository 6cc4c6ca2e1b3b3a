"""What the stored cells of one session mean: the same for the rows of a training and for a driver who asks."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from zap.ml.features import FEATURES, Feature
from zap.ml.user_history import PastSession

# Known when a session has ended: never features of the session itself, but of the driver's later ones.
PAST_NUMBERS = (
    Feature("energy_consumed_kwh", "number", "energy charged", 24.5, "kWh", 0, 1000),
    Feature("charging_duration_hours", "number", "time plugged in", 1.5, "hours", 0, 8784),
)
# What `read_past_session` reads of a driver's rows.
PAST_COLUMNS = (
    "charger_type",
    "charging_start_time",
    "charging_end_time",
    "energy_consumed_kwh",
    "charging_duration_hours",
    "state_of_charge_start",
    "distance_driven_km",
)
PAST_FEATURES = (
    *PAST_NUMBERS,
    *(feature for feature in FEATURES if feature.name in {"state_of_charge_start", "distance_driven_km"}),
)
_WALL_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall time


def read_text(value: object) -> str | None:
    """What a stored text means: without the spaces around it; None where nothing is left."""
    return None if value is None else str(value).strip() or None


def read_number(value: object) -> float:
    """What a stored number means: a float, also where it was stored as text; NaN where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        # Python would read 1_000 too, which no database does.
        return math.nan if isinstance(value, str) and "_" in value else float(value)
    except (ValueError, OverflowError):
        return math.nan


def read_wall_time(value: object) -> datetime | None:
    """What a stored wall time means, to the second; None where it has another form, or an offset."""
    if not isinstance(value, str) or not _WALL_TIME.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value).replace(microsecond=0)
    except ValueError:
        return None


def read_id(value: object) -> str | None:
    """What a stored user_id means: itself, to the letter, as whoever looks it up by SQL finds it; None where blank."""
    text = None if value is None else str(value)
    return text if text and not text.isspace() else None


def to_seconds(time: datetime) -> int:
    """Seconds on the wall clock since 1970-01-01."""
    return int((time - _EPOCH).total_seconds())


def read_past_session(row: Mapping[str, Any], types: Sequence[str]) -> PastSession | None:
    """The same for one raw row (PAST_COLUMNS); None where `clean_history` drops it."""
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


def past_session(kind: int, start: int, end: int | None, values: Iterable[float]) -> PastSession:
    """`values` are those of PAST_FEATURES. An end or a duration that is missing follows from the other."""
    energy, duration, charge, distance = values
    if end is None and not math.isnan(duration):
        end = start + round(duration * 3600)
    elif end is not None and math.isnan(duration):
        duration = (end - start) / 3600
    return PastSession(start, kind, end, energy, duration, charge, distance)


def _masked(feature: Feature, number: float) -> float:
    return number if feature.inside(number) else math.nan  # type: ignore[arg-type]
