"""The present over HTTP: /predict, /predict/batch and files answer with it as the training would, to the bit."""

import json
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from conftest import client_of
from histories import add_sessions, session_row
from sqlalchemy import bindparam, delete, select, text, update
from sqlmodel import col

import zap
from zap.db.engine import create_engine, write_transaction
from zap.db.history.recent_sessions import RecentSessions
from zap.db.tables import ChargingSession, Prediction
from zap.flows.file_prediction import FilePrediction
from zap.flows.training import run_training
from zap.formats.training_options import TrainingOptions
from zap.ml.cells import to_seconds
from zap.ml.features import FEATURES
from zap.ml.history_columns import driver_column, present_columns
from zap.ml.history_matrix import past_features
from zap.ml.inference import Predictor
from zap.ml.pasts import Pasts

FIELDS = ["user_id", *(feature.name for feature in FEATURES)]
SESSIONS = ChargingSession.__table__


def moved_to_today(settings):
    """Let the newest session have started an hour ago; the others keep their distances from it."""
    engine = create_engine(settings.database_url)
    with write_transaction(engine) as connection:
        times = (SESSIONS.c.charging_start_time, SESSIONS.c.charging_end_time)
        stored = connection.execute(select(SESSIONS.c.session_id, *times)).all()
        now = settings.wall_now().replace(tzinfo=None, microsecond=0)
        by = now - timedelta(hours=1) - max(start for _, start, _ in stored)
        moved = update(SESSIONS).where(col(ChargingSession.session_id) == bindparam("number"))
        connection.execute(
            moved.values(charging_start_time=bindparam("start"), charging_end_time=bindparam("end")),
            [{"number": number, "start": start + by, "end": end and end + by} for number, start, end in stored],
        )
    engine.dispose()


def requests_of(asked):
    """Return the JSON of requests for these sessions."""
    return [
        {name: None if pd.isna(value) else value for name, value in row.items()}
        | {"charging_start_time": row["charging_start_time"].isoformat()}
        for row in asked.to_dict("records")
    ]


def scored_rows(rows, app, answers):
    """Return the stored feature rows of answers, in their order."""
    stored = {row["prediction_id"]: row["features"] for row in rows(app, Prediction)}
    return [stored[answer["prediction_id"]] for answer in answers]


@pytest.mark.parametrize("is_recent", [True, False])
def test_the_sessions_of_the_training_are_answered_with_their_present(trained, rows, tmp_path, is_recent):
    """The sessions of the last week are in memory. The present of older sessions is read from the database."""
    if is_recent:
        moved_to_today(trained)
    history, model = zap.read_history(trained.database_url), zap.load_model(trained.database_url)
    types = model.classes_.tolist()
    asked = pd.concat([history.tail(30), history.sample(30, random_state=1)])[FIELDS]
    # Anonymous drivers, too.
    asked = pd.concat([asked, asked.tail(10).assign(user_id=None)])
    past = Pasts(history).known(asked, types, model.population_, 15)
    expected, matrix = model.predict_proba(asked, past), model.matrix(asked, past)
    is_open = [matrix[:, model.columns_.index(f"open[{name}]")] for name in types]
    assert max(np.add.reduce(is_open)) >= 3, "several drivers have open sessions"
    assert sum((one > 0).any() for one in is_open) > 1
    assert len(np.unique(matrix[:, [model.columns_.index(name) for name in present_columns(types)]], axis=0)) > 30
    unknown = past.copy()
    unknown[:, -len(present_columns(types)) :] = np.nan
    assert (model.predict_proba(asked, unknown) != expected).any(axis=1).sum() > 30
    requests = requests_of(asked)

    with client_of(trained) as client:
        alone = [client.post("/predict", json=request).json() for request in requests]
        together = client.post("/predict/batch", json={"inputs": requests}).json()["predictions"]
        for answers in (alone, together):
            assert [list(one["probabilities"].values()) for one in answers] == expected.tolist()
            assert scored_rows(rows, client.app, answers) == [row.astype("<f8").tobytes() for row in matrix]
    assert answers_of_file(trained, asked, tmp_path) == expected.tolist()


def answers_of_file(settings, asked, folder):
    engine = create_engine(settings.database_url)
    predictor = Predictor(zap.load_model(settings.database_url).fitted(), 1)
    with_times = asked.assign(charging_start_time=asked["charging_start_time"].map(lambda time: time.isoformat()))
    with_times.to_csv(folder / "asked.csv", index=False)
    FilePrediction(engine, predictor, settings.wall_time).predict(
        folder / "asked.csv", folder / "out.jsonl", skip=False
    )
    engine.dispose()
    lines = (folder / "out.jsonl").read_text().splitlines()
    return [list(json.loads(line)["probabilities"].values()) for line in lines]


