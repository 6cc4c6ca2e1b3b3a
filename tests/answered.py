"""Weeks of a service that answered: rows of the log and their outcomes, written without a server."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
from sqlalchemy import bindparam, func, insert, select, update
from sqlmodel import col

from zap.db.engine import write_transaction
from zap.db.history.history_store import read_history
from zap.db.monitoring.data_quality_days import OUTCOMES, apply
from zap.db.monitoring_tables import Follower, Outcome
from zap.db.runs.training_runs import read_run
from zap.db.tables import InferenceInput, Prediction
from zap.db.versions.model_registry import load_version, production_version, read_version
from zap.flows.trained_sessions import tested_again
from zap.ml.features import MATRIX_COLUMNS
from zap.ml.history import clean_history
from zap.ml.model import ChargerTypeModel

HOUR, WEEKDAY = (MATRIX_COLUMNS.index(name) for name in ("hour", "weekday"))
# A Monday.
MONDAY = datetime.fromisoformat("2030-01-07")
_WAITING = {
    "status": "waiting", "session_id": None, "actual_class": None, "lag_seconds": None, "matched_by": None,
}  # fmt: skip


class Service:
    """A service whose drivers behave as in the test part of the version in production, week after week.

    Args:
        engine: on a trained database.
        seed: of the drawn sessions.
    """

    def __init__(self, engine, seed=1):
        version = production_version(engine)
        stored = read_version(engine, version.model_version)
        self.model = ChargerTypeModel.from_fitted(load_version(engine, version))
        options = read_run(engine, stored["run_id"])["options"] or {}
        split = tested_again(clean_history(read_history(engine)).frame, stored, options, self.model)
        self.matrix = self.model.matrix(split.test, split.test_past)
        self.users = split.test["user_id"].to_numpy(dtype=object)
        self.used = split.test["charger_type"].to_numpy(dtype=object)
        self.version, self.engine = version.model_version, engine
        self.random = np.random.default_rng(seed)
        self.unreported = []

    def answer(self, week, sessions=600, change=None, *, reported=True):
        """Write the answers of a week and their outcomes. `change` may change the rows before they are answered.

        If the sessions are not `reported`, `report` reports them later.
        """
        rows = self.random.integers(len(self.matrix), size=sessions)
        matrix, users, used = self.matrix[rows].copy(), self.users[rows].copy(), self.used[rows].copy()
        begin = MONDAY + timedelta(weeks=week)
        seconds = np.rint(matrix[:, WEEKDAY] * 86400 + matrix[:, HOUR] * 3600)
        order = np.argsort(seconds, kind="stable")
        matrix, users, used = matrix[order], users[order], used[order]
        moments = [begin + timedelta(seconds=at) for at in seconds[order].tolist()]
        if change is not None:
            change(matrix, users, used)
        probabilities = self.model.probabilities(matrix)
        types = self.model.classes_.tolist()
        with write_transaction(self.engine) as connection:
            after = connection.scalar(select(func.max(col(Prediction.prediction_id)))) or 0
            inputs, predictions, outcomes = [], [], []
            for number, (moment, user, type_, row, said) in enumerate(
                zip(moments, users, used, matrix, probabilities, strict=True), start=after + 1
            ):
                asked = {"user_id": user, "charging_start_time": moment.isoformat()}
                stamp = moment.replace(tzinfo=UTC)
                inputs.append({"input_id": number, "request_timestamp": stamp, "input_data_json": json.dumps(asked)})
                predictions.append(
                    {
                        "prediction_id": number,
                        "input_id": number,
                        "prediction_timestamp": stamp,
                        "source": "inference",
                        "predicted_class": types[said.argmax()],
                        "model_version": self.version,
                        "probabilities": dict(zip(types, said.tolist(), strict=True)),
                        "features": row.astype("<f8").tobytes(),
                    }
                )
                outcomes.append(
                    {
                        "prediction_id": number,
                        "model_version": self.version,
                        "user_id": user,
                        "asked_at": moment,
                        "kind": "live",
                        "status": "matched",
                        "session_id": number,
                        "actual_class": type_,
                        "lag_seconds": 0,
                        "matched_by": "time",
                    }
                )
            if not reported:
                self.unreported += [(one["prediction_id"], one["actual_class"]) for one in outcomes]
                for one in outcomes:
                    one.update(_WAITING)
            connection.execute(insert(InferenceInput), inputs)
            connection.execute(insert(Prediction), predictions)
            connection.execute(insert(Outcome), outcomes)
            connection.execute(Follower.__table__.delete())
            connection.execute(insert(Follower), {"follower_id": 1, "prediction_id": predictions[-1]["prediction_id"]})
        if reported:
            self.arrive(begin, {1: sessions})
        return begin + timedelta(weeks=1)

    def report(self, at, hours):
        """Report the sessions that are not reported, at a moment; they are all of one class of delays."""
        known = [
            {"number": number, "session_id": number, "actual_class": used, "status": "matched", "lag_seconds": 0}
            for number, used in self.unreported
        ]
        with write_transaction(self.engine) as connection:
            table = Outcome.__table__
            values = {name: bindparam(name) for name in known[0] if name != "number"}
            connection.execute(update(table).where(table.c.prediction_id == bindparam("number")).values(values), known)
        self.arrive(at, {hours: len(known)})
        self.unreported = []

    def arrive(self, at, delays):
        """Count outcomes that arrive at a moment, by the hours of their delay."""
        with write_transaction(self.engine) as connection:
            counts = {("00", f"{hours} h"): count for hours, count in delays.items()}
            apply(connection, OUTCOMES, {at.date(): counts})
