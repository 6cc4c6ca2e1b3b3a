"""Scores, what guessing scores beside them, their intervals, and how far probabilities can be taken at their word."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss

from zap.ml import evaluation
from zap.ml.evaluation import (
    BASELINES,
    RESAMPLES,
    ScoredRows,
    _draws,
    _scores,
    calibration,
    difference_interval,
    evaluate,
    f1_interval,
    over_windows,
    rows_to_score,
    with_windows,
)
from zap.ml.training import driver_codes, mix_of, past_features
from zap.ml.user_history import PRIOR_WEIGHT

TYPES = ["AC", "DC"]


def history(rows):
    """Sessions (driver, day, type) in time order."""
    frame = pd.DataFrame(rows, columns=["user_id", "day", "charger_type"]).astype({"charger_type": "str"})
    frame["user_id"] = frame["user_id"].astype("str").where(frame["user_id"].notna())
    frame["charging_start_time"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(frame.pop("day"), unit="D")
    missing = ("energy_consumed_kwh", "charging_duration_hours", "state_of_charge_start", "distance_driven_km")
    return frame.assign(charging_end_time=pd.NaT, **dict.fromkeys(missing, np.nan))


def scored(frame, n_train, probabilities=None, types=TYPES):
    """The rows after the first `n_train`, to be scored; by default of a model that says one half each."""
    train, test = frame[:n_train], frame[n_train:]
    even = np.full((len(test), len(types)), 1 / len(types))
    drivers = driver_codes(frame)
    return rows_to_score(
        types,
        test["charger_type"].tolist(),
        drivers[n_train:],
        several_types=frame["charger_type"].groupby(drivers).transform("nunique").to_numpy()[n_train:] > 1,
        past=past_features(frame, types, mix_of(train, types))[n_train:],
        mix=np.array([(train["charger_type"] == name).mean() for name in types]),
        probabilities=even if probabilities is None else probabilities,
    )


def many(n=400, drivers=40, seed=1, signal=0.9):
    """A history of drivers who mostly use one type, and probabilities that know which."""
    random = np.random.default_rng(seed)
    driver = random.integers(drivers, size=n)
    favourite = driver % 2
    used = np.where(random.random(n) < signal, favourite, 1 - favourite)
    frame = history([(f"d{d}", day, TYPES[u]) for day, (d, u) in enumerate(zip(driver, used, strict=True))])
    return frame, np.column_stack([1 - favourite, favourite]) * (2 * signal - 1) + (1 - signal)


def rows_of(labels, probabilities, *, drivers=None, earlier=None, several=None, classes=None, guess=None):
    """Rows to be scored, as they are given; every guess is the same, by default even."""
    labels, probabilities = np.array(labels), np.array(probabilities, dtype=float)
    n, k = probabilities.shape
    guess = np.full((n, k), 1 / k) if guess is None else np.array(guess)
    return ScoredRows(
        classes or ["A", "B", "C"][:k],
        labels,
        np.arange(n) if drivers is None else np.array(drivers),
        np.zeros(n) if earlier is None else np.array(earlier, dtype=float),
        np.zeros(n, dtype=bool) if several is None else np.array(several),
        probabilities,
        dict.fromkeys(BASELINES, guess),
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
    assert scores["test_f1_interval"][0] < scores["test_f1_score"] < scores["test_f1_interval"][1]
    assert sum(map(sum, scores["confusion_matrix"])) == 100
    assert sum(row["support"] for row in scores["per_class"].values()) == 100
    assert list(scores["baselines"]) == ["prior", "driver_share", "driver_share_time_of_day", "driver_share_recent"]
    best = min(scores["baselines"], key=lambda name: scores["baselines"][name]["log_loss"])
    assert scores["best_baseline"] == best != "prior"
    assert scores["log_loss_difference"] == scores["log_loss"] - scores["baselines"][best]["log_loss"] < 0
    assert scores["beats_baseline"]
    assert scores["calibration"]["expected_calibration_error"] < 0.15
    assert scores["by_types_used"]["several"]["sessions"] > 50


def test_a_guess_as_good_as_the_model_is_not_beaten():
    rows = scored(many()[0], 300)
    best = evaluate(rows)["best_baseline"]

    scores = evaluate(replace(rows, probabilities=rows.guesses[best]))

    assert scores["log_loss_difference"] == 0
    assert scores["log_loss_difference_interval"] == [0, 0]
    assert not scores["beats_baseline"]


def test_noise_does_not_beat_guessing():
    frame, _ = many(signal=0.5)
    noise = np.random.default_rng(2).dirichlet([1, 1], size=100)

    assert not evaluate(scored(frame, 300, noise))["beats_baseline"]


def test_better_by_luck_is_not_better():
    """A model that helps 22 drivers as much as it harms 18 others."""
    rows = rows_of([0] * 40, [[0.7, 0.3]] * 22 + [[0.5 * 0.5 / 0.7, 1 - 0.5 * 0.5 / 0.7]] * 18)

    scores = evaluate(rows)

    assert scores["log_loss_difference"] < 0
    assert scores["log_loss_difference_interval"][0] < 0 < scores["log_loss_difference_interval"][1]
    assert not scores["beats_baseline"]


def test_a_model_that_beats_all_but_one_way_of_guessing_beats_none():
    frame, probabilities = many()
    rows = scored(frame, 300, probabilities[300:])
    knows_all = np.eye(2)[rows.labels]

    for name in BASELINES:
        scores = evaluate(replace(rows, guesses=rows.guesses | {name: knows_all}))
        assert scores["best_baseline"] == name
        assert not scores["beats_baseline"]


# What guessing says.


def test_the_prior_is_that_of_the_training_sessions():
    frame = history([("a", 0, "AC"), ("a", 1, "AC"), ("a", 2, "DC"), ("a", 3, "DC"), ("a", 4, "DC")])

    assert scored(frame, 3).guesses["prior"].tolist() == [[2 / 3, 1 / 3]] * 2


def test_the_driver_share_counts_what_the_driver_used_before():
    frame = history([("a", 0, "AC"), ("b", 1, "DC"), ("a", 2, "AC"), ("a", 3, "DC"), ("a", 4, "AC"), ("c", 5, "AC")])
    w = PRIOR_WEIGHT

    shares = scored(frame, 4).guesses["driver_share"]

    # The mix of the first four days is one half each; on day 4 the driver a has used AC twice and DC once.
    assert shares[0].tolist() == pytest.approx([(2 + w / 2) / (3 + w), (1 + w / 2) / (3 + w)])
    # A driver without a past gets the mix of the training: two of each.
    assert shares[1].tolist() == [0.5, 0.5]


def test_each_way_of_guessing_reads_its_own_columns():
    """In the mornings of long ago AC, on a recent evening DC."""
    rows = [("a", day, "AC") for day in range(6)] + [("a", 90.8, "DC"), ("a", 91.3, "AC"), ("a", 91.8, "AC")]

    rows = scored(history(rows), 7)

    share, by_time, recent = (rows.guesses[f"driver_share{name}"] for name in ("", "_time_of_day", "_recent"))
    # At 07:12 the driver has used neither; at 19:12 only DC.
    assert by_time[0].tolist() == share[0].tolist()
    assert by_time[1, 1] > share[1, 1]
    assert (recent[:, 1] > share[:, 1]).all()
    assert rows.earlier.tolist() == [7, 8]


def test_sessions_that_start_together_do_not_see_each_other():
    frame = history([("a", 0, "AC"), ("b", 0, "DC"), ("a", 1, "AC"), ("a", 1, "DC")])

    guesses = scored(frame, 2).guesses

    for name in BASELINES:
        assert guesses[name][0].tolist() == guesses[name][1].tolist()


def test_sessions_without_a_driver_have_no_past():
    frame = history([("a", 0, "AC"), ("a", 0, "DC"), (None, 1, "AC"), (None, 1, "AC")])

    rows = scored(frame, 2)

    assert rows.guesses["driver_share"].tolist() == [[0.5, 0.5]] * 2
    assert rows.earlier.tolist() == [0, 0]
    assert rows.drivers[0] != rows.drivers[1]
    assert not rows.several_types.any()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.sampled_from(TYPES)), min_size=4, max_size=30))
def test_the_driver_share_is_what_a_loop_over_the_past_finds(rows):
    frame = history(sorted(rows, key=lambda row: row[1]))
    n_train = len(frame) // 2

    shares = scored(frame, n_train).guesses["driver_share"]

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
    assert np.isfinite(scores["log_loss"])
    assert all(np.isfinite(baseline["log_loss"]) for baseline in scores["baselines"].values())


def test_every_type_counts_in_the_macro_f1_of_a_model_and_of_a_guess():
    """A model that names a type which nobody used must not be measured by more types than the guess is."""
    frame = history([("a", 0, "AC"), ("b", 1, "DC"), ("a", 2, "AC"), ("b", 3, "AC")])

    scores = evaluate(scored(frame, 2, np.array([[0.9, 0.1], [0.9, 0.1]])))

    assert scores["macro_f1"] == 0.5
    assert scores["macro_f1"] == np.mean([row["f1"] for row in scores["per_class"].values()])


# Intervals.


@pytest.mark.parametrize("drivers", [1, 9])
def test_few_drivers_give_no_interval(drivers):
    frame, probabilities = many(drivers=drivers)

    scores = evaluate(scored(frame, 300, probabilities[300:]))

    assert scores["test_f1_interval"] is None
    assert scores["log_loss_difference_interval"] is None
    assert not scores["beats_baseline"]


def test_intervals_resample_drivers_not_sessions():
    """The same sessions say less when they are of twelve drivers than when each is of another."""
    frame, probabilities = many(drivers=12)
    apart = frame.assign(user_id=[f"d{place}" for place in range(len(frame))])

    def width(one):
        low, high = difference_interval(scored(one, 100), probabilities[100:], np.full((300, 2), 0.5))
        return high - low

    # A driver's sessions are alike here only through their driver, so make them so.
    alike = frame.assign(charger_type=[TYPES[int(d[1:]) // 6] for d in frame["user_id"]])
    assert width(alike) > 1.5 * width(alike.assign(user_id=apart["user_id"]))


def test_the_f1_of_every_resample_is_scikit_learns():
    frame, probabilities = many(drivers=12, n=120)
    rows = scored(frame, 60)
    different, places = np.unique(rows.drivers, return_inverse=True)
    random, drivers = np.random.default_rng(42), len(different)
    found = []
    for _ in range(evaluation.RESAMPLES):
        weights = np.bincount(random.integers(drivers, size=drivers), minlength=drivers)[places]
        found.append(
            f1_score(
                rows.labels,
                probabilities[60:].argmax(axis=1),
                average="weighted",
                sample_weight=weights,
                zero_division=0,
            )
        )

    assert f1_interval(rows, probabilities[60:]) == pytest.approx(np.percentile(found, [2.5, 97.5]).tolist())


def test_drivers_of_earlier_windows_do_not_count_as_drivers_of_this_one():
    """Codes may have gaps: nine drivers are nine, whatever their codes."""
    nine, ten = ([7 * (place % drivers) for place in range(60)] for drivers in (9, 10))
    labels, probabilities = [0, 1] * 30, [[0.8, 0.2], [0.4, 0.6]] * 30

    assert evaluate(rows_of(labels, probabilities, drivers=nine))["test_f1_interval"] is None
    assert evaluate(rows_of(labels, probabilities, drivers=ten))["test_f1_interval"] is not None


# Calibration.


def honest(n=20_000, seed=1):
    """Probabilities of three types, and labels drawn from them."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet([0.6, 0.8, 1.0], size=n)
    labels = (random.random((n, 1)) > probabilities.cumsum(axis=1)[:, :2]).sum(axis=1)
    return labels, probabilities


