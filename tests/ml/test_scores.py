"""Scores from one confusion matrix, and the comparison of probabilities."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from zap.ml.scores import Scores, compare


@pytest.mark.parametrize(("used", "said"), [(4, 4), (2, 4), (4, 2), (2, 2)])
@pytest.mark.parametrize("seed", range(20))
def test_the_scores_are_scikit_learns_to_the_bit(used, said, seed):
    """Some types are not used, some are not predicted, and some are neither used nor predicted."""
    random = np.random.default_rng(seed)
    labels, predicted = random.integers(used, size=97), random.integers(said, size=97)

    scores = Scores(labels, np.eye(4)[predicted])

    assert scores.confusion.tolist() == confusion_matrix(labels, predicted, labels=range(4)).tolist()
    assert scores.accuracy == accuracy_score(labels, predicted)
    for mean, types in (("weighted", np.arange(4)), ("macro", np.unique(labels))):
        expected = f1_score(labels, predicted, labels=types, average=mean, zero_division=0)
        assert scores.as_dict()[f"{mean}_f1"] == expected
    columns = precision_recall_fscore_support(labels, predicted, labels=range(4), zero_division=0)
    found = scores.per_class("ABCD")
    assert [[one[name] for one in found.values()] for name in ("precision", "recall", "f1", "support")] == [
        column.tolist() for column in columns
    ]


def test_a_probability_of_zero_is_a_large_loss_but_no_infinite_loss():
    assert Scores(np.array([1]), np.array([[1.0, 0.0]])).log_loss == pytest.approx(-np.log(1e-15))


def test_a_comparison_is_the_mean_difference_of_the_losses_and_its_intervals():
    random = np.random.default_rng(1)
    labels = random.integers(3, size=400)
    good = np.where(np.arange(3) == labels[:, None], 0.8, 0.1)
    model, even, noise = (
        Scores(labels, said) for said in (good, np.full((400, 3), 1 / 3), random.dirichlet(np.ones(3), size=400))
    )

    found = compare(model, {"even": even, "noise": noise}, np.arange(400) % 50)
    alone = compare(model, {"even": even}, np.arange(400) % 50)["even"]

    for name, one in (("even", even), ("noise", noise)):
        difference, (low, high), (lowest, highest) = found[name]
        assert difference == (model.log_losses - one.log_losses).mean() == pytest.approx(model.log_loss - one.log_loss)
        assert lowest - 1e-9 < low < difference + 1e-9 < high + 2e-9 < highest + 3e-9 < 0
    # An interval that holds for all differences at once is wider only if there are several.
    assert alone.interval_of_all == alone.interval
    assert found["noise"].interval_of_all[0] < found["noise"].interval[0]


def test_a_comparison_of_few_drivers_has_no_interval():
    scores = Scores(np.zeros(100, dtype=int), np.full((100, 2), 0.5))

    assert compare(scores, {"even": scores}, np.arange(100) % 5) == {"even": (0, None, None)}
