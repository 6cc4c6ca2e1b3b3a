"""Scores of models and baselines, their intervals, and the calibration of probabilities."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from histories import BEGIN, cleaned
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss

from zap.ml.baselines import BASELINES
from zap.ml.driver_codes import driver_codes
from zap.ml.driver_columns import PRIOR_WEIGHT
from zap.ml.evaluation import (
    ScoredRows,
    calibration,
    evaluate,
    f1_interval,
    over_windows,
    rows_to_score,
    with_windows,
)
from zap.ml.history_matrix import mix_of, past_features

TYPES = ["AC", "DC"]


def history(rows):
    """Build a history of sessions (driver, day, type) in time order. A day begins when its first driver may ask."""
    users, days, used = zip(*rows, strict=True)
    start = BEGIN + pd.Timedelta(minutes=15) + pd.to_timedelta(days, unit="D")
    return cleaned(len(rows), user_id=users, charger_type=used, charging_start_time=start)


def scored(frame, n_train, probabilities=None, types=TYPES):
    """Return the rows after the first `n_train` as scored rows. By default the model gives each type one half."""
    train, test = frame[:n_train], frame[n_train:]
    even = np.full((len(test), len(types)), 1 / len(types))
    drivers = driver_codes(frame)
    return rows_to_score(
        types,
        test["charger_type"].tolist(),
        starts=test["charging_start_time"].to_numpy(),
        drivers=drivers[n_train:],
        past=past_features(frame, types, mix_of(train, types))[n_train:],
        mix=np.array([(train["charger_type"] == name).mean() for name in types]),
        exponents=np.full(4, 0.25),
        trained_on=n_train,
        probabilities=even if probabilities is None else probabilities,
        parts={"trees": even},
    )


def many(n=400, drivers=80, seed=1, signal=0.9):
    """Return a history of drivers who mostly use one type, and probabilities of a model that knows that type."""
    random = np.random.default_rng(seed)
    driver = random.integers(drivers, size=n)
    favourite = driver % 2
    used = np.where(random.random(n) < signal, favourite, 1 - favourite)
    frame = history([(f"d{d}", day, TYPES[u]) for day, (d, u) in enumerate(zip(driver, used, strict=True))])
    return frame, np.column_stack([1 - favourite, favourite]) * (2 * signal - 1) + (1 - signal)


def rows_of(labels, probabilities, *, drivers=None, earlier=None, types_used=None, classes=None, baseline=None):
    """Build scored rows with one session a day. All baselines are equal, by default with even probabilities."""
    labels, probabilities = np.array(labels), np.array(probabilities, dtype=float)
    n, k = probabilities.shape
    baseline = np.full((n, k), 1 / k) if baseline is None else np.array(baseline)
    return ScoredRows(
        classes or ["A", "B", "C"][:k],
        labels,
        unseen=np.zeros(n, dtype=bool),
        starts=np.datetime64("2024-01-01T12:00:00", "s") + np.arange(n) * np.timedelta64(1, "D"),
        drivers=np.arange(n) if drivers is None else np.array(drivers),
        earlier=np.zeros(n) if earlier is None else np.array(earlier, dtype=float),
        types_used=np.zeros(n) if types_used is None else np.array(types_used, dtype=float),
        probabilities=probabilities,
        baselines=dict.fromkeys(BASELINES, baseline),
        parts={"trees": probabilities},
    )


def test_it_works():
    frame, probabilities = many()

    scores = evaluate(scored(frame, 300, probabilities[300:]))

    labels = frame["charger_type"][300:]
    predicted = np.array(TYPES)[probabilities[300:].argmax(axis=1)]
    assert scores["test_f1_score"] == pytest.approx(f1_score(labels, predicted, average="weighted"))
    assert scores["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert scores["accuracy"] == pytest.approx((labels == predicted).mean())
    assert scores["log_loss"] == pytest.approx(log_loss(labels, probabilities[300:], labels=TYPES))
    assert scores["parts"]["trees"]["log_loss"] == pytest.approx(np.log(2))
    assert scores["test_f1_interval"][0] < scores["test_f1_score"] < scores["test_f1_interval"][1]
    assert sum(map(sum, scores["confusion_matrix"])) == 100
    assert sum(row["support"] for row in scores["per_class"].values()) == 100
    assert list(scores["baselines"]) == [*BASELINES]
    best = min(scores["baselines"], key=lambda name: scores["baselines"][name]["log_loss"])
    assert scores["best_baseline"] == best != "prior"
    assert scores["log_loss_difference"] == pytest.approx(scores["log_loss"] - scores["baselines"][best]["log_loss"])
    assert scores["log_loss_difference"] < 0
    assert scores["beats_baseline"]
    assert scores["verdict"] == "better"
    assert scores["judged"]["sessions_of"] == "the last part"
    assert (scores["judged"]["sessions"], scores["unseen_type_sessions"]) == (100, 0)
    assert scores["calibration"]["expected_calibration_error"] < 0.15
    assert scores["by_types_used"]["several"]["sessions"] > 20


def test_a_baseline_as_good_as_the_model_is_not_beaten():
    rows = scored(many()[0], 300)
    best = evaluate(rows)["best_baseline"]

    scores = evaluate(replace(rows, probabilities=rows.baselines[best]))

    assert scores["log_loss_difference"] == 0
    assert scores["log_loss_difference_interval"] == [0, 0]
    assert (scores["verdict"], scores["beats_baseline"]) == ("not_shown", False)


def test_noise_does_not_beat_the_baselines():
    frame, _ = many(signal=0.5)
    noise = np.random.default_rng(2).dirichlet([1, 1], size=100)

    assert not evaluate(scored(frame, 300, noise))["beats_baseline"]


def test_better_by_luck_is_not_better():
    # The model helps 22 drivers as much as it harms 18 other drivers.
    rows = rows_of([0] * 40, [[0.7, 0.3]] * 22 + [[0.5 * 0.5 / 0.7, 1 - 0.5 * 0.5 / 0.7]] * 18)

    scores = evaluate(rows)

    assert scores["log_loss_difference"] < 0
    assert scores["log_loss_difference_interval"][0] < 0 < scores["log_loss_difference_interval"][1]
    assert not scores["beats_baseline"]


def test_a_model_that_does_not_beat_one_baseline_is_not_better():
    frame, probabilities = many()
    rows = scored(frame, 300, probabilities[300:])
    knows_all = np.eye(2)[rows.labels]

    for name in BASELINES:
        scores = evaluate(replace(rows, baselines=rows.baselines | {name: knows_all}))
        assert scores["best_baseline"] == name
        assert (scores["verdict"], scores["beats_baseline"]) == ("worse", False)


def test_a_noisier_baseline_has_to_be_beaten_too():
    # The best baseline is certainly beaten. Another one is worse on average, but much better for a few drivers.
    n = 60
    model, best = np.tile([0.8, 0.2], (n, 1)), np.tile([0.79, 0.21], (n, 1))
    noisy = np.where(np.arange(n)[:, None] % 3 == 0, [0.545, 0.455], [0.95, 0.05])
    rows = rows_of([0] * n, model, baseline=best)

    alone, both = evaluate(rows), evaluate(replace(rows, baselines=rows.baselines | {"driver_share_recent": noisy}))

    assert (alone["verdict"], both["verdict"]) == ("better", "not_shown")
    assert both["best_baseline"] != "driver_share_recent"
    assert both["log_loss_difference_interval"][1] < 0
    low, high = both["baseline_differences"]["driver_share_recent"]["interval"]
    assert low < both["baseline_differences"]["driver_share_recent"]["log_loss_difference"] < 0 < high
    assert set(both["baseline_differences"]) == set(BASELINES)


def test_worse_is_not_the_same_as_not_shown_to_be_better():
    rows = rows_of([0] * 40, [[0.5, 0.5]] * 40, baseline=[[0.6, 0.4]] * 40)

    worse, even = evaluate(rows), evaluate(replace(rows, probabilities=rows.baselines["prior"]))

    assert (worse["verdict"], worse["beats_baseline"]) == ("worse", False)
    assert worse["judged"]["baseline_differences"]["prior"]["interval_of_all"][0] > 0
    assert (even["verdict"], even["beats_baseline"]) == ("not_shown", False)


def test_each_score_names_its_best_baseline():
    # One baseline is often right but too confident, another baseline is seldom right but careful.
    labels = [0] * 30 + [1] * 10
    bold = np.tile([0.999, 0.001], (40, 1))
    careful = np.tile([0.49, 0.51], (40, 1))
    rows = rows_of(labels, np.tile([0.5, 0.5], (40, 1)), baseline=careful)

    scores = evaluate(replace(rows, baselines=rows.baselines | {"prior": bold}))

    assert scores["best_baseline_by_f1"] == "prior"
    assert scores["best_baseline"] != "prior"


# The baselines.


def test_the_prior_is_that_of_the_training_sessions():
    frame = history([("a", 0, "AC"), ("a", 1, "AC"), ("a", 2, "DC"), ("a", 3, "DC"), ("a", 4, "DC")])

    assert scored(frame, 3).baselines["prior"].tolist() == [[2 / 3, 1 / 3]] * 2


def test_the_driver_share_counts_what_the_driver_used_before():
    frame = history([("a", 0, "AC"), ("b", 1, "DC"), ("a", 2, "AC"), ("a", 3, "DC"), ("a", 4, "AC"), ("c", 5, "AC")])
    w = PRIOR_WEIGHT

    shares = scored(frame, 4).baselines["driver_share"]

    # The mix of the first four days is one half each. By day 4 driver a has used AC twice and DC once.
    assert shares[0].tolist() == pytest.approx([(2 + w / 2) / (3 + w), (1 + w / 2) / (3 + w)])
    # A driver without a past gets the mix of the training sessions: two of each type.
    assert shares[1].tolist() == [0.5, 0.5]


def test_each_baseline_reads_its_own_columns():
    # The driver used AC in the mornings long ago, and DC on a recent evening.
    rows = [("a", day, "AC") for day in range(6)] + [("a", 90.8, "DC"), ("a", 91.3, "AC"), ("a", 91.8, "AC")]

    rows = scored(history(rows), 7)

    share, by_time, recent = (rows.baselines[f"driver_share{name}"] for name in ("", "_time_of_day", "_recent"))
    # At 07:27 the driver has used no type, at 19:27 only DC.
    assert by_time[0].tolist() == share[0].tolist()
    assert by_time[1, 1] > share[1, 1]
    assert (recent[:, 1] > share[:, 1]).all()
    assert rows.earlier.tolist() == [7, 8]


def test_sessions_that_start_together_do_not_see_each_other():
    frame = history([("a", 0, "AC"), ("b", 0, "DC"), ("a", 1, "AC"), ("a", 1, "DC")])

    baselines = scored(frame, 2).baselines

    for name in BASELINES:
        assert baselines[name][0].tolist() == baselines[name][1].tolist()


def test_sessions_without_a_driver_have_no_past():
    frame = history([("a", 0, "AC"), ("a", 0, "DC"), (None, 1, "AC"), (None, 1, "AC")])

    rows = scored(frame, 2)

    assert rows.baselines["driver_share"].tolist() == [[0.5, 0.5]] * 2
    assert rows.earlier.tolist() == [0, 0]
    assert rows.drivers[0] != rows.drivers[1]
    assert not rows.types_used.any()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.sampled_from(TYPES)), min_size=4, max_size=30))
def test_the_driver_share_is_what_a_loop_over_the_past_finds(rows):
    frame = history(sorted(rows, key=lambda row: row[1]))
    n_train = len(frame) // 2

    shares = scored(frame, n_train).baselines["driver_share"]

    for place, now in enumerate(frame.iloc[n_train:].itertuples()):
        before = frame[frame["charging_start_time"] < now.charging_start_time]
        trained_on = before[:n_train]
        mix = np.array([1 + (trained_on["charger_type"] == name).sum() for name in TYPES]) / (2 + len(trained_on))
        past = before[before["user_id"] == now.user_id]
        counts = np.array([(past["charger_type"] == name).sum() for name in TYPES])
        assert shares[place] == pytest.approx((counts + PRIOR_WEIGHT * mix) / (len(past) + PRIOR_WEIGHT))


# Types.


def test_a_type_that_training_never_saw_counts_as_missed():
    frame, probabilities = many()
    frame.loc[390:, "charger_type"] = "Rapid"

    scores = evaluate(scored(frame, 300, probabilities[300:]))

    assert scores["classes"] == ["AC", "DC", "Rapid"]
    assert scores["per_class"]["Rapid"] == {"precision": 0, "recall": 0, "f1": 0, "support": 10}
    assert scores["unseen_type_sessions"] == scores["judged"]["unseen_type_sessions"] == 10


def test_a_type_that_training_never_saw_has_an_honest_probability_in_the_model_and_in_every_baseline():
    frame, probabilities = many()
    frame.loc[390:, "charger_type"] = "Rapid"

    rows = scored(frame, 300, probabilities[300:])

    for said in (rows.probabilities, *rows.baselines.values()):
        assert said[:, 2].tolist() == pytest.approx([1 / 303] * 100)
        assert said.sum(axis=1).tolist() == pytest.approx([1] * 100)
    assert rows.probabilities[:, :2] == pytest.approx(probabilities[300:] * 302 / 303)
    # Ten sessions raise the log loss, but do not decide the comparison.
    seen = evaluate(rows.only(~rows.unseen))["log_loss"]
    assert evaluate(rows)["log_loss"] == pytest.approx((90 * seen + 10 * np.log(303)) / 100)


def test_the_macro_f1_is_over_the_types_that_the_test_has():
    # A type without test sessions cannot be predicted correctly.
    frame = history([("a", 0, "AC"), ("b", 1, "DC"), ("a", 2, "AC"), ("b", 3, "AC")])

    scores = evaluate(scored(frame, 2, np.array([[0.9, 0.1], [0.9, 0.1]])))

    assert scores["macro_f1"] == 1
    assert all(0 <= one["macro_f1"] <= 1 for one in scores["baselines"].values())


# Intervals. test_intervals.py measures how often they are wrong.


@pytest.mark.parametrize("drivers", [1, 29])
def test_few_drivers_give_no_interval(drivers):
    frame, probabilities = many(drivers=drivers)

    scores = evaluate(scored(frame, 300, probabilities[300:]))

    assert scores["effective_drivers"] < 30
    assert scores["test_f1_interval"] is None
    assert scores["log_loss_difference_interval"] is None
    assert {one["interval"] for one in scores["baseline_differences"].values()} == {None}
    assert {one["interval_of_all"] for one in scores["baseline_differences"].values()} == {None}
    assert (scores["verdict"], scores["beats_baseline"]) == ("not_shown", False)


def test_one_driver_with_half_of_the_sessions_leaves_few_effective_drivers():
    labels, probabilities = [0, 1] * 200, [[0.8, 0.2], [0.3, 0.7]] * 200
    equal, half = (rows_of(labels, probabilities, drivers=who) for who in (range(400), [0] * 200 + [*range(1, 201)]))

    assert evaluate(equal)["effective_drivers"] == 400
    assert evaluate(half)["effective_drivers"] == pytest.approx(400**2 / (200**2 + 200), abs=0.1)
    assert (evaluate(equal)["verdict"], evaluate(half)["verdict"]) == ("better", "not_shown")


def test_intervals_resample_drivers_not_sessions():
    # Sessions of forty drivers give wider intervals than equal sessions of one driver each.
    frame, probabilities = many(drivers=40)
    apart = frame.assign(user_id=[f"d{place}" for place in range(len(frame))])

    def width(one):
        rows = replace(scored(one, 100, probabilities[100:]), baselines={"even": np.full((300, 2), 0.5)})
        low, high = evaluate(rows)["baseline_differences"]["even"]["interval"]
        return high - low

    # The sessions of a driver are made alike here.
    alike = frame.assign(charger_type=[TYPES[int(d[1:]) // 20] for d in frame["user_id"]])
    assert width(alike) > 1.5 * width(alike.assign(user_id=apart["user_id"]))


def test_the_f1_interval_is_that_of_scikit_learns_f1():
    frame, probabilities = many(drivers=40, n=400)
    rows = scored(frame, 100, probabilities[100:])
    low, high = f1_interval(rows)
    places = np.unique(rows.drivers, return_inverse=True)[1]
    predicted = probabilities[100:].argmax(axis=1)
    random, found = np.random.default_rng(1), []
    for _ in range(500):
        weights = np.bincount(random.integers(40, size=40), minlength=40)[places]
        found.append(f1_score(rows.labels, predicted, average="weighted", sample_weight=weights, zero_division=0))

    assert [low, high] == pytest.approx(np.percentile(found, [2.5, 97.5]), abs=0.015)


# Calibration.


def honest(n=20_000, seed=1):
    """Return probabilities of three types, and labels drawn from these probabilities."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet([0.6, 0.8, 1.0], size=n)
    labels = (random.random((n, 1)) > probabilities.cumsum(axis=1)[:, :2]).sum(axis=1)
    return labels, probabilities


