"""ChargerTypeModel: a scikit-learn style estimator for natural units, bit-identical after saving and loading."""

import io
import pickle
import time

import joblib
import numpy as np
import pandas as pd
import pytest
from histories import cleaned, raw_sample
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from zap.ml import boosting, learned_weights
from zap.ml import model as model_module
from zap.ml.contract import known_categories
from zap.ml.export import exported
from zap.ml.features import FEATURES, MATRIX_COLUMNS, NUMBERS
from zap.ml.history import clean_history
from zap.ml.history_columns import driver_column, history_columns, present_places, type_columns
from zap.ml.history_matrix import mix_of, past_features
from zap.ml.model import ChargerTypeModel
from zap.ml.sample import sample_history


def past_of(frame, types):
    """Return the history columns of each driver, when all sessions are training sessions."""
    return past_features(frame, types, mix_of(frame, types))


@pytest.fixture(scope="module")
def history():
    return clean_history(raw_sample(sample_history(seed=5, drivers=20, months=3))).frame


@pytest.fixture(scope="module")
def nameless(history):
    """Return the sessions without the names of the drivers."""
    return history.drop(columns="user_id")


@pytest.fixture(scope="module")
def past(history):
    return past_of(history, sorted(history["charger_type"].unique()))


@pytest.fixture(scope="module")
def model(history, past):
    return ChargerTypeModel(n_estimators=20, n_jobs=1).fit(history, history["charger_type"], past=past)


@pytest.fixture(scope="module")
def model_of_new_drivers(history):
    """Return a model that was fitted without any past."""
    return ChargerTypeModel(n_estimators=20, n_jobs=1).fit(history.drop(columns="user_id"), history["charger_type"])


def test_it_works(model, history, past):
    probabilities = model.predict_proba(history, past)

    assert model.classes_.tolist() == ["DC Fast Charger", "Level 1", "Level 2"]
    assert probabilities.shape == (len(history), 3)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert model.predict(history, past).tolist() == model.classes_[probabilities.argmax(axis=1)].tolist()
    assert (model.predict(history, past) == history["charger_type"]).mean() > 0.8
    assert list(model.feature_names_in_) == [feature.name for feature in FEATURES]
    assert model.columns_ == [*MATRIX_COLUMNS, *history_columns(model.classes_.tolist())]


def test_the_past_of_the_drivers_is_learned_from(model, model_of_new_drivers, history, nameless, past):
    truth = pd.Categorical(history["charger_type"], categories=model.classes_).codes

    def loss(probabilities):
        return -np.log(probabilities[np.arange(len(truth)), truth]).mean()

    assert loss(model.predict_proba(history, past)) < 0.9 * loss(model.predict_proba(nameless))
    assert loss(model.predict_proba(history, past)) < loss(model_of_new_drivers.predict_proba(nameless))


def test_without_any_past_it_is_a_scikit_learn_classifier_of_a_frame(model_of_new_drivers, history, nameless):
    assert model_of_new_drivers.score(nameless, history["charger_type"]) > 0.6


def test_the_defaults_are_those_of_the_earlier_search():
    defaults = {
        "n_estimators": 200, "num_leaves": 40, "learning_rate": 0.05, "max_depth": -1, "colsample_bytree": 0.8,
        "subsample": 1.0, "reg_alpha": 1.0, "reg_lambda": 0.0, "random_state": 42,
    }  # fmt: skip

    assert ChargerTypeModel().get_params().items() >= defaults.items()


def test_it_is_an_estimator_that_scikit_learn_can_clone(model):
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        clone(model).predict_proba(pd.DataFrame())


def test_hyper_parameters_of_numpy_and_known_values_in_an_array_can_be_pickled(history, past):
    """Searches of scikit-learn set numbers of numpy."""
    numbers = {"n_estimators": np.int64(5), "learning_rate": np.float32(0.1), "reg_alpha": np.float64(0.5)}
    known = {name: np.array(values) for name, values in known_categories(history).items()}

    model = ChargerTypeModel(**numbers, n_jobs=1)
    model.fit(history, history["charger_type"], past=past, categories=known)

    loaded = pickle.loads(pickle.dumps(model))
    assert loaded.get_params() == model.get_params()
    assert np.array_equal(loaded.predict_proba(history, past), model.predict_proba(history, past))


