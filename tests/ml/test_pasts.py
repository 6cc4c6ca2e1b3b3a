"""Pasts: the history columns of any drivers, point in time, and the predictions of a model with a history."""

import io
import pickle
import warnings
import zlib

import joblib
import numpy as np
import pandas as pd
import pytest
from histories import BEGIN, cleaned
from present import present_before
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.model_selection import cross_val_score

from zap.ml.cells import PAST_FEATURES
from zap.ml.export import exported
from zap.ml.features import FEATURES, KNOWN_ONLY_AFTER
from zap.ml.history import past_sessions
from zap.ml.history_columns import history_columns
from zap.ml.history_matrix import mix_of, past_features
from zap.ml.model import ChargerTypeModel
from zap.ml.pasts import Pasts
from zap.ml.user_history import UserHistory

TYPES = ["A", "B", "C"]
ASKED = ["user_id", *(feature.name for feature in FEATURES)]


@pytest.fixture(scope="module")
def history():
    """Return a cleaned history of few drivers, with missing values, equal starts, and sessions without a user."""
    random = np.random.default_rng(3)
    n = 600
    starts = BEGIN + pd.to_timedelta(np.sort(random.integers(0, 700, n)), unit="h")
    hours = np.where(random.random(n) < 0.2, np.nan, random.uniform(0, 80, n))
    frame = cleaned(
        n,
        user_id=random.choice(["u1", "u2", "u3", "u4", None], n),
        charger_type=random.choice([*TYPES, "D"], n),
        charging_start_time=starts,
        charging_end_time=starts + pd.to_timedelta(hours, unit="h").round("s"),
        energy_consumed_kwh=np.where(random.random(n) < 0.2, np.nan, random.uniform(1, 50, n)),
        charging_duration_hours=hours,
        state_of_charge_start=np.where(random.random(n) < 0.1, np.nan, random.uniform(0, 100, n)),
        distance_driven_km=random.uniform(0, 500, n),
        temperature_c=np.where(random.random(n) < 0.1, np.nan, random.uniform(-20, 30, n)),
        battery_capacity_kwh=random.choice([40.0, 64.0], n),
        vehicle_age_years=random.uniform(0, 9, n),
        user_type=random.choice(["Commuter", "Casual Driver"], n),
        vehicle_model=random.choice(["Leaf", "Kona"], n),
    )
    # This makes the past informative.
    frame.loc[frame["user_id"].isin(["u1", "u2"]) & (random.random(n) < 0.8), "charger_type"] = "A"
    return frame


@pytest.fixture(scope="module")
def population(history):
    return mix_of(history.head(400), TYPES)


@pytest.fixture(scope="module")
def model(history):
    """Return a model of three types of the history; the fourth type came later."""
    learned = history[history["charger_type"] != "D"]
    past = past_features(history, TYPES, mix_of(learned, TYPES))[history["charger_type"] != "D"]
    return ChargerTypeModel(n_estimators=20, n_jobs=1).fit(learned, learned["charger_type"], past=past)


def known(sessions, history, population):
    """Compute the history columns in the plainest way: a loop over all sessions for each session."""
    rows = []
    for row in sessions.itertuples():
        at = row.charging_start_time
        mine = history[(history["user_id"] == row.user_id) & (history["charging_start_time"] < at)]
        past = UserHistory(len(TYPES))
        for session in past_sessions(mine.sort_values(["charging_start_time", "session_id"]), TYPES):
            past.observe(session)
        seconds = int((at - pd.Timestamp("1970-01-01")).total_seconds())
        asked, present = present_before(history, TYPES, population, seconds)
        rows.append([*past.features(seconds, population.mix(asked)), *present])
    return np.array(rows, dtype=np.float64)


# Known pasts.


def test_the_past_has_the_drivers_sessions_that_started_strictly_earlier(history, population):
    random = np.random.default_rng(1)
    some = history.sample(150, random_state=1)
    moved = pd.to_timedelta(random.integers(-50, 50, 150), unit="h").where(random.random(150) < 0.5, pd.Timedelta(0))
    some = some.assign(charging_start_time=some["charging_start_time"] + moved)
    some.loc[some.index[:5], "user_id"] = "nobody"

    found = Pasts(history.sample(frac=1, random_state=2)).known(some, TYPES, population, 15)

    assert found.tobytes() == known(some, history, population).tobytes()
    assert some["charging_start_time"].isin(history["charging_start_time"]).sum() > 50


def test_the_pasts_of_a_history_itself_are_those_of_a_training(history, population):
    found = Pasts(history).known(history, TYPES, population, 15)

    assert found.tobytes() == past_features(history, TYPES, population, 15).tobytes()


