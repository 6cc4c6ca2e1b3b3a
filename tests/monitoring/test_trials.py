"""Trials: false promotions over whole trials, and challengers that are better."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from simulations.trials import Service, naive_verdicts, of_trials, share

from zap.monitoring.trials import Trial

SMALL = Service(drivers=100)


def _differences(mean, drivers=1000, spread=0.05, seed=0):
    return np.clip(np.random.default_rng(seed).normal(mean, spread, drivers), -1, 1)


@pytest.mark.parametrize("service", [SMALL, replace(SMALL, losers=0.15), replace(SMALL, challengers=3)])
def test_a_challenger_that_is_no_better_is_rarely_promoted(service):
    found = of_trials(service, 40)

    # With the promised 5 %, more than 6 of 40 have a probability of 0.3 %.
    assert share(found, "better") <= 6 / 40
    assert share(found, "worse") <= 6 / 40


def test_the_simulation_finds_an_interval_that_is_looked_at_after_every_session_false():
    assert share(of_trials(replace(SMALL, losers=0.15), 60, ask=naive_verdicts), "better") > 0.2


def test_a_challenger_that_is_better_is_promoted():
    assert share(of_trials(Service(known=1.0), 10), "better") >= 0.8


@pytest.mark.parametrize(
    ("mean", "spread", "verdict"),
    [(0.05, 0.05, "better"), (-0.05, 0.05, "worse"), (0.0, 0.002, "not_worse"), (-0.005, 0.3, "undecided")],
)
def test_verdicts(mean, spread, verdict):
    trial = Trial(epsilon=0.01)
    for seed in range(8):
        found = trial.look(_differences(mean, 1000, spread, seed), 1.0 if spread > 0.1 else 0.3)

    assert found == trial.verdict == verdict
    assert trial.low <= mean <= trial.high
    assert trial.ended
    assert "The drivers saw the answers of the version that serves" in trial.in_words()


def test_a_trial_that_has_ended_keeps_its_verdict():
    trial = Trial()
    assert trial.look(_differences(0.1)) == "better"
    before = trial.to_plain()

    assert trial.look(_differences(-0.5)) == "better"
    assert trial.to_plain() == before


def test_a_trial_has_a_longest_time():
    trial = Trial(looks=3)
    for seed in range(3):
        assert not trial.ended
        trial.look(_differences(0.0, 50, 0.3, seed))
    assert trial.ended


def test_the_interval_never_widens_and_challengers_share_the_rate():
    alone, shared = Trial(), Trial(challengers=4)
    ends = []
    for seed in range(5):
        for trial in (alone, shared):
            trial.look(_differences(0.0, 300, seed=seed))
        ends.append((alone.low, alone.high))
        assert shared.low <= alone.low < alone.high <= shared.high

    assert all(one[0] <= two[0] and two[1] <= one[1] for one, two in pairwise(ends))


def test_more_looks_make_each_interval_wider():
    differences, trials = _differences(0.0, 300), [Trial(looks=looks) for looks in (1, 8, 52)]
    for trial in trials:
        trial.look(differences)

    assert trials[0].low > trials[1].low > trials[2].low
    # The rate is divided by the looks and the challengers.
    alike = Trial(looks=4, challengers=2)
    alike.look(differences)
    assert alike.low == trials[1].low


def test_a_look_without_drivers_says_nothing():
    assert Trial().look(np.empty(0)) == "undecided"


def test_a_trial_survives_a_restart_as_json():
    trial = Trial(challengers=2)
    trial.look(_differences(0.01))

    assert Trial.from_plain(json.loads(json.dumps(trial.to_plain()))) == trial


def test_versions_that_answer_alike_are_compared_with_fewer_drivers():
    differences = _differences(0.004, 1500, 0.02)

    assert Trial().look(differences) != "better"
    assert Trial().look(differences, 0.2) == "better"
