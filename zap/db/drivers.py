"""What the database knows about the driver and the vehicle of a request."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, func, select

from zap.db.history_rows import IN_ONE_QUESTION, USERS, VEHICLES
from zap.ml.cells import read_id, read_number, read_text
from zap.ml.features import NUMBERS
from zap.ml.request import USER_ID, VEHICLE_ID

# The fields that a request may leave out when the database knows them.
USER_FACTS = ("user_type",)
VEHICLE_FACTS = ("battery_capacity_kwh", "vehicle_age_years", "vehicle_model")
_NUMBER_OF_VEHICLES = func.count().over(partition_by=VEHICLES.c.user_id).label("vehicles")
_FACTS = frozenset({*USER_FACTS, *VEHICLE_FACTS})
_NUMBERS = frozenset(feature.name for feature in NUMBERS)


def has_gaps(values: Mapping[str, Any]) -> bool:
    """Whether a request names a driver or a vehicle and leaves out what `driver_facts` may know of them."""
    named = values.get(USER_ID) is not None or values.get(VEHICLE_ID) is not None
    return named and not values.keys() >= _FACTS


def driver_facts(engine: Engine, values: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the driver and the vehicle of a request; nothing about what is unknown.

    The vehicle is the one that is named, else the driver's only one; the driver is the one that is named, else the
    owner of the vehicle. `clean_history` joins by the same rule, and reads the cells by the same functions.

    Args:
        engine: the database.
        values: the fields of the request that were sent.
    """
    return facts_of_many(engine, [values])[0]


def facts_of_many(engine: Engine, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What `driver_facts` gives for each of many requests, with three questions for hundreds of them."""
    facts: list[dict[str, Any]] = []
    for start in range(0, len(requests), IN_ONE_QUESTION):
        facts += _facts(engine, requests[start : start + IN_ONE_QUESTION])
    return facts


def _facts(engine: Engine, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    named = [
        (read_id(values.get(USER_ID)), values.get(VEHICLE_ID)) if has_gaps(values) else (None, None)
        for values in requests
    ]
    vehicle_ids = {vehicle_id for _, vehicle_id in named if vehicle_id is not None}
    owners = {user_id for user_id, vehicle_id in named if user_id is not None and vehicle_id is None}
    if not vehicle_ids and not owners:
        return [{} for _ in requests]
    by_id: dict[Any, Any] = {}
    only: dict[Any, Any] = {}
    users: dict[Any, Any] = {}
    with engine.connect() as connection:
        if vehicle_ids:
            found = connection.execute(select(VEHICLES).where(VEHICLES.c.vehicle_id.in_(vehicle_ids))).mappings()
            by_id = {vehicle["vehicle_id"]: vehicle for vehicle in found}
        if owners:
            # A driver with several has not an only one.
            theirs = select(VEHICLES, _NUMBER_OF_VEHICLES).where(VEHICLES.c.user_id.in_(owners)).subquery()
            found = connection.execute(select(theirs).where(theirs.c.vehicles == 1)).mappings()
            only = {read_id(vehicle["user_id"]): vehicle for vehicle in found}
        vehicles = [only.get(user_id) if vehicle_id is None else by_id.get(vehicle_id) for user_id, vehicle_id in named]
        drivers = [
            read_id(vehicle["user_id"]) if user_id is None and vehicle else user_id
            for (user_id, _), vehicle in zip(named, vehicles, strict=True)
        ]
        if known := {driver for driver in drivers if driver is not None}:
            found = connection.execute(select(USERS).where(USERS.c.user_id.in_(known))).mappings()
            users = {read_id(user["user_id"]): user for user in found}
    return [
        {
            **({name: _read(name, user[name]) for name in USER_FACTS} if (user := users.get(driver)) else {}),
            **({name: _read(name, vehicle[name]) for name in VEHICLE_FACTS} if vehicle else {}),
        }
        for driver, vehicle in zip(drivers, vehicles, strict=True)
    ]


def _read(name: str, cell: Any) -> float | str | None:
    if name not in _NUMBERS:
        return read_text(cell)
    number = read_number(cell)
    return None if math.isnan(number) else number
