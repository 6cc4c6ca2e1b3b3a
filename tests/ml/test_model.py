"""ChargerTypeModel: a scikit-learn style estimator of natural-unit columns that survives saving to the bit."""

import io
import time

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from zap.ml import model as model_module
from zap.ml.features import FEATURES, MATRIX_COLUMNS
from zap.ml.history import RawHistory, clean_history
from zap.ml.model import ChargerTypeModel, booster_probabilities
from zap.ml.sample import sample_history
from zap.ml.training import mix_of, past_features
from zap.ml.user_history import driver_column, history_columns, type_columns


def past_of(frame, types):
    """What was known of each driver; all sessions are trained on."""
    return past_features(frame, types, mix_of(frame, types))


@pytest.fixture(scope="module")
def history():
    sample = sample_history(seed=5, drivers=20, months=3)
    vehicles = sample.vehicles.assign(vehicle_id=range(len(sample.vehicles)))
    sessions = sample.sessions.merge(vehicles[["user_id", "vehicle_id"]], on="user_id")
    return clean_history(RawHistory(sample.users, vehicles, sessions.assign(session_id=range(len(sessions))))).frame


@pytest.fixture(scope="module")
def past(history):
    return past_of(history, sorted(history["charger_type"].unique()))


@pytest.fixture(scope="module")
def model(history, past):
    return ChargerTypeModel(n_estimators=20, n_jobs=1).fit(history, history["charger_type"], past=past)


@pytest.fixture(scope="module")
def model_of_strangers(history):
    """Fitted without anybody's past."""
    return ChargerTypeModel(n_estimators=20, n_jobs=1).fit(history, history["charger_type"])


def test_it_works(model, history, past):
    probabilities = model.predict_proba(history, past)

    assert model.classes_.tolist() == ["DC Fast Charger", "Level 1", "Level 2"]
    assert probabilities.shape == (len(history), 3)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert model.predict(history, past).tolist() == model.classes_[probabilities.argmax(axis=1)].tolist()
    assert (model.predict(history, past) == history["charger_type"]).mean() > 0.8
    assert list(model.feature_names_in_) == [feature.name for feature in FEATURES]
    assert model.columns_ == [*MATRIX_COLUMNS, *history_columns(model.classes_.tolist())]


def test_the_past_of_the_drivers_is_learned_from(model, model_of_strangers, history, past):
    truth = pd.Categorical(history["charger_type"], categories=model.classes_).codes

    def loss(probabilities):
        return -np.log(probabilities[np.arange(len(truth)), truth]).mean()

    assert loss(model.predict_proba(history, past)) < 0.9 * loss(model.predict_proba(history))
    assert loss(model.predict_proba(history, past)) < 0.9 * loss(model_of_strangers.predict_proba(history))


def test_without_any_past_it_is_a_scikit_learn_classifier_of_a_frame(model_of_strangers, history):
    assert model_of_strangers.score(history, history["charger_type"]) > 0.6


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
    # The columns are those of classes_, not the other way round.
    assert (fitted.predict(two, past) == two["charger_type"]).mean() > 0.8
    assert fitted.predict_proba(two).shape == (len(two), 2)


def test_one_charger_type_is_refused(history):
    with pytest.raises(ValueError, match="two or more"):
        ChargerTypeModel().fit(history, ["Level 1"] * len(history))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_rows_give_the_same_trees_with_any_number_of_threads(model, history, past, threads, monkeypatch):
    # Even of a fit as small as this one.
    monkeypatch.setattr(model_module, "_ROWS_PER_THREAD", 1)
    again = ChargerTypeModel(n_estimators=20, n_jobs=threads).fit(history, history["charger_type"], past=past)

    # The text ends with the parameters, of which the number of threads is one.
    trees, _, _ = again.booster_.model_to_string().partition("end of trees")
    assert trees == model.booster_.model_to_string().partition("end of trees")[0]


