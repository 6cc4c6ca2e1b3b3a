"""Weeks of a service, day by day: drivers ask, zap's own code answers, and sessions follow; without a server."""

import json
from datetime import UTC, timedelta

import numpy as np
import pandas as pd
from outcomes import requests_of
from sqlalchemy import func, insert, select
from sqlmodel import col

from zap.db.engine import write_transaction
from zap.db.history.driver_histories import DriverHistories
from zap.db.history.history_store import read_history
from zap.db.history.recent_sessions import RecentSessions
from zap.db.tables import ChargingSession, InferenceInput, Prediction
from zap.db.versions.model_registry import load_version, production_version, read_version
from zap.flows.prediction import BatchPrediction
from zap.ml.history import clean_history
from zap.ml.inference import Predictor

START, END = "charging_start_time", "charging_end_time"
ASKED_BEFORE = timedelta(minutes=15)
STORED = ("user_id", "charger_type", START, END, "energy_consumed_kwh", "charging_duration_hours",
          "state_of_charge_start", "distance_driven_km", "temperature_c")  # fmt: skip


def sessions_of_the_test(engine):
    """Return the sessions on which the version in production was tested; later sessions may follow them."""
    stored = read_version(engine, production_version(engine).model_version)
    frame = clean_history(read_history(engine)).frame
    return frame.iloc[stored["trained_samples"] : stored["trained_samples"] + stored["test_samples"]]


def first_monday(tested):
    """Return the first Monday after the test sessions."""
    last = tested[START].iloc[-1]
    return (last.normalize() + timedelta(days=7 - last.day_of_week)).to_pydatetime()


class Life:
    """Drivers who behave as in the test part of the only version, week after week, from the end of the history on.

    Args:
        engine: on a trained database.
        wall_time: of the settings.
        seed: of the drawn sessions.
    """

    def __init__(self, engine, wall_time, seed=1):
        version = production_version(engine)
        tested = sessions_of_the_test(engine)
        # Whole weeks, so that each day of the week has its share of the sessions.
        last = tested[START].iloc[-1].normalize()
        weeks = (last - tested[START].iloc[0]).days // 7
        inside = (tested[START] >= last - timedelta(weeks=weeks)) & (tested[START] < last)
        self.usual = tested[inside].reset_index(drop=True)
        self.begin = self.now = first_monday(tested)
        self.engine, self.random = engine, np.random.default_rng(seed)
        self.predictor = Predictor(load_version(engine, version), version.model_version)
        self.histories, self.recent = DriverHistories(engine), RecentSessions(engine, lambda: self.now)
        self.answers = BatchPrediction(engine, self.histories, self.recent, wall_time)

    def days(self, week, sessions):
        """Yield for each day of a week the sessions that start, in the order of time.

        Args:
            week: the number of the week.
            sessions: how many sessions the week has.
        """
        drawn = self.usual.iloc[self.random.choice(len(self.usual), size=sessions, replace=False)]
        begin, start = self.begin + timedelta(weeks=week), drawn[START]
        of_day = start - start.dt.normalize()
        moved = pd.to_timedelta(start.dt.day_of_week, unit="D") + of_day + begin - start
        drawn = drawn.assign(**{START: start + moved, END: drawn[END] + moved}).sort_values(START)
        for day in range(7):
            self.now = begin + timedelta(days=day)
            later = self.now + timedelta(days=1)
            yield drawn[(drawn[START] >= self.now) & (drawn[START] < later)].reset_index(drop=True)

    def ask(self, sessions):
        """Let each driver ask before the start of the session, and log the answer."""
        asked = [start.to_pydatetime() - ASKED_BEFORE for start in sessions[START]]
        texts = [json.dumps(one).encode() for one in requests_of(sessions)]
        received = [moment.replace(tzinfo=UTC) for moment in asked]
        self.recent.follow()
        answers = self.answers.answers_to_each(texts, self.predictor, received)
        with write_transaction(self.engine) as connection:
            after = connection.scalar(select(func.max(col(Prediction.prediction_id)))) or 0
            numbers = range(after + 1, after + 1 + len(texts))
            inputs = [
                {"input_id": number, "request_timestamp": moment, "input_data_json": text.decode()}
                for number, moment, text in zip(numbers, received, texts, strict=True)
            ]
            predictions = [
                {
                    "prediction_id": number,
                    "input_id": number,
                    "prediction_timestamp": moment,
                    "source": "inference",
                    "predicted_class": one.predicted_class,
                    "model_version": one.model_version,
                    "probabilities": one.probabilities,
                    "features": one.features,
                }
                for number, moment, one in zip(numbers, received, answers, strict=True)
            ]
            connection.execute(insert(InferenceInput), inputs)
            connection.execute(insert(Prediction), predictions)

    def report(self, sessions):
        """Write sessions into the history."""
        rows = sessions[list(STORED)].astype(object).where(sessions[list(STORED)].notna(), None).to_dict("records")
        plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
        with write_transaction(self.engine) as connection:
            connection.execute(insert(ChargingSession), plain)

    def close(self):
        """End the threads."""
        self.histories.close()
        self.recent.close()


def _plain(value):
    return value.to_pydatetime() if isinstance(value, pd.Timestamp) else value
