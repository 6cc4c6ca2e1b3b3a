"""Baselines: the pooled shares with exponents that are fitted on training sessions, and the names in messages."""

import numpy as np
import pytest

from zap.ml.baselines import BASELINES, IN_WORDS, baseline_probabilities, fit_exponents, in_words
from zap.ml.history_columns import driver_column, history_columns, type_columns

K = 3
EVEN = np.full(K, 1 / K)


def pasts(n, seed=1, new=()):
    """Return history columns of n sessions with four different shares. The drivers in `new` have no past."""
    random = np.random.default_rng(seed)
    past = np.zeros((n, len(history_columns(range(K)))))
    for name in ("share", "share_time_of_day", "share_day_kind", "share_recent"):
        past[:, type_columns(name, K)] = random.dirichlet([1, 1, 1], size=n)
    past[:, driver_column("sessions", K)] = 5
    for place in new:
        past[place, : 4 * K] = np.tile([0.2, 0.3, 0.5], 4)
        past[place, driver_column("sessions", K)] = 0
    return past


def drawn(past, exponents, seed=2):
    """Draw types from the pooled shares with these exponents."""
    names = ("share", "share_time_of_day", "share_day_kind", "share_recent")
    powers = np.prod([past[:, type_columns(name, K)] ** b for name, b in zip(names, exponents, strict=True)], axis=0)
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    random = np.random.default_rng(seed).random((len(past), 1))
    return (random > probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1), probabilities


def test_the_exponents_are_found_again():
    exponents = [0.9, 0.0, 0.3, 0.5]
    past = pasts(20_000)
    used, probabilities = drawn(past, exponents)

    found = fit_exponents(past, used, K)

    assert found == pytest.approx(exponents, abs=0.05)
    assert baseline_probabilities(past, EVEN, found)["pooled_shares"] == pytest.approx(probabilities, abs=0.03)


def test_every_baseline_gives_probabilities():
    said = baseline_probabilities(pasts(50, new=[0, 7]), EVEN, np.array([0.5, 0.2, -0.1, 1.2]))

    assert tuple(said) == BASELINES == tuple(IN_WORDS)
    for probabilities in said.values():
        assert probabilities.shape == (50, K)
        assert probabilities.sum(axis=1) == pytest.approx(np.ones(50))
        assert (probabilities > 0).all()


def test_a_driver_without_a_past_gets_the_mix_as_it_is():
    past = pasts(40, new=range(10))
    said = baseline_probabilities(past, EVEN, np.array([1.0, 1.0, 1.0, 1.0]))

    assert said["pooled_shares"][:10].tolist() == [[0.2, 0.3, 0.5]] * 10
    # Such drivers do not change the exponents.
    used, _ = drawn(past, [1, 0, 0, 0])
    assert fit_exponents(past, used, K).tolist() == fit_exponents(past[10:], used[10:], K).tolist()


def test_where_no_driver_has_a_past_there_is_nothing_to_fit():
    past = pasts(10, new=range(10))

    assert fit_exponents(past, np.zeros(10, dtype=int), K).tolist() == [0.25] * 4


def test_a_handful_of_sessions_give_no_wild_exponents():
    past = pasts(3)

    assert np.abs(fit_exponents(past, past[:, type_columns("share", K)].argmax(axis=1), K)).max() < 3


def test_the_share_of_drivers_is_not_named_where_no_driver_has_a_past():
    assert in_words("driver_share", past_known=True) == "the driver's own past share of types"
    assert {in_words(name, past_known=False) for name in BASELINES} == {
        "the usual mix of types",
        "the mix of types on the days before",
    }