def test_the_predicted_rows_and_later_rows_do_not_matter(history, population):
    last = history.tail(20)
    first = history[history["charging_start_time"] < last["charging_start_time"].min()]
    asked = last.assign(charging_start_time=last["charging_start_time"].min())

    found = Pasts(history).known(asked, TYPES, population, 15)

    assert found.tobytes() == Pasts(first).known(asked, TYPES, population, 15).tobytes()


def test_rows_may_come_in_any_order_and_with_any_labels(history, population):
    some = history.sample(80, random_state=3)
    double = pd.concat([some, some]).set_axis([1] * 160)

    found = Pasts(history).known(double, TYPES, population, 15)

    alone = [Pasts(history).known(double.iloc[[place]], TYPES, population, 15) for place in range(160)]
    assert found.tobytes() == np.vstack(alone).tobytes()


def test_each_session_of_the_history_is_walked_once(history, population, monkeypatch):
    observed = []
    observe = UserHistory.observe
    monkeypatch.setattr(UserHistory, "observe", lambda self, one: (observed.append(one), observe(self, one))[1])

    Pasts(history).known(pd.concat([history] * 5), TYPES, population, 15)

    named = history["user_id"].notna().sum()
    # The last session of each driver is not known at any of these moments.
    assert named - 10 < len(observed) < named


def test_sessions_are_turned_into_pasts_a_chunk_at_a_time(history, population, monkeypatch):
    whole = Pasts(history).known(history, TYPES, population, 15)

    monkeypatch.setattr("zap.ml.pasts._CHUNK", 7)

    assert Pasts(history).known(history, TYPES, population, 15).tobytes() == whole.tobytes()


@pytest.mark.parametrize("of_history", [0, 600])
def test_empty_frames_are_allowed(history, population, of_history):
    pasts = Pasts(history.head(of_history))

    assert pasts.known(history.head(0), TYPES, population, 15).shape == (0, len(history_columns(TYPES)))
    assert pasts.known(history.head(3), TYPES, population, 15).shape == (3, len(history_columns(TYPES)))


@pytest.mark.parametrize("kind", ["int64", "Int64", "category", object])
def test_drivers_are_found_whatever_type_their_ids_have(history, population, kind):
    numbers = history.assign(user_id=history["user_id"].str[1:])
    expected = Pasts(numbers).known(numbers.dropna(subset="user_id"), TYPES, population, 15)

    asked = numbers.dropna(subset="user_id").astype({"user_id": kind})

    assert Pasts(numbers).known(asked, TYPES, population, 15).tobytes() == expected.tobytes()


def test_a_blank_user_counts_as_no_user(history, population):
    named, blank = (history.assign(user_id=history["user_id"].fillna(value)) for value in ("u9", " "))

    found = Pasts(blank).known(blank, TYPES, population, 15)

    assert found.tobytes() == Pasts(history).known(history, TYPES, population, 15).tobytes()
    assert found.tobytes() != Pasts(named).known(named, TYPES, population, 15).tobytes()


def test_a_number_out_of_range_is_missing_as_in_cleaning(history, population):
    wild = history.assign(energy_consumed_kwh=history["energy_consumed_kwh"].fillna(5000.0))

    found = Pasts(wild).known(history, TYPES, population, 15)

    assert found.tobytes() == Pasts(history).known(history, TYPES, population, 15).tobytes()


# Refusals.


def test_a_user_that_is_a_float_is_refused(history):
    with pytest.raises(ValueError, match=r"user_id is the number 12\.0; convert it to the texts of the history"):
        Pasts(history.assign(user_id=12.0))


@pytest.mark.parametrize("name", ["user_id", "charger_type", *(feature.name for feature in PAST_FEATURES)])
def test_a_history_without_a_column_is_refused_by_its_name(history, name):
    with pytest.raises(ValueError, match=rf"the history has no column {name}; pass the frame of zap\.read_history"):
        Pasts(history.drop(columns=name))


def test_a_history_without_a_start_is_refused(history):
    with pytest.raises(ValueError, match="missing in some rows of the history"):
        Pasts(history.assign(charging_start_time=pd.NaT))


@pytest.mark.parametrize("named", [True, False])
def test_times_with_a_zone_are_refused(model, history, named):
    # numpy would convert these times to UTC: another hour, another weekday, another past.
    asked = history if named else history.drop(columns="user_id")
    zoned = asked.assign(charging_start_time=asked["charging_start_time"].dt.tz_localize("Europe/Madrid"))

    with pytest.raises(ValueError, match="in the time zone Europe/Madrid; give the drivers' wall time"):
        model.predict(zoned, history=history if named else None)


