"""Probabilities of other types than a model knows, and of types that training never saw."""

import numpy as np
import pytest

from zap.ml.unseen import align, with_unseen_types


def test_an_unseen_type_has_the_probability_of_laplaces_rule():
    found = np.array([[0.6, 0.4, 1e-15], [0.1, 0.9, 0.0]])

    honest = with_unseen_types(found, np.array([True, True, False]), 97)

    assert honest[:, 2].tolist() == [0.01, 0.01]
    np.testing.assert_allclose(honest[:, :2], found[:, :2] * 0.99)


def test_several_unseen_types_get_equal_probabilities_that_fit_into_one():
    honest = with_unseen_types(np.array([[0.0, 0.25, 0.75, 0.0]]), np.array([False, True, True, False]), 96)

    assert honest[0].tolist() == pytest.approx([0.01, 0.25 * 0.98, 0.75 * 0.98, 0.01])
    assert honest.sum() == pytest.approx(1)


def test_if_all_types_were_seen_the_probabilities_are_kept():
    found = np.array([[0.6, 0.4], [1.0, 1e-15]])

    assert with_unseen_types(found, np.array([True, True]), 3) is found


def test_several_types_that_training_never_saw_share_no_more_than_there_is():
    wide = align(np.array([[0.25, 0.75]]), ["B", "C"], ["A", "B", "C", "D"], 96)

    assert wide[0].tolist() == pytest.approx([0.01, 0.25 * 0.98, 0.75 * 0.98, 0.01])


def test_where_training_saw_every_type_nothing_is_taken_from_any():
    said = np.array([[0.25, 0.75]])

    assert align(said, ["B", "C"], ["B", "C"], 96).tolist() == said.tolist()


def test_types_in_another_order_keep_their_probabilities_and_other_types_get_none():
    said = np.array([[0.25, 0.75], [0.1, 0.9]])

    assert align(said, ["B", "C"], ["C", "A", "B"]).tolist() == [[0.75, 0, 0.25], [0.9, 0, 0.1]]
