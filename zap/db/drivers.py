"""What the database knows about the driver and the vehicle of a request."""

from typing import Any

from sqlalchemy import Engine, select
from sqlmodel import col

from zap.db.tables import User, Vehicle

# The fields that a request may leave out when the database knows them.
USER_FACTS = ("user_type",)
VEHICLE_FACTS = ("battery_capacity_kwh", "vehicle_age_years", "vehicle_model")


def driver_facts(engine: Engine, user_id: str | None, vehicle_id: int | None) -> dict[str, Any]:
    """What is known of a driver and a vehicle; nothing about what is unknown.

    The vehicle is the one that is named, else the driver's only one; the driver is the one that is named, else the
    owner of the vehicle. The cleaned history joins sessions, users and vehicles by the same rule.
    """
    if user_id is None and vehicle_id is None:
        return {}
    columns = select(
        col(Vehicle.user_id),
        col(Vehicle.battery_capacity_kwh),
        col(Vehicle.vehicle_age_years),
        col(Vehicle.vehicle_model),
    )
    # Two of a driver's are enough to know that there is not an only one.
    which = col(Vehicle.user_id) == user_id if vehicle_id is None else col(Vehicle.vehicle_id) == vehicle_id
    with engine.connect() as connection:
        vehicles = connection.execute(columns.where(which).limit(2)).mappings().all()
        vehicle = vehicles[0] if len(vehicles) == 1 else None
        driver = vehicle["user_id"] if user_id is None and vehicle else user_id
        types = select(col(User.user_type)).where(col(User.user_id) == driver)
        user = connection.execute(types).mappings().one_or_none()
    facts: dict[str, Any] = {}
    if user:
        facts |= {name: user[name] for name in USER_FACTS}
    if vehicle:
        facts |= {name: vehicle[name] for name in VEHICLE_FACTS}
    return facts
