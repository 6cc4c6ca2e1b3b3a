"""Missing values: all columns treat them by one rule, whether the training rows had many, one or none."""

import lightgbm
import numpy as np
import pandas as pd
import pytest
from histories import as_history, cleaned

from zap.ml.boosting import boost
from zap.ml.features import CATEGORIES, MATRIX_COLUMNS
from zap.ml.fitted import booster_columns
from zap.ml.history_columns import driver_column
from zap.ml.larger_children import to_larger_children
from zap.ml.missing import FEWEST_HOLES, binned, few_holes, without_rare_holes
from zap.ml.model import ChargerTypeModel
from zap.ml.training import fit_and_predict, split_by_time

QUICK = {"estimator": "lightgbm", "n_estimators": 20, "num_leaves": 8}
NATURAL = ("temperature_c", "state_of_charge_start")
PAST = ("last_type", "hours_since_last", "last_energy")
TYPES = ("A", "B", "C")


def sessions(n=1500, drivers=10):
    """Build a history whose types follow from cold, charge, and the last session's type, time and energy."""
    random = np.random.default_rng(4)
    starts = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.sort(random.uniform(0, 24 * 200, n)).round(3), unit="h")
    driver = random.integers(drivers, size=n)
    cold, charge, energy = random.uniform(5, 30, n), random.uniform(10, 100, n), random.uniform(10, 60, n)
    last = {}
    used = []
    for row in range(n):
        kind, before, at = last.get(driver[row], ("A", 30.0, starts[0]))
        hasty = (starts[row] - at) < pd.Timedelta(hours=6)
        kinds = [cold[row] < 9, charge[row] < 30, kind == "A", before < 20, hasty]
        used.append(TYPES[(int(kinds[0]) * 2 + int(kinds[1]) + int(kinds[2]) + int(kinds[3]) + int(kinds[4])) % 3])
        last[driver[row]] = used[-1], energy[row], starts[row]
    frame = cleaned(
        n,
        user_id=[f"u{number}" for number in driver],
        charger_type=used,
        charging_start_time=starts,
        charging_end_time=starts + pd.Timedelta(minutes=5),
        energy_consumed_kwh=energy,
        charging_duration_hours=1 / 12,
        state_of_charge_start=charge,
        distance_driven_km=random.uniform(5, 500, n),
        temperature_c=cold,
        user_type=random.choice(["Commuter", "Tourist"], n),
    )
    return as_history(frame)


@pytest.fixture(scope="module")
def split():
    """Every driver's first session is history only: no trained session lacks a last type, its time or its energy."""
    history = sessions()
    return split_by_time(history, since=history.frame["charging_start_time"].iloc[150].to_pydatetime())


@pytest.fixture(scope="module")
def model(split):
    return fit_and_predict(split, QUICK, n_jobs=1)[0]


def place(model, name):
    return model.columns_.index(name)


def missing_types(booster):
    """Return LightGBM's missing type of every node that splits on a number: 0 is none, 2 is NaN."""
    lines = [line for line in booster.model_to_string().splitlines() if line.startswith("decision_type=")]
    decisions = [int(decision) for line in lines for decision in line.partition("=")[2].split()]
    return {decision >> 2 for decision in decisions if not decision & 1}


def numeric_nodes(tree):
    if "split_feature" in tree:
        if tree["decision_type"] == "<=":
            yield tree
        yield from numeric_nodes(tree["left_child"])
        yield from numeric_nodes(tree["right_child"])


def rows_in(tree):
    return tree["internal_count"] if "internal_count" in tree else tree["leaf_count"]


def walked(booster, matrix, to_larger):
    """Return probabilities by a walk: missing values in the columns `to_larger` go to the larger child."""
    trees = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
    return [walked_row(trees, row, to_larger) for row in matrix]


