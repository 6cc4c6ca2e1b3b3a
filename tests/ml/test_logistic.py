"""Logistic: the answers of one row and of a matrix are bit-identical, and the fit is that of scikit-learn."""

import copy
import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from zap.errors import DamagedModel
from zap.ml.features import MATRIX_COLUMNS
from zap.ml.fitted import computed_columns
from zap.ml.history_columns import driver_column, type_columns
from zap.ml.logistic import SHARES, Logistic
from zap.ml.logistic_fit import FEWEST_ROWS, chosen_strength, fit_logistic


def rows_of(n, k, seed=1):
    """Return a matrix of drivers with a past who mostly use their favourite type, and the codes of the used types."""
    random = np.random.default_rng(seed)
    matrix = np.zeros((n, len(computed_columns([str(code) for code in range(k)]))))
    past = matrix[:, len(MATRIX_COLUMNS) :]
    codes = random.integers(k, size=n)
    for name in SHARES:
        likes = random.random((n, k)) + 2 * (codes[:, None] == np.arange(k)) * (random.random((n, 1)) < 0.8)
        past[:, type_columns(name, k)] = likes / likes.sum(axis=1, keepdims=True)
    past[:, driver_column("sessions", k)] = random.integers(1, 60, n)
    return matrix, codes


def columns_of(k):
    classes = [str(code) for code in range(k)]
    return computed_columns(classes), classes


@pytest.mark.parametrize("k", [2, 3, 7])
def test_it_works(k):
    matrix, codes = rows_of(5000, k)

    logistic = fit_logistic(matrix, codes, k, 0.1)
    found = logistic.score(matrix)

    assert (found.argmax(axis=1) == codes).mean() > 0.7
    assert np.allclose(found.sum(axis=1), 1)
    # More rows than are computed at a time: each row is the answer for itself.
    assert [logistic.score_row(row) for row in matrix.tolist()] == found.tolist()
    again = Logistic.from_data(logistic.data(), *columns_of(k))
    assert again.score(matrix).tobytes() == found.tobytes()


@pytest.mark.parametrize("k", [2, 3])
def test_it_is_the_regression_of_scikit_learn(k):
    matrix, codes = rows_of(400, k)
    past = matrix[:, len(MATRIX_COLUMNS) :]
    logs = np.log(np.concatenate([past[:, type_columns(name, k)] for name in SHARES], axis=1))
    inputs = np.concatenate([logs, logs * np.log1p(past[:, [driver_column("sessions", k)]])], axis=1)
    standardised = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)

    expected = LogisticRegression(C=0.1, max_iter=500).fit(
        np.vstack([standardised, np.zeros((k, inputs.shape[1]))]), [*codes, *range(k)]
    )

    found = fit_logistic(matrix, codes, k, 0.1).score(matrix)
    assert np.allclose(found, expected.predict_proba(standardised), atol=1e-6)


def test_drivers_without_a_past_are_not_learned_from():
    matrix, codes = rows_of(300, 3)
    new, _ = rows_of(200, 3, seed=2)
    new[:, len(MATRIX_COLUMNS) + driver_column("sessions", 3)] = 0
    both, of_both = np.concatenate([new, matrix]), np.concatenate([np.zeros(200, dtype=int), codes])

    assert fit_logistic(both, of_both, 3, 1.0).data() == fit_logistic(matrix, codes, 3, 1.0).data()
    assert chosen_strength(both, of_both, 3) == chosen_strength(matrix, codes, 3)
    assert fit_logistic(both[: 200 + FEWEST_ROWS - 1], of_both[: 200 + FEWEST_ROWS - 1], 3, 1.0) is None


def test_a_type_that_no_row_has_gets_a_probability():
    matrix, codes = rows_of(400, 3)
    kept = codes != 2

    found = fit_logistic(matrix[kept], codes[kept], 3, 0.1).score(matrix)

    assert ((found > 0) & (found < 1)).all()


def test_the_strength_is_low_for_noise_and_higher_for_a_signal():
    matrix, codes = rows_of(2000, 3)

    assert chosen_strength(matrix, np.random.default_rng(0).permutation(codes), 3) == 0.001
    assert chosen_strength(matrix, codes, 3) > 0.001


@pytest.mark.parametrize("share", [0.0, -1.0, math.nan, 1e-300])
def test_a_share_of_nothing_counts_as_the_least_share(share):
    matrix, codes = rows_of(300, 3)
    logistic = fit_logistic(matrix, codes, 3, 1.0)
    matrix[0, len(MATRIX_COLUMNS) :][type_columns("share", 3)] = share
    matrix[1, len(MATRIX_COLUMNS) + driver_column("sessions", 3)] = share

    found = logistic.score(matrix)

    assert np.isfinite(found).all()
    assert [logistic.score_row(row) for row in matrix[:2].tolist()] == found[:2].tolist()


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("weights"),
        lambda data: data["weights"].pop(),
        lambda data: data["weights"][0].pop(),
        lambda data: data["constants"].append(0.0),
        lambda data: data["constants"].__setitem__(0, math.nan),
        lambda data: data["constants"].__setitem__(0, "one"),
        lambda data: data.update(weights=None),
        lambda data: data.update(shares=["share", "share_of_the_moon"]),
        lambda data: data.update(shares=None),
    ],
)
def test_damaged_data_is_refused(change):
    data = copy.deepcopy(fit_logistic(*rows_of(300, 3), 3, 1.0).data())
    change(data)

    with pytest.raises(DamagedModel, match=r"logistic regression of the artefact cannot be used: .*; train again"):
        Logistic.from_data(data, *columns_of(3))


def test_the_numbers_have_nine_digits_because_further_ones_depend_on_the_processor():
    matrix, codes = rows_of(2000, 3)

    data = fit_logistic(matrix, codes, 3, 0.1).data()

    numbers = [*data["constants"], *(one for row in data["weights"] for one in row)]
    assert all(number == float(f"{number:.8e}") for number in numbers)


def test_a_version_with_other_shares_keeps_their_names():
    matrix, codes = rows_of(2000, 3)
    data = fit_logistic(matrix, codes, 3, 0.1).data()
    fewer = {"shares": list(SHARES[:2]), "constants": data["constants"], "weights": data["weights"][:12]}

    assert Logistic.from_data(fewer, *columns_of(3)).data() == fewer
