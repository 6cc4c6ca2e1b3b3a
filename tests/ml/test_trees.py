"""Trees: the results of LightGBM's C API are bit-identical to those of its Booster, in every thread."""

import time
from concurrent.futures import ThreadPoolExecutor

import lightgbm
import numpy as np
import pytest

from zap.errors import DamagedModel
from zap.ml.trees import Trees

COLUMNS = 5


def trained(classes):
    random = np.random.default_rng(classes)
    matrix = random.normal(size=(400, COLUMNS))
    matrix[random.random(matrix.shape) < 0.1] = np.nan
    objective = {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": classes}
    labels = random.integers(classes, size=len(matrix))
    booster = lightgbm.train({"verbosity": -1, "num_threads": 1, **objective}, lightgbm.Dataset(matrix, labels), 20)
    return booster, matrix


@pytest.fixture(scope="module", params=[2, 3, 7])
def booster(request):
    """Return the number of classes, a booster, rows with missing values, and their probabilities."""
    booster, matrix = trained(request.param)
    found = booster.predict(matrix, num_threads=1)
    return request.param, booster, matrix, np.column_stack([1 - found, found]) if found.ndim == 1 else found


def test_it_works(booster):
    classes, fitted, matrix, expected = booster
    trees = Trees(fitted.model_to_string(), COLUMNS, classes)

    assert trees.score(matrix, 2).tobytes() == expected.tobytes()
    assert np.array([trees.score_row(row.tobytes()) for row in matrix]).tobytes() == expected.tobytes()


def test_no_rows_have_no_probabilities(booster):
    classes, fitted, matrix, _ = booster

    assert Trees(fitted.model_to_string(), COLUMNS, classes).score(matrix[:0], 2).shape == (0, classes)


def test_rows_may_lie_in_any_order_in_memory(booster):
    classes, fitted, matrix, expected = booster

    found = Trees(fitted.model_to_string(), COLUMNS, classes).score(np.asfortranarray(matrix), 1)

    assert found.tobytes() == expected.tobytes()


def test_many_threads_score_at_once(booster):
    classes, fitted, matrix, expected = booster
    trees = Trees(fitted.model_to_string(), COLUMNS, classes)
    rows = [row.tobytes() for row in matrix]

    with ThreadPoolExecutor(8) as threads:
        each = list(threads.map(lambda _: [trees.score_row(row) for row in rows], range(16)))

    assert all(np.array(found).tobytes() == expected.tobytes() for found in each)


def test_a_row_does_not_wait_for_a_batch():
    # The first single row is scored while a long batch is being scored.
    fitted, matrix = trained(3)
    trees = Trees(fitted.model_to_string(), COLUMNS, 3)
    many = np.tile(matrix, (2000, 1))

    with ThreadPoolExecutor(1) as threads:
        batch = threads.submit(trees.score, many, 1)
        time.sleep(0.02)
        trees.score_row(matrix[0].tobytes())
        assert not batch.done()


def test_versions_come_and_go_while_others_answer():
    # This happens when a new version is promoted: no freed booster is used.
    booster, matrix = trained(3)
    text, row = booster.model_to_string(), matrix[0].tobytes()
    expected = booster.predict(matrix[:1], num_threads=1)[0].tolist()

    def answer(_):
        return Trees(text, COLUMNS, 3).score_row(row)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(answer, range(200))) == [expected] * 200


@pytest.mark.parametrize(("columns", "classes"), [(4, 3), (6, 3), (5, 2), (5, 4)])
def test_trees_of_another_shape_are_refused(columns, classes):
    text = trained(3)[0].model_to_string()

    with pytest.raises(DamagedModel, match=r"the trees have \d (columns|classes) instead of \d; train again"):
        Trees(text, columns, classes)


def test_a_text_that_is_not_a_booster_is_refused():
    with pytest.raises(DamagedModel, match="LightGBM cannot use the trees: "):
        Trees("no booster", COLUMNS, 3)


def test_a_matrix_of_another_width_is_refused(booster):
    classes, fitted, matrix, _ = booster

    with pytest.raises(ValueError, match="4 columns, not 5"):
        Trees(fitted.model_to_string(), COLUMNS, classes).score(matrix[:, 1:], 1)