def test_honest_probabilities_have_next_to_no_calibration_error():
    labels, probabilities = honest()

    found = calibration(rows_of(labels, probabilities), probabilities)

    assert found["expected_calibration_error"] < 0.015


@pytest.mark.parametrize(("power", "at_least"), [(3.0, 0.1), (0.3, 0.1)])
def test_probabilities_that_say_too_much_or_too_little_have_one(power, at_least):
    labels, probabilities = honest()
    bold = probabilities**power / (probabilities**power).sum(axis=1, keepdims=True)

    found = calibration(rows_of(labels, bold), bold)

    assert found["expected_calibration_error"] > at_least
    for one in found["bins"]:
        if one["sessions"] > 300:
            assert (one["mean_confidence"] > one["accuracy"]) == (power > 1)


def test_the_calibration_error_of_a_few_rows_by_hand():
    probabilities = np.array([[0.95, 0.05], [0.91, 0.09], [0.35, 0.65], [0.5, 0.5], [1.0, 0.0]])

    found = calibration(rows_of([0, 1, 1, 0, 0], probabilities), probabilities)

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

    found = calibration(rows_of(labels, probabilities), probabilities)

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
    guess = [[0.6, 0.4]] * 5 + [[0.3, 0.7]] * 4

    slices = evaluate(rows_of(labels, probabilities, earlier=earlier, guess=guess))["by_earlier_sessions"]

    assert {name: one["sessions"] for name, one in slices.items()} == {"0": 3, "1-4": 2, "5-19": 2, "20+": 2}
    assert slices["0"]["log_loss"] == pytest.approx(np.log(2))
    assert slices["1-4"]["log_loss"] == pytest.approx(-(np.log(0.9) + np.log(0.1)) / 2)
    assert slices["5-19"]["weighted_f1"] == 1
    assert slices["20+"]["weighted_f1"] == 0
    assert slices["0"]["baselines"]["prior"]["log_loss"] == pytest.approx(-(2 * np.log(0.6) + np.log(0.4)) / 3)
    assert slices["5-19"]["baselines"]["driver_share"]["log_loss"] == pytest.approx(-np.log(0.7))


