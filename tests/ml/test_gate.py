"""The gate: a candidate serves only where it is certainly better on sessions that neither model learned from."""

import json

import numpy as np
import pandas as pd
import pytest

from zap.ml.evaluation import FEWEST_DRIVERS
from zap.ml.gate import FEWEST_ROWS, decide_if_better
from zap.ml.history import Dropped, History
from zap.ml.training import fit, past_features, score, split_by_time

QUICK = {"n_estimators": 15, "num_leaves": 5}
# The habits of all drivers change after so many of the sessions; the candidates learn from the later ones.
CHANGE, N = 600, 1600


def history(users, used=None, n=N):
    """A session an hour: at first who comes with little charge takes A, and later who comes with much."""
    random = np.random.default_rng(2)
    charge = random.uniform(0, 100, n)
    little = (charge < 50) ^ (random.random(n) < 0.1)
    now = np.arange(n) < CHANGE
    start = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(n), unit="h")
    frame = pd.DataFrame(
        {
            "user_id": pd.Series(users, dtype="str"),
            "charger_type": pd.Series(np.where(little == now, "A", "B") if used is None else used, dtype="str"),
            "charging_start_time": start,
            "charging_end_time": start + pd.Timedelta(hours=2),
            "energy_consumed_kwh": random.uniform(1, 50, n),
            "charging_duration_hours": 2.0,
            "state_of_charge_start": charge,
            "distance_driven_km": random.uniform(0, 500, n),
            "temperature_c": 15.0,
            "battery_capacity_kwh": 64.0,
            "vehicle_age_years": 3.0,
            "user_type": "Commuter",
            "vehicle_model": "Leaf",
        }
    )
    return History(frame, Dropped(), synthetic_sessions=0)


def drivers(number, n=N):
    return [f"u{row % number}" for row in range(n)]


def when(split, place):
    """The start of a session, as it is stored of the last one that a version was trained on."""
    return split.frame["charging_start_time"].iloc[place].to_pydatetime()


def since_the_change(whole):
    """680 sessions to train on, and the last 320 to test on."""
    return split_by_time(whole, since=whole.frame["charging_start_time"][CHANGE].to_pydatetime(), test_share=0.32)


def until_the_change(whole):
    return split_by_time(whole, until=whole.frame["charging_start_time"][CHANGE].to_pydatetime())


@pytest.fixture(scope="module")
def split():
    return since_the_change(history(drivers(40)))


@pytest.fixture(scope="module")
def new(split):
    """A candidate that has learned what changed."""
    return fit(split, QUICK, n_jobs=1)


@pytest.fixture(scope="module")
def old():
    """A model that has not, and the start of its last session."""
    before = until_the_change(history(drivers(40)))
    return fit(before, QUICK, n_jobs=1), when(before, before.n_train - 1)


def log_loss(rows, model, probabilities):
    """The mean over sessions, a type that the model does not know at the least probability."""
    classes = model.classes_.tolist()
    chosen = [
        max(row[classes.index(name)], 1e-15) if name in classes else 1e-15
        for name, row in zip(rows["charger_type"], probabilities, strict=True)
    ]
    return -np.log(chosen).mean()


def test_a_better_candidate_serves(split, old, new):
    production, seen_until = old

    decision = decide_if_better(split, new, production, 7, seen_until)

    assert decision.promoted
    assert decision.serving == 7
    found = decision.comparison
    assert (found["with_version"], found["sessions"], found["drivers"]) == (7, 320, 40)
    assert found["candidate_log_loss"] < np.log(2) < found["production_log_loss"]
    assert found["difference"] == found["candidate_log_loss"] - found["production_log_loss"]
    low, high = found["interval"]
    assert low < found["difference"] < high < 0
    assert "on 320 sessions that neither has learned from" in decision.reason
    assert f"{found['candidate_log_loss']:.3f}" in decision.reason
    assert decision.as_dict() == {"promoted": True, "reason": decision.reason, "comparison": found}
    json.dumps(decision.as_dict(), allow_nan=False)


def test_a_worse_candidate_stays_one(split, old, new):
    decision = decide_if_better(split, old[0], new, 7, when(split, split.trained.stop - 1))

    assert not decision.promoted
    assert decision.comparison["interval"][0] > 0
    assert "not certainly better" in decision.reason


