"""The sessions of one driver, newest first, and how many there are: read through an index, with a bound."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Engine, func, select

from zap.db.history.history_rows import SESSIONS

# Sessions beyond this number are not counted.
MOST_COUNTED = 10_000
_COLUMNS = (
    SESSIONS.c.charging_start_time,
    SESSIONS.c.charger_type,
    SESSIONS.c.energy_consumed_kwh,
    SESSIONS.c.state_of_charge_start,
    SESSIONS.c.distance_driven_km,
    SESSIONS.c.temperature_c,
)


class DriverSession(NamedTuple):
    """A session of a driver.

    Attributes:
        start: the drivers' wall time.
        charger_type: the type as it is stored.
        energy_kwh: the charged energy.
        state_of_charge_start: the charge at the start, in percent.
        distance_driven_km: the distance before the session.
        temperature_c: the outside temperature.
    """

    start: datetime
    charger_type: str
    energy_kwh: float | None
    state_of_charge_start: float | None
    distance_driven_km: float | None
    temperature_c: float | None


def sessions_of_driver(engine: Engine, user_id: str, most: int, before: datetime | None = None) -> list[DriverSession]:
    """Return the newest sessions of a driver, newest first. Sessions without a type or a readable start are left out.

    Args:
        engine: on the database.
        user_id: the driver as the history has the id.
        most: the most sessions to read.
        before: return sessions that started earlier, as wall time.
    """
    start = SESSIONS.c.charging_start_time
    asked = select(*_COLUMNS).where(SESSIONS.c.user_id == user_id, start.is_not(None))
    if before is not None:
        asked = asked.where(start < before)
    with engine.connect() as connection:
        rows = connection.execute(asked.order_by(start.desc()).limit(most)).all()
    return [DriverSession(*row) for row in rows if row[0] is not None and row[1] is not None]


def newest_driver(engine: Engine) -> str | None:
    """Return the driver of the session that was stored last, as the history has the id; None if no driver is there."""
    named = select(SESSIONS.c.user_id).where(SESSIONS.c.user_id.is_not(None))
    with engine.connect() as connection:
        found: str | None = connection.scalar(named.order_by(SESSIONS.c.session_id.desc()).limit(1))
    return found


def count_sessions(engine: Engine, user_id: str) -> int:
    """Return the number of a driver's sessions; MOST_COUNTED + 1 if there are more than MOST_COUNTED."""
    some = select(SESSIONS.c.user_id).where(SESSIONS.c.user_id == user_id).limit(MOST_COUNTED + 1)
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(some.subquery())) or 0