def test_the_slices_are_by_how_many_types_the_driver_uses():
    rows = rows_of([0, 1, 1], [[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]], several=[False, True, True])

    slices = evaluate(rows)["by_types_used"]

    assert {name: one["sessions"] for name, one in slices.items()} == {"one": 1, "several": 2}
    assert slices["one"]["log_loss"] == pytest.approx(-np.log(0.9))
    assert slices["several"]["log_loss"] == pytest.approx(-(np.log(0.1) + np.log(0.9)) / 2)


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


def test_windows_may_have_other_types():
    """A type comes up, another goes out of use; each session keeps its own, whatever its code in its window."""
    first = rows_of([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], classes=["B", "C"], guess=[[0.6, 0.4]] * 3)
    second = rows_of([0, 1], [[0.8, 0.2], [0.4, 0.6]], classes=["A", "B"], guess=[[0.7, 0.3]] * 2)

    found = over_windows([(3, first), (6, second)])

    assert found["weighted_f1"] == found["macro_f1"] == 1
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.7, 0.8, 0.6]).mean())
    assert found["baselines"]["prior"]["log_loss"] == pytest.approx(-np.log([0.6, 0.4, 0.4, 0.7, 0.3]).mean())


def test_a_driver_of_two_windows_is_one_driver():
    labels, probabilities = [0, 1] * 30, [[0.8, 0.2], [0.4, 0.6]] * 30
    nine = [place % 9 for place in range(60)]
    one, same, others = (rows_of(labels, probabilities, drivers=[d + more for d in nine]) for more in (0, 0, 9))

    assert over_windows([(1, one), (2, same)])["log_loss_difference_interval"] is None
    assert over_windows([(1, one), (2, others)])["log_loss_difference_interval"] is not None