def test_what_serves_already_is_not_better_than_itself(split, new):
    decision = decide_if_better(split, new, new, 7, when(split, split.trained.stop - 1))

    assert not decision.promoted
    assert (decision.comparison["difference"], decision.comparison["interval"]) == (0, [0, 0])


def test_a_candidate_that_may_be_better_by_luck_stays_one(split):
    """The same with other seeds: on these sessions some are a little better."""
    luck = QUICK | {"n_estimators": 60, "subsample": 0.8, "colsample_bytree": 1.0}
    production, *others = (fit(split, luck | {"random_state": seed}, n_jobs=1) for seed in range(5))

    decisions = [decide_if_better(split, other, production, 7, when(split, split.trained.stop - 1)) for other in others]

    assert min(decision.comparison["difference"] for decision in decisions) < 0
    assert not any(decision.promoted for decision in decisions)


# Which sessions count.


def test_sessions_that_the_candidate_learned_from_never_count(split, old, new):
    """Production ended long before them."""
    decision = decide_if_better(split, new, old[0], 7, when(split, 0))

    assert decision.comparison["sessions"] == split.n_test
    assert decision.comparison["candidate_log_loss"] == pytest.approx(
        log_loss(split.test, new, new.predict_proba(split.test, split.test_past))
    )


@pytest.mark.parametrize("newer", [320, 319, 250, FEWEST_ROWS])
def test_sessions_that_production_learned_from_never_count(split, old, new, newer):
    production, _ = old
    rows = split.test[-newer:]

    decision = decide_if_better(split, new, production, 7, when(split, len(split.frame) - newer - 1))

    found = decision.comparison
    assert found["sessions"] == newer
    assert found["candidate_log_loss"] == pytest.approx(
        log_loss(rows, new, new.predict_proba(rows, split.test_past[-newer:]))
    )
    past = past_features(split.frame, ["A", "B"], production.population_)
    assert found["production_log_loss"] == pytest.approx(
        log_loss(rows, production, production.predict_proba(rows, past[-newer:]))
    )


def test_sessions_that_start_with_the_last_one_of_the_training_do_not_count(split, old, new):
    frame = split.frame.copy()
    frame.loc[frame.index[-310:-290], "charging_start_time"] = frame["charging_start_time"].iloc[-310]
    together = since_the_change(History(frame, Dropped(), 0))

    decision = decide_if_better(together, new, old[0], 7, when(together, len(frame) - 300))

    assert decision.comparison["sessions"] == 290


def test_too_few_sessions_that_neither_learned_from_say_nothing(split, old, new):
    for newer in (FEWEST_ROWS - 1, 1, 0):
        decision = decide_if_better(split, new, old[0], 7, when(split, len(split.frame) - newer - 1))

        assert not decision.promoted
        assert decision.reason == (
            f"{newer} sessions of the test part are newer than what either version has learned from or was tuned on,"
            " and at least 200 are needed"
        )
        assert decision.comparison is None
        assert decision.serving == 7


def test_a_version_of_an_unknown_window_is_not_compared_with(split, old, new):
    """It may have learned from any session."""
    decision = decide_if_better(split, new, old[0], 7, None)

    assert not decision.promoted
    assert decision.reason == "it is not known which sessions version 7 was trained on"
    assert (decision.serving, decision.comparison) == (7, None)


def test_a_window_of_history_ends_what_is_compared_on(split, old):
    """Later sessions are there, and nobody learned from them."""
    whole = History(split.frame, Dropped(), 0)
    short = split_by_time(whole, since=when(split, CHANGE), until=when(split, 1400), test_share=0.3)

    decision = decide_if_better(short, fit(short, QUICK, n_jobs=1), old[0], 7, old[1])

    assert decision.promoted
    assert decision.comparison["sessions"] == short.n_test == 240


# Drivers.