def test_honest_probabilities_have_next_to_no_calibration_error():
    labels, probabilities = honest()

    found = calibration(rows_of(labels, probabilities))

    assert found["expected_calibration_error"] < 0.015


@pytest.mark.parametrize(("power", "at_least"), [(3.0, 0.1), (0.3, 0.1)])
def test_overconfident_and_underconfident_probabilities_have_a_calibration_error(power, at_least):
    labels, probabilities = honest()
    bold = probabilities**power / (probabilities**power).sum(axis=1, keepdims=True)

    found = calibration(rows_of(labels, bold))

    assert found["expected_calibration_error"] > at_least
    for one in found["bins"]:
        if one["sessions"] > 300:
            assert (one["mean_confidence"] > one["accuracy"]) == (power > 1)


def test_the_calibration_error_of_a_few_rows_by_hand():
    probabilities = np.array([[0.95, 0.05], [0.91, 0.09], [0.35, 0.65], [0.5, 0.5], [1.0, 0.0]])

    found = calibration(rows_of([0, 1, 1, 0, 0], probabilities))

    assert [(one["from"], one["to"], one["sessions"]) for one in found["bins"]] == [
        (0.5, 0.6, 1),
        (0.6, 0.7, 1),
        (0.9, 1.0, 3),
    ]
    assert [one["accuracy"] for one in found["bins"]] == pytest.approx([1, 1, 2 / 3])
    assert [one["mean_confidence"] for one in found["bins"]] == pytest.approx([0.5, 0.65, 2.86 / 3])
    assert found["expected_calibration_error"] == pytest.approx((0.5 + 0.35 + 3 * (2.86 / 3 - 2 / 3)) / 5)


