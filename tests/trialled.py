"""Versions on trial: copies of a version, the outcomes that a follower would write, and answers of chosen quality."""

import json
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import delete, func, insert, select
from sqlmodel import col

from zap.db.engine import write_transaction
from zap.db.monitoring.trials import read_trial
from zap.db.monitoring_tables import Follower, Outcome, TrialPrediction
from zap.db.tables import InferenceInput, ModelVersion, Prediction, utc_now

HORIZON = timedelta(hours=24)


def no_check(connection):
    """Stand for the check of the lease of a follower."""
    del connection


def add_copies(engine, count=1, **changed):
    """Add candidates with the artefact of version 1. Return their numbers."""
    with write_transaction(engine) as connection:
        first = select(ModelVersion.__table__).where(col(ModelVersion.model_version) == 1)
        row = dict(connection.execute(first).mappings().one()) | {"status": "candidate"} | changed
        del row["model_version"]
        added = insert(ModelVersion).returning(col(ModelVersion.model_version))
        return [connection.execute(added, row).scalar_one() for _ in range(count)]


def follow(engine, missing=()):
    """Write the outcomes of the logged answers, as long as no session is known: what a follower does."""
    with write_transaction(engine) as connection:
        known = select(col(Outcome.prediction_id))
        asked = (
            select(Prediction.__table__.c["prediction_id", "model_version"], InferenceInput.__table__)
            .join(InferenceInput, col(InferenceInput.input_id) == col(Prediction.input_id))
            .where(col(Prediction.prediction_id).not_in(known), col(Prediction.prediction_id).not_in(missing))
        )
        for row in connection.execute(asked).mappings().all():
            request = json.loads(row["input_data_json"])
            start = request.get("charging_start_time")
            at = datetime.fromisoformat(start) if start else row["request_timestamp"].replace(tzinfo=None)
            connection.execute(
                insert(Outcome).values(
                    prediction_id=row["prediction_id"],
                    model_version=row["model_version"],
                    user_id=request.get("user_id"),
                    asked_at=at,
                    kind="live",
                    status="waiting" if request.get("user_id") else "no_driver",
                )
            )
        _followed(connection, missing)


def _followed(connection, missing=()):
    last = connection.scalar(select(func.max(col(Prediction.prediction_id)))) or 0
    ranges = [(number, number, utc_now().isoformat()) for number in missing]
    connection.execute(delete(Follower))
    connection.execute(insert(Follower).values(follower_id=1, prediction_id=last, missing=ranges or None))


def answered(engine, trial_id, at, said, *, drivers=150, seed=0, mixed=False):
    """Write answers of both versions on trial, with matched outcomes: one session of each driver.

    Args:
        engine: on the database.
        trial_id: the trial.
        at: the moment that all requests ask about, as wall time.
        said: for the champion and the challenger, the probability of the type that is then used.
        drivers: the number of drivers.
        seed: of the used types.
        mixed: whether the versions have exchanged their answers for every second driver, so that neither is better.
    """
    trial = read_trial(engine, trial_id)
    used = np.random.default_rng(seed).choice(["A", "B", "C"], drivers)
    with write_transaction(engine) as connection:
        for place, name in enumerate(used.tolist()):
            shares = said[::-1] if mixed and place % 2 else said
            champion, challenger = (_probabilities(name, share) for share in shares)
            row = {
                "prediction_timestamp": trial["started_at"],
                "source": "inference",
                "predicted_class": name,
                "model_version": trial["champion_version"],
                "probabilities": champion,
            }
            added = insert(Prediction).values(row).returning(col(Prediction.prediction_id))
            number = connection.execute(added).scalar_one()
            outcome = {
                "prediction_id": number,
                "model_version": trial["champion_version"],
                "user_id": f"driver {place}",
                "asked_at": at,
                "kind": "live",
                "status": "matched",
                "session_id": number,
                "actual_class": name,
            }
            connection.execute(insert(Outcome), outcome)
            theirs = {"trial_id": trial_id, "prediction_id": number, "predicted_class": name, "features": b""}
            connection.execute(insert(TrialPrediction), theirs | {"probabilities": challenger})
        _followed(connection)


def _probabilities(used, share):
    return {name: share if name == used else (1 - share) / 2 for name in ("A", "B", "C")}