def test_the_booster_has_the_parameters(model):
    text = model.booster_.model_to_string()

    assert "[num_iterations: 20]" in text
    assert "[num_leaves: 40]" in text
    assert "[lambda_l1: 1]" in text
    assert "[feature_fraction: 0.8]" in text
    assert "[seed: 42]" in text
    assert "[deterministic: 1]" in text


def test_two_charger_types_are_enough(history):
    two = history[history["charger_type"] != "Level 1"]
    past = past_of(two, ["DC Fast Charger", "Level 2"])

    fitted = ChargerTypeModel(n_estimators=20, n_jobs=1).fit(two, two["charger_type"], past=past)

    probabilities = fitted.predict_proba(two, past)
    assert probabilities.shape == (len(two), 2)
    assert np.allclose(probabilities.sum(axis=1), 1)
    # The columns are in the order of classes_.
    assert (fitted.predict(two, past) == two["charger_type"]).mean() > 0.8
    assert fitted.predict_proba(two.drop(columns="user_id")).shape == (len(two), 2)


def test_one_charger_type_is_refused(history):
    with pytest.raises(ValueError, match="two or more"):
        ChargerTypeModel().fit(history, ["Level 1"] * len(history))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_rows_give_the_same_trees_with_any_number_of_threads(model, history, past, threads, monkeypatch):
    # Even of a fit as small as this one.
    monkeypatch.setattr(boosting, "_ROWS_PER_THREAD", 1)
    again = ChargerTypeModel(n_estimators=20, n_jobs=threads).fit(history, history["charger_type"], past=past)

    # The text ends with the parameters, of which the number of threads is one.
    trees, _, _ = again.booster_.model_to_string().partition("end of trees")
    assert trees == model.booster_.model_to_string().partition("end of trees")[0]


def test_saving_and_loading_change_no_bit(model, history, nameless, past):
    loaded = joblib.load(io.BytesIO(exported(model.to_bytes())))

    assert loaded.predict_proba(history, past).tobytes() == model.predict_proba(history, past).tobytes()
    assert loaded.predict_proba(nameless).tobytes() == model.predict_proba(nameless).tobytes()
    assert loaded.contract_ == model.contract_
    assert loaded.get_params() == model.get_params()


@pytest.mark.parametrize("with_past", [True, False])
def test_one_row_alone_has_the_probabilities_that_it_has_among_others(model, history, nameless, past, with_past):
    sessions = history if with_past else nameless
    together = model.predict_proba(sessions.head(200), past[:200] if with_past else None)

    alone = [
        model.predict_proba(sessions.iloc[[place]], past[place : place + 1] if with_past else None)
        for place in range(200)
    ]

    assert np.vstack(alone).tobytes() == together.tobytes()


# The arguments of a fit.


def same(one, other):
    """Return whether two estimators are equal models."""
    trees = [fitted.booster_.model_to_string() for fitted in (one, other)]
    return trees[0] == trees[1] and one.cold_weight_ == other.cold_weight_ and one.contract_ == other.contract_


QUICK = {"n_estimators": 5, "n_jobs": 1}


def test_a_fit_changes_no_argument(history, past):
    frame, types, known = history.copy(), history["charger_type"].copy(), past.copy()

    ChargerTypeModel(**QUICK).fit(frame, types, past=known)

    pd.testing.assert_frame_equal(frame, history)
    pd.testing.assert_series_equal(types, history["charger_type"])
    assert known.tobytes() == past.tobytes()


def test_a_fit_refuses_a_past_matrix_and_does_not_change_it(history, past):
    matrix = np.column_stack([np.full((len(past), len(MATRIX_COLUMNS)), 7.0), past])
    before = matrix.copy()

    with pytest.raises(ValueError, match="fit_in_place"):
        ChargerTypeModel(**QUICK).fit(history, history["charger_type"], past=matrix)

    assert matrix.tobytes() == before.tobytes()


