"""FittedModel: the data of an artefact, and its bytes."""

import dataclasses
import json
import math
import struct
import zlib

import pytest
from histories import raw_sample
from older import older_version

from zap.errors import DamagedModel
from zap.ml import fitted
from zap.ml.cells import to_seconds
from zap.ml.features import FEATURES, MATRIX_COLUMNS
from zap.ml.fitted import FittedModel, sha256
from zap.ml.history import clean_history, past_sessions
from zap.ml.history_columns import history_columns, past_columns
from zap.ml.inference import Predictor
from zap.ml.model import ChargerTypeModel, restored
from zap.ml.population_now import Present, present_columns
from zap.ml.sample import sample_history
from zap.ml.user_history import UserHistory


@pytest.fixture(scope="module")
def model():
    history = clean_history(raw_sample(sample_history(seed=5, drivers=20, months=3))).frame
    return ChargerTypeModel(n_estimators=4, n_jobs=1).fit(history.drop(columns="user_id"), history["charger_type"])


def changed(model, **changes):
    """Return the artefact of a model with other fields, where None removes a field."""
    data = json.loads(zlib.decompress(model.to_bytes())) | changes
    return zlib.compress(json.dumps({name: value for name, value in data.items() if value is not None}).encode())


def read(artefact):
    return FittedModel.from_bytes(artefact, sha256(artefact))


def test_it_has_the_result_of_the_estimator_to_the_bit(model):
    found, expected = read(model.to_bytes()), model.fitted()

    assert found.population.counts == expected.population.counts
    assert vars(found) | {"population": None} == vars(expected) | {"population": None}
    assert found.to_bytes() == model.to_bytes()


@pytest.mark.parametrize("weight", [0.1, 1 / 3, 5e-324, 1 - 2**-53, 0.0])
def test_a_number_keeps_its_bits(model, weight):
    artefact = dataclasses.replace(model.fitted(), cold_weight=weight).to_bytes()

    assert struct.pack("d", read(artefact).cold_weight) == struct.pack("d", weight)


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_a_number_that_json_does_not_have_is_refused(model, weight):
    with pytest.raises(ValueError, match="not JSON compliant"):
        dataclasses.replace(model.fitted(), cold_weight=weight).to_bytes()


@pytest.mark.parametrize("name", ['a "b": [c]', "\ud800 half of a pair", "\x00", "ссс 22 кВт"])
def test_a_text_may_have_any_characters(model, name):
    contract = model.contract_ | {"categories": model.contract_["categories"] | {"user_type": [name]}}

    assert read(dataclasses.replace(model.fitted(), contract=contract).to_bytes()).contract == contract


def test_a_field_that_was_added_later_has_its_default(model, monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Later(FittedModel):
        temperature: float = 1.5

    artefact = model.to_bytes()
    assert Later.from_bytes(artefact, sha256(artefact)).temperature == 1.5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"temperature": 1.5}, "temperature"),
        ({"format": 2}, "its form is 2, and this code reads form 1"),
        ({"format": None}, "format"),
        ({"classes": None}, "classes"),
        ({"contract": "none"}, "not a mapping"),
        ({"population": {"monday": [1, 2, 3]}}, "monday"),
    ],
)
def test_an_artefact_with_other_fields_is_damaged(model, changes, said):
    with pytest.raises(DamagedModel, match=f"cannot be read by this code .*{said}"):
        read(changed(model, **changes))


@pytest.mark.parametrize("content", [b"no JSON", b"[1, 2]", b"1", b"[" * 100_000])
def test_stored_bytes_that_are_no_model_are_damage(content):
    with pytest.raises(DamagedModel, match="train again"):
        read(zlib.compress(content))


def test_a_model_file_of_an_older_zap_is_loaded(model):
    """The older file is a pickle with the fields of the model, which are trees alone."""
    fitted = model.fitted()
    older = vars(fitted) | {"population": fitted.population.counts, "trees": fitted.scorer["trees"]}
    older["hyper_parameters"] = {name: one for name, one in fitted.hyper_parameters.items() if name != "estimator"}
    del older["scorer"]

    found = restored(older)

    assert found.estimator == "lightgbm"
    assert found.fitted().scorer == {"kind": "lightgbm", "trees": fitted.scorer["trees"]}
    assert restored(found.to_bytes()).to_bytes() == found.to_bytes()


