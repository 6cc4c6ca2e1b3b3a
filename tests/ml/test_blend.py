"""Blend: the weighted mean of trees and a logistic regression, for drivers with a past; and the estimators by name."""

import copy

import joblib
import numpy as np
import pytest
from histories import raw_sample
from sklearn.base import clone

from zap.errors import DamagedModel
from zap.ml.blend import Blend
from zap.ml.cold import is_cold
from zap.ml.history import clean_history
from zap.ml.history_matrix import mix_of, past_features
from zap.ml.model import ChargerTypeModel
from zap.ml.sample import sample_history
from zap.ml.scorer import read_scorer, scorer_data
from zap.ml.trees_alone import TreesAlone


@pytest.fixture(scope="module", params=[2, 3])
def known(request):
    """Return the sessions of a history with 2 or 3 types, with new drivers among them, and a blend and trees of it."""
    frame = clean_history(raw_sample(sample_history(seed=5, drivers=20, months=3))).frame
    if request.param == 2:
        frame = frame.assign(charger_type=frame["charger_type"].replace("Level 1", "Level 2"))
    past = past_features(frame, types := sorted(frame["charger_type"].unique()), mix_of(frame, types))
    fitted = {
        name: ChargerTypeModel(n_estimators=10, n_jobs=1, estimator=name).fit(frame, frame["charger_type"], past=past)
        for name in ("blend", "lightgbm")
    }
    return fitted["blend"], fitted["lightgbm"], frame, past


def scored(known):
    """Return the scorer of the blend, its matrix, and for each row whether its driver is new."""
    blend, _, frame, past = known
    matrix = blend.matrix(frame, past)
    return blend.scorer_, matrix, is_cold(matrix, len(blend.classes_))


def test_it_works(known):
    scorer, matrix, cold = scored(known)

    parts = scorer.score_parts(matrix, 1)[1]
    found = scorer.score(matrix, 1)

    assert type(scorer) is Blend
    assert 0 < scorer.weight < 1
    assert cold.any()
    expected = scorer.weight * parts["logistic"] + (1 - scorer.weight) * parts["trees"]
    assert found[~cold].tobytes() == expected[~cold].tobytes()
    assert not np.allclose(parts["logistic"][~cold], parts["trees"][~cold])


def test_one_row_is_answered_as_in_a_matrix_to_the_bit(known):
    scorer, matrix, _ = scored(known)

    assert [scorer.score_row(row.tobytes()) for row in matrix] == scorer.score(matrix, 2).tolist()


def test_drivers_without_a_past_are_answered_by_the_trees_alone_to_the_bit(known):
    blend, trees, frame, past = known
    _, _, cold = scored(known)

    one, other = (model.predict_proba(frame, past) for model in (blend, trees))

    assert type(trees.scorer_) is TreesAlone
    assert blend.cold_weight_ == trees.cold_weight_
    assert one[cold].tobytes() == other[cold].tobytes()
    assert not (one == other)[~cold].all()


def test_both_estimators_have_equal_parts_and_each_answers_with_its_own(known):
    blend, trees, frame, past = known

    (of_blend, parts), (of_trees, same) = (model.score_parts(frame, past) for model in (blend, trees))

    assert list(parts) == list(same) == ["trees", "logistic", "blend"]
    assert all(parts[name].tobytes() == same[name].tobytes() for name in parts)
    assert of_blend.tobytes() == parts["blend"].tobytes() == blend.predict_proba(frame, past).tobytes()
    assert of_trees.tobytes() == parts["trees"].tobytes() == trees.predict_proba(frame, past).tobytes()
    assert (trees.scorer_.weight, blend.scorer_.weight > 0) == (0, True)