def test_a_past_of_other_types_or_rows_is_refused_with_both_shapes(history, past):
    n, columns = past.shape
    two_types = past_of(history, ["Level 1", "Level 2"])

    for wrong, found in ((two_types, two_types.shape), (past[:-1], (n - 1, columns)), (past[:, 0], (n,))):
        with pytest.raises(ValueError, match=r"(?s)past has the shape .*Level 1") as caught:
            ChargerTypeModel(**QUICK).fit(history, history["charger_type"], past=wrong)
        assert f"shape {found}" in str(caught.value)
        assert f"expected are {n} rows with the {columns} columns" in str(caught.value)


def test_a_fit_of_named_drivers_without_a_past_is_refused(history):
    # Such a model would learn that every driver is new, but predict drivers who are not new.
    with pytest.raises(ValueError, match="name drivers"):
        ChargerTypeModel(**QUICK).fit(history, history["charger_type"])


def test_a_history_gives_a_fit_the_past_of_each_driver(history, past):
    types = history["charger_type"]

    learned = ChargerTypeModel(**QUICK).fit(history, types, history=history.sample(frac=1, random_state=1))

    assert same(learned, ChargerTypeModel(**QUICK).fit(history, types, past=past))


@pytest.mark.parametrize("name", ["vehicle_model", "charging_start_time", "temperature_c"])
def test_a_column_that_a_fit_needs_is_named(history, name):
    with pytest.raises(ValueError, match=f"no column {name}"):
        ChargerTypeModel(**QUICK).fit(history.drop(columns=["user_id", name]), history["charger_type"])


@pytest.mark.parametrize("wrong", [None, np.nan, 3, True])
def test_a_charger_type_that_is_not_a_text_is_refused(history, wrong):
    types = history["charger_type"].astype(object).tolist()
    types[5] = wrong

    with pytest.raises(ValueError, match="charger types are texts"):
        ChargerTypeModel(**QUICK).fit(history.drop(columns="user_id"), types)


def test_a_type_for_each_row_is_needed(history):
    with pytest.raises(ValueError, match=f"5 charger types for {len(history)} rows"):
        ChargerTypeModel(**QUICK).fit(history, ["Level 1", "Level 2"] * 2 + ["Level 1"])


@pytest.fixture(scope="module")
def tied(history):
    """Return sessions with many equal starts, in order of start and then of session_id."""
    starts = history["charging_start_time"].dt.floor("12h")
    ids = np.random.default_rng(2).permutation(len(history))
    return history.assign(charging_start_time=starts, session_id=ids).sort_values(["charging_start_time", "session_id"])


@pytest.mark.parametrize("with_past", [True, False])
def test_shuffled_rows_give_the_model_of_sorted_ones(tied, past, with_past):
    order = np.random.default_rng(5).permutation(len(tied))
    one, other = ChargerTypeModel(**QUICK), ChargerTypeModel(**QUICK)
    # Without a past the driver must not be named.
    tied = tied if with_past else tied.drop(columns="user_id")

    expected = one.fit_predict_proba(tied, tied["charger_type"], past=past if with_past else None)
    found = other.fit_predict_proba(
        tied.iloc[order], tied["charger_type"].iloc[order].tolist(), past=past[order] if with_past else None
    )

    assert same(one, other)
    assert found.tobytes() == expected[order].tobytes()


def test_rows_without_ids_that_start_together_keep_their_order(tied):
    shuffled = tied.drop(columns="session_id").sample(frac=1, random_state=1)
    by_time = shuffled.sort_values("charging_start_time", kind="stable")

    assert same(
        *(
            ChargerTypeModel(**QUICK).fit(rows.drop(columns="user_id"), rows["charger_type"])
            for rows in (shuffled, by_time)
        )
    )


