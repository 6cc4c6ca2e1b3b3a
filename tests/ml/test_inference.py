"""Predictor: one complete request -> one answer."""

from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from histories import BEGIN, cleaned
from present import present_before

from zap.errors import DamagedModel
from zap.ml.cells import to_seconds
from zap.ml.driver_columns import DAY, PastSession
from zap.ml.features import FEATURES, MATRIX_COLUMNS
from zap.ml.history import past_sessions
from zap.ml.history_columns import driver_column, present_places, type_columns
from zap.ml.history_matrix import mix_of, past_features
from zap.ml.inference import Predictor
from zap.ml.model import ChargerTypeModel
from zap.ml.user_history import UserHistory

NOTHING = dict.fromkeys(feature.name for feature in FEATURES) | {
    "charging_start_time": datetime.fromisoformat("2024-03-02T18:30:00")
}


@pytest.fixture(scope="module")
def frame():
    random = np.random.default_rng(1)
    n = 300
    return cleaned(
        n,
        user_id=random.choice(["u1", "u2", "u3"], n),
        charging_end_time=pd.NaT,
        energy_consumed_kwh=random.uniform(1, 50, n),
        charging_duration_hours=random.uniform(0, 9, n),
        state_of_charge_start=random.uniform(0, 100, n),
        distance_driven_km=random.uniform(0, 500, n),
        temperature_c=np.where(random.random(n) < 0.1, np.nan, random.uniform(-20, 40, n)),
        battery_capacity_kwh=random.choice([40.0, 64.0], n),
        vehicle_age_years=random.uniform(0, 9, n),
        user_type=random.choice(["Commuter", "Casual Driver"], n),
        vehicle_model=random.choice(["Leaf", "Kona"], n),
        charging_start_time=BEGIN + pd.to_timedelta(np.sort(random.integers(0, 9999, n)), unit="min"),
    )


