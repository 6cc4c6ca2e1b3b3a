"""ChargerTypeModel: a scikit-learn style estimator of natural-unit columns that survives saving to the bit."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from zap.errors import DamagedModel
from zap.ml import model as model_module
from zap.ml.features import FEATURES
from zap.ml.history import RawHistory, clean_history
from zap.ml.model import ChargerTypeModel, sha256
from zap.ml.sample import sample_history


@pytest.fixture(scope="module")
def history():
    sample = sample_history(seed=5, drivers=20, months=3)
    vehicles = sample.vehicles.assign(vehicle_id=range(len(sample.vehicles)))
    sessions = sample.sessions.merge(vehicles[["user_id", "vehicle_id"]], on="user_id")
    return clean_history(RawHistory(sample.users, vehicles, sessions.assign(session_id=range(len(sessions))))).frame


@pytest.fixture(scope="module")
def model(history):
    return ChargerTypeModel(n_estimators=20).fit(history, history["charger_type"])


def test_it_works(model, history):
    probabilities = model.predict_proba(history)

    assert model.classes_.tolist() == ["DC Fast Charger", "Level 1", "Level 2"]
    assert probabilities.shape == (len(history), 3)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert model.predict(history).tolist() == model.classes_[probabilities.argmax(axis=1)].tolist()
    assert model.score(history, history["charger_type"]) > 0.7
    assert list(model.feature_names_in_) == [feature.name for feature in FEATURES]


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

    fitted = ChargerTypeModel(n_estimators=20).fit(two, two["charger_type"])

    probabilities = fitted.predict_proba(two)
    assert probabilities.shape == (len(two), 2)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert fitted.score(two, two["charger_type"]) > 0.7


def test_one_charger_type_is_refused(history):
    with pytest.raises(ValueError, match="two or more"):
        ChargerTypeModel().fit(history, ["Level 1"] * len(history))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_rows_give_the_same_trees_with_any_number_of_threads(model, history, threads):
    again = ChargerTypeModel(n_estimators=20, n_jobs=threads).fit(history, history["charger_type"])

    # The text ends with the parameters, of which the number of threads is one.
    trees, _, _ = again.booster_.model_to_string().partition("end of trees")
    assert trees == model.booster_.model_to_string().partition("end of trees")[0]


def test_saving_and_loading_change_no_bit(model, history):
    loaded = ChargerTypeModel.from_bytes(*model.to_bytes())

    assert loaded.predict_proba(history).tobytes() == model.predict_proba(history).tobytes()
    assert loaded.contract_ == model.contract_
    assert loaded.get_params() == model.get_params()


def test_one_row_alone_has_the_probabilities_that_it_has_among_others(model, history):
    together = model.predict_proba(history.head(200))

    alone = np.vstack([model.predict_proba(history.iloc[[place]]) for place in range(200)])

    assert alone.tobytes() == together.tobytes()


class Canary:
    """Leaves a mark when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_bytes_with_another_digest_are_never_unpickled(model, tmp_path):
    strange = pickle.dumps(Canary(tmp_path / "unpickled"))

    with pytest.raises(DamagedModel, match="SHA-256"):
        ChargerTypeModel.from_bytes(strange, model.to_bytes()[1])

    assert not (tmp_path / "unpickled").exists()


def test_a_flipped_bit_is_noticed(model):
    artefact, digest = model.to_bytes()
    flipped = bytearray(artefact)
    flipped[len(flipped) // 2] ^= 1

    with pytest.raises(DamagedModel):
        ChargerTypeModel.from_bytes(bytes(flipped), digest)


def test_bytes_that_were_stored_but_do_not_load_are_told():
    with pytest.raises(DamagedModel, match="train again"):
        ChargerTypeModel.from_bytes(b"no pickle", sha256(b"no pickle"))


def test_a_model_of_other_features_is_refused_by_their_names(model, monkeypatch):
    artefact, digest = model.to_bytes()
    monkeypatch.setattr(model_module, "FEATURES", FEATURES[1:])

    with pytest.raises(DamagedModel, match="state_of_charge_start"):
        ChargerTypeModel.from_bytes(artefact, digest)


def test_a_leaking_feature_is_refused_by_its_name(history, monkeypatch):
    leak = type(FEATURES[0])("energy_consumed_kwh", "number", "energy", 30.0)
    monkeypatch.setattr(model_module, "FEATURES", (*FEATURES, leak))

    with pytest.raises(ValueError, match="energy_consumed_kwh"):
        ChargerTypeModel().fit(history.assign(energy_consumed_kwh=1.0), history["charger_type"])


def test_the_contract_says_where_the_history_had_holes(history):
    holed = history.assign(state_of_charge_start=np.nan)
    holed.loc[3, "vehicle_age_years"] = np.nan

    fields = ChargerTypeModel(n_estimators=2).fit(holed, holed["charger_type"]).contract_["fields"]

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
    fitted = ChargerTypeModel(n_estimators=5).fit(history, history["charger_type"], categories=categories)

    strange = fitted.predict_proba(history.assign(user_type="Astronaut"))

    assert fitted.contract_["categories"] == categories
    assert strange.tobytes() == fitted.predict_proba(history.assign(user_type=None)).tobytes()


def test_progress_is_told_round_by_round(history):
    told = []

    ChargerTypeModel(n_estimators=5).fit(history, history["charger_type"], progress=lambda *step: told.append(step))

    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