# Numbers and times with offsets are not the drivers' wall time, but numpy would read them without an error.
STARTS = {
    "offset": (
        lambda times: times.dt.strftime("%Y-%m-%dT%H:%M:%S-05:00"),
        "holds 2024-.*-05:00, a time with an offset",
    ),
    "short offset": (lambda times: times.dt.strftime("%Y-%m-%d %H:%M+02"), r"holds 2024-.*\+02, a time with an offset"),
    "UTC": (lambda times: times.dt.strftime("%Y-%m-%dT%H:%M:%SZ"), "Z, a time with an offset.*tz_convert"),
    "objects": (lambda times: times.dt.tz_localize("Europe/Madrid").astype(object), "a time with an offset"),
    "nanoseconds": (lambda times: times.astype("int64"), r"holds the number 17\d+, .*pd\.to_datetime"),
    "floats": (lambda times: times.astype("int64").astype(float), r"holds the number 17\d+\.0, .*pd\.to_datetime"),
    "words": (
        lambda times: times.astype(str).where(times.index > 3, "soon"),
        "holds 'soon', which is not a time.*2026-03-",
    ),
    "month 13": (lambda times: times.dt.strftime("%Y-13-%d"), r"holds '2024-13-\d\d', which is not a time"),
}


@pytest.mark.parametrize(("change", "says"), STARTS.values(), ids=STARTS)
def test_starts_that_are_not_wall_times_are_refused(model, history, change, says):
    other = history.assign(charging_start_time=change(history["charging_start_time"]))

    with pytest.raises(ValueError, match=f"charging_start_time .*{says}"):
        model.predict(other.drop(columns="user_id"))
    with pytest.raises(ValueError, match=says):
        model.predict(other, history=history)
    with pytest.raises(ValueError, match=says):
        model.with_history(other)
    with pytest.raises(ValueError, match=says):
        ChargerTypeModel(n_estimators=2).fit(other.drop(columns="user_id"), history["charger_type"])


def test_starts_may_be_texts_or_objects_of_wall_time(model, history):
    expected = model.predict_proba(history, history=history)
    times = history["charging_start_time"]

    for same in (times.astype(str), times.dt.strftime("%Y-%m-%dT%H:%M"), times.astype(object), times.dt.as_unit("ms")):
        found = model.predict_proba(history.assign(charging_start_time=same), history=history)
        assert found.tobytes() == expected.tobytes()


def test_an_end_with_an_offset_is_refused(history):
    ends = history["charging_end_time"].dt.strftime("%Y-%m-%dT%H:%M:%S+01:00")

    with pytest.raises(ValueError, match=r"charging_end_time holds .* a time with an offset"):
        Pasts(history.assign(charging_end_time=ends))


def test_a_session_that_appears_twice_is_refused(model, history):
    double = pd.concat([history, history])

    with pytest.raises(ValueError, match=r"the session_id 0 appears more than once.*drop_duplicates"):
        model.predict(history, history=double)
    assert len(model.with_history(double.drop(columns="session_id")).predict(history)) == 600


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (None, "None"),
        ({"a": 1}, "a dict"),
        ([1], "a list"),
        (np.ones((2, 3)), "a ndarray"),
        (pd.Series([1]), "a Series"),
    ],
    ids=["None", "dict", "list", "array", "Series"],
)
def test_a_value_that_is_not_a_frame_is_refused(model, history, wrong, kind):
    for ask in (model.predict, model.predict_proba, model.contributions):
        with pytest.raises(TypeError, match=f"X is {kind}, but a pandas DataFrame is needed"):
            ask(wrong)
    with pytest.raises(TypeError, match=f"the history is {kind}, but a pandas DataFrame is needed"):
        model.with_history(wrong)
    with pytest.raises(TypeError, match=f"X is {kind}"):
        ChargerTypeModel().fit(wrong, history["charger_type"])


@pytest.mark.parametrize("name", ["temperature_c", "distance_driven_km"])
def test_a_text_in_a_column_of_numbers_is_named(model, history, name):
    wrong = history.astype({name: object})
    wrong.loc[5, name] = "12 km"

    with pytest.raises(ValueError, match=f"{name} holds '12 km', which is not a number"):
        model.predict(wrong.drop(columns="user_id"))
    if name == "distance_driven_km":
        with pytest.raises(ValueError, match=f"{name} holds '12 km'"):
            Pasts(wrong)


# Warnings.