@pytest.fixture(scope="module", params=[2, 3])
def known(request, frame):
    """Return sessions of 2 or 3 types, and the history columns of their drivers."""
    names = np.array(["A", "B", "C"])[: request.param]
    used = names[(frame["state_of_charge_start"] // (100 / request.param)).astype(int).clip(upper=request.param - 1)]
    sessions = frame.assign(charger_type=used)
    return sessions, past_features(sessions, names.tolist(), mix_of(sessions, names.tolist()))


@pytest.fixture(scope="module")
def model(known):
    sessions, past = known
    return ChargerTypeModel(n_estimators=30, n_jobs=1).fit(sessions, sessions["charger_type"], past=past)


def request_of(row):
    return {feature.name: None if pd.isna(row[feature.name]) else row[feature.name] for feature in FEATURES}


def restored(model):
    """Return a copy of a model, whose parameters may be changed."""
    return ChargerTypeModel.from_fitted(model.fitted())


def no_past(model):
    return UserHistory(len(model.classes_))


def history_before(sessions, place, model):
    """Return the driver's sessions that started before the session at `place`."""
    mine = sessions["user_id"] == sessions["user_id"].iloc[place]
    earlier = sessions[mine & (sessions["charging_start_time"] < sessions["charging_start_time"].iloc[place])]
    history = no_past(model)
    for session in past_sessions(earlier, model.classes_.tolist()):
        history.observe(session)
    return history


def presents_of(sessions, model):
    types, starts = model.classes_.tolist(), sessions["charging_start_time"].astype("datetime64[s]").astype("int64")
    return [present_before(sessions, types, model.population_, start) for start in starts.tolist()]


def test_answers_are_those_of_the_estimator_to_the_bit(model, known):
    sessions, past = known
    predictor = Predictor(model.fitted(), 7)
    expected, predicted = model.predict_proba(sessions, past), model.predict(sessions, past)
    matrix = model.matrix(sessions, past)
    requests = [request_of(row) for row in sessions.to_dict("records")]
    histories = [history_before(sessions, place, model) for place in range(len(sessions))]
    presents = presents_of(sessions, model)

    answers = [predictor.answer(*asked) for asked in zip(requests, histories, presents, strict=True)]

    # Several sessions are open, and of more than one type.
    assert (past[:, type_columns("open", len(model.classes_))] > 0).sum(axis=1).max() > 1
    assert predictor.answers(requests, histories, presents, 1) == answers
    for place, answer in enumerate(answers):
        assert np.array(list(answer.probabilities.values())).tobytes() == expected[place].tobytes()
        assert answer.predicted_class == predicted[place]
        assert list(answer.probabilities) == model.classes_.tolist()
        assert answer.model_version == 7
        assert answer.features == matrix[place].astype("<f8").tobytes()
        assert answer.history_sessions == past[place, driver_column("sessions", len(model.classes_))]


def test_the_past_of_the_driver_counts(model, known):
    sessions, _ = known
    values = request_of(sessions.iloc[-1])

    with_past = Predictor(model.fitted(), 1).answer(values, history_before(sessions, -1, model))
    without = Predictor(model.fitted(), 1).answer(values, no_past(model))

    assert with_past.history_sessions > 50
    assert without.history_sessions == 0
    assert with_past.probabilities != without.probabilities


def test_the_present_counts_and_may_be_unknown(model, known):
    sessions, _ = known
    predictor, values, history = Predictor(model.fitted(), 1), request_of(sessions.iloc[-1]), no_past(model)
    present = presents_of(sessions, model)[-1]

    with_present, without = predictor.answer(values, history, present), predictor.answer(values, history)

    places = present_places(len(model.classes_))
    columns = slice(len(MATRIX_COLUMNS) + places.start, len(MATRIX_COLUMNS) + places.stop)
    rows = [np.frombuffer(answer.features, dtype="<f8") for answer in (with_present, without)]
    assert rows[0][columns].tolist() == present[1]
    assert np.isnan(rows[1][columns]).all()
    assert with_present.probabilities != without.probabilities


@pytest.mark.parametrize(("now", "moment"), [(None, -900), (-901, -901), (-899, -900), (0, -900), (-99_999, -99_999)])
def test_the_driver_asks_before_the_start_and_not_later_than_now(model, now, moment):
    start = 1_700_000_000

    found = Predictor(model.fitted(), 1).asked_at(start, None if now is None else start + now)

    assert found == start + moment


@pytest.mark.parametrize(("now", "moment"), [(None, -900), (-901, -901), (-899, -900), (0, -900), (-99_999, -99_999)])
def test_with_a_delay_the_present_and_the_past_end_earlier(model, now, moment):
    start = 1_700_000_000
    late = restored(model).set_params(delay=360)
    predictor = Predictor(late.fitted(), 1)

    assert predictor.asked_at(start, None if now is None else start + now) == start + moment - 6 * 3600
    assert predictor.known_before(start) == start - 6 * 3600
    assert Predictor(model.fitted(), 1).known_before(start) == start


def test_a_version_with_a_delay_answers_with_the_mix_that_was_known(model, known):
    """The mix of a new driver is the mix of the days before the driver asked, and before the delay."""
    sessions, _ = known
    late = restored(model).set_params(delay=3 * 1440)
    values = request_of(sessions.iloc[-1])
    at = to_seconds(values["charging_start_time"])
    predictor = Predictor(late.fitted(), 1)

    answer = predictor.answer(values, no_past(model))

    expected = late.population_.mix(at - 900 - 3 * DAY)
    assert expected != late.population_.mix(at - 900)
    places = [late.columns_.index(f"share[{name}]") for name in late.classes_]
    assert np.frombuffer(answer.features, dtype="<f8")[places].tolist() == expected
    frame = sessions.tail(1).drop(columns="user_id")
    assert late.matrix(frame)[0].astype("<f8").tobytes() == answer.features
    assert list(answer.probabilities.values()) == late.predict_proba(frame)[0].tolist()


def test_everything_may_be_missing(model):
    history = no_past(model)
    history.observe(PastSession(0, -1))

    answer = Predictor(model.fitted(), 1).answer(NOTHING, history)

    assert sum(answer.probabilities.values()) == pytest.approx(1)


def test_a_stored_row_is_explained_by_name_and_computed_again_to_the_bit(model, known):
    sessions, _ = known
    values = request_of(sessions.iloc[-1])
    answer = Predictor(model.fitted(), 1).answer(values, history_before(sessions, -1, model))

    told = Predictor(model.fitted(), 1).explain(answer.features, answer.probabilities)

    assert list(told["features"]) == model.columns_
    assert told["features"]["user_type"] == values["user_type"]
    assert told["features"]["vehicle_model"] == values["vehicle_model"]
    assert told["features"]["state_of_charge_start"] == values["state_of_charge_start"]
    assert told["features"]["temperature_c"] == values["temperature_c"]
    mine = sessions["user_id"] == sessions["user_id"].iloc[-1]
    earlier = sessions[mine & (sessions["charging_start_time"] < sessions["charging_start_time"].iloc[-1])]
    assert told["features"]["last_type"] == earlier["charger_type"].iloc[-1]
    assert told["features"]["third_last_type"] == earlier["charger_type"].iloc[-3]
    assert told["features"]["sessions"] == answer.history_sessions == len(earlier)
    assert told["computed_again"] == answer.probabilities
    assert told["equal"]


def test_a_stored_answer_that_differs_from_the_row_is_noticed(model, frame):
    answer = Predictor(model.fitted(), 1).answer(request_of(frame.iloc[0]), no_past(model))
    other = answer.probabilities | {"A": np.nextafter(answer.probabilities["A"], 2)}

    assert not Predictor(model.fitted(), 1).explain(answer.features, other)["equal"]


def test_missing_values_and_unlearned_types_are_explained(model):
    history = no_past(model)
    history.observe(PastSession(0, -1))
    answer = Predictor(model.fitted(), 1).answer(NOTHING, history)

    features = Predictor(model.fitted(), 1).explain(answer.features, answer.probabilities)["features"]

    assert (features["temperature_c"], features["user_type"], features["second_last_type"]) == (None, None, None)
    assert features["last_type"] == "another type"


def test_a_stored_row_of_another_length_is_refused(model):
    with pytest.raises(DamagedModel, match="has 3 numbers"):
        Predictor(model.fitted(), 1).explain(np.zeros(3).tobytes(), {})