def test_a_fit_in_place_writes_into_its_matrix_and_gives_the_same_model(history, past):
    matrix = np.column_stack([np.full((len(past), len(MATRIX_COLUMNS)), np.nan), past])
    one, other = ChargerTypeModel(**QUICK), ChargerTypeModel(**QUICK)

    found = one.fit_in_place(history, history["charger_type"], matrix)

    expected = other.fit_predict_proba(history, history["charger_type"], past=past)
    assert same(one, other)
    assert found.tobytes() == expected.tobytes()
    assert matrix.tobytes() == one.matrix(history, past).tobytes()


def test_a_fit_in_place_refuses_rows_out_of_order_and_a_matrix_of_another_width(history, past):
    types = history["charger_type"]
    with pytest.raises(ValueError, match="charging_start_time"):
        ChargerTypeModel(**QUICK).fit_in_place(history[::-1], types[::-1], past[::-1])

    with pytest.raises(ValueError, match=f"{past.shape[1] + len(MATRIX_COLUMNS)}"):
        ChargerTypeModel(**QUICK).fit_in_place(history, types, past)


# Drivers without a past.


def new_drivers(n=1500, *, matters, drivers=None, seed=1):
    """Build sessions, most of new drivers. With the probability `matters` the charge decides the type."""
    random = np.random.default_rng(seed)
    charge = random.uniform(0, 100, n)
    told = np.broadcast_to(matters, n) > random.random(n)
    used = np.where(np.where(told, charge < 50, random.random(n) < 0.5), "A", "B")
    frame = cleaned(
        n,
        user_id=drivers,
        charger_type=used,
        charging_end_time=pd.NaT,
        energy_consumed_kwh=np.nan,
        charging_duration_hours=np.nan,
        state_of_charge_start=charge,
        distance_driven_km=random.uniform(0, 500, n),
        temperature_c=random.uniform(-20, 30, n),
    )
    return frame, past_of(frame, ["A", "B"])


def fitted_to(frame, past, **params):
    return ChargerTypeModel(n_estimators=50, n_jobs=1, **params).fit(frame, frame["charger_type"], past=past)


def test_new_drivers_get_the_mix_if_the_context_does_not_matter():
    frame, past = new_drivers(matters=0)

    fitted = fitted_to(frame, past)

    assert fitted.cold_weight_ <= 0.15
    found = fitted.predict_proba(frame, past)
    assert abs(found - past[:, type_columns("share", 2)]).max() < 0.1


def test_new_drivers_get_the_trees_if_the_context_decides():
    frame, past = new_drivers(matters=1)

    fitted = fitted_to(frame, past)

    assert fitted.cold_weight_ >= 0.95
    assert (fitted.predict(frame, past) == frame["charger_type"]).mean() > 0.98


def test_the_weight_is_learned_on_later_sessions_than_its_booster():
    # If the charge decided the type at first but not later, new drivers are predicted like the later sessions.
    frame, past = new_drivers(matters=np.arange(1500) < 1200)

    assert fitted_to(frame, past).cold_weight_ <= 0.15


@pytest.mark.parametrize(("new", "matters"), [(0, 1), (19, 0), (19, 1), (20, 0), (20, 1), (60, 0)])
def test_if_few_drivers_are_new_known_drivers_count_as_new(new, matters):
    # The new drivers are in the last fifth: 300 sessions.
    drivers = ["known"] * 1500
    drivers[1200 : 1200 + new] = [f"new {number}" for number in range(new)]
    frame, past = new_drivers(matters=matters, drivers=drivers)

    found = fitted_to(frame, past)

    assert (past[1200:, driver_column("sessions", 2)] == 0).sum() == new
    # With sixty sessions, chance alone can give this result.
    assert found.cold_weight_ >= 0.8 if matters else found.cold_weight_ <= 0.3