@pytest.fixture
def with_now(trained):
    """Return settings and the present wall time: three sessions are open, one has ended, one will start in an hour.

    Some minutes later their present is the same.
    """
    now = datetime.now().replace(microsecond=0)  # noqa: DTZ005 - the drivers' wall time
    engine = create_engine(trained.database_url)

    def session(driver, used, minutes, lasted=None):
        begin = now + timedelta(minutes=minutes)
        return session_row(driver, used, begin) | {
            "charging_end_time": None if lasted is None else begin + timedelta(minutes=lasted)
        }

    add_sessions(
        engine,
        session("n1", "Level 1", -30),
        session("n2", "Level 1", -40),
        session(None, "DC Fast Charger", -5.5),
        session("n3", "Level 2", -200, 60),
        # Reported before it starts, and it ends before the asked sessions start.
        session("n4", "Level 2", 60, 30),
    )
    engine.dispose()
    return trained, now


@pytest.mark.parametrize("after", [timedelta(minutes=3), timedelta(hours=3), timedelta(days=3)])
def test_a_driver_who_asks_for_later_has_the_present_of_now(with_now, good_request, rows, tmp_path, after):
    """With a start in three minutes the driver asks 15 minutes before the start; with later starts the driver asks now.

    The session that starts in an hour is not known, although it starts before the later starts.
    """
    settings, now = with_now
    model, start = zap.load_model(settings.database_url), now + after
    request = good_request | {"charging_start_time": start.isoformat()}

    with client_of(settings) as client:
        alone = client.post("/predict", json=request).json()
        (together,) = client.post("/predict/batch", json={"inputs": [request]}).json()["predictions"]
        stored = scored_rows(rows, client.app, [alone, together])

    found = dict(zip(model.columns_, np.frombuffer(stored[0]).tolist(), strict=True))
    is_late = after > timedelta(minutes=15)
    assert {name: found[f"open[{name}]"] for name in model.classes_} == {
        # This session began 5.5 minutes ago.
        "DC Fast Charger": 1 if is_late else 0,
        "Level 1": 2,
        "Level 2": 0,
    }
    frame = pd.DataFrame([request | {"user_id": None, "vehicle_model": None, "charging_start_time": start}])
    # The history that was known at the moment of asking, and a driver who asks at this moment.
    known = zap.read_history(settings.database_url)
    known = known[known["charging_start_time"] <= now]
    minutes = int(after.total_seconds() // 60) if is_late else 15
    past = Pasts(known).known(frame, model.classes_.tolist(), model.population_, minutes)
    assert stored[0] == stored[1] == model.matrix(frame, past).astype("<f8").tobytes()
    expected = model.predict_proba(frame, past)[0].tolist()
    assert list(alone["probabilities"].values()) == list(together["probabilities"].values()) == expected
    assert answers_of_file(settings, frame[FIELDS], tmp_path) == [expected]
    at_start = model.predict_proba(frame, history=zap.read_history(settings.database_url))[0].tolist()
    assert (at_start != expected) == is_late


def test_without_a_start_the_driver_asks_before_now(with_now, good_request, rows):
    settings, _ = with_now
    request = {name: value for name, value in good_request.items() if name != "charging_start_time"}

    with client_of(settings) as client:
        answer = client.post("/predict", json=request).json()
        (stored,) = scored_rows(rows, client.app, [answer])

    found = dict(zip(zap.load_model(settings.database_url).columns_, np.frombuffer(stored).tolist(), strict=True))
    assert [found[f"open[{name}]"] for name in ("DC Fast Charger", "Level 1", "Level 2")] == [0, 2, 0]


def test_a_present_that_is_in_memory_equals_one_that_is_read(with_now):
    """Moments of today, of the last week, and years ago, one at a time and many at once."""
    settings, now = with_now
    engine = create_engine(settings.database_url)
    predictor = Predictor(zap.load_model(settings.database_url).fitted(), 1)
    recent = RecentSessions(engine, settings.wall_now)
    starts = [to_seconds(now) - ago * 3600 for ago in (-5, 0, 1, 2, 5, 40, 150, 24 * 400, 24 * 800)]
    moments = [predictor.asked_at(start, to_seconds(now)) for start in starts]

    read = recent.presents(starts, moments, predictor)

    kept = [recent.known(start, moment, predictor) for start, moment in zip(starts, moments, strict=True)]
    assert [one is None for one in kept] == [False] * 6 + [True] * 3
    for one, other in zip(kept, read, strict=True):
        if one is not None:
            assert np.array(one.values).tobytes() == np.array(other.values).tobytes()
    for place, (start, moment) in enumerate(zip(starts, moments, strict=True)):
        (alone,) = recent.presents([start], [moment], predictor)
        assert np.array(alone.values).tobytes() == np.array(read[place].values).tobytes()
    recent.close()
    engine.dispose()


# A version whose history was stored late.


@pytest.fixture
def late(trained_sqlite):
    """Return settings with a version whose sessions were stored 30 hours after their start; the newest is of today."""
    moved_to_today(trained_sqlite)
    engine = create_engine(trained_sqlite.database_url)
    with write_transaction(engine) as connection:
        stored = "strftime('%Y-%m-%d %H\\:%M\\:%S', charging_start_time, '+30 hours') || '.000000'"
        connection.execute(text(f'UPDATE "ChargingSessions" SET timestamp = {stored}'))
    options = TrainingOptions(hyper_parameters={"n_estimators": 20})
    report = run_training(engine, trained_sqlite, options=options)
    engine.dispose()
    assert report["promotion"]["promoted"]
    return trained_sqlite


def test_with_a_delay_the_rows_of_the_training_are_served(late, rows, tmp_path):
    history, model = zap.read_history(late.database_url), zap.load_model(late.database_url)
    types = model.classes_.tolist()
    assert (model.asked_before, model.delay) == (15, 1800)
    trained_rows = past_features(history, types, model.population_, 15, 1800)
    places = np.unique([*range(len(history) - 30, len(history)), *range(0, len(history), 60)])
    asked, past = history.iloc[places][FIELDS], trained_rows[places]
    expected, matrix = model.predict_proba(asked, past), model.matrix(asked, past)
    # The delay changes the pasts and the presents.
    in_time = past_features(history, types, model.population_, 15)[places]
    sessions = driver_column("sessions", len(types))
    assert (past[:, sessions] < in_time[:, sessions]).any()
    assert (model.matrix(asked, in_time) != matrix).any(axis=1).sum() > 30
    requests = requests_of(asked)

    with client_of(late) as client:
        alone = [client.post("/predict", json=request).json() for request in requests]
        together = client.post("/predict/batch", json={"inputs": requests}).json()["predictions"]
        for answers in (alone, together):
            assert [one["history_sessions"] for one in answers] == past[:, sessions].tolist()
            assert scored_rows(rows, client.app, answers) == [row.astype("<f8").tobytes() for row in matrix]
            assert [list(one["probabilities"].values()) for one in answers] == expected.tolist()
    assert answers_of_file(late, asked, tmp_path) == expected.tolist()
    assert model.predict_proba(asked, history=history).tolist() == expected.tolist()


def test_with_a_delay_a_driver_who_asks_for_tomorrow_has_the_present_of_before_the_delay(late, good_request, rows):
    """The driver's sessions are known that will be stored before the start."""
    now = datetime.now().replace(microsecond=0)  # noqa: DTZ005 - the drivers' wall time
    model, start = zap.load_model(late.database_url), now + timedelta(days=1)
    engine = create_engine(late.database_url)
    with write_transaction(engine) as connection:
        # None of the other sessions starts, ends or is a week old in these minutes.
        newest = col(ChargingSession.charging_start_time) > now - timedelta(days=20)
        connection.execute(delete(ChargingSession).where(newest))

    def session(driver, used, minutes):
        return session_row(driver, used, now + timedelta(minutes=minutes))

    delay = 30 * 60
    add_sessions(
        engine,
        *(session("n1", "Level 1", minutes - delay) for minutes in (-90, -20, -3)),
        *(session("n1", "DC Fast Charger", minutes) for minutes in (3 - delay, -300, -10)),
        # The driver's own sessions: the last one will be stored at the start.
        *(session("own", "Level 2", 24 * 60 - delay + minutes) for minutes in (-60, -1, 0)),
    )
    engine.dispose()
    request = good_request | {"user_id": "own", "charging_start_time": start.isoformat()}

    with client_of(late) as client:
        answers = [client.post("/predict", json=request).json() for _ in range(2)]
        answers += client.post("/predict/batch", json={"inputs": [request]}).json()["predictions"]
        stored = scored_rows(rows, client.app, answers)

    found = dict(zip(model.columns_, np.frombuffer(stored[0]).tolist(), strict=True))
    assert [found[f"open[{name}]"] for name in ("DC Fast Charger", "Level 1", "Level 2")] == [0, 3, 0]
    assert len(set(stored)) == 1
    assert {one["history_sessions"] for one in answers} == {2}
    # The same as for a driver who asks a day before the start.
    frame = pd.DataFrame([request | {"vehicle_model": None, "charging_start_time": start}])
    history = zap.read_history(late.database_url)
    past = Pasts(history).known(frame, model.classes_.tolist(), model.population_, 24 * 60, delay)
    assert stored[0] == model.matrix(frame, past).astype("<f8").tobytes()