def test_saving_and_loading_change_no_bit(model, history, past):
    loaded = joblib.load(io.BytesIO(model.to_bytes()))

    assert loaded.predict_proba(history, past).tobytes() == model.predict_proba(history, past).tobytes()
    assert loaded.predict_proba(history).tobytes() == model.predict_proba(history).tobytes()
    assert loaded.contract_ == model.contract_
    assert loaded.get_params() == model.get_params()


@pytest.mark.parametrize("with_past", [True, False])
def test_one_row_alone_has_the_probabilities_that_it_has_among_others(model, history, past, with_past):
    together = model.predict_proba(history.head(200), past[:200] if with_past else None)

    alone = [
        model.predict_proba(history.iloc[[place]], past[place : place + 1] if with_past else None)
        for place in range(200)
    ]

    assert np.vstack(alone).tobytes() == together.tobytes()


# Drivers without a past.


def strangers(n=1500, *, matters, drivers=None, seed=1):
    """Sessions whose type is told by the charge (its chance to be is `matters`), or drawn; most of new drivers."""
    random = np.random.default_rng(seed)
    charge = random.uniform(0, 100, n)
    told = np.broadcast_to(matters, n) > random.random(n)
    used = np.where(np.where(told, charge < 50, random.random(n) < 0.5), "A", "B")
    frame = pd.DataFrame(
        {
            "user_id": pd.Series([None] * n if drivers is None else drivers, dtype="str"),
            "charger_type": pd.Series(used, dtype="str"),
            "charging_start_time": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(n), unit="h"),
            "charging_end_time": pd.Series(pd.NaT, index=range(n), dtype="datetime64[s]"),
            "energy_consumed_kwh": np.nan,
            "charging_duration_hours": np.nan,
            "state_of_charge_start": charge,
            "distance_driven_km": random.uniform(0, 500, n),
            "temperature_c": random.uniform(-20, 30, n),
            "battery_capacity_kwh": 64.0,
            "vehicle_age_years": 3.0,
            "user_type": "Commuter",
            "vehicle_model": "Leaf",
        }
    )
    return frame, past_of(frame, ["A", "B"])


def fitted_to(frame, past, **params):
    return ChargerTypeModel(n_estimators=50, n_jobs=1, **params).fit(frame, frame["charger_type"], past=past)


def test_where_the_context_says_nothing_new_drivers_get_the_mix():
    frame, past = strangers(matters=0)

    fitted = fitted_to(frame, past)

    assert fitted.cold_weight_ <= 0.15
    found = fitted.predict_proba(frame, past)
    assert abs(found - past[:, type_columns("share", 2)]).max() < 0.1


def test_where_the_context_decides_new_drivers_get_the_model():
    frame, past = strangers(matters=1)

    fitted = fitted_to(frame, past)

    assert fitted.cold_weight_ >= 0.95
    assert (fitted.predict(frame, past) == frame["charger_type"]).mean() > 0.98


def test_the_weight_is_learned_on_later_sessions_than_its_booster():
    """Where the context said all at first and nothing later, what is new is like what came last."""
    frame, past = strangers(matters=np.arange(1500) < 1200)

    assert fitted_to(frame, past).cold_weight_ <= 0.15


@pytest.mark.parametrize("new", [0, 19, 20, 60])
@pytest.mark.parametrize("matters", [0, 1])
def test_where_few_drivers_are_new_the_known_ones_are_taken_for_new(new, matters):
    """The new ones among the last fifth: 300 sessions."""
    drivers = ["known"] * 1500
    drivers[1200 : 1200 + new] = [f"new {number}" for number in range(new)]
    frame, past = strangers(matters=matters, drivers=drivers)

    found = fitted_to(frame, past)

    assert (past[1200:, driver_column("sessions", 2)] == 0).sum() == new
    assert found.cold_weight_ >= 0.8 if matters else found.cold_weight_ <= 0.2