def walked_row(trees, row, to_larger):
    scores = np.zeros(len(TYPES))
    for number, tree in enumerate(trees):
        node = tree
        while "split_feature" in node:
            value, left, right = row[node["split_feature"]], node["left_child"], node["right_child"]
            if node["decision_type"] == "==":
                goes_left = not np.isnan(value) and str(int(value)) in node["threshold"].split("||")
            elif not np.isnan(value):
                goes_left = value <= node["threshold"]
            elif node["split_feature"] in to_larger:
                goes_left = rows_in(left) > rows_in(right)
            else:
                goes_left = node["default_left"]
            node = left if goes_left else right
        scores[number % len(scores)] += node["leaf_value"]
    raised = np.exp(scores - scores.max())
    return raised / raised.sum()


def test_no_training_session_lacks_the_values_of_these_tests(split, model):
    matrix = model.matrix(split.train, split.train_past)

    for name in (*NATURAL, *PAST):
        assert not np.isnan(matrix[:, place(model, name)]).any(), name
        assert any(place(model, name) == node["split_feature"] for node in all_nodes(model.booster_)), name


def all_nodes(booster):
    return [node for tree in booster.dump_model()["tree_info"] for node in numeric_nodes(tree["tree_structure"])]


@pytest.mark.parametrize("name", [*NATURAL, *PAST])
def test_a_value_that_training_never_missed_goes_to_the_larger_child(split, model, name):
    matrix = model.matrix(split.test, split.test_past)
    matrix[:, place(model, name)] = np.nan

    found = model.scorer_.score(matrix, 1)

    expected = walked(model.booster_, matrix, {place(model, name)})
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("name", [*NATURAL, *PAST])
def test_a_missing_value_is_not_zero_nor_the_smallest_value(split, model, name):
    matrix = model.matrix(split.test, split.test_past)
    answers = []
    for value in (np.nan, 0.0, -1e9):
        matrix[:, place(model, name)] = value
        answers.append(model.scorer_.score(matrix, 1))

    missing, zero, smallest = answers
    # 0 is the type A, or less than any value of the training.
    assert abs(missing - zero).max() > 0.1
    assert abs(missing - smallest).max() > 0.1


def test_a_new_driver_is_predicted_if_training_had_no_new_driver(split, model):
    # All columns of the past are missing at once, as for a new driver.
    matrix = model.matrix(split.test)
    never = {column for column in range(matrix.shape[1]) if np.isnan(matrix[:, column]).all()}

    found = model.scorer_.score(matrix, 1)

    assert place(model, "last_type") in never
    trained = model.matrix(split.train, split.train_past)
    assert not np.isnan(trained[:, sorted(never - {place(model, name) for name in MATRIX_COLUMNS})]).all(axis=0).any()
    np.testing.assert_allclose(found, walked(model.booster_, matrix, never), rtol=1e-9)


def test_every_column_can_have_missing_values(split, model):
    with_holes = split.train.assign(temperature_c=split.train["temperature_c"].where(np.arange(split.n_train) % 9 > 0))
    other = ChargerTypeModel(**QUICK, n_jobs=1).fit(with_holes, split.train_types, past=split.train_past)

    assert missing_types(model.booster_) == missing_types(other.booster_) == {2}


def test_what_the_trees_have_learned_of_many_missing_values_stays(split):
    # Here the missing value itself decides the type.
    frame = split.train.reset_index(drop=True)
    hole = np.arange(len(frame)) % 10 == 0
    frame["temperature_c"] = frame["temperature_c"].mask(hole)
    used = np.where(hole, "A", "B")

    fitted = ChargerTypeModel(**QUICK, n_jobs=1).fit(frame.drop(columns="user_id"), used)

    found = fitted.scorer_.score(fitted.matrix(frame), 1)
    assert found[hole, 0].min() > 0.5 > found[~hole, 0].max()


