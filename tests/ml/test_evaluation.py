"""Scores, what guessing scores beside them, and their intervals."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss

from zap.ml import evaluation
from zap.ml.evaluation import PRIOR_WEIGHT, difference_interval, driver_share, evaluate, f1_interval, prior

TYPES = ["AC", "DC"]


def history(rows):
    """Sessions (driver, day, type) in time order."""
    frame = pd.DataFrame(rows, columns=["user_id", "day", "charger_type"]).astype(
        {"user_id": "str", "charger_type": "str"}
    )
    frame["charging_start_time"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(frame.pop("day"), unit="D")
    return frame


def many(n=400, drivers=40, seed=1, signal=0.9):
    """A history of drivers who mostly use one type, and probabilities that know which."""
    random = np.random.default_rng(seed)
    driver = random.integers(drivers, size=n)
    favourite = driver % 2
    used = np.where(random.random(n) < signal, favourite, 1 - favourite)
    frame = history([(f"d{d}", day, TYPES[u]) for day, (d, u) in enumerate(zip(driver, used, strict=True))])
    return frame, np.column_stack([1 - favourite, favourite]) * (2 * signal - 1) + (1 - signal)


def test_it_works():
    frame, probabilities = many()

    scores = evaluate(frame, 300, TYPES, probabilities[300:])

    labels = frame["charger_type"][300:]
    predicted = np.array(TYPES)[probabilities[300:].argmax(axis=1)]
    assert scores["test_f1_score"] == pytest.approx(f1_score(labels, predicted, average="weighted"))
    assert scores["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert scores["log_loss"] == pytest.approx(log_loss(labels, probabilities[300:], labels=TYPES))
    assert scores["test_f1_interval"][0] < scores["test_f1_score"] < scores["test_f1_interval"][1]
    assert sum(map(sum, scores["confusion_matrix"])) == 100
    assert sum(row["support"] for row in scores["per_class"].values()) == 100
    assert scores["best_baseline"] == "driver_share"
    assert scores["log_loss_difference"] < 0
    assert scores["beats_baseline"]


def test_a_guess_as_good_as_the_model_is_not_beaten():
    frame, _ = many()

    scores = evaluate(frame, 300, TYPES, driver_share(frame, 300, TYPES))

    assert scores["log_loss_difference"] == 0
    assert scores["log_loss_difference_interval"] == [0, 0]
    assert not scores["beats_baseline"]


def test_noise_does_not_beat_guessing():
    frame, _ = many(signal=0.5)
    noise = np.random.default_rng(2).dirichlet([1, 1], size=100)

    assert not evaluate(frame, 300, TYPES, noise)["beats_baseline"]


def test_the_prior_is_that_of_the_training_sessions():
    frame = history([("a", 0, "AC"), ("a", 1, "AC"), ("a", 2, "DC"), ("a", 3, "DC"), ("a", 4, "DC")])

    assert prior(frame, 3, TYPES).tolist() == [[2 / 3, 1 / 3]] * 2


def test_the_driver_share_counts_what_the_driver_used_before():
    frame = history([("a", 0, "AC"), ("b", 1, "DC"), ("a", 2, "AC"), ("a", 3, "DC"), ("a", 4, "AC"), ("c", 5, "AC")])
    w = PRIOR_WEIGHT

    shares = driver_share(frame, 4, TYPES)

    # The prior of the first four is one half each; at day 4 the driver a has used AC twice and DC once.
    assert shares[0].tolist() == pytest.approx([(2 + w / 2) / (3 + w), (1 + w / 2) / (3 + w)])
    # A driver without a past gets the prior.
    assert shares[1].tolist() == [0.5, 0.5]


def test_sessions_that_start_together_do_not_see_each_other():
    frame = history([("a", 0, "AC"), ("b", 0, "DC"), ("a", 1, "AC"), ("a", 1, "DC")])

    shares = driver_share(frame, 2, TYPES)

    assert shares[0].tolist() == shares[1].tolist()


def test_sessions_without_a_driver_have_no_past():
    frame = history([("a", 0, "AC"), ("a", 0, "DC"), (None, 1, "AC"), (None, 2, "AC")])
    frame["user_id"] = frame["user_id"].where(frame["user_id"] != "None")

    assert driver_share(frame, 2, TYPES).tolist() == [[0.5, 0.5]] * 2


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.sampled_from(TYPES)), min_size=4, max_size=30))
def test_the_driver_share_is_what_a_loop_over_the_past_finds(rows):
    frame = history(sorted(rows, key=lambda row: row[1]))
    n_train = len(frame) // 2
    before = prior(frame, n_train, TYPES)[0]

    shares = driver_share(frame, n_train, TYPES)

    for place, now in enumerate(frame.iloc[n_train:].itertuples()):
        past = frame[(frame["user_id"] == now.user_id) & (frame["charging_start_time"] < now.charging_start_time)]
        counts = np.array([(past["charger_type"] == name).sum() for name in TYPES])
        assert shares[place] == pytest.approx((counts + PRIOR_WEIGHT * before) / (len(past) + PRIOR_WEIGHT))


def test_a_type_that_training_never_saw_counts_as_missed():
    frame, probabilities = many()
    frame.loc[390:, "charger_type"] = "Rapid"

    scores = evaluate(frame, 300, TYPES, probabilities[300:])

    assert scores["classes"] == ["AC", "DC", "Rapid"]
    assert scores["per_class"]["Rapid"] == {"precision": 0, "recall": 0, "f1": 0, "support": 10}
    assert np.isfinite(scores["log_loss"])


def test_every_type_counts_in_the_macro_f1_of_a_model_and_of_a_guess():
    """A model that names a type which nobody used must not be measured by more types than the guess is."""
    frame = history([("a", 0, "AC"), ("b", 1, "DC"), ("a", 2, "AC"), ("b", 3, "AC")])

    scores = evaluate(frame, 2, TYPES, np.array([[0.9, 0.1], [0.9, 0.1]]))

    assert scores["macro_f1"] == 0.5
    assert scores["macro_f1"] == np.mean([row["f1"] for row in scores["per_class"].values()])


@pytest.mark.parametrize("drivers", [1, 9])
def test_few_drivers_give_no_interval(drivers):
    frame, probabilities = many(drivers=drivers)

    scores = evaluate(frame, 300, TYPES, probabilities[300:])

    assert scores["test_f1_interval"] is None
    assert scores["log_loss_difference_interval"] is None
    assert not scores["beats_baseline"]


def test_intervals_resample_drivers_not_sessions():
    """The same sessions say less when they are of twelve drivers than when each is of another."""
    frame, probabilities = many(drivers=12)
    apart = frame.assign(user_id=[f"d{place}" for place in range(len(frame))])

    def width(one):
        rows = evaluation._test_rows(one, 100, TYPES)
        low, high = difference_interval(rows, probabilities[100:], np.full((300, 2), 0.5))
        return high - low

    # A driver's sessions are alike here only through their driver, so make them so.
    alike = frame.assign(charger_type=[TYPES[int(d[1:]) // 6] for d in frame["user_id"]])
    assert width(alike) > 1.5 * width(alike.assign(user_id=apart["user_id"]))


def test_the_f1_of_every_resample_is_scikit_learns():
    frame, probabilities = many(drivers=12, n=120)
    rows = evaluation._test_rows(frame, 60, TYPES)
    random, drivers = np.random.default_rng(42), rows.drivers.max() + 1
    found = []
    for _ in range(evaluation.RESAMPLES):
        weights = random.multinomial(drivers, np.full(drivers, 1 / drivers))[rows.drivers]
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
