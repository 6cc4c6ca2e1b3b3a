"""Histories that tests build: cleaned sessions, raw tables, rows of the database, and reports of sessions."""

from datetime import datetime
from itertools import groupby

import numpy as np
import pandas as pd
from sqlalchemy import delete, insert, select
from sqlmodel import col

from zap.db.engine import write_transaction
from zap.db.tables import ChargingSession
from zap.ml.history import Dropped, History, RawHistory

BEGIN = pd.Timestamp("2024-01-01")

# Raw rows: each names the vehicle and the user of the others.
USER = {"user_id": "u1", "user_type": "Commuter"}
VEHICLE = {
    "vehicle_id": 1,
    "user_id": "u1",
    "vehicle_model": "Leaf",
    "battery_capacity_kwh": 40.0,
    "vehicle_age_years": 2.0,
}
SESSION = {
    "user_id": "u1",
    "vehicle_id": 1,
    "charger_type": "Level 2",
    "charging_start_time": "2024-01-01 10:00:00",
    "state_of_charge_start": 40.0,
    "distance_driven_km": 120.0,
    "temperature_c": 15.0,
    "charging_end_time": "2024-01-01 12:00:00",
    "energy_consumed_kwh": 11.0,
    "charging_duration_hours": 1.5,
}
# A report that a session has begun, and a report that it has ended.
START = {
    "session_id": 7,
    "user_id": "U",
    "charger_type": "Level 2",
    "charging_start_time": "2026-03-02T18:30:00",
}
END = {"session_id": 7, "charging_end_time": "2026-03-02T20:00:00", "energy_consumed_kwh": 24.5}


def cleaned(n, **columns):
    """Return `n` cleaned sessions, one an hour from BEGIN, each of two hours; `columns` replaces values."""
    start = columns.get("charging_start_time", BEGIN + pd.to_timedelta(np.arange(n), unit="h"))
    plain = {
        "session_id": np.arange(n),
        "user_id": "u1",
        "charger_type": "A",
        "charging_start_time": start,
        "charging_end_time": start + pd.Timedelta(hours=2),
        "energy_consumed_kwh": 20.0,
        "charging_duration_hours": 2.0,
        "state_of_charge_start": 50.0,
        "distance_driven_km": 100.0,
        "temperature_c": 15.0,
        "battery_capacity_kwh": 64.0,
        "vehicle_age_years": 3.0,
        "user_type": "Commuter",
        "vehicle_model": "Leaf",
    }
    texts = dict.fromkeys(("user_id", "charger_type", "user_type", "vehicle_model"), "str")
    times = dict.fromkeys(("charging_start_time", "charging_end_time"), "datetime64[s]")
    return pd.DataFrame(plain | columns, index=range(n)).astype(texts | times)


def as_history(frame):
    """Return cleaned sessions as a history of which no row was dropped."""
    return History(frame, Dropped(), synthetic_sessions=0)


def raw(*sessions, users=(USER,), vehicles=(VEHICLE,)):
    """Return raw tables with one session for each dict, which replaces values of SESSION."""
    rows = [SESSION | {"session_id": number + 1} | session for number, session in enumerate(sessions)]
    given = ((users, USER), (vehicles, VEHICLE), (rows, SESSION | {"session_id": 1}))
    return RawHistory(*(_raw_table(table, plain) for table, plain in given))


def _raw_table(rows, plain):
    columns = dict.fromkeys(name for row in (plain, *rows) for name in row)
    return pd.DataFrame(list(rows), columns=list(columns), dtype=object)


def raw_sample(sample):
    """Return a sample history as the database would hold it."""
    vehicles = sample.vehicles.assign(vehicle_id=range(len(sample.vehicles)))
    sessions = sample.sessions.merge(vehicles[["user_id", "vehicle_id"]], on="user_id")
    return RawHistory(sample.users, vehicles, sessions.assign(session_id=range(len(sessions))))


def table(*rows, columns):
    """Return rows as an import gives them to the database."""
    times = {"charging_start_time", "charging_end_time"}.intersection(columns)
    return pd.DataFrame(list(rows), columns=list(columns)).astype(dict.fromkeys(times, "datetime64[s]"))


NO_USERS = table(columns=("user_id",)).astype("str")
NO_VEHICLES = table(columns=("user_id", "vehicle_model")).astype("str")
NO_SESSIONS = table(columns=("user_id", "charging_start_time")).astype({"user_id": "str"})


def session_row(user_id="u", charger_type="A", start="2024-02-01T10:00:00", **values):
    """Return a row of ChargingSessions."""
    start = datetime.fromisoformat(start) if isinstance(start, str) else start
    return {"user_id": user_id, "charger_type": charger_type, "charging_start_time": start} | values


def add_sessions(engine, *rows):
    """Write rows into ChargingSessions as SQL of any client could; rows may have different columns."""
    with write_transaction(engine) as connection:
        for _, alike in groupby(rows, key=tuple):
            connection.execute(insert(ChargingSession), list(alike))


def all_but_first(count):
    """Return the statement that removes all sessions except the first ones, by their ids."""
    ids = col(ChargingSession.session_id)
    return delete(ChargingSession).where(ids.not_in(select(ids).order_by(ids).limit(count)))