def test_the_weight_is_witnessed_by_drivers(monkeypatch):
    # The sessions of one driver are one witness. A session without a user is a witness of its own.
    told = []
    monkeypatch.setattr(learned_weights, "witnessed_weight", lambda _found, _mix, drivers: told.append(drivers) or 0.5)
    frame, past = new_drivers(300, matters=0.5, drivers=["u1", None, "u2", "u1", None] * 60)

    for rows in (frame, frame.drop(columns="user_id")):
        assert fitted_to(rows, past).cold_weight_ == 0.5

    named, nameless = told
    # Only the 24 sessions without a user in the last fifth have new drivers.
    assert len(named) == len(set(named.tolist())) == 24
    assert nameless.tolist() == list(range(24))
    told.clear()
    fitted_to(frame.assign(user_id=["u1", "u2", "u3"] * 100), past_of(frame.assign(user_id="u"), ["A", "B"]))
    assert told[0].tolist() == [0, 1, 2] * 20


def test_a_type_that_only_the_later_sessions_have_does_not_decide_the_weight():
    # One late session of a third type cost the trees 34.5 nats and the mix about 7, so the mix got all the
    # weight.
    frame, _ = new_drivers(1500, matters=0.9)
    without = fitted_to(frame, past_of(frame, ["A", "B"])).cold_weight_
    frame.loc[1400, "charger_type"] = "C"

    assert without > 0.9
    assert fitted_to(frame, past_of(frame, ["A", "B", "C"])).cold_weight_ > 0.9


def test_new_drivers_get_the_mix_if_the_earlier_sessions_have_a_single_type():
    frame, _ = new_drivers(matters=1)
    frame["charger_type"] = ["A"] * 1200 + ["A", "B"] * 150

    assert fitted_to(frame, past_of(frame, ["A", "B"])).cold_weight_ == 0


def test_only_drivers_without_a_past_are_blended_with_the_mix(history, past):
    random = np.random.default_rng(3)
    mixed = past.copy()
    nobody = random.random(len(mixed)) < 0.3
    mixed[nobody] = past_of(history.assign(user_id=None), sorted(history["charger_type"].unique()))[nobody]
    fitted = ChargerTypeModel(n_estimators=20, n_jobs=1).fit(history, history["charger_type"], past=mixed)
    fitted.cold_weight_ = w = 0.4
    cold = mixed[:, driver_column("sessions", 3)] == 0
    booster = fitted.scorer_.score(fitted.matrix(history, mixed), 1)
    mix = mixed[:, type_columns("share", 3)]

    found = fitted.predict_proba(history, mixed)

    assert nobody[cold].sum() < cold.sum() < len(cold)
    assert found[~cold].tobytes() == booster[~cold].tobytes()
    np.testing.assert_allclose(found[cold], w * booster[cold] + (1 - w) * mix[cold], rtol=1e-12)
    assert abs(found[cold] - booster[cold]).max() > 0.01


def test_without_user_ids_all_drivers_are_new(model, history, nameless):
    # The prediction uses the mix of the days before, as for sessions that name no user.
    types = model.classes_.tolist()

    found = model.predict_proba(nameless)

    nobody = past_of(history.assign(user_id=None), types)
    nobody[:, present_places(3)] = np.nan
    assert found.tobytes() == model.predict_proba(history, nobody).tobytes()
    assert found.tobytes() == model.predict_proba(history.assign(user_id=None)).tobytes()
    # With a history, the present is known.
    blank = model.predict_proba(history.assign(user_id="  "), history=history)
    places = present_places(3)
    nobody[:, places] = past_of(history, types)[:, places]
    assert blank.tobytes() == model.predict_proba(history, nobody).tobytes() != found.tobytes()


def test_the_matrix_is_the_natural_columns_and_the_pasts(model, history, past):
    matrix = model.matrix(history, past)

    assert matrix.shape == (len(history), len(model.columns_))
    by_name = dict(zip(model.columns_, matrix.T, strict=True))
    assert by_name["battery_capacity_kwh"].tolist() == history["battery_capacity_kwh"].tolist()
    start = history["charging_start_time"]
    assert by_name["weekday"].tolist() == start.dt.day_of_week.tolist()
    assert matrix[:, len(MATRIX_COLUMNS) :].tobytes() == past.tobytes()
    assert by_name["share[Level 2]"].tolist() == past[:, type_columns("share", 3)][:, 2].tolist()
    assert model.booster_.num_feature() == len(model.columns_)


