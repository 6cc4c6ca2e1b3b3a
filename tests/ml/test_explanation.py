"""The contributions of the columns add up to the log-ratio of the predicted type and the runner-up, in every part."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from histories import raw_sample
from hypothesis import given, settings
from hypothesis import strategies as st

from zap.errors import DamagedModel
from zap.ml.cold import is_cold, mixes
from zap.ml.column_groups import GROUPS
from zap.ml.explained_groups import EXPLAINED_GROUPS, GROUP_WORDS, explained_group
from zap.ml.explanation import Explainer
from zap.ml.history import clean_history
from zap.ml.history_columns import TYPE_CODES
from zap.ml.history_matrix import mix_of, past_features
from zap.ml.inference import Predictor
from zap.ml.logistic import Logistic
from zap.ml.model import ChargerTypeModel
from zap.ml.sample import sample_history


@pytest.fixture(scope="module", params=[2, 3])
def known(request):
    """Return models of a history with 2 or 3 types by estimator, and the matrix of its sessions."""
    frame = clean_history(raw_sample(sample_history(seed=5, drivers=20, months=3))).frame
    if request.param == 2:
        frame = frame.assign(charger_type=frame["charger_type"].replace("Level 1", "Level 2"))
    past = past_features(frame, types := sorted(frame["charger_type"].unique()), mix_of(frame, types))
    models = {
        name: ChargerTypeModel(n_estimators=10, n_jobs=1, estimator=name).fit(frame, frame["charger_type"], past=past)
        for name in ("blend", "lightgbm")
    }
    return models, models["blend"].matrix(frame, past)


@cache
def predictor_of(model, cold_weight):
    fitted = model.fitted()
    return Predictor(fitted if cold_weight is None else replace(fitted, cold_weight=cold_weight), 1)


def explained(model, row, cold_weight=None):
    """Return the explanation of a row, and its probabilities."""
    predictor = predictor_of(model, cold_weight)
    features = row.astype("<f8").tobytes()
    again = predictor.explain(features, {})["computed_again"]
    return Explainer.of(predictor).explain(features, again), again


def log_ratio(chances, one):
    return np.log(chances[one.predicted] / chances[one.runner_up])


def check(model, row, cold_weight=None):
    """Check that all sums of an explanation are right. Return the explanation."""
    found, chances = explained(model, row, cold_weight)
    best = sorted(chances, key=lambda name: -chances[name])
    assert (found.predicted, found.runner_up) == (best[0], best[1])
    assert found.log_ratio == pytest.approx(log_ratio(chances, found), rel=1e-9, abs=1e-9)
    assert sum(found.groups.values()) + found.averaging == pytest.approx(found.log_ratio, rel=1e-9, abs=1e-9)
    weighted = sum(part.weight * part.log_ratio for part in found.parts)
    assert weighted + found.averaging == pytest.approx(found.log_ratio, rel=1e-9, abs=1e-9)
    assert sum(part.weight for part in found.parts) == pytest.approx(1, abs=1e-12)
    for part in found.parts:
        assert list(part.groups) == list(EXPLAINED_GROUPS)
        assert sum(part.groups.values()) == pytest.approx(part.log_ratio, rel=1e-9, abs=1e-9)
    for name, added in found.groups.items():
        assert added == pytest.approx(sum(part.weight * part.groups[name] for part in found.parts), abs=1e-9)
        if name != "usual_mix":
            columns = sum(one for column, one in found.columns.items() if explained_group(column) == name)
            assert added == pytest.approx(columns, abs=1e-9)
    return found


@pytest.mark.parametrize("estimator", ["blend", "lightgbm"])
def test_it_works(known, estimator):
    models, matrix = known
    model = models[estimator]
    cold = is_cold(matrix, len(model.classes_))
    rows = np.concatenate([np.flatnonzero(cold)[:10], np.flatnonzero(~cold)[::15]])
    parts = model.scorer_.score_parts(matrix, 1)[1]

    for place in rows:
        found = check(model, matrix[place])
        assert found.new_driver == cold[place]
        expected = {name: dict(zip(model.classes_, parts[name][place], strict=True)) for name in ("trees", "logistic")}
        expected["usual_mix"] = dict(zip(model.classes_, mixes(matrix, len(model.classes_))[place], strict=True))
        for part in found.parts:
            assert part.log_ratio == pytest.approx(log_ratio(expected[part.name], found), rel=1e-7, abs=1e-9)
        names = [part.name for part in found.parts]
        if found.new_driver:
            assert names == ["trees", "usual_mix"]
            assert found.parts[0].weight == model.cold_weight_
        else:
            assert names == (["trees", "logistic"] if estimator == "blend" else ["trees"])
            assert (found.averaging == 0) == (estimator == "lightgbm")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_row_adds_up(known, data):
    """Explain rows of any values: missing values, shares near 0, and weights for new drivers from 0 to 1."""
    models, matrix = known
    model = models["blend"]
    row = matrix[data.draw(st.integers(0, len(matrix) - 1))].copy()
    for place in data.draw(st.lists(st.integers(0, len(row) - 1), max_size=20)):
        column = model.columns_[place]
        if column.startswith("share"):
            row[place] = data.draw(st.floats(1e-6, 1))
        elif column != "sessions":
            most = 1 if column in {*TYPE_CODES, "user_type", "vehicle_model"} else 5
            row[place] = data.draw(st.one_of(st.just(np.nan), st.integers(0, most).map(float)))
    row[model.columns_.index("sessions")] = data.draw(st.sampled_from([0, 1, 7, 5_000]))

    found = check(model, row, data.draw(st.sampled_from([0.0, 0.3, 1.0])))

    assert np.isfinite([found.log_ratio, *found.groups.values(), *found.columns.values()]).all()


def test_what_speaks_for_a_driver_s_habit_is_measured_from_the_usual_mix(known):
    """Give a driver almost no sessions and the shares of the usual mix: the logistic regression shows no habit."""
    models, matrix = known
    model = models["blend"]
    explainer = Explainer.of(Predictor(model.fitted(), 1))
    row = matrix[~is_cold(matrix, len(model.classes_))][0].copy()
    for place, column in enumerate(model.columns_):
        name, _, type_ = column.partition("[")
        if name in {"share", "share_time_of_day", "share_recent", "share_near"}:
            row[place] = explainer.mix[type_[:-1]]
    data = model.scorer_.of_logistic()["logistic"]
    row[model.columns_.index("sessions")] = 1e-9

    (logistic,) = [part for part in explained(model, row)[0].parts if part.name == "logistic"]

    assert logistic.groups["habit"] == pytest.approx(0, abs=1e-6)
    scores = Logistic.from_data(data, model.columns_, model.classes_.tolist()).score_row(row.tolist())
    assert (
        abs(logistic.groups["usual_mix"]) == pytest.approx(abs(np.log(scores[0] / scores[1])), abs=1e-6)
        or len(scores) == 3
    )


def test_the_mix_is_the_share_of_each_type_in_training(known):
    models, _ = known
    explainer = Explainer.of(Predictor(models["blend"].fitted(), 1))

    assert sum(explainer.mix.values()) == pytest.approx(1)
    counts = np.sum(list(models["blend"].population_.counts.values()), axis=0) + 1
    assert list(explainer.mix.values()) == pytest.approx((counts / counts.sum()).tolist())


def test_every_group_of_columns_is_in_one_group_with_words():
    assert sorted(one for groups in EXPLAINED_GROUPS.values() for one in groups) == sorted(GROUPS)
    assert list(GROUP_WORDS) == list(EXPLAINED_GROUPS)


@pytest.mark.parametrize(
    ("features", "types"), [(b"", ["A", "B"]), (b"1234", ["A", "B"]), (bytes(16), ["A", "B"]), (None, ["X", "Y", "Z"])]
)
def test_a_row_or_probabilities_of_another_model_are_refused(known, features, types):
    models, matrix = known
    features = matrix[0].tobytes() if features is None else features

    with pytest.raises(DamagedModel, match="the stored prediction has"):
        Explainer.of(Predictor(models["blend"].fitted(), 1)).explain(features, dict.fromkeys(types, 0.5))


def test_an_older_version_without_some_columns_is_explained(known):
    """Explain with the trees of an older version, which read fewer columns than this code computes."""
    models, matrix = known
    fitted = models["lightgbm"].fitted()
    assert check(models["lightgbm"], matrix[-1]).columns.keys() == set(fitted.columns)