def test_over_the_windows_the_best_way_of_guessing_is_the_best_of_all_together():
    """In the first window the prior is best; in the second, which weighs more, the driver's share."""
    labels = [0] * 20
    even, good, better = ([[p, 1 - p]] * 20 for p in (0.5, 0.8, 0.9))
    first, second = rows_of(labels, even), rows_of(labels, even)
    first.guesses.update(prior=np.array(good), driver_share=np.array(even))
    second.guesses.update(prior=np.array(even), driver_share=np.array(better))

    found = over_windows([(1, first), (2, second)])

    assert [min(one["baselines"], key=lambda n: one["baselines"][n]["log_loss"]) for one in found["each"]] == [
        "prior",
        "driver_share",
    ]
    assert found["best_baseline"] == "driver_share"
    assert found["log_loss_difference"] == pytest.approx(np.log(2) - (np.log(2) - np.log(0.9)) / 2)
    assert not found["beats_baseline"]


def test_what_the_windows_say_decides_whether_guessing_is_beaten():
    frame, probabilities = many()
    rows = scored(frame, 300, probabilities[300:])
    good, bad = over_windows([(300, rows)]), over_windows([(300, replace(rows, probabilities=rows.guesses["prior"]))])
    scores = evaluate(rows)

    assert with_windows(scores, good) == {**scores, "windows": good, "beats_baseline": True}
    assert with_windows(scores, bad) == {**scores, "windows": bad, "beats_baseline": False}


def test_the_f1s_are_scikit_learns_to_the_bit():
    """Types that nobody used, that nobody predicted, or neither."""
    random = np.random.default_rng(5)
    for labels_of, guesses_of in ((4, 4), (2, 4), (4, 2), (2, 2)):
        labels, guessed = random.integers(labels_of, size=97), random.integers(guesses_of, size=97)

        scores = _scores(rows_of(labels, np.eye(4)[guessed], classes=list("ABCD")), np.eye(4)[guessed])

        for mean in ("weighted", "macro"):
            expected = f1_score(labels, guessed, labels=np.arange(4), average=mean, zero_division=0)
            assert scores[f"{mean}_f1"] == expected


def test_the_draws_are_those_of_one_generator():
    random = np.random.default_rng(42)
    expected = [np.bincount(random.integers(300, size=300), minlength=300) for _ in range(RESAMPLES)]

    assert _draws(300).tolist() == np.array(expected).tolist()
    assert set(_draws(300).sum(axis=1)) == {300}