@pytest.mark.parametrize(("number", "enough"), [(FEWEST_DRIVERS - 1, False), (FEWEST_DRIVERS, True)])
def test_few_drivers_say_nothing(old, number, enough):
    split = since_the_change(history(drivers(number)))

    decision = decide_if_better(split, fit(split, QUICK, n_jobs=1), old[0], 7, old[1])

    found = decision.comparison
    assert found["drivers"] == number
    assert found["candidate_log_loss"] < found["production_log_loss"]
    assert decision.promoted == enough
    assert (found["interval"] is not None) == enough
    assert ("of fewer than 10 drivers" in decision.reason) != enough


def test_what_a_single_driver_gains_by_is_no_evidence():
    """A fleet with half of the sessions has changed and nobody else has: the sessions of one driver are alike.

    Of the others the candidate knows less than production: it has learned from few sessions.
    """
    random = np.random.default_rng(3)
    fleet = random.random(N) < 0.5
    changed = fleet & (np.arange(N) >= CHANGE)
    whole = history(np.where(fleet, "fleet", drivers(40)))
    little = (whole.frame["state_of_charge_start"] < 50) ^ (random.random(N) < 0.1)
    whole.frame["charger_type"] = pd.Series(np.where(little ^ changed, "A", "B"), dtype="str")
    whole.frame["user_type"] = pd.Series(np.where(fleet, "Fleet", "Commuter"), dtype="str")
    before = until_the_change(whole)
    since = whole.frame["charging_start_time"][N - 460].to_pydatetime()
    split = split_by_time(whole, since=since, test_share=320 / 460)

    decision = decide_if_better(
        split, fit(split, QUICK, n_jobs=1), fit(before, QUICK, n_jobs=1), 7, when(before, before.n_train - 1)
    )

    found = decision.comparison
    assert found["drivers"] == 41
    assert found["difference"] < -0.05
    assert not decision.promoted


def test_sessions_without_a_user_count_each_as_a_driver(old):
    split = since_the_change(history([None] * N))

    decision = decide_if_better(split, fit(split, QUICK, n_jobs=1), old[0], 7, old[1])

    assert decision.promoted
    assert decision.comparison["drivers"] == 320


# Types.


@pytest.fixture(scope="module")
def changing():
    """C comes up after the change, Z goes out of use before it, and D comes up only among those tested on."""
    random = np.random.default_rng(4)
    used = random.choice(["A", "B", "Z"], N)
    used[CHANGE:] = random.choice(["A", "B", "C"], N - CHANGE)
    used[-310::20] = "D"
    whole = history(drivers(40), used)
    split, before = since_the_change(whole), until_the_change(whole)
    return split, fit(split, QUICK, n_jobs=1), fit(before, QUICK, n_jobs=1), when(split, before.n_train - 1)


def test_production_may_have_other_types(changing):
    split, candidate, production, seen_until = changing

    decision = decide_if_better(split, candidate, production, 7, seen_until)

    assert candidate.classes_.tolist() == ["A", "B", "C"]
    assert production.classes_.tolist() == ["A", "B", "Z"]
    assert "D" in set(split.test["charger_type"])
    found = decision.comparison
    assert found["sessions"] == split.n_test
    assert found["candidate_log_loss"] == pytest.approx(score(split, candidate)["log_loss"])
    past = past_features(split.frame, ["A", "B", "Z"], production.population_)[split.tested]
    assert found["production_log_loss"] == pytest.approx(
        log_loss(split.test, production, production.predict_proba(split.test, past))
    )
    # It never says C, which a third of the drivers use.
    assert decision.promoted
    assert found["production_log_loss"] > found["candidate_log_loss"] + 5


def test_a_candidate_that_has_forgotten_a_type_pays_for_it():
    """R was not used for a while, so a candidate of the sessions since then does not know that it may be."""
    random = np.random.default_rng(5)
    used = np.where(random.random(N) < 0.1, "R", random.choice(["A", "B"], N))
    used[CHANGE:-320] = random.choice(["A", "B"], N - CHANGE - 320)
    whole = history(drivers(40), used)
    split, before = since_the_change(whole), until_the_change(whole)

    decision = decide_if_better(
        split, fit(split, QUICK, n_jobs=1), fit(before, QUICK, n_jobs=1), 7, when(split, before.n_train - 1)
    )

    assert split.types == ("A", "B")
    assert before.types == ("A", "B", "R")
    assert not decision.promoted
    assert decision.comparison["interval"][0] > 1