def test_where_the_earlier_sessions_have_a_single_type_new_drivers_get_the_mix():
    frame, _ = strangers(matters=1)
    frame["charger_type"] = ["A"] * 1200 + ["A", "B"] * 150

    assert fitted_to(frame, past_of(frame, ["A", "B"])).cold_weight_ == 0


def test_only_drivers_without_a_past_are_drawn_towards_the_mix(history, past):
    random = np.random.default_rng(3)
    mixed = past.copy()
    nobody = random.random(len(mixed)) < 0.3
    mixed[nobody] = past_of(history.assign(user_id=None), sorted(history["charger_type"].unique()))[nobody]
    fitted = ChargerTypeModel(n_estimators=20, n_jobs=1).fit(history, history["charger_type"], past=mixed)
    fitted.cold_weight_ = w = 0.4
    cold = mixed[:, driver_column("sessions", 3)] == 0
    booster = booster_probabilities(fitted.booster_, fitted.matrix(history, mixed), 1)
    mix = mixed[:, type_columns("share", 3)]

    found = fitted.predict_proba(history, mixed)

    assert nobody[cold].sum() < cold.sum() < len(cold)
    assert found[~cold].tobytes() == booster[~cold].tobytes()
    np.testing.assert_allclose(found[cold], w * booster[cold] + (1 - w) * mix[cold], rtol=1e-12)
    assert abs(found[cold] - booster[cold]).max() > 0.01


def test_without_pasts_everybody_is_new(model, history):
    """The mix is that of the days before: the same as of sessions that name no user."""
    types = model.classes_.tolist()

    found = model.predict_proba(history)

    nobody = past_of(history.assign(user_id=None), types)
    assert found.tobytes() == model.predict_proba(history, nobody).tobytes()


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

    loaded = joblib.load(io.BytesIO(fitted.to_bytes()))
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

    fields = ChargerTypeModel(n_estimators=2, n_jobs=1).fit(holed, holed["charger_type"]).contract_["fields"]

    assert fields["state_of_charge_start"] == "ignored"
    assert fields["vehicle_age_years"] == "nullable"
    assert fields["battery_capacity_kwh"] == "required"
    assert fields["temperature_c"] == ("nullable" if history["temperature_c"].isna().any() else "required")


def test_what_is_out_of_range_is_missing_as_in_a_training(model, history):
    wild = history.assign(temperature_c=[900.0 if place % 2 else 15.0 for place in range(len(history))])

    probabilities = model.predict_proba(wild)

    missing = wild.assign(temperature_c=wild["temperature_c"].where(wild["temperature_c"] < 60))
    assert probabilities.tobytes() == model.predict_proba(missing).tobytes()


def test_a_frame_may_lack_the_vehicle_model(model, history):
    probabilities = model.predict_proba(history.drop(columns="vehicle_model"))

    assert probabilities.tobytes() == model.predict_proba(history.assign(vehicle_model=None)).tobytes()


def test_columns_that_are_needed_and_not_there_are_named(model, history):
    with pytest.raises(ValueError, match="no column temperature_c, user_type"):
        model.predict(history.drop(columns=["temperature_c", "user_type"]))


def test_a_row_without_a_start_is_refused(model, history):
    with pytest.raises(ValueError, match="charging_start_time"):
        model.predict(history.assign(charging_start_time=pd.NaT))


def test_a_known_value_that_no_row_has_counts_as_missing(history):
    categories = {"user_type": ["Astronaut", "Casual Driver", "Commuter", "Long-Distance Traveler"]}
    categories |= {"vehicle_model": sorted(history["vehicle_model"].dropna().unique())}
    fitted = ChargerTypeModel(n_estimators=5, n_jobs=1).fit(history, history["charger_type"], categories=categories)

    strange = fitted.predict_proba(history.assign(user_type="Astronaut"))

    assert fitted.contract_["categories"] == categories
    assert strange.tobytes() == fitted.predict_proba(history.assign(user_type=None)).tobytes()