def test_the_bins_add_up():
    labels, probabilities = honest(n=500)

    found = calibration(rows_of(labels, probabilities))

    bins = found["bins"]
    assert sum(one["sessions"] for one in bins) == 500
    assert [one["from"] for one in bins] == sorted({one["from"] for one in bins})
    assert all(one["from"] <= one["mean_confidence"] <= one["to"] for one in bins)
    right = sum(one["sessions"] * one["accuracy"] for one in bins)
    assert right == pytest.approx((probabilities.argmax(axis=1) == labels).sum())
    gaps = sum(one["sessions"] / 500 * abs(one["accuracy"] - one["mean_confidence"]) for one in bins)
    assert found["expected_calibration_error"] == pytest.approx(gaps)


# Slices.


def test_the_slices_are_by_the_earlier_sessions_of_the_driver():
    earlier = [0, 0, 0, 1, 4, 5, 19, 20, 500]
    labels = [0, 0, 1, 0, 1, 1, 1, 0, 0]
    probabilities = [[0.5, 0.5]] * 3 + [[0.9, 0.1]] * 2 + [[0.2, 0.8]] * 2 + [[0.25, 0.75]] * 2
    baseline = [[0.6, 0.4]] * 5 + [[0.3, 0.7]] * 4

    slices = evaluate(rows_of(labels, probabilities, earlier=earlier, baseline=baseline))["by_earlier_sessions"]

    assert {name: one["sessions"] for name, one in slices.items()} == {"0": 3, "1-4": 2, "5-19": 2, "20+": 2}
    assert slices["0"]["log_loss"] == pytest.approx(np.log(2))
    assert slices["1-4"]["log_loss"] == pytest.approx(-(np.log(0.9) + np.log(0.1)) / 2)
    assert slices["5-19"]["weighted_f1"] == 1
    assert slices["20+"]["weighted_f1"] == 0
    assert slices["0"]["baselines"]["prior"]["log_loss"] == pytest.approx(-(2 * np.log(0.6) + np.log(0.4)) / 3)
    assert slices["5-19"]["baselines"]["driver_share"]["log_loss"] == pytest.approx(-np.log(0.7))


