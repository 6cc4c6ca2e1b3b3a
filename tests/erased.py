"""Make a driver with rows in every table, and find what is left of the driver in tables and files."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, func, insert, inspect, select
from sqlmodel import col

from zap.db.engine import write_transaction
from zap.db.history.session_reports import report_sessions
from zap.db.monitoring.monitor_states import Remembered, store_monitor
from zap.db.monitoring_tables import MonitorState, Trial, TrialPrediction
from zap.db.tables import ChargingSession, InferenceInput, ModelVersion, Prediction, Vehicle
from zap.flows.looking_back import new_follower
from zap.formats.session_report import parse_report
from zap.monitoring.drift_state import DriftState, Week
from zap.monitoring.driver_sample import driver_hash

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
TEXT_ID = "tx-9f3-of-a-driver"
# Requests of the driver by how they name the driver; None names only the vehicle.
NAMED, BY_VEHICLE, NOT_FOLLOWED, WITHOUT_ANSWER = 40, 3, 2, 1
OF_OTHERS = 3


def driver_with_everything(engine, settings):
    """Give a driver of a trained database rows in every table, and return the id.

    The driver is one of the training's examples.
    """
    with engine.connect() as connection:
        (golden,) = connection.scalars(select(col(ModelVersion.golden))).all()
        start = datetime.fromisoformat(golden[3]["request"]["charging_start_time"])
        same = select(col(ChargingSession.user_id)).where(col(ChargingSession.charging_start_time) == start)
        user_id = connection.scalars(same).first()
        vehicle = connection.scalar(select(col(Vehicle.vehicle_id)).where(col(Vehicle.user_id) == user_id))
    log(engine, [{"user_id": user_id, "vehicle_id": vehicle}] * NAMED + [{"vehicle_id": vehicle}] * BY_VEHICLE)
    log(engine, [{"user_id": "somebody else"}, {"user_id": f"{user_id}0"}, {"vehicle_id": 987_654}])
    follow(engine, settings)
    named = last_answer(engine, user_id)
    sessions = [
        {"session_id": TEXT_ID, "user_id": user_id, "charger_type": "Level 2", "prediction_id": named,
         "charging_start_time": "2026-03-02T12:30:00", "distance_driven_km": 123.456},
        {"session_id": 700_001, "user_id": "somebody else", "charger_type": "Level 2",
         "charging_start_time": "2026-03-02T12:40:00"},
    ]  # fmt: skip
    report_sessions(engine, parse_report(json.dumps(sessions).encode(), settings.wall_time), NOW.replace(tzinfo=None))
    with write_transaction(engine) as connection:
        # Another program has stored a session that names only the vehicle.
        connection.execute(insert(ChargingSession), {"session_id": 700_002, "vehicle_id": vehicle,
                           "charging_start_time": NOW.replace(tzinfo=None), "charger_type": "Level 1"})  # fmt: skip
    follow(engine, settings)
    answer_in_trial(engine)
    remember_drift(engine, user_id)
    log(engine, [{"user_id": user_id}] * NOT_FOLLOWED)
    log(engine, [{"user_id": user_id}] * WITHOUT_ANSWER, answered=False)
    return user_id


def log(engine, bodies, *, answered=True):
    """Log requests and answers to them, minutes apart."""
    with write_transaction(engine) as connection:
        first = (connection.scalar(select(func.max(col(InferenceInput.input_id)))) or 0) + 1
        stored = [
            {"input_id": first + place, "request_timestamp": NOW + timedelta(minutes=place),
             "input_data_json": json.dumps(body | {"temperature_c": 12.25})}
            for place, body in enumerate(bodies)
        ]  # fmt: skip
        connection.execute(insert(InferenceInput), stored)
        if answered:
            answers = [
                {"input_id": one["input_id"], "prediction_timestamp": one["request_timestamp"], "source": "inference",
                 "predicted_class": "Level 2", "model_version": 1,
                 "probabilities": {"Level 1": 0.25, "Level 2": 0.75}, "features": bytes(8)}
                for one in stored
            ]  # fmt: skip
            connection.execute(insert(Prediction), answers)


def follow(engine, settings):
    following = new_follower(engine, settings)
    assert following.look()
    following.close()


def last_answer(engine, user_id):
    """Return the number of the newest answer that is followed for a driver."""
    asked = "SELECT max(prediction_id) FROM outcomes WHERE user_id = :driver"
    with engine.connect() as connection:
        return connection.exec_driver_sql(
            asked.replace(":driver", "?" if engine.dialect.name == "sqlite" else "%s"), (user_id,)
        ).scalar()


def answer_in_trial(engine):
    """Let a challenger have answered every request."""
    trial = {"trial_id": 1, "model_version": 1, "champion_version": 1, "status": "ended", "epsilon": 0.005,
             "on_better": "tell", "started_at": NOW, "longest_until": NOW, "after_prediction_id": 0}  # fmt: skip
    with write_transaction(engine) as connection:
        connection.execute(insert(Trial), trial)
        numbers = connection.scalars(select(col(Prediction.prediction_id)).where(col(Prediction.source) == "inference"))
        answers = [
            {"trial_id": 1, "prediction_id": number, "predicted_class": "Level 1",
             "probabilities": {"Level 1": 1.0}, "features": bytes(8)}
            for number in numbers
        ]  # fmt: skip
        connection.execute(insert(TrialPrediction), answers)


def remember_drift(engine, *drivers):
    """Let the monitor of drift have counted drivers in this week and in an earlier one."""
    state = DriftState.beginning(2930)
    hashes = [driver_hash(one) for one in (*drivers, "somebody else")]
    for number in hashes:
        state.sample.add(number, number % 1000, [1, 2, 3])
    state.past.append(Week(2929, hashes, {"hour": [len(hashes), 0]}))
    with write_transaction(engine) as connection:
        connection.execute(delete(MonitorState))
        store_monitor(connection, 1, "drift", Remembered({"features": None}, state.to_plain(), 1))


def traces(engine, *words):
    """Return the tables with a row that has one of these words in any column, also tables that zap does not know."""
    found = []
    with engine.connect() as connection:
        for table in inspect(connection).get_table_names():
            for row in connection.exec_driver_sql(f'SELECT * FROM "{table}"'):
                if any(word in repr(tuple(row)) for word in words):
                    found.append(table)
                    break
    return sorted(found)


def all_rows(engine):
    """Return the rows of every table, as they are stored."""
    with engine.connect() as connection:
        return {
            table: Counter(map(repr, map(tuple, connection.exec_driver_sql(f'SELECT * FROM "{table}"'))))
            for table in inspect(connection).get_table_names()
        }


def in_files(url, *words):
    """Return the words that are in a SQLite file, or in a file beside it."""
    database = Path(url.removeprefix("sqlite:///"))
    found = b"".join(one.read_bytes() for one in database.parent.glob(f"{database.name}*"))
    return [word for word in words if word.encode() in found]


def words_of(user_id):
    """Return what tells the driver: the id, the hash of the id in both forms, and the text id of a session."""
    number = driver_hash(user_id)
    return user_id, str(number), f"{number:016x}", TEXT_ID, "123.456"
