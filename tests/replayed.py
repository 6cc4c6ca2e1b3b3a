"""The test sessions of a version, replayed: each driver asks before a session, and reports its start and its end."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pandas as pd
from outcomes import requests_of
from sqlalchemy import select, update
from sqlmodel import col

from zap.db.engine import write_transaction
from zap.db.history.history_store import read_history
from zap.db.history.session_removal import remove_sessions
from zap.db.runs.training_runs import read_run
from zap.db.tables import ChargingSession, Prediction
from zap.db.versions.model_registry import load_version, production_version, read_version
from zap.flows.trained_sessions import tested_again
from zap.ml import training
from zap.ml.cells import PAST_NUMBERS
from zap.ml.features import FEATURES
from zap.ml.history import clean_history
from zap.ml.model import ChargerTypeModel

START, END = "charging_start_time", "charging_end_time"
# What a report of the end adds.
AFTER = [END, *(number.name for number in PAST_NUMBERS)]
OF_SESSION = [one.name for one in FEATURES if one.table == "ChargingSessions" and one.name != START]


class Event(NamedTuple):
    """Something that a driver sends. At one moment, reports come before questions."""

    moment: datetime
    order: int
    session_id: int


STARTS, ENDS, ASKS = range(3)


class Replay:
    """The replay of the sessions on which the only version of a database was tested.

    Args:
        engine: on the database, which still has the whole history.
        most: at most this many test sessions, the first ones.
    """

    def __init__(self, engine, most=None):
        self.engine = engine
        stored = read_version(engine, 1)
        self.model = ChargerTypeModel.from_fitted(load_version(engine, production_version(engine)))
        options = read_run(engine, stored["run_id"])["options"] or {}
        self.frame = clean_history(read_history(engine)).frame
        self.split = tested_again(self.frame, stored, options, self.model)
        self.stored_evaluation, self.types = stored["evaluation"], self.model.classes_.tolist()
        self.lag = timedelta(minutes=self.model.asked_before)
        tested = self.split.test
        # The sessions about which drivers ask, by their place in the test part.
        in_time = self._known_in_time(tested)
        self.asked = in_time & (np.arange(len(tested)) < (len(tested) if most is None else most))
        self.left_out = int((~in_time[: most or None]).sum())
        self.tested, self.rows = tested[self.asked], dict(zip(tested["session_id"], range(len(tested)), strict=True))
        self.begin = tested[START].iloc[0].to_pydatetime() - self.lag
        self.end = self.tested[START].iloc[-1].to_pydatetime()
        self.answers = {}

    def _known_in_time(self, tested):
        """Return for each session whether its driver's past did not change between the question and the start.

        A training counts all sessions of the driver that started or ended before the start. A driver who asks 15
        minutes earlier cannot have reported those of the last 15 minutes.
        """
        of_driver = self.frame.groupby("user_id")
        known = []
        for user_id, start in zip(tested["user_id"], tested[START], strict=True):
            own = of_driver.get_group(user_id)
            asked = start - self.lag
            began = (own[START] > asked) & (own[START] < start)
            ended = (own[END] > asked) & (own[END] <= start) & (own[START] < start)
            known.append(not (began | ended).any())
        return np.array(known)

    def forget(self):
        """Let the database know only what was reported when the first driver asks."""
        later = self.frame[START] >= self.begin
        remove_sessions(self.engine, self.frame["session_id"][later].tolist())
        # No report can name a session without an id of its own, so such a session keeps its end.
        still_open = ~later & (self.frame[END] > self.begin) & (self.frame["session_id"] >= 0)
        with write_transaction(self.engine) as connection:
            ids = self.frame["session_id"][still_open].tolist()
            gone = update(ChargingSession).where(col(ChargingSession.session_id).in_(ids))
            connection.execute(gone.values(dict.fromkeys(AFTER)))

    def events(self):
        """Return what drivers send, in the order of time."""
        asked = set(self.tested["session_id"])
        found = []
        for number, start, end in zip(*(self.frame[name] for name in ("session_id", START, END)), strict=True):
            if start > self.end:
                continue
            if start >= self.begin:
                found.append(Event(start.to_pydatetime(), STARTS, number))
            if number in asked:
                found.append(Event(start.to_pydatetime() - self.lag, ASKS, number))
            if pd.notna(end) and self.begin < end <= self.end and (start >= self.begin or number >= 0):
                found.append(Event(end.to_pydatetime(), ENDS, number))
        return sorted(found)

    def play(self, client, stop_clock, settle=lambda: None, at_midnight=lambda: None):
        """Send everything in the order of time.

        Args:
            client: of the app, over HTTP.
            stop_clock: called with each moment.
            settle: called before questions that follow reports; the app promises to know reports after two seconds.
            at_midnight: called at the end of each day.
        """
        sessions = self.frame.set_index("session_id", drop=False)
        questions = dict(zip(self.tested["session_id"], requests_of(self.tested), strict=True))
        day, reported = None, False
        for moment, some in groupby(self.events(), key=lambda event: event.moment):
            if moment.date() != day:
                if day is not None:
                    stop_clock(datetime.combine(day, datetime.max.time()).replace(microsecond=0))
                    at_midnight()
                day = moment.date()
            stop_clock(moment)
            for event in some:
                if event.order == ASKS:
                    if reported:
                        settle()
                    reported = False
                    reply = client.post("/predict", json=questions[event.session_id])
                    assert reply.status_code == 200, reply.text
                    self.answers[event.session_id] = reply.json()["prediction_id"]
                else:
                    body = self._report(sessions.loc[event.session_id], event.order)
                    reply = client.post("/charging-sessions", json=body)
                    assert reply.status_code == 200, reply.text
                    reported = True
        # All outcomes are final by now.
        stop_clock(self.end + timedelta(days=9))
        at_midnight()

    def _report(self, session, order):
        """Return the report of the start or of the end of a session."""
        number = int(session["session_id"])
        names = AFTER if order == ENDS else ["user_id", "charger_type", START, *OF_SESSION]
        body = {name: _plain(session[name]) for name in names}
        body["session_id"] = number if number >= 0 else f"replayed {number}"
        if order == STARTS:
            vehicle = session["vehicle_id"]
            body |= {
                "vehicle_id": None if pd.isna(vehicle) else int(vehicle),
                "prediction_id": self.answers.get(number),
            }
        return {name: value for name, value in body.items() if value is not None}

    def asked_quality(self, client):
        """Return the scores of `GET /quality` on all days of the replay."""
        days = {"from": self.begin.date().isoformat(), "to": (self.end + timedelta(days=1)).date().isoformat()}
        reply = client.get("/quality", params={"version": 1, **days})
        assert reply.status_code == 200, reply.text
        (found,) = reply.json()["versions"]
        return found["final"]

    def evaluation(self, asked=None):
        """Return the evaluation of the training, only on the sessions about which drivers asked."""
        split, asked = self.split, self.asked if asked is None else asked
        rows = np.concatenate([np.arange(split.trained.stop), split.trained.stop + np.flatnonzero(asked)])
        places = rows if split.places is None else split.places[rows]
        some = replace(split, matrix=split.matrix[rows], places=places, n_test=int(asked.sum()))
        return training.score(some, self.model)

    def different_rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each session whose answer scored another row than the training did, with the columns that differ."""
        matrix = self.model.matrix(self.split.test, self.split.test_past)
        asked = select(col(Prediction.prediction_id), col(Prediction.features))
        with self.engine.connect() as connection:
            scored = dict(map(tuple, connection.execute(asked.where(col(Prediction.source) == "inference"))))
        names = self.model.fitted().columns
        for session_id, answer in self.answers.items():
            row, expected = np.frombuffer(scored[answer], "<f8"), matrix[self.rows[session_id]]
            differs = ~((row == expected) | (np.isnan(row) & np.isnan(expected)))
            if differs.any():
                yield session_id, [names[place] for place in np.flatnonzero(differs)]


def _plain(value):
    """Return a value for JSON; None if it is missing."""
    if pd.isna(value):
        return None
    return value.isoformat() if isinstance(value, datetime) else value.item() if hasattr(value, "item") else value