@pytest.mark.parametrize("holes", [1, FEWEST_HOLES - 1])
def test_a_few_missing_values_in_training_count_as_none(split, model, holes):
    # The prediction for a missing value does not depend on the few training sessions that lacked the value.
    frame = split.train.reset_index(drop=True)
    frame.loc[np.linspace(10, len(frame) - 10, holes).astype(int), "temperature_c"] = np.nan

    other = ChargerTypeModel(**QUICK, n_jobs=1).fit(frame, split.train_types, past=split.train_past)

    asked = split.test.assign(temperature_c=np.nan)
    without, with_few = (one.predict_proba(asked, split.test_past) for one in (model, other))
    assert abs(without - with_few).mean() < 0.02
    matrix = other.matrix(asked, split.test_past)
    expected = walked(other.booster_, matrix, {place(other, "temperature_c")})
    np.testing.assert_allclose(other.scorer_.score(matrix, 1), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("holes", "subsample"),
    [(1, 1.0), (FEWEST_HOLES - 1, 1.0), (FEWEST_HOLES, 1.0), (300, 1.0), (FEWEST_HOLES - 1, 0.5), (300, 0.5)],
)
def test_the_probabilities_of_the_training_rows_are_those_of_the_kept_booster(holes, subsample):
    history = sessions()
    some = np.linspace(0, 1300, holes).astype(int)
    for shift, name in enumerate(("temperature_c", "state_of_charge_start", "vehicle_model")):
        history.frame.loc[some + shift, name] = None
    split = split_by_time(history)

    model, probabilities = fit_and_predict(split, QUICK | {"subsample": subsample}, n_jobs=1)

    assert probabilities.tobytes() == model.predict_proba(split.train, split.train_past).tobytes()


def test_a_lone_hole_outside_lightgbms_own_sample_of_the_rows():
    # LightGBM looks for bins in 200,000 rows. If these have no missing value, it would read a missing value as 0.
    n, names = 260_000, booster_columns(2)
    random = np.random.default_rng(1)
    matrix = np.zeros((n, len(names)))
    temperature, energy = names.index("temperature_c"), names.index("last_energy")
    matrix[:, temperature], matrix[:, energy] = random.uniform(5, 30, n), random.uniform(10, 60, n)
    codes = (matrix[:, temperature] < 9).astype(int) ^ (matrix[:, energy] < 20)
    params = ChargerTypeModel(n_estimators=5, num_leaves=4, colsample_bytree=1.0, learning_rate=0.5).get_params()
    # LightGBM does not sample this row with this seed, and zap takes every second row.
    hole = 29
    matrix[hole, [temperature, energy]] = np.nan

    trees, found = boost(params, matrix, codes, 2)

    alone = lightgbm.train({"objective": "binary", "verbosity": -1, **params}, lightgbm.Dataset(matrix, codes))
    assert missing_types(alone) == {0}
    assert missing_types(trees.booster) == {2}
    assert found.tobytes() == trees.score(matrix, 2).tobytes()
    asked = np.tile(matrix[:1], (3, 1))
    asked[:, temperature], asked[:, energy] = [15.0, np.nan, 0.0], 40.0
    usual, missing, zero = trees.score(asked, 1)[:, 1]
    assert missing == usual < 0.1
    assert zero > 0.9
    asked[:, temperature], asked[:, energy] = 15.0, [40.0, np.nan, 0.0]
    usual, missing, zero = trees.score(asked, 1)[:, 1]
    assert missing == usual < 0.1
    assert zero > 0.9


def test_twenty_holes_outside_the_sample_are_learned_from():
    # A missing value decides the type, and too few values are missing for an even sample of the rows to have one.
    n, names = 410_000, booster_columns(2)
    matrix = np.zeros((n, len(names)))
    temperature = names.index("temperature_c")
    matrix[:, temperature] = np.random.default_rng(1).uniform(5, 30, n)
    # Every third row is in the sample.
    holes = np.arange(1, n, 3)[: 2 * FEWEST_HOLES]
    matrix[holes, temperature] = np.nan
    codes = np.isin(np.arange(n), holes).astype(int)
    params = ChargerTypeModel(n_estimators=5, num_leaves=4, colsample_bytree=1.0, learning_rate=0.5).get_params()

    trees, found = boost(params, matrix, codes, 2)

    assert found.tobytes() == trees.score(matrix, 2).tobytes()
    assert found[holes, 1].min() > 0.5 > found[codes == 0, 1].max()


def test_few_holes_are_fewer_than_twenty():
    matrix = np.zeros((60_000, 4))
    matrix[[3, 59_999], 0] = np.nan
    matrix[100 : 100 + FEWEST_HOLES - 1, 1] = np.nan
    matrix[200 : 200 + FEWEST_HOLES, 2] = np.nan

    columns, rows = few_holes(matrix)

    assert columns == {0, 1, 3}
    assert rows.tolist() == [3, *range(100, 119), 59_999]