def test_charger_types_may_have_any_names(history, past):
    strange = {"DC Fast Charger": 'a "b": [c], {d}', "Level 1": "b\t,é", "Level 2": "ссс 22 кВт"}
    renamed = history["charger_type"].map(strange)

    fitted = ChargerTypeModel(n_estimators=3, n_jobs=1).fit(history, renamed, past=past)

    loaded = joblib.load(io.BytesIO(exported(fitted.to_bytes())))
    assert loaded.classes_.tolist() == sorted(strange.values())
    assert loaded.predict_proba(history, past).tobytes() == fitted.predict_proba(history, past).tobytes()


def test_a_leaking_feature_is_refused_by_its_name(history, monkeypatch):
    leak = type(FEATURES[0])("energy_consumed_kwh", "number", "energy", 30.0)
    monkeypatch.setattr(model_module, "FEATURES", (*FEATURES, leak))

    with pytest.raises(ValueError, match="energy_consumed_kwh"):
        ChargerTypeModel().fit(history.assign(energy_consumed_kwh=1.0), history["charger_type"])


def test_the_contract_says_where_the_history_had_holes(history):
    holed = history.assign(state_of_charge_start=np.nan)
    holed.loc[3, "vehicle_age_years"] = np.nan

    fields = (
        ChargerTypeModel(n_estimators=2, n_jobs=1)
        .fit(holed.drop(columns="user_id"), holed["charger_type"])
        .contract_["fields"]
    )

    assert fields["state_of_charge_start"] == "ignored"
    assert fields["vehicle_age_years"] == "nullable"
    assert fields["battery_capacity_kwh"] == "required"
    assert fields["temperature_c"] == ("nullable" if history["temperature_c"].isna().any() else "required")


def test_a_value_out_of_range_is_missing_as_in_a_training(model, nameless):
    wild = nameless.assign(temperature_c=[900.0 if place % 2 else 15.0 for place in range(len(nameless))])

    probabilities = model.predict_proba(wild)

    missing = wild.assign(temperature_c=wild["temperature_c"].where(wild["temperature_c"] < 60))
    assert probabilities.tobytes() == model.predict_proba(missing).tobytes()


def test_a_frame_may_lack_the_vehicle_model(model, nameless):
    probabilities = model.predict_proba(nameless.drop(columns="vehicle_model"))

    assert probabilities.tobytes() == model.predict_proba(nameless.assign(vehicle_model=None)).tobytes()


def test_needed_columns_that_are_absent_are_named(model, history, nameless):
    with pytest.raises(ValueError, match="no column temperature_c, user_type"):
        model.predict(nameless.drop(columns=["temperature_c", "user_type"]))
    with pytest.raises(ValueError, match="no column charging_start_time"):
        model.predict(history.drop(columns="charging_start_time"), history=history)


def test_a_row_without_a_start_is_refused(model, history, nameless):
    without = history["charging_start_time"].where(history.index > 0)
    for options in ({"X": nameless}, {"X": history, "history": history}):
        with pytest.raises(ValueError, match="charging_start_time is missing in some rows; give every session"):
            model.predict(options.pop("X").assign(charging_start_time=without), **options)


def test_a_known_value_that_no_row_has_counts_as_missing(history, nameless):
    categories = {"user_type": ["Astronaut", "Casual Driver", "Commuter", "Long-Distance Traveler"]}
    categories |= {"vehicle_model": sorted(history["vehicle_model"].dropna().unique())}
    fitted = ChargerTypeModel(n_estimators=5, n_jobs=1).fit(
        history.drop(columns="user_id"), history["charger_type"], categories=categories
    )

    strange = fitted.predict_proba(nameless.assign(user_type="Astronaut"))

    assert fitted.contract_["categories"] == categories
    assert strange.tobytes() == fitted.predict_proba(nameless.assign(user_type=None)).tobytes()