@pytest.mark.parametrize("ask", ["predict", "predict_proba", "contributions"])
def test_a_history_that_is_not_used_gives_one_warning(model, history, ask):
    nameless = history.drop(columns="user_id")

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        getattr(model, ask)(nameless, history=history)

    told = [str(one.message) for one in warned]
    assert "X has no column user_id: every driver counts as new" in told[0]
    assert len(told) == 1 + (ask == "contributions")
    assert {one.filename for one in warned} == {__file__}


def test_a_history_without_these_drivers_gives_a_warning(model, history):
    asked = history.assign(user_id=range(600))

    with pytest.warns(
        UserWarning, match=r"X has '0', '1', .* and 595 more; the history has 'u.*use the same ids"
    ) as warned:
        model.predict(asked, history=history)

    assert len(warned) == 1
    # One known driver is enough, and sessions without a user give no warning either.
    model.predict(asked.assign(user_id=["u1", *map(str, range(599))]), history=history)
    model.predict(asked.assign(user_id=None), history=history)


def test_a_history_of_other_charger_types_gives_a_warning(model, history):
    other = history.assign(charger_type="CCS")

    with pytest.warns(UserWarning, match=r"none of the history's charger types \(CCS\); it knows A, B, C") as warned:
        model.predict(history, history=other)

    assert len(warned) == 1


# The model.


def test_predictions_with_a_history_equal_predictions_with_its_pasts(model, history):
    past = past_features(history, TYPES, model.population_)

    found = model.predict_proba(history[ASKED], history=history)

    assert found.tobytes() == model.predict_proba(history, past).tobytes()
    assert model.predict(history[ASKED], history=history).tolist() == model.predict(history, past).tolist()
    assert found.tobytes() != model.predict_proba(history.drop(columns="user_id")).tobytes()
    assert model.predict_proba(history.head(0), history=history).shape == (0, 3)
    assert model.predict(history.head(0), history=history).shape == (0,)


def test_values_known_only_after_the_session_change_no_prediction(model, history):
    after = history.assign(**dict.fromkeys(sorted(KNOWN_ONLY_AFTER), 1))

    found = model.predict_proba(after, history=history)

    assert found.tobytes() == model.predict_proba(history, history=history).tobytes()


def test_named_drivers_without_a_history_are_refused_with_advice(model, history):
    with pytest.raises(ValueError, match=r"history=zap\.read_history.*drop the column user_id"):
        model.predict_proba(history)
    with pytest.raises(ValueError, match="drivers"):
        model.score(history, history["charger_type"])
    with pytest.raises(ValueError, match="drivers"):
        model.contributions(history)
    # A single driver among many sessions without one.
    nobody = history.assign(user_id=None)
    with pytest.raises(ValueError, match="drivers"):
        model.predict_proba(nobody.assign(user_id=[None] * 599 + ["u1"]))
    nameless = history.drop(columns="user_id")
    assert model.predict_proba(nobody).tobytes() == model.predict_proba(nameless).tobytes()


def test_a_past_and_a_history_together_are_refused(model, history):
    with pytest.raises(ValueError, match="past or history, not both"):
        model.predict_proba(history, past_features(history, TYPES, model.population_), history=history)


@pytest.mark.parametrize("by_name", [True, False])
def test_a_past_of_other_types_is_refused_with_the_columns(model, history, by_name):
    types = ["A", "B"]
    past = past_features(history, types, mix_of(history, types))
    if by_name:
        past = pd.DataFrame(past, columns=history_columns(types))
        says = (
            r"types \(A, B, C\): past lacks the columns share\[C\], .* and 10 more, and has the unexpected columns none"
        )
    else:
        says = r"the shape \(600, 47\), the columns of 2 charger types; expected are 600 rows with the 62 columns"

    for ask in (model.predict_proba, model.predict, model.contributions):
        with pytest.raises(ValueError, match=says):
            ask(history, past)


def test_a_past_of_other_rows_or_names_is_refused(model, history):
    past = past_features(history, TYPES, model.population_)
    named = pd.DataFrame(past, columns=history_columns(TYPES))

    assert model.predict_proba(history, named).tobytes() == model.predict_proba(history, past).tobytes()
    with pytest.raises(ValueError, match=r"the shape \(599, 62\).*expected are 600 rows"):
        model.predict_proba(history, past[1:])
    with pytest.raises(ValueError, match=r"the shape \(62,\); expected"):
        model.predict_proba(history, past[0])
    with pytest.raises(ValueError, match=r"the shape \(600, 3\); expected"):
        model.predict_proba(history, past[:, :3])
    with pytest.raises(ValueError, match=r"lacks the columns share\[A\].*unexpected columns share\[X\]"):
        model.predict_proba(history, named.rename(columns={"share[A]": "share[X]"}))
    with pytest.raises(ValueError, match=r"none \(the order differs\)"):
        model.predict_proba(history, named[reversed(named.columns)])


