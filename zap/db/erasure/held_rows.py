"""All that is held of one driver, table by table, as JSON values, for an export."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Table, select
from sqlmodel import SQLModel

from zap.db.erasure.driver_rows import DriverRows
from zap.db.erasure.kept_examples import examples_of, samples_of
from zap.db.erasure.removal import starts_of
from zap.db.history.history_rows import in_parts, raw_columns
from zap.db.history.session_changes import CHANGES
from zap.db.stored_json import Damaged

# What the columns mean, by table. A column without words says all with its name.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "Users": {"user_id": "the id of the driver", "user_type": "the type of the driver"},
    "Vehicles": {
        "vehicle_id": "the id of the vehicle",
        "user_id": "its driver",
        "vehicle_model": "its model",
        "battery_capacity_kwh": "the size of its battery, in kWh",
        "vehicle_age_years": "its age in years",
    },
    "ChargingSessions": {
        "session_id": "the number of the charging session",
        "user_id": "its driver",
        "vehicle_id": "its vehicle",
        "charging_station_id": "the station",
        "charging_station_location": "where the station is",
        "charger_type": "the type of the charger",
        "charging_start_time": "when it started, in the driver's local time",
        "charging_end_time": "when it ended, in the driver's local time",
        "energy_consumed_kwh": "the charged energy, in kWh",
        "charging_duration_hours": "how long it took, in hours",
        "charging_rate_kw": "the mean power, in kW",
        "charging_cost_usd": "what it cost, in US dollars",
        "time_of_day": "the part of the day",
        "day_of_week": "the day of the week",
        "state_of_charge_start": "how full the battery was at the start, in percent",
        "state_of_charge_end": "how full the battery was at the end, in percent",
        "distance_driven_km": "the distance since the charge before, in km",
        "temperature_c": "the temperature outside, in °C",
        "timestamp": "when the session was first stored, in the driver's local time",
    },
    "session_facts": {
        "session_id": "the number of the session",
        "user_type": "the type of the driver at the time of the session",
        "vehicle_model": "the model of the vehicle at that time",
        "battery_capacity_kwh": "the size of its battery at that time, in kWh",
        "vehicle_age_years": "its age at that time, in years",
    },
    "session_text_ids": {"text_id": "the id of a session as the app names it", "session_id": "its number here"},
    "session_predictions": {
        "session_id": "the number of a session",
        "prediction_id": "the answer that the session followed, as its report named it",
    },
    "session_changes": {
        "change_id": "the number of a change",
        "session_id": "the session that changed within the last hour",
        "user_id": "its driver",
        "charging_start_time": "its start",
        "changed_at": "when it changed (UTC)",
        "transaction_id": "a number of the database",
        "oldest_running": "a number of the database",
    },
    "inference_inputs": {
        "input_id": "the number of a request for a prediction",
        "request_timestamp": "when it was received (UTC)",
        "input_data_json": "the request, as the app sent it",
    },
    "predictions": {
        "prediction_id": "the number of the answer",
        "input_id": "the request that it answered",
        "prediction_timestamp": "when it was answered (UTC)",
        "source": "inference: it answered a request",
        "predicted_class": "the predicted type of charger",
        "actual_class": "not used for answers to requests",
        "model_version": "the version of the model that answered",
        "probabilities": "the probability of each type of charger",
        "features": "the numbers from which it was computed, in the order of the version's columns (columns.ndjson)",
    },
    "outcomes": {
        "prediction_id": "the answer",
        "model_version": "the version of the model that answered",
        "user_id": "the driver whom the request named",
        "asked_at": "the moment that was asked about, in the driver's local time",
        "kind": "live: a request about the present; backtest: about the past",
        "status": "whether a session is known that followed",
        "session_id": "this session",
        "actual_class": "the type of charger that was used",
        "lag_seconds": "how long after the moment asked about the session started, in seconds",
        "matched_by": "how the session was found",
        "superseded_by": "a later answer before the same session",
    },
    "trial_predictions": {
        "trial_id": "the trial of another version of the model, which answered too, unseen",
        "prediction_id": "the answer to the same request",
        "predicted_class": "the type that this version would have predicted",
        "probabilities": "its probability of each type",
        "features": "the numbers from which it was computed",
    },
}
# What has no table of its own.
OTHERS = {
    "examples": "requests and pasts from the training of a model version, which are computed again as a check",
    "drift_samples": "what the monitor of drift remembers: a hash of the id, and the classes of the driver's values",
    "columns": "the names of the columns of model versions, for `features`",
}
# The ids of DriverRows that tell which rows of a table are the driver's.
_KEYS: Mapping[str, tuple[str, Callable[[DriverRows], Sequence[Any]]]] = {
    "Users": ("user_id", lambda rows: [rows.user_id]),
    "Vehicles": ("vehicle_id", lambda rows: rows.vehicles),
    "ChargingSessions": ("session_id", lambda rows: rows.sessions),
    "session_facts": ("session_id", lambda rows: rows.sessions),
    "session_text_ids": ("session_id", lambda rows: rows.sessions),
    "session_predictions": ("session_id", lambda rows: rows.sessions),
    "session_changes": ("user_id", lambda rows: [rows.user_id]),
    "inference_inputs": ("input_id", lambda rows: rows.inputs),
    "predictions": ("prediction_id", lambda rows: rows.predictions),
    "outcomes": ("prediction_id", lambda rows: rows.predictions),
    "trial_predictions": ("prediction_id", lambda rows: rows.predictions),
}
_FLOAT = "<f8"


class Held(NamedTuple):
    """The rows of one table, or of one other place, as they are read."""

    name: str
    rows: Iterator[dict[str, Any]]


def held_rows(connection: Connection, rows: DriverRows) -> Iterator[Held]:
    """Yield each table with the driver's rows, and then the other places. Read the rows of one before the next one.

    Args:
        connection: a snapshot of a database at head.
        rows: the rows of the driver.
    """
    for name, (column, ids) in _KEYS.items():
        yield Held(name, _of_table(connection, SQLModel.metadata.tables[name], column, ids(rows)))
    yield Held("examples", _examples(connection, rows))
    yield Held("drift_samples", _samples(connection, rows))
    yield Held("columns", _columns(connection))


def _of_table(connection: Connection, table: Table, column: str, ids: Sequence[Any]) -> Iterator[dict[str, Any]]:
    names = [one.name for one in table.columns]
    # Wall times of the history may be texts that are no times. In the log of changes the start is a text anyway.
    columns = list(table.columns) if table is CHANGES else [*raw_columns(connection, table, names)]
    for some in in_parts(ids):
        asked = select(*columns).where(table.c[column].in_(some)).order_by(*table.primary_key.columns)
        for row in connection.execute(asked).mappings():
            yield {name: _plain(name, value) for name, value in row.items()}


def _examples(connection: Connection, rows: DriverRows) -> Iterator[dict[str, Any]]:
    for one in examples_of(connection, starts_of(connection, rows.sessions)):
        for example in one.theirs:
            yield {"model_version": one.model_version, **example}


def _samples(connection: Connection, rows: DriverRows) -> Iterator[dict[str, Any]]:
    for one in samples_of(connection, rows.user_id):
        yield {"model_version": one.model_version, "hash": f"{one.hash:016x}", "classes": one.row, "weeks": one.weeks}


def _columns(connection: Connection) -> Iterator[dict[str, Any]]:
    versions = SQLModel.metadata.tables["model_versions"]
    for number, columns in connection.execute(select(versions.c.model_version, versions.c.columns)):
        yield {"model_version": number, "columns": _plain("columns", columns)}


def _plain(name: str, value: Any) -> Any:
    """Return a stored value as JSON has it. What another program has damaged is None."""
    if isinstance(value, Damaged):
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return _numbers(bytes(value)) if name == "features" else bytes(value).hex()
    return value


def _numbers(features: bytes) -> list[float | None] | str:
    """Return a scored row as numbers; None for a missing one. Bytes that are no such row are returned in hex."""
    if len(features) % 8:
        return features.hex()
    found = np.frombuffer(features, _FLOAT)
    return [None if np.isnan(one) else float(one) for one in found]
