"""The gate: a candidate serves only if it is certainly better on sessions that are new to both models."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from histories import as_history, cleaned
from older import older_model

from zap.ml import gate
from zap.ml.comparison import FEWEST_ROWS, compare_versions
from zap.ml.decision import Decision, Serving
from zap.ml.gate import WORSE_THAN_BASELINE
from zap.ml.history_columns import present_places
from zap.ml.history_matrix import mix_of, past_features, past_matrix
from zap.ml.intervals import FEWEST_EFFECTIVE_DRIVERS
from zap.ml.training import fit, split_by_time

QUICK = {"n_estimators": 15, "num_leaves": 5}
# The habits of all drivers change after this many sessions; the candidates learn from later sessions.
CHANGE, N = 600, 1600


def history(users, used=None, n=N):
    """Build a history with one session an hour. At first a low charge means A, later a high charge does."""
    random = np.random.default_rng(2)
    charge = random.uniform(0, 100, n)
    little = (charge < 50) ^ (random.random(n) < 0.1)
    now = np.arange(n) < CHANGE
    frame = cleaned(
        n,
        user_id=users,
        charger_type=np.where(little == now, "A", "B") if used is None else used,
        energy_consumed_kwh=random.uniform(1, 50, n),
        state_of_charge_start=charge,
        distance_driven_km=random.uniform(0, 500, n),
    )
    return as_history(frame)


def drivers(number, n=N):
    return [f"u{row % number}" for row in range(n)]


def when(split, place):
    """Return the start of a session, as it is stored for the last training session of a version."""
    return split.frame["charging_start_time"].iloc[place].to_pydatetime()


def since_the_change(whole):
    """Return a split with 680 training sessions, and the last 320 sessions for testing."""
    return split_by_time(whole, since=whole.frame["charging_start_time"][CHANGE].to_pydatetime(), test_share=0.32)


def until_the_change(whole):
    return split_by_time(whole, until=whole.frame["charging_start_time"][CHANGE].to_pydatetime())


@pytest.fixture(scope="module")
def split():
    return since_the_change(history(drivers(40)))


@pytest.fixture(scope="module")
def new(split):
    """Return a candidate that was trained after the change."""
    return fit(split, QUICK, n_jobs=1)


@pytest.fixture(scope="module")
def old():
    """Return a model that was trained before the change, and the start of its last training session."""
    before = until_the_change(history(drivers(40)))
    return fit(before, QUICK, n_jobs=1), when(before, before.n_train - 1)


def decide(split, candidate, production, number, seen_until, *, verdict="not_shown"):
    """Compare a candidate with the version in production, and decide whether it serves."""
    known = seen_until is not None
    comparison = compare_versions(split, candidate, production, seen_until) if known else None
    return gate.decide("if_better", verdict, Serving(number, comparison=comparison))


def log_loss(rows, model, probabilities, types):
    """Return the mean log loss. A type that the model does not know has the probability 1 / (n + k)."""
    classes = model.classes_.tolist()
    each = 1 / (model.population_.sessions + len(types))
    left = 1 - each * (len(types) - len(classes))
    chosen = [
        left * row[classes.index(name)] if name in classes else each
        for name, row in zip(rows["charger_type"], probabilities, strict=True)
    ]
    return -np.log(chosen).mean()


def test_a_better_candidate_serves(split, old, new):
    production, seen_until = old

    decision = decide(split, new, production, 7, seen_until)

    assert decision.promoted
    assert decision.serving == 7
    found = decision.comparison
    assert (found["with_version"], found["sessions"], found["drivers"]) == (7, 320, 40)
    assert found["candidate_log_loss"] < np.log(2) < found["production_log_loss"]
    assert found["difference"] == found["candidate_log_loss"] - found["production_log_loss"]
    low, high = found["interval"]
    assert low < found["difference"] < high < 0
    assert "on 320 sessions new to both versions, the new version has the log loss" in decision.reason
    assert f"{found['candidate_log_loss']:.3f}" in decision.reason
    assert decision.as_dict() == {"promoted": True, "reason": decision.reason, "comparison": found, "trial": None}
    json.dumps(decision.as_dict(), allow_nan=False)


def test_a_worse_candidate_does_not_serve(split, old, new):
    decision = decide(split, old[0], new, 7, when(split, split.trained.stop - 1))

    assert not decision.promoted
    assert decision.comparison["interval"][0] > 0
    assert "; the new log loss is not shown to be lower" in decision.reason


def test_the_production_model_is_not_better_than_itself(split, new):
    decision = decide(split, new, new, 7, when(split, split.trained.stop - 1))

    assert not decision.promoted
    assert (decision.comparison["difference"], decision.comparison["interval"]) == (0, [0, 0])


def test_a_candidate_that_may_be_better_by_luck_does_not_serve(split):
    # Models with other seeds are a little better on these sessions by chance.
    luck = QUICK | {"n_estimators": 60, "subsample": 0.8, "colsample_bytree": 1.0}
    production, *others = (fit(split, luck | {"random_state": seed}, n_jobs=1) for seed in range(5))

    decisions = [decide(split, other, production, 7, when(split, split.trained.stop - 1)) for other in others]

    assert min(decision.comparison["difference"] for decision in decisions) < 0
    assert not any(decision.promoted for decision in decisions)


# The sessions that count.


def test_sessions_that_the_candidate_learned_from_never_count(split, old, new):
    # The training of the production model ended long before these sessions.
    decision = decide(split, new, old[0], 7, when(split, 0))

    assert decision.comparison["sessions"] == split.n_test
    assert decision.comparison["candidate_log_loss"] == pytest.approx(
        log_loss(split.test, new, new.predict_proba(split.test, split.test_past), ["A", "B"])
    )


@pytest.mark.parametrize("newer", [320, 319, 250, FEWEST_ROWS])
def test_sessions_that_production_learned_from_never_count(split, old, new, newer):
    production, _ = old
    rows = split.test[-newer:]

    decision = decide(split, new, production, 7, when(split, len(split.frame) - newer - 1))

    found = decision.comparison
    assert found["sessions"] == newer
    assert found["candidate_log_loss"] == pytest.approx(
        log_loss(rows, new, new.predict_proba(rows, split.test_past[-newer:]), ["A", "B"])
    )
    past = past_features(split.frame, ["A", "B"], production.population_)
    assert found["production_log_loss"] == pytest.approx(
        log_loss(rows, production, production.predict_proba(rows, past[-newer:]), ["A", "B"])
    )


@pytest.mark.parametrize("estimator", ["blend", "lightgbm"])
def test_production_may_know_no_present(split, new, estimator):
    before = until_the_change(history(drivers(40)))
    matrix = past_matrix(before.frame, before.types, mix_of(before.train, before.types), asked_before=None)
    without = replace(before, matrix=matrix, asked_before=None)
    production = older_model(fit(without, QUICK | {"estimator": estimator}, n_jobs=1))

    found = decide(split, new, production, 7, when(before, before.n_train - 1)).comparison

    assert found["sessions"] == 320
    past = past_features(split.frame, ["A", "B"], production.population_, None)
    assert np.isnan(past[:, present_places(2)]).all()
    assert found["production_log_loss"] == pytest.approx(
        log_loss(split.test, production, production.predict_proba(split.test, past[-320:]), ["A", "B"])
    )


def test_sessions_that_start_with_the_last_one_of_the_training_do_not_count(split, old, new):
    frame = split.frame.copy()
    frame.loc[frame.index[-310:-290], "charging_start_time"] = frame["charging_start_time"].iloc[-310]
    together = since_the_change(as_history(frame))

    decision = decide(together, new, old[0], 7, when(together, len(frame) - 300))

    assert decision.comparison["sessions"] == 290


def test_too_few_sessions_that_are_new_to_both_are_no_evidence(split, old, new):
    for newer in (FEWEST_ROWS - 1, 1, 0):
        decision = decide(split, new, old[0], 7, when(split, len(split.frame) - newer - 1))

        assert not decision.promoted
        assert decision.reason == f"only {newer} test sessions are new to both versions; at least 200 are needed"
        assert decision.comparison is None
        assert decision.serving == 7


def test_a_version_of_an_unknown_window_is_not_compared(split, old, new):
    # Such a version may have learned from any session.
    decision = decide(split, new, old[0], 7, None)

    assert not decision.promoted
    assert decision.reason == "it is not known which sessions version 7 was trained on"
    assert (decision.serving, decision.comparison) == (7, None)


def test_the_comparison_ends_with_the_window_of_history(split, old):
    # The history has later sessions, which are new to both models.
    whole = as_history(split.frame)
    short = split_by_time(whole, since=when(split, CHANGE), until=when(split, 1400), test_share=0.3)

    decision = decide(short, fit(short, QUICK, n_jobs=1), old[0], 7, old[1])

    assert decision.promoted
    assert decision.comparison["sessions"] == short.n_test == 240


# Drivers.


@pytest.mark.parametrize(("number", "enough"), [(FEWEST_EFFECTIVE_DRIVERS - 1, False), (40, True)])
def test_few_drivers_are_no_evidence(old, number, enough):
    split = since_the_change(history(drivers(number)))

    decision = decide(split, fit(split, QUICK, n_jobs=1), old[0], 7, old[1])

    found = decision.comparison
    assert found["drivers"] == number
    assert found["candidate_log_loss"] < found["production_log_loss"]
    assert decision.promoted == enough
    assert (found["interval"] is not None) == enough
    assert ("at least 30 effective drivers are needed" in decision.reason) != enough


def test_the_gain_of_a_single_driver_is_no_evidence():
    # A fleet with half of the sessions has changed, and no other driver has. The sessions of one driver are
    # alike. The candidate knows less about the other drivers than production, because it has learned from few
    # sessions.
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

    decision = decide(
        split, fit(split, QUICK, n_jobs=1), fit(before, QUICK, n_jobs=1), 7, when(before, before.n_train - 1)
    )

    found = decision.comparison
    assert found["drivers"] == 41
    assert found["difference"] < -0.05
    assert not decision.promoted


def test_sessions_without_a_user_are_evidence_about_their_vehicle(old):
    whole = history([None] * N)
    whole.frame["vehicle_id"] = pd.Series([f"v{row % 50}" for row in range(N)], dtype="str")
    split = since_the_change(whole)

    decision = decide(split, fit(split, QUICK, n_jobs=1), old[0], 7, old[1])

    assert decision.promoted
    assert decision.comparison["drivers"] == 50


def test_sessions_without_user_and_vehicle_count_as_one_driver(old):
    split = since_the_change(history([None] * N))

    decision = decide(split, fit(split, QUICK, n_jobs=1), old[0], 7, old[1])

    assert not decision.promoted
    assert (decision.comparison["drivers"], decision.comparison["effective_drivers"]) == (1, 1)


# Types.


@pytest.fixture(scope="module")
def changing():
    """Return a history where C appears after the change, Z is used only before it, and D only in the test part."""
    random = np.random.default_rng(4)
    used = random.choice(["A", "B", "Z"], N)
    # After the change the charge decides between A and B.
    little = history(drivers(40)).frame["state_of_charge_start"] < 50
    used[CHANGE:] = np.where(random.random(N) < 1 / 3, "C", np.where(little, "A", "B"))[CHANGE:]
    used[-310::20] = "D"
    whole = history(drivers(40), used)
    split, before = since_the_change(whole), until_the_change(whole)
    return split, fit(split, QUICK, n_jobs=1), fit(before, QUICK, n_jobs=1), when(split, before.n_train - 1)


def test_production_may_have_other_types(changing):
    split, candidate, production, seen_until = changing

    decision = decide(split, candidate, production, 7, seen_until)

    assert candidate.classes_.tolist() == ["A", "B", "C"]
    assert production.classes_.tolist() == ["A", "B", "Z"]
    assert "D" in set(split.test["charger_type"])
    found = decision.comparison
    assert found["sessions"] == split.n_test
    said = candidate.predict_proba(split.test, split.test_past)
    assert found["candidate_log_loss"] == pytest.approx(log_loss(split.test, candidate, said, "ABCDZ"))
    past = past_features(split.frame, ["A", "B", "Z"], production.population_)[split.tested]
    assert found["production_log_loss"] == pytest.approx(
        log_loss(split.test, production, production.predict_proba(split.test, past), "ABCDZ")
    )
    # The candidate never predicts C, which a third of the drivers use.
    assert decision.promoted
    assert found["production_log_loss"] > found["candidate_log_loss"] + 1
    # Both models know A and B, and there the candidate is not worse.
    both = found["types_of_both"]
    assert both["sessions"] == int(split.test["charger_type"].isin(["A", "B"]).sum())
    assert both["difference"] == both["candidate_log_loss"] - both["production_log_loss"] < -0.1


def test_a_candidate_that_has_forgotten_a_type_pays_for_it():
    # R was not used for a while, so a candidate that was trained on later sessions does not know it.
    random = np.random.default_rng(5)
    used = np.where(random.random(N) < 0.1, "R", random.choice(["A", "B"], N))
    used[CHANGE:-320] = random.choice(["A", "B"], N - CHANGE - 320)
    whole = history(drivers(40), used)
    split, before = since_the_change(whole), until_the_change(whole)

    decision = decide(
        split, fit(split, QUICK, n_jobs=1), fit(before, QUICK, n_jobs=1), 7, when(split, before.n_train - 1)
    )

    assert split.types == ("A", "B")
    assert before.types == ("A", "B", "R")
    assert not decision.promoted
    assert decision.comparison["interval"][0] > 0


def test_a_candidate_that_knows_only_the_mix_does_not_serve_for_the_sake_of_a_rare_type():
    # The candidate knows R, which production never saw. Production is better at everything else.
    random = np.random.default_rng(6)
    little = history(drivers(40)).frame["state_of_charge_start"] < 50
    used = np.where(little ^ (random.random(N) < 0.1), "A", "B")
    used[CHANGE::4] = "R"
    whole = history(drivers(40), used)
    split, before = since_the_change(whole), until_the_change(whole)
    mix = fit(split, QUICK | {"n_estimators": 1, "num_leaves": 2, "learning_rate": 1e-6}, n_jobs=1)

    decision = decide(split, mix, fit(before, QUICK, n_jobs=1), 7, when(before, before.n_train - 1))

    found = decision.comparison
    # On average over all types the candidate is certainly better.
    assert found["interval"][1] < 0
    assert found["types_of_both"]["difference"] > 0
    assert not decision.promoted
    assert "sessions of types that both versions know the new log loss is higher by" in decision.reason
    json.dumps(decision.as_dict(), allow_nan=False)


def test_models_of_equal_types_are_not_compared_on_their_common_types(split, old, new):
    production, seen_until = old

    assert decide(split, new, production, 7, seen_until).comparison["types_of_both"] is None


def test_a_candidate_that_is_worse_than_a_baseline_does_not_serve(split, old, new):
    production, seen_until = old

    decision = decide(split, new, production, 7, seen_until, verdict="worse")

    assert not decision.promoted
    assert decision.reason.startswith(
        "a baseline predicts better; to let this version serve anyway, train with promote: always"
    )


def test_with_one_common_type_the_candidate_does_not_serve():
    # Production knows A and B. The candidate knows A and C, and half of the sessions use C.
    random = np.random.default_rng(9)
    used = np.where(random.random(N) < 0.5, "A", "B")
    used[CHANGE:] = np.where(random.random(N - CHANGE) < 0.5, "A", "C")
    whole = history(drivers(40), used)
    split, before = since_the_change(whole), until_the_change(whole)

    decision = decide(
        split, fit(split, QUICK, n_jobs=1), fit(before, QUICK, n_jobs=1), 7, when(before, before.n_train - 1)
    )

    assert decision.comparison["interval"][1] < 0
    assert decision.comparison["types_of_both"] == {"sessions": 0}
    assert not decision.promoted
    assert "one type would decide alone" in decision.reason


# The decision alone.

BETTER = {
    "sessions": 320,
    "effective_drivers": 40.0,
    "candidate_log_loss": 0.25,
    "production_log_loss": 0.5,
    "difference": -0.25,
    "interval": [-0.3, -0.2],
    "types_of_both": None,
}
NEW = "on 320 sessions new to both versions, the new version has the log loss 0.250, and version 7 has 0.500"
BOTH = {"sessions": 90, "candidate_log_loss": 0.6, "production_log_loss": 0.5, "difference": 0.1}


@pytest.mark.parametrize("verdict", ["better", "not_shown", "worse"])
@pytest.mark.parametrize("promote", ["always", "never"])
def test_a_training_that_is_told_to_promote_always_or_never_does_so(promote, verdict):
    decision = gate.decide(promote, verdict, Serving(7, comparison=BETTER))

    assert decision == Decision(
        promoted=promote == "always", reason=f"the training was started with promote: {promote}"
    )


@pytest.mark.parametrize(
    ("verdict", "serving", "promoted", "reason"),
    [
        ("not_shown", None, True, "no version served before it"),
        ("worse", None, False, WORSE_THAN_BASELINE),
        (
            "not_shown",
            Serving(7, "gone"),
            True,
            "this version can answer, and version 7 cannot be loaded here: gone",
        ),
        (
            "worse",
            Serving(7, "gone"),
            False,
            f"version 7 cannot be loaded here (gone), but {WORSE_THAN_BASELINE}",
        ),
        ("worse", Serving(7, comparison=BETTER), False, WORSE_THAN_BASELINE),
        ("better", Serving(7), False, "it is not known which sessions version 7 was trained on"),
        (
            "better",
            Serving(7, comparison={"sessions": 199}),
            False,
            "only 199 test sessions are new to both versions; at least 200 are needed",
        ),
    ],
)
def test_a_decision_without_figures_has_a_reason(verdict, serving, promoted, reason):
    decision = gate.decide("if_better", verdict, serving)

    assert decision == Decision(promoted, reason, depends=True, serving=serving and 7)


@pytest.mark.parametrize(
    ("figures", "promoted", "end"),
    [
        ({}, True, " (95 % of the difference: -0.3000 to -0.2000)"),
        (
            {"interval": None, "effective_drivers": 12.3},
            False,
            "a few drivers have most of the sessions); at least 30 effective drivers are needed",
        ),
        ({"interval": [-0.3, 0.0]}, False, "-0.3000 to +0.0000); the new log loss is not shown to be lower"),
        ({"interval": [0.0, 0.0]}, False, "+0.0000 to +0.0000); both versions give equal probabilities"),
        ({"types_of_both": {"sessions": 0}}, False, "so one type would decide alone"),
        ({"types_of_both": BOTH}, False, "that both versions know the new log loss is higher by 0.1000"),
        ({"types_of_both": BOTH | {"difference": np.nan}}, False, "is higher by nan"),
        ({"types_of_both": BOTH | {"difference": -0.1}}, True, "-0.3000 to -0.2000)"),
    ],
)
def test_a_decision_follows_from_the_figures(figures, promoted, end):
    decision = gate.decide("if_better", "not_shown", Serving(7, comparison=BETTER | figures))

    assert (decision.promoted, decision.serving, decision.depends) == (promoted, 7, True)
    assert decision.reason.startswith(NEW)
    assert decision.reason.endswith(end)
    assert decision.comparison == {"with_version": 7, **BETTER, **figures}


@pytest.mark.parametrize(
    ("decision", "serving", "promoted"),
    [
        (Decision(promoted=True, reason="asked"), 7, True),
        (Decision(promoted=True, reason="nothing served", depends=True), None, True),
        (Decision(promoted=True, reason="nothing served", depends=True), 7, False),
        (Decision(promoted=True, reason="better", depends=True, serving=3), 3, True),
        (Decision(promoted=True, reason="better", depends=True, serving=3), 7, False),
        (Decision(promoted=False, reason="worse", depends=True, serving=3), 3, False),
    ],
)
def test_a_decision_beside_another_version_than_the_one_that_serves_now_does_not_hold(decision, serving, promoted):
    assert decision.confirmed(serving).promoted is promoted


@pytest.mark.parametrize("verdict", ["better", "not_shown"])
def test_a_trial_follows_if_a_version_can_be_compared_with(verdict):
    decision = gate.decide("trial", verdict, Serving(7))

    assert (decision.promoted, decision.tries, decision.trial) == (False, True, None)
    assert decision.reason == "a trial beside version 7 follows"
    assert decision.confirmed(8) is decision


def test_no_trial_follows_for_a_version_that_is_worse_than_a_baseline():
    assert gate.decide("trial", "worse", Serving(7)) == Decision(False, WORSE_THAN_BASELINE, serving=7)


@pytest.mark.parametrize("serving", [None, Serving(7, damage="its bytes are damaged")])
@pytest.mark.parametrize("verdict", ["not_shown", "worse"])
def test_without_a_version_that_can_answer_a_trial_is_decided_like_if_better(serving, verdict):
    decision = gate.decide("trial", verdict, serving)

    assert decision == gate.decide("if_better", verdict, serving)
    assert (decision.promoted, decision.tries) == (verdict != "worse", False)