# A history that is bound, for tools that call predict_proba(X) alone.


@pytest.fixture(scope="module")
def bound(model, history):
    return model.with_history(history)


def test_a_bound_history_is_used_by_default(model, bound, history):
    expected = model.predict_proba(history, history=history)

    assert type(bound) is ChargerTypeModel
    assert bound.predict_proba(history).tobytes() == expected.tobytes()
    assert bound.predict(history).tolist() == model.predict(history, history=history).tolist()
    assert (
        bound.score(history, history["charger_type"])
        == (model.classes_[expected.argmax(axis=1)] == history["charger_type"]).mean()
    )
    with pytest.warns(UserWarning, match="120 of 600 rows have a driver without a past"):
        found = bound.contributions(history)
    with pytest.warns(UserWarning, match="has no weight there"):
        pd.testing.assert_frame_equal(found, model.contributions(history, history=history))
    # A given history wins, and a frame without drivers still has only new drivers.
    none = history.head(0)
    nameless = history.drop(columns="user_id")
    with pytest.warns(UserWarning, match="the history has none of the drivers of X.*the history has none"):
        assert bound.predict_proba(history, history=none).tobytes() == model.predict_proba(nameless).tobytes()
    with pytest.warns(UserWarning, match="X has no column user_id"):
        assert bound.predict_proba(nameless).tobytes() == model.predict_proba(nameless).tobytes()
    past = past_features(history, TYPES, model.population_)
    assert bound.predict_proba(history, past[::-1]).tobytes() == model.predict_proba(history, past[::-1]).tobytes()


def test_binding_does_not_change_the_estimator_itself(model, bound, history):
    assert bound.get_params() == model.get_params()
    with pytest.raises(ValueError, match="drivers"):
        model.predict(history)


def test_a_later_change_of_the_frame_changes_no_prediction(model, history):
    mine = history.copy()
    bound = model.with_history(mine)
    mine["charger_type"] = "B"
    mine["energy_consumed_kwh"] = 1.0
    mine["charging_start_time"] += pd.Timedelta(days=400)

    assert bound.predict_proba(history).tobytes() == model.predict_proba(history, history=history).tobytes()


def test_neither_a_pickle_nor_the_artefact_nor_a_clone_has_the_history(model, bound, history):
    for restored in (pickle.loads(pickle.dumps(bound)), joblib.load(io.BytesIO(exported(bound.to_bytes())))):
        with pytest.raises(ValueError, match="clones and pickles of a bound model have no history"):
            restored.predict(history)
        again = restored.with_history(history)
        assert again.predict_proba(history).tobytes() == bound.predict_proba(history).tobytes()
    assert bound.to_bytes() == model.to_bytes()
    assert b'"u1"' not in zlib.decompress(bound.to_bytes())
    copied = clone(bound)
    assert copied.get_params() == bound.get_params()
    with pytest.raises(ValueError, match="drivers"):
        copied.fit(history.drop(columns="user_id"), history["charger_type"]).predict(history)


def test_only_a_fitted_estimator_is_bound(history):
    for ask in ("with_history", "predict", "predict_proba", "contributions"):
        with pytest.raises(NotFittedError, match="not fitted"):
            getattr(ChargerTypeModel(), ask)(history)


def test_permutation_importance_uses_the_drivers(bound, history):
    asked = history[[*ASKED, "energy_consumed_kwh"]]

    found = permutation_importance(
        bound, asked, history["charger_type"].replace("D", "A"), scoring="neg_log_loss", n_repeats=3, random_state=1
    )

    importances = dict(zip(asked, found.importances_mean, strict=True))
    assert importances["user_id"] > 0.05
    assert importances["energy_consumed_kwh"] == 0


def test_cross_validation_of_the_fitted_model_works_and_a_fit_anew_is_refused(bound, history):
    asked, used = history[ASKED], history["charger_type"].replace("D", "A")

    scores = cross_val_score(FrozenEstimator(bound), asked, used, cv=3, scoring="accuracy")

    assert np.mean(scores) == pytest.approx((bound.predict(asked) == used).mean(), abs=1e-3)
    # Such a model would learn that all drivers are new, but predict drivers who are not new.
    with pytest.raises(ValueError, match="drivers"):
        cross_val_score(bound, asked, used, cv=3, scoring="accuracy", error_score="raise")