# The progress of the boosting, and the drawing of rows.


@pytest.mark.parametrize("types", [2, 3])
def test_progress_is_reported_round_by_round_with_the_log_loss(history, monkeypatch, types):
    monkeypatch.setattr(boosting, "_TOLD_SECONDS", 0)
    monkeypatch.setattr(boosting, "_TOLD_SHARE", 0)
    some = history[history["charger_type"].isin(sorted(history["charger_type"].unique())[:types])]
    # The kept booster treats the few missing values of a column differently from the booster that reports progress.
    some = some.dropna(subset=[feature.name for feature in NUMBERS])
    told = []

    fitted = ChargerTypeModel(n_estimators=5, n_jobs=1).fit(
        some.drop(columns="user_id"), some["charger_type"], progress=lambda *step: told.append(step)
    )

    assert [step[:2] for step in told] == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    losses = [step[2] for step in told]
    assert losses == sorted(losses, reverse=True)
    found = fitted.scorer_.score(fitted.matrix(some), 1)
    chosen = found[np.arange(len(some)), np.searchsorted(fitted.classes_, some["charger_type"])]
    assert losses[-1] == pytest.approx(-np.log(chosen).mean())


def test_progress_is_reported_a_few_times_a_second(history):
    told = []
    begin = time.monotonic()

    ChargerTypeModel(n_estimators=60, n_jobs=1).fit(
        history.drop(columns="user_id"), history["charger_type"], progress=lambda done, *_: told.append(done)
    )

    assert told[0] == 1
    assert told[-1] == 60
    assert len(told) <= 2 + (time.monotonic() - begin) / 0.2


def test_the_end_of_the_boosting_is_always_reported(history, monkeypatch):
    monkeypatch.setattr(boosting, "_TOLD_SECONDS", np.inf)
    told = []

    ChargerTypeModel(n_estimators=5, n_jobs=1).fit(
        history.drop(columns="user_id"), history["charger_type"], progress=lambda done, *_: told.append(done)
    )

    assert told == [1, 5]


@pytest.mark.parametrize("subsample", [1.0, 0.5])
def test_reporting_progress_changes_no_tree(history, past, monkeypatch, subsample):
    monkeypatch.setattr(boosting, "_TOLD_SECONDS", 0)
    silent, telling = (ChargerTypeModel(n_estimators=8, subsample=subsample, n_jobs=1) for _ in range(2))

    silent.fit(history, history["charger_type"], past=past)
    telling.fit(history, history["charger_type"], past=past, progress=lambda *_: None)

    assert telling.booster_.model_to_string() == silent.booster_.model_to_string()
    assert telling.cold_weight_ == silent.cold_weight_


@pytest.mark.parametrize("subsample", [1.0, 0.5, 0.25])
def test_a_tree_uses_the_given_share_of_the_rows(history, past, subsample):
    fitted = ChargerTypeModel(n_estimators=3, subsample=subsample, n_jobs=1)

    fitted.fit(history, history["charger_type"], past=past)

    nodes = fitted.booster_.trees_to_dataframe()
    roots = nodes[nodes["node_depth"] == 1]
    # LightGBM counts the rows of a sample by their weights.
    assert roots["count"].tolist() == pytest.approx([subsample * len(history)] * 9, rel=0.15)


def test_each_tree_draws_rows_of_its_own(history, past):
    # With a very small learning rate, all trees of a type would be equal on equal rows.
    slow = {"n_estimators": 2, "learning_rate": 1e-9, "colsample_bytree": 1.0, "n_jobs": 1}

    def first_splits(subsample):
        fitted = ChargerTypeModel(**slow, subsample=subsample).fit(history, history["charger_type"], past=past)
        nodes = fitted.booster_.trees_to_dataframe()
        return nodes[nodes["node_depth"] == 1]["split_gain"].round(3).tolist()

    every, drawn = first_splits(1.0), first_splits(0.5)

    assert every[:3] == every[3:]
    assert drawn[:3] != drawn[3:]
