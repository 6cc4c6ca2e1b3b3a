"""Learned charger types: enough sessions, not too many types, and one decision for all parts of a training."""

import numpy as np
import pandas as pd
import pytest
from ml.test_training import QUICK, at, history

from zap.errors import UnusableHistory
from zap.ml.charger_types import TypeBounds, in_words_if_many, learned_types
from zap.ml.comparison import compare_versions
from zap.ml.golden import golden_rows
from zap.ml.history_columns import driver_column
from zap.ml.history_matrix import mix_of, past_features
from zap.ml.training import fit, rolling_windows, score, score_windows, split_by_time
from zap.ml.tuning import Budget, search

# Every sixth session has a type of its own.
USED = [f"X{row}" if row % 6 == 5 else ("A", "B", "C")[row % 3] for row in range(600)]


def learned(counts, **bounds):
    used = pd.Series([name for name, count in counts.items() for _ in range(count)], dtype="str")
    return learned_types(used, TypeBounds(**bounds))


def test_it_works():
    types, left_out = learned({"A": 900, "B": 90, "C": 6, "D": 5}, fewest_sessions=5, least_share=0.0055)

    assert types == {"A", "B", "C"}
    assert (left_out.needed, left_out.rare, left_out.surplus, left_out.sessions) == (6, {"D": 5}, {}, 5)
    assert left_out.in_words() == (
        "5 sessions are neither learned from nor tested on, because their charger types are not learned:"
        " 1 type ('D': 5) with fewer than 6 sessions each (they stay part of their drivers' pasts)."
    )
    assert learned({"A": 900, "B": 90})[1].in_words() == ""


@pytest.mark.parametrize(("sessions", "needed"), [(100, 5), (1000, 5), (1001, 6), (28_800, 144), (1_000_000, 5000)])
def test_a_type_needs_a_number_and_a_share_of_the_sessions(sessions, needed):
    assert TypeBounds().needed(sessions) == needed


def test_the_most_frequent_of_many_types_are_learned():
    types, left_out = learned({"E": 20, "A": 10, "D": 10, "C": 10, "B": 30}, most=3)

    assert types == {"B", "E", "A"}
    assert left_out.surplus == {"C": 10, "D": 10}
    assert "beyond the 3 most frequent ones" in left_out.in_words()


def test_the_report_of_left_out_types_is_bounded():
    _, left_out = learned({"A": 100, **{f"{n:04}" + "x" * 5000: 1 for n in range(3000)}})

    told = left_out.as_dict()["too_few_sessions"]
    assert (told["types"], told["sessions"], len(told["largest"])) == (3000, 3000, 20)
    assert len(str(left_out.as_dict())) < 4000
    assert len(left_out.in_words()) < 700


@pytest.fixture(scope="module")
def split():
    return split_by_time(history(USED))


def test_sessions_of_rare_types_are_only_part_of_the_past(split):
    whole = history(USED).frame
    common = whole[whole["charger_type"].isin(["A", "B", "C"])]

    assert split.types == ("A", "B", "C")
    assert split.left_out.sessions == 100
    assert [*split.train.index, *split.test.index] == common.index.tolist()
    assert (split.n_train, split.n_test, len(split.matrix)) == (450, 50, 500)
    assert split.trained_end == split.train.index[-1] + 1
    # The pasts contain all sessions of the drivers.
    expected = past_features(whole, split.types, mix_of(split.train, split.types))
    assert split.past.tobytes() == expected[common.index].tobytes()
    assert (
        split.past[-1, driver_column("sessions", 3)] == (whole["user_id"] == split.test["user_id"].iloc[-1]).sum() - 1
    )
    scores = score(split, fit(split, QUICK, n_jobs=1))
    assert scores["classes"] == ["A", "B", "C"]
    assert scores["unseen_type_sessions"] == 0
    assert sum(map(sum, scores["confusion_matrix"])) == split.n_test


def test_windows_have_the_same_types_and_sessions(split):
    windows = list(rolling_windows(split))

    assert [(window.n_train, window.n_test) for window in windows] == [(tenth * 50, 50) for tenth in range(5, 10)]
    for window in windows[:-1]:
        assert window.types == split.types
        assert window.test.index.tolist() == split.frame.index[split.places][window.tested].tolist()
        expected = past_features(window.frame, window.types, mix_of(window.train, window.types))
        assert window.past.tobytes() == expected[window.places].tobytes()
    found = score_windows(split, fit(split, QUICK, n_jobs=1))
    assert found["test_samples"] == 250
    assert found["unseen_type_sessions"] == 0


def test_a_search_uses_the_training_sessions(split):
    found = search(split, Budget(trials=2), n_jobs=1, pinned={"n_estimators": 5}, seed=1)

    assert found.sessions == 450


def test_the_gate_compares_on_the_tested_sessions_with_whole_pasts(split):
    model = fit(split, QUICK, n_jobs=1)
    until = split.train["charging_start_time"].iloc[-1].to_pydatetime()

    assert compare_versions(split, model, model, until) == {"sessions": 50}


def test_golden_requests_are_of_trained_sessions(split):
    model = fit(split, QUICK, n_jobs=1)
    golden = golden_rows(model.fitted(), split)

    starts = set(split.train["charging_start_time"].map(lambda start: start.isoformat()))
    assert {one["request"]["charging_start_time"] for one in golden} <= starts


def test_the_types_are_counted_in_the_window_of_history():
    # A type that is common before the window but rare in the window is not learned.
    used = ["A", "B", "C"] * 100 + ["A", "B"] * 98 + ["C"] * 4

    split = split_by_time(history(used), since=at(300))

    assert split.types == ("A", "B")
    assert dict(split.left_out.rare) == {"C": 4}
    assert (split.train_start, split.n_train + split.n_test) == (300, 196)
    # Earlier sessions of the type are part of the past, like sessions of any type that is not learned.
    assert split.past[300, driver_column("sessions", 2)] >= 42


def test_too_few_sessions_of_learned_types_are_refused_with_a_sentence():
    used = [f"X{row}" if row % 3 else "A" for row in range(120)]

    with pytest.raises(
        UnusableHistory, match="40 usable sessions of 120 are of charger types that are learned"
    ) as caught:
        split_by_time(history(used))
    assert "ZAP_FEWEST_TYPE_SESSIONS" in caught.value.message
    assert caught.value.details["left_out_types"]["too_few_sessions"]["types"] == 80
    with pytest.raises(UnusableHistory, match=r"only one charger type, 'A'.*40 types \('X\d+': 1, .*, …\) with fewer"):
        split_by_time(history([f"X{row}" if row % 3 == 2 else "A" for row in range(120)]))


def test_the_bounds_can_be_set():
    used = ["A"] * 100 + ["A", "B", "C"] * 30

    split = split_by_time(history(used), bounds=TypeBounds(most=2))

    assert split.types == ("A", "B")
    assert dict(split.left_out.surplus) == {"C": 30}
    assert np.isin(split.test["charger_type"], ["A", "B"]).all()


@pytest.mark.parametrize(
    ("types", "sessions", "said"),
    [
        (10, 1_000_000, ""),
        (11, 3_000, "about 20 seconds"),
        (20, 3_000, "about 40 seconds"),
        (100, 3_000, "about 6 minutes"),
        (20, 900_000, "about 12 minutes"),
    ],
)
def test_many_types_are_told_with_the_time_of_a_fit(types, sessions, said):
    told = in_words_if_many(types, sessions)

    assert bool(told) == bool(said)
    assert said in told
    assert not said or f"{types} charger types" in told