def test_the_slices_are_by_how_many_types_the_driver_had_used():
    rows = rows_of([0, 1, 1, 0], [[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1]], types_used=[1, 2, 3, 0])

    slices = evaluate(rows)["by_types_used"]

    assert {name: one["sessions"] for name, one in slices.items()} == {"none": 1, "one": 1, "several": 2}
    assert slices["one"]["log_loss"] == pytest.approx(-np.log(0.9))
    assert slices["several"]["log_loss"] == pytest.approx(-(np.log(0.1) + np.log(0.9)) / 2)


def test_no_slice_looks_at_the_answer():
    # The type that a driver uses now or later does not change the slice of a session.
    rows = [("a", 0, "AC"), ("b", 0, "DC"), ("a", 1, "AC"), ("b", 1, "DC"), ("a", 2, "AC"), ("a", 3, "AC")]
    other = [*rows[:4], ("a", 2, "DC"), ("a", 3, "DC")]

    found = [scored(history(one), 4).types_used.tolist() for one in (rows, other)]

    # By day 3 the driver has used one type or two types; by day 2 one type in both histories.
    assert found == [[1, 1], [1, 2]]


def test_a_slice_without_sessions_says_nothing():
    scores = evaluate(rows_of([0, 1], [[0.5, 0.5]] * 2, earlier=[3, 3]))

    assert [name for name, one in scores["by_earlier_sessions"].items() if one is None] == ["0", "5-19", "20+"]
    assert scores["by_types_used"]["several"] is None


