"""The facts that the database has about the driver and the vehicle of a request."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, func, select

from zap.db.history.history_rows import SESSIONS, USERS, VEHICLES, in_parts
from zap.formats.request import USER_ID, VEHICLE_ID
from zap.ml.cells import plain_id, read_id, read_number, read_text
from zap.ml.features import FACTS, NUMBERS, USER_FACTS, VEHICLE_FACTS

_NUMBER_OF_VEHICLES = func.count().over(partition_by=VEHICLES.c.user_id).label("vehicles")
# Where a driver may be stored.
_DRIVERS = (SESSIONS.c.user_id, USERS.c.user_id, VEHICLES.c.user_id)
_FACTS = frozenset(FACTS)
_NUMBERS = frozenset(feature.name for feature in NUMBERS)


def has_gaps(values: Mapping[str, Any]) -> bool:
    """Return whether a request names a driver or a vehicle, and leaves out fields that `driver_facts` may have."""
    named = values.get(USER_ID) is not None or values.get(VEHICLE_ID) is not None
    return named and not values.keys() >= _FACTS


def driver_named(engine: Engine, text: str) -> str:
    """Return the id of the driver that a text means; see `named_drivers`."""
    with engine.connect() as connection:
        return named_drivers(connection, [text]).get(text, text)


def named_drivers(connection: Connection, texts: Iterable[str]) -> dict[str, str]:
    """Return the ids of the drivers that texts mean. Texts that are plain ids already are left out.

    Reports and imports store plain ids. An older history may have ids in other forms, which a training does not change.
    So a text means the stored id that is equal to it, or else its plain form.

    Args:
        connection: on the database.
        texts: the drivers as requests or reports name them.
    """
    plain = {text: found for text in texts if (found := plain_id(text)) != text}
    stored: set[str] = set()
    for some in in_parts([*plain]):
        for column in _DRIVERS:
            stored.update(connection.scalars(select(column).where(column.in_(some)).distinct()))
    return {text: text if text in stored else found for text, found in plain.items()}


def drivers_like(engine: Engine, text: str, most: int) -> list[str]:
    """Return the ids of drivers in Users that contain a text, in order; capital and small letters do not matter.

    Args:
        engine: on the database.
        text: a part of an id. An id that is equal to it is left out.
        most: the most ids to return.
    """
    found = select(USERS.c.user_id).where(USERS.c.user_id.icontains(text, autoescape=True), USERS.c.user_id != text)
    with engine.connect() as connection:
        ids = connection.scalars(found.order_by(USERS.c.user_id).limit(most)).all()
    # SQLite stores other values too.
    return [one for one in ids if isinstance(one, str)]


def vehicles_not_stored(connection: Connection, vehicle_ids: Iterable[int | None]) -> list[int]:
    """Return the vehicles that Vehicles does not have, in order. None does not count as a vehicle."""
    missing = {one for one in vehicle_ids if one is not None}
    for some in in_parts(sorted(missing)):
        missing.difference_update(
            connection.scalars(select(VEHICLES.c.vehicle_id).where(VEHICLES.c.vehicle_id.in_(some)))
        )
    return sorted(missing)


def driver_facts(engine: Engine, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the known facts about the driver and the vehicle of a request; unknown facts are left out.

    If the request names no vehicle, it is the driver's only vehicle. If the request names no driver, it is the owner of
    the vehicle. `clean_history` joins by this rule too, and reads cells with these functions too.

    Args:
        engine: on the database.
        values: the fields that the request has.
    """
    return facts_of_many(engine, [values])[0]


def facts_of_many(engine: Engine, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the result of `driver_facts` for each of many requests, with three queries for hundreds of requests."""
    facts: list[dict[str, Any]] = []
    for some in in_parts(requests):
        if any(map(has_gaps, some)):
            with engine.connect() as connection:
                facts += facts_now(connection, [values if has_gaps(values) else {} for values in some])
        else:
            facts += [{} for _ in some]
    return facts


def facts_now(connection: Connection, named: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the current facts about drivers and vehicles, with three queries.

    Args:
        connection: on the database.
        named: for each result the known ids, `user_id` and `vehicle_id`; other fields are ignored.
    """
    pairs = [(read_id(values.get(USER_ID)), values.get(VEHICLE_ID)) for values in named]
    vehicle_ids = {vehicle_id for _, vehicle_id in pairs if vehicle_id is not None}
    owners = {user_id for user_id, vehicle_id in pairs if user_id is not None and vehicle_id is None}
    by_id: dict[Any, Any] = {}
    only: dict[Any, Any] = {}
    users: dict[Any, Any] = {}
    if vehicle_ids:
        found = connection.execute(select(VEHICLES).where(VEHICLES.c.vehicle_id.in_(vehicle_ids))).mappings()
        by_id = {vehicle["vehicle_id"]: vehicle for vehicle in found}
    if owners:
        # If a driver has several vehicles, it is not known which one is meant.
        theirs = select(VEHICLES, _NUMBER_OF_VEHICLES).where(VEHICLES.c.user_id.in_(owners)).subquery()
        found = connection.execute(select(theirs).where(theirs.c.vehicles == 1)).mappings()
        only = {read_id(vehicle["user_id"]): vehicle for vehicle in found}
    vehicles = [only.get(user_id) if vehicle_id is None else by_id.get(vehicle_id) for user_id, vehicle_id in pairs]
    drivers = [
        read_id(vehicle["user_id"]) if user_id is None and vehicle else user_id
        for (user_id, _), vehicle in zip(pairs, vehicles, strict=True)
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