# What is told of the boosting, and how it draws rows.


@pytest.mark.parametrize("types", [2, 3])
def test_progress_is_told_round_by_round_with_the_log_loss_so_far(history, monkeypatch, types):
    monkeypatch.setattr(model_module, "_TOLD_SECONDS", 0)
    monkeypatch.setattr(model_module, "_TOLD_SHARE", 0)
    some = history[history["charger_type"].isin(sorted(history["charger_type"].unique())[:types])]
    told = []

    fitted = ChargerTypeModel(n_estimators=5, n_jobs=1).fit(
        some, some["charger_type"], progress=lambda *step: told.append(step)
    )

    assert [step[:2] for step in told] == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    losses = [step[2] for step in told]
    assert losses == sorted(losses, reverse=True)
    found = booster_probabilities(fitted.booster_, fitted.matrix(some), 1)
    chosen = found[np.arange(len(some)), np.searchsorted(fitted.classes_, some["charger_type"])]
    assert losses[-1] == pytest.approx(-np.log(chosen).mean())


def test_progress_is_told_a_few_times_a_second(history):
    told = []
    begin = time.monotonic()

    ChargerTypeModel(n_estimators=60, n_jobs=1).fit(
        history, history["charger_type"], progress=lambda done, *_: told.append(done)
    )

    assert told[0] == 1
    assert told[-1] == 60
    assert len(told) <= 2 + (time.monotonic() - begin) / 0.2


def test_the_end_is_told_in_any_case(history, monkeypatch):
    monkeypatch.setattr(model_module, "_TOLD_SECONDS", np.inf)
    told = []

    ChargerTypeModel(n_estimators=5, n_jobs=1).fit(
        history, history["charger_type"], progress=lambda done, *_: told.append(done)
    )

    assert told == [1, 5]


@pytest.mark.parametrize("subsample", [1.0, 0.5])
def test_telling_progress_changes_no_tree(history, past, monkeypatch, subsample):
    monkeypatch.setattr(model_module, "_TOLD_SECONDS", 0)
    silent, telling = (ChargerTypeModel(n_estimators=8, subsample=subsample, n_jobs=1) for _ in range(2))

    silent.fit(history, history["charger_type"], past=past)
    telling.fit(history, history["charger_type"], past=past, progress=lambda *_: None)

    assert telling.booster_.model_to_string() == silent.booster_.model_to_string()
    assert telling.cold_weight_ == silent.cold_weight_


@pytest.mark.parametrize("subsample", [1.0, 0.5, 0.25])
def test_a_tree_sees_the_share_of_the_rows_that_is_asked_for(history, past, subsample):
    fitted = ChargerTypeModel(n_estimators=3, subsample=subsample, n_jobs=1)

    fitted.fit(history, history["charger_type"], past=past)

    nodes = fitted.booster_.trees_to_dataframe()
    roots = nodes[nodes["node_depth"] == 1]
    # LightGBM counts the rows of a sample by their weights.
    assert roots["count"].tolist() == pytest.approx([subsample * len(history)] * 9, rel=0.15)


def test_each_tree_draws_rows_of_its_own(history, past):
    """With a rate of next to nothing, all trees of a type would be the same on the same rows."""
    slow = {"n_estimators": 2, "learning_rate": 1e-9, "colsample_bytree": 1.0, "n_jobs": 1}

    def first_splits(subsample):
        fitted = ChargerTypeModel(**slow, subsample=subsample).fit(history, history["charger_type"], past=past)
        nodes = fitted.booster_.trees_to_dataframe()
        return nodes[nodes["node_depth"] == 1]["split_gain"].round(3).tolist()

    every, drawn = first_splits(1.0), first_splits(0.5)

    assert every[:3] == every[3:]
    assert drawn[:3] != drawn[3:]