def test_trees_that_answer_alone_keep_their_parts_when_they_are_stored(known):
    _, trees, frame, past = known

    read = ChargerTypeModel.from_fitted(trees.fitted())

    parts, again = (model.score_parts(frame, past)[1] for model in (trees, read))
    assert {name: one.tobytes() for name, one in again.items()} == {name: one.tobytes() for name, one in parts.items()}
    # The logistic regression never answers, so the digest does not cover it.
    older = {name: value for name, value in scorer_data(trees.scorer_).items() if name != "beside"}
    alone = read_scorer(older, trees.columns_, trees.classes_.tolist())
    assert alone.digest() == trees.scorer_.digest()
    assert scorer_data(alone) == older
    matrix = trees.matrix(frame, past)
    found, parts = alone.score_parts(matrix, 1)
    assert (found.tobytes(), parts) == (trees.scorer_.score(matrix, 1).tobytes(), {})


def test_the_probabilities_of_the_fit_are_those_of_a_prediction_to_the_bit(known):
    _, _, frame, past = known
    model = ChargerTypeModel(n_estimators=5, n_jobs=1)

    found = model.fit_predict_proba(frame, frame["charger_type"], past=past)

    assert found.tobytes() == model.predict_proba(frame, past).tobytes()


def test_it_is_stored_and_read_to_the_bit(known, tmp_path):
    blend, trees, frame, past = known
    joblib.dump(blend, tmp_path / "model.joblib")

    read = joblib.load(tmp_path / "model.joblib")

    assert read.estimator == "blend"
    assert read.predict_proba(frame, past).tobytes() == blend.predict_proba(frame, past).tobytes()
    assert read.scorer_.digest() == blend.scorer_.digest() != trees.scorer_.digest()
    assert read.to_bytes() == blend.to_bytes()


def test_the_digest_covers_the_trees_the_logistic_regression_and_its_weight(known):
    blend, _, frame, past = known
    other = ChargerTypeModel(n_estimators=3, n_jobs=1, estimator="lightgbm").fit(
        frame, frame["charger_type"], past=past
    )
    data, names = scorer_data(blend.scorer_), (blend.columns_, blend.classes_.tolist())

    def digest(change):
        changed = copy.deepcopy(data)
        change(changed)
        return read_scorer(changed, *names).digest()

    assert digest(lambda _: None) == blend.scorer_.digest()
    changes = [
        lambda one: one.update(weight=0.25),
        lambda one: one["logistic"]["constants"].__setitem__(0, 0.5),
        lambda one: one["logistic"]["weights"][3].__setitem__(0, 0.5),
        lambda one: one.update(other.scorer_.data()),
    ]
    assert len({digest(change) for change in changes} | {blend.scorer_.digest()}) == 5


@pytest.mark.parametrize("weight", [-0.1, 1.5, float("nan"), "half", None, True])
def test_a_weight_outside_0_to_1_is_refused(known, weight):
    blend, *_ = known
    data = {**scorer_data(blend.scorer_), "weight": weight}

    with pytest.raises(DamagedModel, match=r"the weight of the logistic regression is .*; train again"):
        read_scorer(data, blend.columns_, blend.classes_.tolist())


def test_without_drivers_with_a_past_it_is_the_trees_alone(known):
    _, _, frame, _ = known
    new = frame.drop(columns="user_id")

    blend, trees = (
        ChargerTypeModel(n_estimators=5, n_jobs=1, estimator=name).fit(new, new["charger_type"])
        for name in ("blend", "lightgbm")
    )

    assert blend.scorer_.weight == 0
    assert list(blend.scorer_.score_parts(blend.matrix(new), 1)[1]) == ["trees", "blend"]
    assert blend.predict_proba(new).tobytes() == trees.predict_proba(new).tobytes()
    assert (
        ChargerTypeModel.from_fitted(blend.fitted()).predict_proba(new).tobytes() == trees.predict_proba(new).tobytes()
    )


def test_the_estimator_is_a_parameter(known):
    blend, trees, frame, _ = known
    assert ChargerTypeModel().estimator == "blend"
    assert (clone(blend).estimator, clone(trees).estimator) == ("blend", "lightgbm")

    new = frame.drop(columns="user_id")
    with pytest.raises(ValueError, match="there is no estimator 'forest'; choose blend or lightgbm"):
        ChargerTypeModel(estimator="forest").fit(new, new["charger_type"])
