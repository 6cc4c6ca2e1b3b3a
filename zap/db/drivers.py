"""What the database knows about the driver and the vehicle of a request."""

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, select

from zap.db.history_rows import USERS, VEHICLES
from zap.ml.cells import read_id, read_number, read_text
from zap.ml.features import NUMBERS
from zap.ml.request import USER_ID, VEHICLE_ID

# The fields that a request may leave out when the database knows them.
USER_FACTS = ("user_type",)
VEHICLE_FACTS = ("battery_capacity_kwh", "vehicle_age_years", "vehicle_model")
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
    user_id, vehicle_id = read_id(values.get(USER_ID)), values.get(VEHICLE_ID)
    if not has_gaps(values) or (user_id is None and vehicle_id is None):
        return {}
    which = VEHICLES.c.user_id == user_id if vehicle_id is None else VEHICLES.c.vehicle_id == vehicle_id
    with engine.connect() as connection:
        # Two of a driver's are enough to know that there is not an only one.
        vehicles = connection.execute(select(VEHICLES).where(which).limit(2)).mappings().all()
        vehicle = vehicles[0] if len(vehicles) == 1 else None
        driver = read_id(vehicle["user_id"]) if user_id is None and vehicle else user_id
        user = connection.execute(select(USERS).where(USERS.c.user_id == driver)).mappings().one_or_none()
    facts: dict[str, Any] = {}
    if user:
        facts |= {name: _read(name, user[name]) for name in USER_FACTS}
    if vehicle:
        facts |= {name: _read(name, vehicle[name]) for name in VEHICLE_FACTS}
    return facts


def _read(name: str, cell: Any) -> float | str | None:
    if name not in _NUMBERS:
        return read_text(cell)
    number = read_number(cell)
    return None if math.isnan(number) else number