# Over several windows.


def test_windows_are_scored_each_and_together():
    first, second = (scored(frame, 300, known[300:]) for frame, known in (many(seed=1), many(seed=2)))

    found = over_windows([(300, first), (700, second)])

    assert [one["trained_samples"] for one in found["each"]] == [300, 700]
    assert [one["test_samples"] for one in found["each"]] == [100, 100]
    for one, rows in zip(found["each"], (first, second), strict=True):
        alone = evaluate(rows)
        assert (one["weighted_f1"], one["log_loss"]) == (alone["test_f1_score"], alone["log_loss"])
        assert (one["log_loss"], one["baselines"]) == (alone["log_loss"], alone["baselines"])
    assert found["test_samples"] == 200
    assert found["log_loss"] == pytest.approx(np.mean([one["log_loss"] for one in found["each"]]))
    labels, predicted = (
        np.concatenate([first.labels, second.labels]),
        np.concatenate([rows.probabilities.argmax(axis=1) for rows in (first, second)]),
    )
    assert found["weighted_f1"] == pytest.approx(f1_score(labels, predicted, average="weighted"))
    for name in BASELINES:
        each = [one["baselines"][name]["log_loss"] for one in found["each"]]
        assert found["baselines"][name]["log_loss"] == pytest.approx(np.mean(each))
    assert found["beats_baseline"]
    assert found["judged"]["sessions_of"] == "the rolling windows"


