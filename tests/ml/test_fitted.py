"""FittedModel: what an artefact says, read without calling anything in it."""

import io
import pickle
import zlib

import joblib
import pytest

from zap.errors import DamagedModel
from zap.ml import fitted
from zap.ml.features import FEATURES, MATRIX_COLUMNS
from zap.ml.fitted import FittedModel, sha256
from zap.ml.history import RawHistory, clean_history
from zap.ml.model import ChargerTypeModel
from zap.ml.sample import sample_history
from zap.ml.user_history import history_columns


@pytest.fixture(scope="module")
def model():
    sample = sample_history(seed=5, drivers=20, months=3)
    vehicles = sample.vehicles.assign(vehicle_id=range(len(sample.vehicles)))
    sessions = sample.sessions.assign(vehicle_id=None, session_id=range(len(sample.sessions)))
    history = clean_history(RawHistory(sample.users, vehicles, sessions)).frame
    return ChargerTypeModel(n_estimators=4, n_jobs=1).fit(history, history["charger_type"])


def test_it_is_what_the_estimator_found(model):
    artefact = model.to_bytes()

    read = FittedModel.from_bytes(artefact, sha256(artefact))

    assert read.state() == model.fitted().state()
    assert type(joblib.load(io.BytesIO(artefact))) is ChargerTypeModel


class Canary:
    """Leaves a mark when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_bytes_with_another_digest_are_never_unpickled(model, tmp_path):
    strange = pickle.dumps(Canary(tmp_path / "unpickled"))

    with pytest.raises(DamagedModel, match="SHA-256"):
        FittedModel.from_bytes(strange, sha256(model.to_bytes()))

    assert not (tmp_path / "unpickled").exists()


def test_nothing_in_an_artefact_is_ever_called(tmp_path):
    strange = zlib.compress(pickle.dumps(Canary(tmp_path / "unpickled")))

    with pytest.raises(DamagedModel, match=r"it holds io.open"):
        FittedModel.from_bytes(strange, sha256(strange))

    assert not (tmp_path / "unpickled").exists()


def test_a_flipped_bit_is_noticed(model):
    artefact = model.to_bytes()
    flipped = bytearray(artefact)
    flipped[len(flipped) // 2] ^= 1

    with pytest.raises(DamagedModel):
        FittedModel.from_bytes(bytes(flipped), sha256(artefact))


def test_bytes_that_were_stored_but_do_not_load_are_told():
    with pytest.raises(DamagedModel, match="train again"):
        FittedModel.from_bytes(b"no pickle", sha256(b"no pickle"))


def test_a_model_of_other_features_is_refused_by_their_names(model, monkeypatch):
    artefact = model.to_bytes()
    monkeypatch.setattr(fitted, "FEATURES", FEATURES[1:])
    monkeypatch.setattr(fitted, "MATRIX_COLUMNS", MATRIX_COLUMNS[1:])

    with pytest.raises(DamagedModel, match=r"\(state_of_charge_start\)"):
        FittedModel.from_bytes(artefact, sha256(artefact))


def test_a_model_that_knows_other_things_of_the_past_is_refused_by_their_names(model, monkeypatch):
    artefact = model.to_bytes()
    monkeypatch.setattr(fitted, "history_columns", lambda types: [*history_columns(types)[:-1], "longest_pause"])

    with pytest.raises(DamagedModel, match=r"\(largest_power, longest_pause\)"):
        FittedModel.from_bytes(artefact, sha256(artefact))


def test_a_model_of_the_same_features_in_another_order_is_refused(model, monkeypatch):
    artefact = model.to_bytes()
    monkeypatch.setattr(fitted, "MATRIX_COLUMNS", MATRIX_COLUMNS[::-1])

    with pytest.raises(DamagedModel, match="train again"):
        FittedModel.from_bytes(artefact, sha256(artefact))
