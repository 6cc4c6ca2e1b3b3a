"""The history columns with the present: nothing that was not known when the driver asked changes them."""

from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from conftest import EXAMPLES
from histories import SESSION, raw
from hypothesis import given, settings
from hypothesis import strategies as st
from present import present_before

from zap.ml.features import MATRIX_COLUMNS
from zap.ml.history import clean_history
from zap.ml.history_columns import history_columns, past_columns, present_places
from zap.ml.history_matrix import history_part, mix_of, past_features, past_matrix
from zap.ml.model import ChargerTypeModel
from zap.ml.pasts import Pasts

TYPES = ("A", "B")
MINUTE, HOUR, DAY = 60, 3600, 86_400
EPOCH = datetime.fromisoformat("1970-01-01")
START = datetime.fromisoformat("2024-03-04T12:00:00")
# The session whose columns are looked at.
OWN = 1000
LAGS = [0, 15, 90]


def row(number, start, lasted=None, **values):
    """Return a raw session of another driver; `start` is in seconds after START, `lasted` in seconds."""
    begin = START + timedelta(seconds=start)
    end = None if lasted is None else str(begin + timedelta(seconds=lasted))
    plain = dict.fromkeys(SESSION) | {"user_id": "other", "charger_type": "A", "charging_station_id": "S1"}
    return plain | {"session_id": number, "charging_start_time": str(begin), "charging_end_time": end} | values


def own(start=0, **values):
    return row(OWN, start, HOUR, **({"user_id": "own"} | values))


def columns(rows, asked_before, delay=0):
    """Return the history columns of the session OWN by name."""
    frame = clean_history(raw(*rows, users=(), vehicles=())).frame
    found = past_features(frame, TYPES, mix_of(frame, TYPES), asked_before, delay)
    (place,) = np.flatnonzero(frame["session_id"] == OWN)
    return dict(zip(history_columns(TYPES), found[place].tolist(), strict=True))


def bits(values):
    return np.array([*values.values()]).tobytes()


def of_present(values):
    return {name: value for name, value in values.items() if name not in past_columns(TYPES)}


# Some sessions start and end around the moments of asking, others on the days before.
STARTS = st.integers(-100 * MINUTE, 5 * MINUTE) | st.integers(-9 * DAY, 2 * DAY)
LASTED = st.none() | st.integers(0, 3 * HOUR) | st.integers(0, 2 * DAY)
DRIVERS = st.sampled_from(["own", "other", "third", None])


@st.composite
def sessions(draw, first):
    drawn = draw(st.lists(st.tuples(STARTS, LASTED, DRIVERS, st.sampled_from("ABC")), max_size=15))
    return [
        row(first + number, start, lasted, user_id=user, charger_type=used)
        for number, (start, lasted, user, used) in enumerate(drawn)
    ]


def begin_of(one):
    return int((datetime.fromisoformat(one["charging_start_time"]) - START).total_seconds())


def later_end(one, asked, hours):
    """Return a session of another driver with another end, if its end lies after the moment of asking."""
    end = one["charging_end_time"]
    if one["user_id"] == "own" or end is None or datetime.fromisoformat(end) <= asked:
        return one
    if hours is None:
        return one | {"charging_end_time": None}
    until = max(asked, datetime.fromisoformat(one["charging_start_time"])) + timedelta(hours=hours, seconds=1)
    return one | {"charging_end_time": str(until), "charging_duration_hours": hours, "energy_consumed_kwh": 9.0}


