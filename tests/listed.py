"""Answers to requests in the log, with outcomes of all kinds."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import func, insert, select

from zap.db.engine import write_transaction
from zap.db.monitoring_tables import Outcome
from zap.db.tables import InferenceInput, Prediction

FIRST = datetime(2026, 3, 2, 12, tzinfo=UTC)


def add_answers(engine, numbers, first=FIRST, followed=True):
    """Add answers to requests a minute apart, whose outcomes differ. Return their ids."""
    with write_transaction(engine) as connection:
        last = [
            connection.scalar(select(func.max(column))) or 0
            for column in (Prediction.prediction_id, InferenceInput.input_id)
        ]
        inputs, predictions, outcomes = [], [], []
        for place, number in enumerate(numbers, start=1):
            at, chosen = first + timedelta(minutes=number), ("Level 1", "Level 2")[number % 2]
            prediction_id, input_id = (one + place for one in last)
            inputs.append({"input_id": input_id, "request_timestamp": at, "input_data_json": "{}"})
            predictions.append(
                {
                    "prediction_id": prediction_id,
                    "input_id": input_id,
                    "prediction_timestamp": at + timedelta(seconds=1),
                    "source": "inference",
                    "predicted_class": chosen,
                    "model_version": 1 + number // 50,
                    "probabilities": {chosen: 0.75, "DC Fast Charger": 0.25},
                }
            )
            outcomes.append({"prediction_id": prediction_id, **outcome(number, at)})
        connection.execute(insert(InferenceInput), inputs)
        connection.execute(insert(Prediction), predictions)
        if followed:
            connection.execute(insert(Outcome), outcomes)
    return [row["prediction_id"] for row in predictions]


def outcome(number, at):
    values = {
        **dict.fromkeys(("session_id", "actual_class", "lag_seconds", "matched_by", "superseded_by")),
        "model_version": 1 + number // 50,
        "user_id": None if number % 4 == 3 else f"driver {number % 3}",
        "asked_at": at.replace(tzinfo=None) + timedelta(hours=1),
        "kind": "backtest" if number % 5 == 4 else "live",
        "status": ("matched", "superseded", "waiting", "no_driver")[number % 4],
    }
    if number % 4 < 2:
        values |= {
            "session_id": 70 + number,
            "actual_class": "DC Fast Charger",
            "lag_seconds": -60,
            "matched_by": "time",
        }
    return values | ({"superseded_by": 9_999_999} if number % 4 == 1 else {})
