"""Count what is found in the fields of answered requests and of reported sessions, without their values."""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from zap.ml.cells import Spellings, is_nothing
from zap.ml.features import FEATURES, MEASURED, NUMBERS, STATION

# The name of a field, or WHOLE, and what was found.
Found = tuple[str, str]

# In the place of a field: the request, the row, the report or the session as a whole.
WHOLE = ""
# In the place of a name that is not a field: the names that clients send have no bound.
OTHER = "other"

# What is found in answered requests. Each count of WHOLE is a number of requests.
ANSWERED, COMPLETED, MISSING, NULL, UNKNOWN = "answered", "completed", "missing", "null", "unknown"
# What is found in reported sessions, beside MISSING and UNKNOWN.
ADDED, ENDED = "added", "ended"

_START, _END, _DRIVER, _VEHICLE, _MODEL = (
    "charging_start_time",
    "charging_end_time",
    "user_id",
    "vehicle_id",
    "vehicle_model",
)
# The column of a scored row with the number of the driver's sessions.
_SESSIONS = "sessions"
# The fields of a request, and the fields of a session that its reports may leave out.
REQUEST_FIELDS = (*(feature.name for feature in FEATURES), _DRIVER, _VEHICLE)
SESSION_FIELDS = (
    _VEHICLE,
    *(feature.name for feature in STATION),
    *(feature.name for feature in MEASURED if feature.name not in {"charger_type", _END}),
    *(feature.name for feature in NUMBERS if feature.table == "ChargingSessions"),
)


def request_counts(sent: Any, contract: Mapping[str, Any], scored: Mapping[str, float]) -> Counter[Found]:
    """Return what is found in one answered request.

    `completed`: the request left the field out, and zap took it from the database; for WHOLE, at least one field.
    `missing`: the field was left out, and zap had no value for it. `null`: the client sent null, or a text that counts
    as null. `unknown`: a vehicle model that the version has not learned, or a driver without a known session. A field
    that the version ignores is not counted.

    Args:
        sent: the JSON as the client sent it.
        contract: the contract of the version that answered.
        scored: the scored row, by the names of the version's columns; NaN where missing. Without it, a completed field
            counts as missing, and no driver as unknown.
    """
    found: Counter[Found] = Counter({(WHOLE, ANSWERED): 1})
    if not isinstance(sent, Mapping):
        # A database that is older than zap may hold other texts.
        return found
    needs = contract["fields"]
    for name in REQUEST_FIELDS:
        if needs.get(name) != "ignored" and (what := _found_in(name, sent, contract, scored)):
            found[name, what] += 1
    if any(what == COMPLETED for _, what in found):
        found[WHOLE, COMPLETED] = 1
    return found


def _found_in(
    name: str, sent: Mapping[str, Any], contract: Mapping[str, Any], scored: Mapping[str, float]
) -> str | None:
    """Return what is found in one field, or None if it has a usable value."""
    if name not in sent:
        value = scored.get(name)
        return COMPLETED if value is not None and value == value else MISSING  # noqa: PLR0124 - NaN differs from itself
    value = sent[name]
    if value is None or (isinstance(value, str) and is_nothing(value)):
        return NULL
    if name == _MODEL and _spellings(tuple(contract["categories"].get(name, ()))).meant(str(value)) is None:
        return UNKNOWN
    return UNKNOWN if name == _DRIVER and scored.get(_SESSIONS) == 0 else None


def session_counts(
    sessions: Iterable[tuple[Mapping[str, Any] | None, Mapping[str, Any]]], unknown_vehicles: Iterable[int]
) -> Counter[Found]:
    """Return what is found in the sessions of one report: how many were added, and what is missing at their end.

    A session that goes on has no energy yet, so the fields of a session are counted once: when its end is stored. A
    report that is sent twice counts nothing the second time.

    Args:
        sessions: for each session its stored values before the report (None if it is new), and after the report.
        unknown_vehicles: the vehicles that are not in the table Vehicles.
    """
    found: Counter[Found] = Counter()
    unknown = frozenset(unknown_vehicles)
    for before, after in sessions:
        if before is None:
            found[WHOLE, ADDED] += 1
        if after.get(_END) is None or (before is not None and before.get(_END) is not None):
            continue
        found[WHOLE, ENDED] += 1
        for name in SESSION_FIELDS:
            if after.get(name) is None:
                found[name, MISSING] += 1
        if after.get(_VEHICLE) in unknown:
            found[_VEHICLE, UNKNOWN] += 1
    return found


@lru_cache(maxsize=32)
def _spellings(known: tuple[str, ...]) -> Spellings:
    return Spellings(known)