def test_only_the_default_directions_of_the_columns_change(split, model):
    matrix, codes = ChargerTypeModel().prepare(split.train, split.train_types, past=split.train_past)
    params = {"objective": "multiclass", "num_class": 3, "num_iterations": 20, "verbosity": -1, "min_data_per_group": 1}
    categories = [feature.name for feature in CATEGORIES]
    before = lightgbm.train(params, binned(matrix, codes, params, booster_columns(3), categories, set()))
    edited = {place(model, name) for name in ("temperature_c", "last_energy", "user_type")}

    text = to_larger_children(before.model_to_string(), edited)

    after = lightgbm.Booster(model_str=text)
    # LightGBM writes the text that it has read, so the sizes of the trees are right.
    assert after.model_to_string() == text
    assert after.predict(matrix).tobytes() == before.predict(matrix).tobytes()
    nodes = list(zip(all_nodes(before), all_nodes(after), strict=True))
    changed = [new["split_feature"] for old, new in nodes if old["default_left"] != new["default_left"]]
    assert set(changed) == edited - {place(model, "user_type")}
    for old, new in nodes:
        left = rows_in(new["left_child"]) > rows_in(new["right_child"])
        assert new["default_left"] == (left if new["split_feature"] in edited else old["default_left"])


def test_the_right_one_of_equal_children_is_taken():
    tree = (
        "tree\ntree_sizes=97\n\nTree=0\nnum_leaves=3\nsplit_feature=1 0\ndecision_type=10 10\nleft_child=1 -1\n"
        "right_child=-2 -3\nleaf_count=4 9 5\ninternal_count=18 9\n\n\nend of trees\n\nparameters:\nTree=no\n"
    )

    assert "\ndecision_type=8 8\n" in to_larger_children(tree, {0, 1})
    assert "\ndecision_type=10 8\n" in to_larger_children(tree, {0})
    assert "tree_sizes=96\n" in to_larger_children(tree, {0})
    assert to_larger_children(tree, set()) == tree


def test_contributions_of_a_row_with_missing_values_add_up_to_its_score(split, model):
    matrix = model.matrix(split.test)

    added = model.booster_.predict(matrix, pred_contrib=True).reshape(len(matrix), 3, -1).sum(axis=2)

    np.testing.assert_allclose(added, model.booster_.predict(matrix, raw_score=True), atol=1e-9)


def test_a_missing_category_is_predicted_like_an_unknown_category(split):
    frame = split.train.reset_index(drop=True)
    holed = frame.assign(user_type=frame["user_type"].where(np.arange(len(frame)) % 5 > 0))
    for trained in (frame, holed):
        fitted = ChargerTypeModel(**QUICK, n_jobs=1).fit(trained, split.train_types, past=split.train_past)
        matrix = fitted.matrix(split.test, split.test_past)
        answers = []
        for value in (np.nan, 99.0):
            matrix[:, place(fitted, "user_type")] = value
            answers.append(fitted.scorer_.score(matrix, 1))
        assert answers[0].tobytes() == answers[1].tobytes()


def test_the_past_of_a_new_driver_lacks_the_values_of_these_tests(model, split):
    assert np.isnan(model.matrix(split.test)[:, len(MATRIX_COLUMNS) + driver_column("last_type", 3)]).all()


def test_a_search_tests_a_missing_value_that_training_never_had_as_the_median():
    # The value is not tested as 0, which no row has here.
    trained = np.column_stack([np.arange(100.0) + 50, np.where(np.arange(100) % 2, np.nan, 7.0)])
    rows = np.array([[np.nan, np.nan], [60.0, 7.0]])

    filled = without_rare_holes(rows, trained)

    assert filled[0, 0] == np.median(trained[:, 0])
    # For the other column the trees have learned the direction of a missing value.
    assert np.isnan(filled[0, 1])
    assert np.isnan(rows[0, 0])
    assert filled[1].tolist() == [60.0, 7.0]