@pytest.mark.parametrize("estimator", ["blend", "lightgbm"])
def test_a_version_that_knows_no_present_answers_as_before(estimator):
    """A present that the caller has does not change its answers."""
    frame = clean_history(raw_sample(sample_history(seed=5, drivers=20, months=3))).frame
    before = ChargerTypeModel(estimator=estimator, asked_before=None, n_estimators=8, n_jobs=1)
    before.fit(frame, frame["charger_type"], history=frame)
    stored = older_version(before).to_bytes()
    assert b"asked_before" not in zlib.decompress(stored)
    version = read(stored)

    predictor, found = Predictor(version, 1), ChargerTypeModel.from_fitted(version)

    assert version.asked_before is predictor.asked_before is found.asked_before is None
    assert found.columns_ == before.columns_[: len(found.columns_)] == [*MATRIX_COLUMNS, *past_columns(found.classes_)]
    expected = before.predict_proba(frame, history=frame)
    assert found.predict_proba(frame, history=frame).tobytes() == expected.tobytes()
    row = frame[[feature.name for feature in FEATURES]].iloc[-1].to_dict()
    types, start = found.classes_.tolist(), to_seconds(row["charging_start_time"])
    known = frame[
        (frame["user_id"] == frame["user_id"].iloc[-1])
        & (frame["charging_start_time"] < frame["charging_start_time"].iloc[-1])
    ]
    history = UserHistory(len(types))
    for session in past_sessions(known, types):
        history.observe(session)
    assert predictor.asked_at(start) == predictor.asked_at(start, start - 9999) == start
    for present in (None, Present(start, [1.0] * len(present_columns(types)))):
        answer = predictor.answer(row, history, present)
        assert list(answer.probabilities.values()) == expected[-1].tolist()
        assert len(answer.features) == 8 * len(found.columns_)
    # What is stored again names the parameter.
    assert restored(found.to_bytes()).asked_before is None


@pytest.mark.parametrize("content", [b"\x80" * 100_000, b'{"format": "' + b"1" * 100_000 + b'"}'])
def test_the_error_does_not_contain_the_model(content):
    """/health/ready shows it: a pickle that an older zap stores after the upgrade is such an artefact."""
    artefact = zlib.compress(content)
    with pytest.raises(DamagedModel, match="train again") as raised:
        FittedModel.from_bytes(artefact, sha256(artefact))
    assert len(raised.value.message) < 300


def test_a_scorer_of_another_kind_is_refused_by_its_name(model):
    with pytest.raises(DamagedModel, match="a scorer of the kind 'calibrated'"):
        Predictor(read(changed(model, scorer={"kind": "calibrated"})), 1)


def test_a_flipped_bit_is_noticed(model):
    artefact = model.to_bytes()
    flipped = bytearray(artefact)
    flipped[len(flipped) // 2] ^= 1

    with pytest.raises(DamagedModel):
        FittedModel.from_bytes(bytes(flipped), sha256(artefact))


def test_stored_bytes_that_do_not_load_are_damage():
    with pytest.raises(DamagedModel, match="train again"):
        FittedModel.from_bytes(b"no artefact", sha256(b"no artefact"))


def test_a_model_of_other_features_is_refused_by_their_names(model, monkeypatch):
    artefact = model.to_bytes()
    monkeypatch.setattr(fitted, "FEATURES", FEATURES[1:])
    monkeypatch.setattr(fitted, "MATRIX_COLUMNS", MATRIX_COLUMNS[1:])

    with pytest.raises(DamagedModel, match=r"\(state_of_charge_start\)"):
        FittedModel.from_bytes(artefact, sha256(artefact))


def test_a_model_of_other_history_columns_is_refused_by_their_names(model, monkeypatch):
    artefact = model.to_bytes()
    monkeypatch.setattr(fitted, "history_columns", lambda types: [*history_columns(types)[:-1], "longest_pause"])

    with pytest.raises(DamagedModel, match=r"\(mix_hour_of_week\[Level 2\]\)"):
        FittedModel.from_bytes(artefact, sha256(artefact))


def test_a_model_whose_trees_read_other_columns_than_it_names_is_refused(model):
    fitted = dataclasses.replace(model.fitted(), columns=model.fitted().columns[::-1])

    with pytest.raises(DamagedModel, match="other columns than it names"):
        Predictor(read(fitted.to_bytes()), 1)