@settings(max_examples=EXAMPLES // 2)
@given(
    asked_before=st.sampled_from(LAGS),
    rows=sessions(1),
    new=sessions(500),
    user=st.sampled_from(["own", None]),
    hours=st.none() | st.integers(0, 50),
)
def test_what_other_drivers_do_after_the_driver_asked_changes_nothing(asked_before, rows, new, user, hours):
    limit = -asked_before * MINUTE

    def is_known(one):
        # The driver's own sessions are known until the start: the driver knows them, whenever the request is made.
        return begin_of(one) < limit or one["user_id"] == "own"

    known, later = [one for one in rows if is_known(one)], [one for one in rows if not is_known(one)]
    expected = columns([*known, *later, own(user_id=user)], asked_before)
    changed = [one | {"charger_type": "B", "user_id": "third", "charging_end_time": None} for one in later]
    moved = [later_end(one, START + timedelta(seconds=limit), hours) for one in rows]

    for some in (known, [*known, *changed], [*known, *(one for one in new if not is_known(one))], moved):
        assert bits(columns([*some, own(user_id=user)], asked_before)) == bits(expected)


@settings(max_examples=EXAMPLES // 4)
@given(asked_before=st.sampled_from(LAGS), rows=sessions(1), user=st.sampled_from(["own", None]))
def test_neither_the_session_itself_nor_its_station_changes_its_columns(asked_before, rows, user):
    expected = columns([*rows, own(user_id=user)], asked_before)

    for other in (
        {"charger_type": "B"},
        {"charger_type": "C"},
        {"charging_end_time": None},
        {"charging_end_time": str(START + timedelta(days=3)), "charging_duration_hours": 72.0},
        {"energy_consumed_kwh": 70.0, "charging_rate_kw": 50.0, "charging_cost_usd": 9.0},
        {"charging_station_id": "S2", "charging_station_location": "elsewhere"},
    ):
        assert bits(columns([*rows, own(user_id=user, **other)], asked_before)) == bits(expected)


@pytest.mark.parametrize("asked_before", LAGS)
@pytest.mark.parametrize("user", ["own", None])
def test_a_session_that_started_before_the_driver_asked_is_known(asked_before, user):
    """The session starts one second before the moment of asking, or at this moment."""
    asked, before = -asked_before * MINUTE, row(1, -DAY, HOUR)

    alone, same, known = (
        columns([before, *some, own(user_id=user)], asked_before)
        for some in ([], [row(2, asked, HOUR, charger_type="B")], [row(2, asked - 1, HOUR, charger_type="B")])
    )

    assert bits(same) == bits(alone)
    assert (alone["open[B]"], known["open[B]"], known["open_share[B]"]) == (0, 1, 1)
    for name in ("mix_hour[B]", "mix_day[B]", "mix_week[B]"):
        assert known[name] > alone[name]
    assert bits({name: known[name] for name in past_columns(TYPES)}) == bits(
        {name: alone[name] for name in past_columns(TYPES)}
    )


@pytest.mark.parametrize("asked_before", LAGS)
def test_an_end_before_the_driver_asked_is_known(asked_before):
    asked = -asked_before * MINUTE

    def is_open(ended):
        return columns([row(1, asked - HOUR, HOUR + ended), own()], asked_before)["open[A]"]

    assert [is_open(ended) for ended in (-1, 0, 1)] == [0, 1, 1]


def test_a_later_moment_of_asking_knows_more():
    rows = [row(1, -DAY, HOUR), row(2, -30 * MINUTE, HOUR), row(3, -10 * MINUTE, HOUR), own()]

    assert [columns(rows, minutes)["open[A]"] for minutes in (0, 15, 90)] == [2, 1, 0]
    assert all(np.isnan(value) for value in of_present(columns(rows, None)).values())


# With a delay, sessions are not known that were not stored yet.

DELAYS = [(15, 0), (0, 20), (15, 60), (15, 2 * 1440)]


@settings(max_examples=EXAMPLES // 3)
@given(
    asked_and_stored=st.sampled_from(DELAYS),
    rows=sessions(1),
    new=sessions(500),
    user=st.sampled_from(["own", None]),
)
def test_sessions_that_start_after_the_delay_change_nothing(asked_and_stored, rows, new, user):
    """The driver's own sessions are stored late, too."""
    asked_before, delay = asked_and_stored

    def is_known(one):
        own_delay = 0 if one["user_id"] == "own" else asked_before
        return begin_of(one) < -MINUTE * (own_delay + delay)

    known, later = [one for one in rows if is_known(one)], [one for one in rows if not is_known(one)]
    # The mix of all drivers is the mix of the training sessions, which the model keeps: it must not change.
    expected = columns([*known, own(user_id=user)], asked_before, delay)
    changed = [one | {"charger_type": "B", "user_id": "own", "charging_end_time": None} for one in later]
    changed = [one for one in changed if not is_known(one)]

    for some in (later, changed, [one for one in new if not is_known(one)]):
        assert bits(columns([*known, *some, own(user_id=user)], asked_before, delay)) == bits(expected)


@pytest.mark.parametrize(("asked_before", "delay"), DELAYS)
def test_the_delay_ends_the_past_of_the_driver_and_the_present(asked_before, delay):
    """A session one second before the bound is known, and a session at the bound is not."""
    before = row(1, -30 * DAY, HOUR, user_id="own")
    for user, bound in (("own", -delay * MINUTE), ("other", -(asked_before + delay) * MINUTE)):
        alone, same, known = (
            columns([before, row(5, bound - DAY, HOUR), *some, own()], asked_before, delay)
            for some in ([], [row(2, bound, HOUR, user_id=user)], [row(2, bound - 1, HOUR, user_id=user)])
        )
        assert bits(same) == bits(alone) or (user == "own" and not asked_before and not delay)
        assert (known["sessions"], alone["sessions"]) == ((2, 1) if user == "own" else (1, 1))
        if user == "other":
            assert (known["open[A]"], alone["open[A]"]) == (1, 0)


def test_sessions_without_a_user_count_in_the_present():
    named, nobody = (
        columns([row(1, -HOUR, 2 * HOUR, user_id=user), row(2, -HOUR, 2 * HOUR, user_id=None), own()], 15)
        for user in ("other", None)
    )

    assert bits(named) == bits(nobody)
    assert nobody["open[A]"] == 2


# Matrices, pasts and models.


@pytest.fixture(scope="module")
def frame():
    """Return sessions of few drivers over some months, often open together; some name no user."""
    random = np.random.default_rng(5)
    n = 300
    starts, lasted = np.sort(random.integers(0, 100 * DAY, n)), random.integers(0, 2 * DAY, n)
    rows = [
        row(number, start, stay if number % 5 else None, user_id=user, charger_type=used, charging_duration_hours=hours)
        for number, (start, stay, user, used, hours) in enumerate(
            zip(
                starts.tolist(),
                lasted.tolist(),
                random.choice(["u1", "u2", "u3", None], n).tolist(),
                random.choice([*TYPES, "C"], n, p=[0.5, 0.4, 0.1]).tolist(),
                np.where(random.random(n) < 0.3, None, random.uniform(0, 9, n)).tolist(),
                strict=True,
            )
        )
    ]
    frame = clean_history(raw(*rows, users=(), vehicles=())).frame
    return frame.assign(user_type="Commuter", vehicle_model="Leaf", state_of_charge_start=random.uniform(0, 99, n))


@pytest.mark.parametrize("delay", [0, 360])
@pytest.mark.parametrize("asked_before", LAGS)
def test_each_row_has_the_present_of_a_window_of_its_own(frame, asked_before, delay):
    population = mix_of(frame, TYPES)
    starts = frame["charging_start_time"].astype("datetime64[s]").astype("int64").tolist()[::3]

    found = past_features(frame, TYPES, population, asked_before, delay)[::3, present_places(len(TYPES))]

    expected = [present_before(frame, TYPES, population, start, asked_before + delay)[1] for start in starts]
    assert found.tobytes() == np.array(expected).tobytes()
    assert len(np.unique(found[:, 0])) > 3


@pytest.mark.parametrize("delay", [0, 3 * 1440])
def test_each_row_has_the_past_of_a_driver_of_its_own(frame, delay):
    """The past is the past of the sessions that were stored, in a history without the other sessions."""
    population, own = mix_of(frame, TYPES), past_columns(TYPES)
    starts = frame["charging_start_time"]

    found = past_features(frame, TYPES, population, 15, delay)

    for place in range(0, len(frame), 20):
        known = frame[(starts < starts.iloc[place] - pd.Timedelta(minutes=delay)) | (frame.index == frame.index[place])]
        alone = past_features(known, TYPES, population, 15 + delay)[-1]
        assert found[place, : len(own)].tobytes() == alone[: len(own)].tobytes()
    sessions = found[:, own.index("sessions")]
    assert (sessions < past_features(frame, TYPES, population, 15)[:, own.index("sessions")]).any() == bool(delay)


@pytest.mark.parametrize("delay", [0, 360])
def test_some_places_get_the_rows_of_all_places(frame, delay):
    population, places = mix_of(frame, TYPES), np.array([0, 7, 8, 150, 299])

    some = past_matrix(frame, TYPES, population, places=places, asked_before=15, delay=delay)

    assert history_part(some).tobytes() == past_features(frame, TYPES, population, 15, delay)[places].tobytes()


@pytest.mark.parametrize(
    ("asked_before", "delay", "estimator"),
    [
        *[(*asking, "blend") for asking in ((0, 0), (15, 0), (90, 0), (None, 0), (0, 360), (15, 360))],
        (None, 0, "lightgbm"),
        (15, 360, "lightgbm"),
    ],
)
def test_a_model_with_a_history_predicts_from_the_rows_of_the_training(frame, asked_before, delay, estimator):
    learned = (frame["charger_type"] != "C").to_numpy()
    past = past_features(frame, TYPES, mix_of(frame[learned], TYPES), asked_before, delay)
    asking = {"asked_before": asked_before, "delay": delay}
    model = ChargerTypeModel(estimator=estimator, **asking, n_estimators=8, n_jobs=1)
    model.fit(frame[learned], frame.loc[learned, "charger_type"], past=past[learned])
    matrix = past_matrix(frame, TYPES, model.population_, **asking)
    assert history_part(matrix).tobytes() == past.tobytes()
    matrix[:, : len(MATRIX_COLUMNS)] = model.matrix(frame, past)[:, : len(MATRIX_COLUMNS)]

    found = model.predict_proba(frame, history=frame)

    known = Pasts(frame).known(frame, TYPES, model.population_, **asking)
    assert known.tobytes() == history_part(matrix).tobytes()
    assert found.tobytes() == model.probabilities(matrix).tobytes()
    one_by_one = [model.predict_proba(frame.iloc[[place]], history=frame)[0] for place in range(0, 300, 30)]
    assert found[::30].tobytes() == np.array(one_by_one).tobytes()
    assert frame["user_id"].isna().sum() > 50
    # The model remembers when its drivers ask, and the delay.
    assert ChargerTypeModel.from_fitted(model.fitted()).delay == model.fitted().delay == delay
    assert ChargerTypeModel.from_fitted(model.fitted()).asked_before == model.fitted().asked_before == asked_before
    without = past.copy()
    without[:, present_places(len(TYPES))] = np.nan
    assert (model.predict_proba(frame, without).tobytes() == found.tobytes()) == (asked_before is None)


def test_an_anonymous_session_has_the_present(frame):
    nobody = frame.assign(user_id=pd.Series(None, index=frame.index, dtype="str"))
    population = mix_of(frame, TYPES)

    found = past_features(nobody, TYPES, population, 15)
    known = Pasts(frame).known(nobody, TYPES, population, 15)

    assert found.tobytes() == known.tobytes()
    places = present_places(len(TYPES))
    assert found[:, places].tobytes() == past_features(frame, TYPES, population, 15)[:, places].tobytes()