def test_windows_may_have_other_types():
    # One type is new, another type is no longer used. Each session keeps its type, whatever its code in a window.
    first = rows_of([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], classes=["B", "C"], baseline=[[0.6, 0.4]] * 3)
    second = rows_of([0, 1], [[0.8, 0.2], [0.4, 0.6]], classes=["A", "B"], baseline=[[0.7, 0.3]] * 2)

    found = over_windows([(3, first), (6, second)])

    assert found["weighted_f1"] == found["macro_f1"] == 1
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.7, 0.8, 0.6]).mean())
    assert found["baselines"]["prior"]["log_loss"] == pytest.approx(-np.log([0.6, 0.4, 0.4, 0.7, 0.3]).mean())


def test_a_driver_of_two_windows_is_one_driver():
    labels, probabilities = [0, 1] * 30, [[0.8, 0.2], [0.4, 0.6]] * 30
    twenty = [place % 20 for place in range(60)]
    one, same, others = (rows_of(labels, probabilities, drivers=[d + more for d in twenty]) for more in (0, 0, 20))

    assert over_windows([(1, one), (2, same)])["effective_drivers"] == 20
    assert over_windows([(1, one), (2, same)])["log_loss_difference_interval"] is None
    assert over_windows([(1, one), (2, others)])["effective_drivers"] == 40
    assert over_windows([(1, one), (2, others)])["log_loss_difference_interval"] is not None


