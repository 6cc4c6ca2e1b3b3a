"""Count what is found in the fields of answered requests and of reported sessions, without their values."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

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
# In the place of a value that was not sent.
_ABSENT: Any = object()
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


def request_counts(
    sent: Sequence[Any], contract: Mapping[str, Any], scored: Mapping[str, np.ndarray]
) -> Counter[Found]:
    """Return what is found in answered requests of one version.

    `completed`: the request left the field out, and zap took it from the database; for WHOLE, at least one field.
    `missing`: the field was left out, and zap had no value for it. `null`: the client sent null, or a text that counts
    as null. `unknown`: a vehicle model that the version has not learned, or a driver without a known session. A field
    that the version ignores is not counted.

    Args:
        sent: the JSON of n requests as clients sent it.
        contract: the contract of the version that answered.
        scored: the scored rows by the names of the version's columns, each of shape (n,); NaN where missing. Without a
            column, a completed field counts as missing, and no driver as unknown.
    """
    found: Counter[Found] = Counter({(WHOLE, ANSWERED): len(sent)})
    # A database that is older than zap may hold other texts.
    are_objects = [isinstance(one, dict) for one in sent]
    if not all(are_objects):
        sent = [one for one, is_object in zip(sent, are_objects, strict=True) if is_object]
        scored = {name: column[are_objects] for name, column in scored.items()}
    any_completed = np.zeros(len(sent), dtype=bool)
    needs = contract["fields"]
    for name in REQUEST_FIELDS:
        if needs.get(name) == "ignored":
            continue
        values = [one.get(name, _ABSENT) for one in sent]
        number_absent = values.count(_ABSENT)
        if number_absent:
            completed = np.array([value is _ABSENT for value in values])
            completed &= ~np.isnan(scored[name]) if name in scored else False
            any_completed |= completed
            number = int(completed.sum())
            found[name, COMPLETED] += number
            found[name, MISSING] += number_absent - number
        if number_absent < len(values):
            _count_sent(found, name, values, contract, scored)
    found[WHOLE, COMPLETED] = int(any_completed.sum())
    return +found


def _count_sent(
    found: Counter[Found],
    name: str,
    values: Sequence[Any],
    contract: Mapping[str, Any],
    scored: Mapping[str, np.ndarray],
) -> None:
    """Count what is found in the values of a field. Values that were not sent are `_ABSENT`."""
    texts = {value for value in values if isinstance(value, str)}
    nothing = {text for text in texts if is_nothing(text)}
    found[name, NULL] += values.count(None)
    found[name, NULL] += sum(value in nothing for value in values if isinstance(value, str)) if nothing else 0
    if name == _MODEL:
        spellings = _spellings(tuple(contract["categories"].get(name, ())))
        known = {text: spellings.meant(text) is not None for text in texts}
        for value in values:
            if value is None or value is _ABSENT or (isinstance(value, str) and value in nothing):
                continue
            is_known = known[value] if isinstance(value, str) else spellings.meant(str(value)) is not None
            found[name, UNKNOWN] += not is_known
    elif name == _DRIVER and _SESSIONS in scored:
        for row in np.flatnonzero(scored[_SESSIONS] == 0).tolist():
            value = values[row]
            is_null = value is None or (isinstance(value, str) and value in nothing)
            found[name, UNKNOWN] += not is_null and value is not _ABSENT


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
