"""The split, the fit, the scores, and the rolling windows."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from conftest import EXAMPLES
from histories import as_history, cleaned, raw_sample
from hypothesis import given, settings
from hypothesis import strategies as st

from zap.errors import UnusableHistory
from zap.formats.training_options import HYPER_PARAMETERS
from zap.ml import history_matrix, training
from zap.ml.baselines import BASELINES
from zap.ml.contract import known_categories
from zap.ml.driver_codes import driver_codes
from zap.ml.history import clean_history
from zap.ml.history_columns import driver_column, history_columns, present_places, type_columns
from zap.ml.history_matrix import mix_of, past_features
from zap.ml.model import ChargerTypeModel
from zap.ml.sample import sample_history
from zap.ml.training import (
    FEWEST_SESSIONS,
    TEST_SHARE,
    fit,
    fit_and_predict,
    rolling_windows,
    score,
    score_windows,
    split_by_time,
)

QUICK = {"n_estimators": 10, "num_leaves": 5}


def history(used, users=None):
    """Build a cleaned history with one session an hour, of the given types."""
    n = len(used)
    random = np.random.default_rng(1)
    frame = cleaned(
        n,
        user_id=[f"u{row % 7}" for row in range(n)] if users is None else users,
        charger_type=used,
        energy_consumed_kwh=random.uniform(1, 50, n),
        state_of_charge_start=random.uniform(0, 100, n),
        distance_driven_km=random.uniform(0, 500, n),
    )
    return as_history(frame)


def alternating(n, types=("A", "B")):
    return history([types[row % len(types)] for row in range(n)])


@pytest.fixture(scope="module")
def split():
    return split_by_time(clean_history(raw_sample(sample_history(seed=3, drivers=20, months=4))))


@pytest.fixture(scope="module")
def model(split):
    return fit(split, QUICK, n_jobs=1)


def test_it_works(split, model):
    scores = score(split, model)

    assert model.classes_.tolist() == list(split.types) == ["DC Fast Charger", "Level 1", "Level 2"]
    assert model.get_params().items() >= {**QUICK, "n_jobs": 1, "learning_rate": 0.05}.items()
    assert split.past.shape == (len(split.frame), len(history_columns(split.types)))
    assert set(scores["baselines"]) == set(BASELINES)
    assert sum(map(sum, scores["confusion_matrix"])) == split.n_test == len(split.test)
    counts = split.test["charger_type"].value_counts()
    assert {name: row["support"] for name, row in scores["per_class"].items()} == counts.to_dict()
    truth = split.test["charger_type"].to_numpy()
    assert scores["accuracy"] == (model.predict(split.test, split.test_past) == truth).mean()
    prior = split.train["charger_type"].value_counts(normalize=True)
    assert scores["baselines"]["prior"]["log_loss"] == pytest.approx(-np.log(prior[truth]).mean())
    shares = split.test_past[:, type_columns("share", 3)]
    chosen = shares[np.arange(len(truth)), [split.types.index(name) for name in truth]]
    assert scores["baselines"]["driver_share"]["log_loss"] == pytest.approx(-np.log(chosen).mean())


# The split.


@pytest.mark.parametrize(("n", "n_train"), [(1320, 1188), (12_421, 11_178), (50, 45), (59, 53)])
def test_the_first_ninety_percent_are_trained_on(n, n_train):
    split = split_by_time(alternating(n))

    assert split.n_train == len(split.train) == len(split.train_past) == n_train
    assert split.n_test == len(split.test) == len(split.test_past) == n - n_train
    assert split.test.index[0] == n_train
    assert np.vstack([split.train_past, split.test_past]).tobytes() == split.past.tobytes()


def test_every_tenth_row_count_splits_exactly():
    for n in (*range(FEWEST_SESSIONS, 3000), 1_000_000):
        assert training._rows(n, 1 - TEST_SHARE) == n * 9 // 10
        starts = [1 - TEST_SHARE * parts for parts in range(5, 0, -1)]
        assert [training._rows(n, start) for start in starts] == [n * tenth // 10 for tenth in range(5, 10)]


@pytest.mark.parametrize(("share", "n_train"), [(0.01, 132), (0.05, 127), (0.3, 93), (0.5, 67)])
def test_another_share_can_be_tested_on(share, n_train):
    split = split_by_time(alternating(134), test_share=share)

    assert (split.n_train, split.n_test) == (n_train, 134 - n_train)


def test_all_sessions_are_learned_from_unless_a_window_of_history_is_asked_for():
    split = split_by_time(alternating(100))

    assert (split.train_start, split.n_train, split.n_test) == (0, 90, 10)
    assert (split.trained, split.tested) == (slice(0, 90), slice(90, 100))


def test_too_few_sessions_are_refused_with_what_was_dropped():
    few = alternating(FEWEST_SESSIONS - 1)
    few.dropped.row("no charger type", 3)

    with pytest.raises(UnusableHistory, match=f"{FEWEST_SESSIONS - 1} usable sessions") as caught:
        split_by_time(few)

    assert caught.value.details["dropped"]["rows"] == {"no charger type": 3}


def test_a_single_type_is_refused_by_its_name():
    with pytest.raises(UnusableHistory, match="'A'"):
        split_by_time(alternating(100, types=("A",)))


def test_a_second_type_only_in_the_test_part_is_not_enough():
    with pytest.raises(UnusableHistory, match="'A'"):
        split_by_time(history(["A"] * 95 + ["B"] * 5))


def test_a_type_that_only_the_last_sessions_have_is_scored_as_missed():
    split = split_by_time(history(["A", "B"] * 47 + ["C"] * 6, users=["u"] * 100))

    scores = score(split, fit(split, QUICK, n_jobs=1))

    assert split.types == ("A", "B")
    assert scores["classes"] == ["A", "B", "C"]
    assert scores["per_class"]["C"] == {"precision": 0, "recall": 0, "f1": 0, "support": 6}
    # The type that was used is part of the past of the driver's later sessions.
    assert split.past[-1, driver_column("last_type", 2)] == -1
    assert split.past[-1, driver_column("sessions", 2)] == 99
    assert split.past[-1, type_columns("share", 2)].sum() == pytest.approx(1)


def test_a_user_type_only_in_the_test_part_is_a_known_category():
    sample = sample_history(seed=3, drivers=12, months=2)
    tables = raw_sample(sample)
    tables.sessions.loc[tables.sessions["charging_start_time"].idxmax(), ["user_id", "user_type"]] = "late", "Astronaut"
    split = split_by_time(clean_history(tables))

    model = fit(split, n_jobs=1)

    assert "Astronaut" not in set(split.train["user_type"])
    assert "Astronaut" in model.contract_["categories"]["user_type"]


# A window of history.


def at(hours):
    """Return the moment before which this many sessions of `history` have started."""
    return (pd.Timestamp("2024-01-01") + pd.Timedelta(hours=hours)).to_pydatetime()


def test_the_window_of_history_begins_with_its_first_moment_and_ends_before_its_last():
    whole = alternating(200)

    split = split_by_time(whole, since=at(40), until=at(160))

    assert split.frame.equals(whole.frame[:160])
    assert (split.train_start, split.n_train, split.n_test) == (40, 108, 12)
    assert split.train.index.tolist() == list(range(40, 148))
    assert split.test.index.tolist() == list(range(148, 160))
    assert split.train_past.tobytes() == split.past[40:148].tobytes()
    assert split.test_past.tobytes() == split.past[148:160].tobytes()


@settings(max_examples=EXAMPLES // 2)
@given(
    st.lists(st.integers(0, 90), min_size=1, max_size=150),
    st.none() | st.integers(0, 90),
    st.none() | st.integers(0, 91),
    st.sampled_from([0.01, 0.1, 0.25, 0.5]),
)
def test_any_window_is_split_into_training_and_test_sessions(hours, since, until, share):
    whole = alternating(len(hours))
    whole.frame["charging_start_time"] = [at(hour) for hour in sorted(hours)]
    inside = [since is None or hour >= since for hour in sorted(hours) if until is None or hour < until]
    window = {"since": None if since is None else at(since), "until": None if until is None else at(until)}

    if sum(inside) < FEWEST_SESSIONS:
        with pytest.raises(UnusableHistory, match=f"{sum(inside)} usable sessions"):
            split_by_time(whole, **window, test_share=share)
        return
    split = split_by_time(whole, **window, test_share=share)

    assert len(split.frame) == len(split.past) == len(inside)
    assert [*split.train.index, *split.test.index] == np.flatnonzero(inside).tolist()
    assert split.n_train == int(sum(inside) * (1 - Fraction(str(share))))


def without_mixes(past, n_types):
    """Return the columns of the past behind the shares, and the open sessions: no column is drawn to the mix."""
    own = slice(type_columns("mean_state_of_charge", n_types).start, present_places(n_types).start)
    return np.hstack(
        [past[:, own], past[:, type_columns("open", n_types)], past[:, type_columns("open_share", n_types)]]
    )


def test_earlier_sessions_stay_in_the_past_of_their_drivers():
    # The past and the present do not depend on the window; only the shares are smoothed towards the window's mix.
    whole = history([("A", "B")[row % 3 == 0] for row in range(200)])

    windowed, plain = split_by_time(whole, since=at(80)), split_by_time(whole)

    assert windowed.past.shape == plain.past.shape
    assert without_mixes(windowed.past, 2).tobytes() == without_mixes(plain.past, 2).tobytes()
    earlier = windowed.train_past[:, driver_column("sessions", 2)]
    assert earlier.tolist() == [(80 + row) // 7 for row in range(windowed.n_train)]
    expected = past_features(whole.frame, ("A", "B"), mix_of(whole.frame[80:188], ("A", "B")))
    assert windowed.past.tobytes() == expected.tobytes()
    assert windowed.past.tobytes() != plain.past.tobytes()


def test_earlier_sessions_are_not_in_the_mix():
    # The mix for a new driver counts only sessions of the window; before its first day it counts no session.
    used = ["A"] * 96 + ["A", "B", "B"] * 40
    split = split_by_time(history(used, users=[None] * 216), since=at(96))

    shares = split.past[:, type_columns("share", 2)]
    # The driver of the session at midnight asks before midnight.
    assert shares[:121].tolist() == [[0.5, 0.5]] * 121
    # One added session of each type, and the sessions of the window's first day.
    assert shares[121].tolist() == [(1 + 8) / (2 + 24), (1 + 16) / (2 + 24)]
    # The model has this mix for new drivers too.
    model = fit(split, QUICK, n_jobs=1)
    past = split.train_past.copy()
    past[:, present_places(2)] = np.nan
    assert model.matrix(split.train).tobytes() == model.matrix(split.train, past).tobytes()


def test_earlier_sessions_are_not_trained_on():
    # The booster counts its rows, and the contract ignores missing values of earlier sessions.
    whole = alternating(200)
    whole.frame.loc[:79, "temperature_c"] = np.nan
    whole.frame.loc[:79, "vehicle_model"] = "e-Golf"
    split = split_by_time(whole, since=at(80))

    model, probabilities = fit_and_predict(split, QUICK, n_jobs=1)

    nodes = model.booster_.trees_to_dataframe()
    assert set(nodes[nodes["node_depth"] == 1]["count"]) == {split.n_train} == {108}
    assert model.contract_["fields"]["temperature_c"] == "required"
    assert probabilities.shape == (108, 2)
    scores = score(split, model)
    assert sum(map(sum, scores["confusion_matrix"])) == split.n_test == 12
    # The known categories are those of the whole history.
    assert model.contract_["categories"]["vehicle_model"] == ["Leaf", "e-Golf"]


def test_a_type_of_earlier_sessions_alone_is_not_learned():
    split = split_by_time(history(["C"] * 50 + ["A", "B"] * 50, users=["u"] * 150), since=at(50))

    assert split.types == ("A", "B")
    assert fit(split, QUICK, n_jobs=1).classes_.tolist() == ["A", "B"]
    # The past shows that the driver used another type.
    assert split.past[50, driver_column("sessions", 2)] == 50
    assert split.past[50, driver_column("last_type", 2)] == -1


def test_nothing_is_known_of_sessions_after_the_window():
    whole, other = alternating(200), alternating(200)
    other.frame.loc[150:, "charger_type"] = "C"
    other.frame.loc[150:, "user_type"] = "Astronaut"
    other.frame.loc[150:, "user_id"] = "u0"

    split, same = (split_by_time(one, until=at(150)) for one in (whole, other))

    assert same.frame.equals(split.frame)
    assert same.past.tobytes() == split.past.tobytes()
    models = [fit(one, QUICK, n_jobs=1) for one in (split, same)]
    assert models[0].contract_ == models[1].contract_
    assert models[0].booster_.model_to_string() == models[1].booster_.model_to_string()
    assert score(split, models[0]) == score(same, models[1])


def test_too_few_sessions_in_the_window_have_their_own_message():
    with pytest.raises(UnusableHistory, match="49 usable sessions of 200 lie in the window of history"):
        split_by_time(alternating(200), since=at(151))
    with pytest.raises(UnusableHistory, match="0 usable sessions of 200"):
        split_by_time(alternating(200), since=at(900))
    with pytest.raises(UnusableHistory, match="0 usable sessions of 200"):
        split_by_time(alternating(200), until=at(0))


def test_a_single_type_in_the_window_is_refused_by_its_name():
    with pytest.raises(UnusableHistory, match="54 training sessions have only one charger type, 'B'"):
        split_by_time(history(["A", "B"] * 50 + ["B"] * 60), since=at(100))


# The pasts of the drivers.


def test_the_progress_of_the_pasts_is_reported(monkeypatch):
    monkeypatch.setattr(history_matrix, "_CHUNK", 30)
    told = []

    split = split_by_time(alternating(100), lambda *step: told.append(step))

    assert told == [(30, 100), (60, 100), (90, 100), (100, 100)]
    monkeypatch.undo()
    assert split_by_time(alternating(100)).past.tobytes() == split.past.tobytes()


def test_each_session_without_a_user_is_a_driver_of_its_own():
    users = ["a", None, "b", None, "a", None]

    codes = driver_codes(history(["A", "B"] * 3, users=users).frame)

    assert codes[0] == codes[4]
    assert len(set(codes.tolist())) == 5


def test_a_driver_has_one_code_in_all_windows():
    # No other driver has this code, because intervals over windows resample drivers.
    users = ["a", None, "b", None, "c", "d", None, "e"]
    frame = history(["A", "B"] * 4, users=users).frame

    codes = driver_codes(frame)

    for n in range(1, 9):
        assert driver_codes(frame[:n]).tolist() == codes[:n].tolist()
    assert len(set(codes.tolist())) == 8


def test_sessions_without_a_user_have_no_past():
    users = [None if row % 2 else "a" for row in range(60)]

    split = split_by_time(history(["A", "B"] * 30, users=users))

    earlier = split.past[:, driver_column("sessions", 2)]
    assert earlier[1::2].tolist() == [0] * 30
    assert earlier[::2].tolist() == list(range(30))
    scores = score(split, fit(split, QUICK, n_jobs=1))
    assert scores["by_earlier_sessions"]["0"]["sessions"] == 3


def test_intervals_are_over_the_drivers_of_the_test_part():
    # Here these are nine drivers; the training part has more drivers.
    users = [f"u{row % (40 if row < 200 else 9)}" for row in range(360)]
    whole = history([("A", "B")[row % 3 == 0] for row in range(360)], users=users)

    nine, forty = (split_by_time(whole, until=end, test_share=0.4) for end in (None, at(200)))

    scores = [score(one, fit(one, QUICK, n_jobs=1)) for one in (nine, forty)]
    assert [one["effective_drivers"] for one in scores] == [9, 40]
    assert scores[0]["test_f1_interval"] is None
    assert scores[1]["test_f1_interval"] is not None


def test_the_number_of_used_types_is_point_in_time():
    # The last session has a type that its driver had never used, so it counts as a session of a driver of one
    # type.
    used = [("A", "B")[row % 2] for row in range(99)] + ["A"]
    split = split_by_time(history(used, users=[f"u{row % 2}" for row in range(100)]))

    scores = score(split, fit(split, QUICK, n_jobs=1))

    assert {name: some and some["sessions"] for name, some in scores["by_types_used"].items()} == {
        "none": None,
        "one": 10,
        "several": None,
    }


# Fitting.


@pytest.mark.parametrize("types", [("A", "B"), ("A", "B", "C", "D", "E")])
def test_any_set_of_types_trains_and_scores(types):
    split = split_by_time(alternating(400, types))

    model = fit(split, QUICK, n_jobs=1)

    # Seven drivers use all types in order.
    assert model.classes_.tolist() == list(types)
    assert score(split, model)["accuracy"] == 1


def test_the_parameters_are_the_defaults_unless_given(split):
    model = fit(split, {"n_estimators": 2, "min_child_samples": 50}, n_jobs=1)

    assert (model.n_estimators, model.min_child_samples, model.num_leaves) == (2, 50, 40)
    assert model.booster_.num_trees() == 2 * 3


def test_the_test_part_does_not_matter_to_the_model(split, model):
    # The types, the pasts and the values of the last 10 % do not reach the fit.
    frame = split.frame.copy()
    frame.loc[split.n_train :, "charger_type"] = frame.loc[split.n_train :, "charger_type"].to_numpy()[::-1]
    frame.loc[split.n_train :, "state_of_charge_start"] = 1.0
    other = split_by_time(as_history(frame))

    again = fit(other, QUICK, n_jobs=1)

    assert other.train_past.tobytes() == split.train_past.tobytes()
    assert again.booster_.model_to_string() == model.booster_.model_to_string()
    assert again.cold_weight_ == model.cold_weight_
    nobody = split.frame.head(20).drop(columns="user_id")
    assert again.predict_proba(nobody).tobytes() == model.predict_proba(nobody).tobytes()


@pytest.mark.parametrize("types", ["ABC", "AB"])
@pytest.mark.parametrize(
    "params", [{}, {"subsample": 0.5}, {"min_child_samples": 1_000_000}, {"min_child_samples": 1, "num_leaves": 60}]
)
def test_the_training_probabilities_of_a_fit_equal_its_predictions(types, params):
    # Both are bit-identical: with missing values, with rare vehicles, and for drivers without a past.
    made = alternating(600, types)
    random = np.random.default_rng(3)
    holes = random.random(600) < 0.2
    frame = made.frame.assign(
        user_id=made.frame["user_id"].mask(holes),
        temperature_c=made.frame["temperature_c"].mask(holes),
        charger_type=random.choice(list(types), 600),
        vehicle_model=pd.Series(random.zipf(1.3, 600) % 150, dtype="str").mask(holes[::-1]),
    )
    split = split_by_time(replace(made, frame=frame))

    model, probabilities = fit_and_predict(split, QUICK | params, n_jobs=1)

    assert probabilities.shape == (split.n_train, len(types))
    assert probabilities.tobytes() == model.predict_proba(split.train, split.train_past).tobytes()


def test_the_trees_equal_those_of_a_new_matrix(split, model):
    # A fit writes into the empty columns in front of the pasts; the result equals that of a new matrix.
    anew = ChargerTypeModel(**QUICK, n_jobs=2).fit(
        split.train, split.train_types, past=split.train_past, categories=known_categories(split.frame)
    )

    assert anew.scorer_.digest() == model.scorer_.digest()
    assert anew.cold_weight_ == model.cold_weight_


@pytest.mark.parametrize("edge", ["minimum", "maximum"])
@pytest.mark.parametrize("parameter", HYPER_PARAMETERS, ids=lambda parameter: parameter.name)
def test_every_allowed_hyper_parameter_can_be_trained_with(parameter, edge):
    # The history has the fewest allowed sessions.
    split = split_by_time(alternating(FEWEST_SESSIONS), test_share=0.5)
    value = getattr(parameter, edge)
    if edge == "minimum" and parameter.minimum_excluded:
        value = 1e-9

    model = fit(split, {"n_estimators": 2, parameter.name: value}, n_jobs=1)

    assert np.isfinite(model.predict_proba(split.test, split.test_past)).all()


# Rolling windows.


def test_there_are_five_windows_one_after_the_other(split):
    windows = list(rolling_windows(split))

    n = len(split.frame)
    assert [window.n_train for window in windows] == [n * tenth // 10 for tenth in range(5, 10)]
    ends = [window.n_train + window.n_test for window in windows]
    assert ends == [*(window.n_train for window in windows[1:]), n]
    assert windows[-1] is split
    for window in windows:
        assert window.types == split.types
        assert (
            window.test["session_id"].tolist()
            == split.frame["session_id"].tolist()[window.n_train : window.n_train + window.n_test]
        )
        # The pasts are equal, except for the mix of the sessions that are not in the window's training part.
        found, whole = (without_mixes(past, 3) for past in (window.past, split.past))
        assert found.tobytes() == whole[: len(found)].tobytes()
        counts = slice(driver_column("sessions", 3), present_places(3).start)
        assert window.past[:, counts].tobytes() == split.past[: len(window.past), counts].tobytes()


@settings(max_examples=EXAMPLES // 4)
@given(
    n=st.integers(FEWEST_SESSIONS, 200),
    share=st.sampled_from(["0.01", "0.05", "0.1", "0.12", "0.15", "0.2", "0.25", "0.3", "0.5"]),
    before=st.sampled_from([0, 20]),
    after=st.sampled_from([0, 20]),
)
def test_windows_have_equal_test_parts_outside_the_first_half(n, share, before, after):
    # At most five windows exist, for any share and window of history; windows without test sessions are left out.
    whole = alternating(before + n + after)
    split = split_by_time(whole, since=at(before), until=at(before + n), test_share=float(share))

    windows = list(rolling_windows(split))

    starts = [1 - Fraction(share) * parts for parts in range(5, 0, -1)]
    expected = sorted({int(n * start) for start in starts if start >= Fraction(1, 2)})
    assert [window.n_train for window in windows] == expected
    assert [window.n_train + window.n_test for window in windows] == [*expected[1:], n]
    for window in windows:
        assert window.train_start == before
        assert window.train.index.tolist() == list(range(before, before + window.n_train))
        assert window.test.index.tolist() == list(range(before + window.n_train, len(window.frame)))
        mix = mix_of(window.train, window.types)
        assert window.past.tobytes() == past_features(window.frame, window.types, mix).tobytes()


def test_a_window_of_half_the_sessions_is_the_only_one():
    split = split_by_time(alternating(101), test_share=0.5)

    assert list(rolling_windows(split)) == [split]


def test_a_window_with_a_single_type_to_train_on_is_left_out():
    split = split_by_time(history(["A"] * 65 + ["A", "B"] * 17 + ["A"]))

    windows = list(rolling_windows(split))

    assert [(window.n_train, window.n_test) for window in windows] == [(70, 10), (80, 10), (90, 10)]


def test_a_window_knows_only_the_types_of_its_own_training():
    split = split_by_time(history(["A", "B"] * 36 + ["A", "B", "C", "C"] * 7))

    windows = list(rolling_windows(split))

    assert [window.types for window in windows] == [("A", "B")] * 3 + [("A", "B", "C")] * 2
    for window in windows:
        expected = past_features(window.frame, window.types, mix_of(window.train, window.types))
        assert window.past.tobytes() == expected.tobytes()
        assert window.past.shape[1] == len(history_columns(window.types))


def test_windows_are_scored_with_models_of_their_own(split, model):
    told = []

    found = score_windows(split, model, progress=lambda *step: told.append(step))

    assert told == [(done, 5) for done in range(1, 6)]
    assert [one["trained_samples"] for one in found["each"]] == [one.n_train for one in rolling_windows(split)]
    assert [one["test_samples"] for one in found["each"]] == [one.n_test for one in rolling_windows(split)]
    last, first = found["each"][-1], found["each"][0]
    assert last["log_loss"] == score(split, model)["log_loss"]
    window = next(rolling_windows(split))
    assert first["log_loss"] == score(window, fit(window, QUICK, n_jobs=1))["log_loss"]
    # The last model has seen the test sessions of the first model.
    assert first["log_loss"] > score(window, model)["log_loss"]
    assert found["test_samples"] == sum(one["test_samples"] for one in found["each"])


def test_windows_with_other_types_are_scored_together():
    split = split_by_time(history(["A", "B"] * 36 + ["A", "B", "C", "C"] * 7))

    found = score_windows(split, fit(split, QUICK, n_jobs=1))

    assert found["test_samples"] == 50
    # In the window before, no session has the type C.
    assert found["each"][2]["log_loss"] > 1.5
    assert found["unseen_type_sessions"] > 0
    assert all(0 <= one["weighted_f1"] <= 1 for one in found["each"])


def test_a_search_in_each_window_sees_the_training_part_of_that_window(split, model):
    # No search is made for the last window, whose model is the trained model.
    searched = []

    def search(window):
        searched.append(window.n_train)
        return {**QUICK, "num_leaves": 4}

    found = score_windows(split, model, split.train["charging_start_time"].iloc[-1], search=search)

    assert searched == [window["trained_samples"] for window in found["each"]][:-1]
    assert found["judged"]["sessions"] == found["test_samples"]
    assert found["each"][-1]["log_loss"] == score(split, model)["log_loss"]


def test_windows_that_the_search_has_seen_do_not_decide(split, model):
    found = score_windows(split, model, split.train["charging_start_time"].iloc[-1])

    unseen = split.test["charging_start_time"] > split.train["charging_start_time"].iloc[-1]
    assert found["judged"]["sessions"] == int(unseen.sum())
    assert found["judged"]["log_loss"] == pytest.approx(score(split, model)["log_loss"], rel=0.05)