def test_over_the_windows_the_best_baseline_is_the_best_on_all_sessions():
    # The prior is best in the first window, the driver's share in the second, which has more weight.
    labels = [0] * 20
    even, good, better = ([[p, 1 - p]] * 20 for p in (0.5, 0.8, 0.9))
    first, second = rows_of(labels, even), rows_of(labels, even)
    first.baselines.update(prior=np.array(good), driver_share=np.array(even))
    second.baselines.update(prior=np.array(even), driver_share=np.array(better))

    found = over_windows([(1, first), (2, second)])

    assert [min(one["baselines"], key=lambda n: one["baselines"][n]["log_loss"]) for one in found["each"]] == [
        "prior",
        "driver_share",
    ]
    assert found["best_baseline"] == "driver_share"
    assert found["log_loss_difference"] == pytest.approx(np.log(2) - (np.log(2) - np.log(0.9)) / 2)
    assert not found["beats_baseline"]


def test_the_windows_decide_the_verdict():
    frame, probabilities = many()
    rows = scored(frame, 300, probabilities[300:])
    good, bad = (
        over_windows([(300, rows)]),
        over_windows([(300, replace(rows, probabilities=rows.baselines["prior"]))]),
    )
    scores = evaluate(rows)

    for windows in (good, bad):
        judged = {name: windows[name] for name in ("verdict", "beats_baseline", "judged")}
        assert with_windows(scores, windows) == {**scores, "windows": windows, **judged}
    assert (good["verdict"], bad["verdict"]) == ("better", "worse")


# Sessions that a search has seen do not decide the verdict.


def after_a_search(seen_days, **options):
    """Return two windows of 60 days and drivers. The model is good in the first, and gives one half in the second."""
    first = rows_of([0] * 60, [[0.9, 0.1]] * 60, baseline=[[0.6, 0.4]] * 60)
    second = rows_of([0] * 60, [[0.5, 0.5]] * 60, baseline=[[0.6, 0.4]] * 60, drivers=range(60, 120))
    second = replace(second, starts=second.starts + np.timedelta64(60, "D"))
    seen_until = pd.Timestamp("2024-01-01 12:00") + pd.Timedelta(days=seen_days - 1)
    return over_windows([(100, first), (160, second)], None if seen_days is None else seen_until, **options)


def test_windows_that_the_search_has_seen_do_not_decide():
    found = after_a_search(60)

    assert found["log_loss"] < found["baselines"]["prior"]["log_loss"]
    assert found["verdict"] == "worse"
    assert found["judged"]["sessions_of"] == "the sessions of the rolling windows that the search has not seen"
    assert (found["judged"]["sessions"], found["judged"]["from"]) == (60, "2024-03-01T12:00:00")
    assert found["judged"]["log_loss"] == pytest.approx(np.log(2))


def test_windows_with_a_search_of_their_own_all_decide():
    found = after_a_search(60, nested=True)

    assert (found["judged"]["sessions"], found["verdict"]) == (120, "better")
    assert found["judged"]["sessions_of"] == "the rolling windows, each with a search of its own"


def test_sessions_of_the_last_part_that_the_search_has_seen_do_not_decide():
    rows = rows_of([0] * 80, [[0.9, 0.1]] * 40 + [[0.5, 0.5]] * 40, baseline=[[0.6, 0.4]] * 80)
    seen_until = pd.Timestamp("2024-01-01 12:00") + pd.Timedelta(days=39)

    scores = evaluate(rows, seen_until)

    assert (evaluate(rows)["verdict"], scores["verdict"]) == ("better", "worse")
    assert scores["judged"]["sessions"] == 40
    assert scores["log_loss"] == evaluate(rows)["log_loss"]


def test_if_the_search_has_seen_all_sessions_nothing_is_shown():
    rows = rows_of([0] * 40, [[0.9, 0.1]] * 40)

    scores = evaluate(rows, pd.Timestamp("2030-01-01"))

    assert scores["judged"] == {
        "sessions_of": "the sessions of the last part that the search has not seen",
        "sessions": 0,
        "verdict": "not_shown",
    }
    assert (scores["verdict"], scores["beats_baseline"]) == ("not_shown", False)
