"""A log of answers to follow, and what the follower has made of it."""

import json
from datetime import UTC, datetime, timedelta

from matching import what_happened
from sqlalchemy import delete, insert, select

from zap.db.engine import write_transaction
from zap.db.monitoring_tables import Outcome, SessionPrediction
from zap.db.tables import ChargingSession, InferenceInput, Prediction
from zap.flows.following import Following
from zap.monitoring.matching import Answer, Session, kind_of

NOON = datetime.fromisoformat("2026-03-02T12:00:00")
HORIZON = timedelta(hours=24)
HOUR = timedelta(hours=1)
OUTCOMES = Outcome.__table__


def wall_time(moment):
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def follower(engine, **options):
    return Following(engine, wall_time, HORIZON, **options)


def follow(engine, **options):
    """Follow everything in a new follower, which then ends."""
    following = follower(engine, **options)
    assert following.look()
    following.close()


def row_of(number, user_id="u", after=0.0, requested_after=None, **values):
    """Return the rows of a request about a moment, `after` hours after NOON, and of the answer to it."""
    requested = NOON + (after if requested_after is None else requested_after) * HOUR
    body = {"charging_start_time": (NOON + after * HOUR).isoformat(), "user_id": user_id}
    request = {
        "input_id": number,
        "request_timestamp": requested.replace(tzinfo=UTC),
        "input_data_json": json.dumps({name: value for name, value in body.items() if value is not None}),
    }
    answer = {
        "prediction_id": number,
        "input_id": number,
        "prediction_timestamp": requested.replace(tzinfo=UTC),
        "source": "inference",
        "predicted_class": "A",
        "model_version": 1,
        "probabilities": {"A": 0.75, "B": 0.25},
        "features": bytes(8),
    }
    return request | values.pop("request", {}), answer | values


def log_answers(engine, *rows):
    """Log requests and their answers, which `row_of` has made."""
    with write_transaction(engine) as connection:
        connection.execute(insert(InferenceInput), [request for request, _ in rows])
        connection.execute(insert(Prediction), [answer for _, answer in rows])


def log_training(engine, *numbers):
    """Log predictions of a training."""
    values = {"source": "train", "predicted_class": "A", "actual_class": "A", "model_version": 1}
    with write_transaction(engine) as connection:
        stamped = values | {"prediction_timestamp": NOON.replace(tzinfo=UTC)}
        connection.execute(insert(Prediction), [stamped | {"prediction_id": number} for number in numbers])


def session(number, after, user_id="u", charger_type="A"):
    """Return a row of ChargingSessions that starts `after` hours after NOON."""
    start = NOON + timedelta(seconds=round(after * 3600))
    return {"session_id": number, "user_id": user_id, "charger_type": charger_type, "charging_start_time": start}


def name_answer(engine, session_id, prediction_id):
    """Name an answer for a session, as a report does; None names none."""
    names = SessionPrediction.__table__
    sessions = ChargingSession.__table__
    with write_transaction(engine) as connection:
        connection.execute(delete(names).where(names.c.session_id == session_id))
        if prediction_id is not None:
            connection.execute(insert(names), {"session_id": session_id, "prediction_id": prediction_id})
        same = sessions.update().where(sessions.c.session_id == session_id)
        connection.execute(same.values(session_id=session_id))


def outcomes(engine):
    """Return all outcomes by the number of their answer."""
    with engine.connect() as connection:
        rows = connection.execute(select(OUTCOMES).order_by(OUTCOMES.c.prediction_id)).mappings()
        return {row["prediction_id"]: dict(row) for row in rows}


def statuses(engine):
    """Return for each answer its status and its session."""
    return {number: (row["status"], row["session_id"]) for number, row in outcomes(engine).items()}


def by_definition(engine):
    """Return all outcomes as the definition has them, from the log and the history."""
    names = SessionPrediction.__table__
    sessions = ChargingSession.__table__
    with engine.connect() as connection:
        named = dict(map(tuple, connection.execute(select(names.c.session_id, names.c.prediction_id))))
        asked = select(Prediction.__table__.c.prediction_id, InferenceInput.__table__).join(InferenceInput.__table__)
        logged = connection.execute(asked).mappings().all()
        charged = connection.execute(select(sessions)).mappings().all()
    answers = []
    for one in logged:
        body = json.loads(one["input_data_json"])
        asked_at = datetime.fromisoformat(body["charging_start_time"])
        kind = kind_of(asked_at, wall_time(one["request_timestamp"]), HORIZON)
        answers.append(Answer(one["prediction_id"], body.get("user_id"), asked_at, kind))
    usable = [
        Session(one["session_id"], one["user_id"], one["charging_start_time"], one["charger_type"],
                named.get(one["session_id"]))
        for one in charged
        if one["charger_type"] is not None and one["charging_start_time"] is not None
    ]  # fmt: skip
    return {
        one.prediction_id: {
            "prediction_id": one.prediction_id,
            "model_version": 1,
            "user_id": one.user_id,
            "asked_at": one.asked_at,
            "kind": one.kind,
            **what_happened(one, answers, usable, HORIZON)._asdict(),
        }
        for one in sorted(answers)
    }
