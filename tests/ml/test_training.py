"""Split, fit and score."""

import pandas as pd
import pytest

from zap.errors import UnusableHistory
from zap.ml.history import Dropped, History, RawHistory, clean_history
from zap.ml.sample import sample_history
from zap.ml.training import FEWEST_SESSIONS, fit, split_by_time


def history(n, types=("A", "B")):
    frame = pd.DataFrame({"charger_type": [types[row % len(types)] for row in range(n)]})
    return History(frame, Dropped(), synthetic_sessions=0)


@pytest.mark.parametrize(("n", "n_train"), [(1320, 1188), (12_421, 11_178), (50, 45), (59, 53), (1_000_000, 900_000)])
def test_the_first_ninety_percent_are_trained_on(n, n_train):
    split = split_by_time(history(n))

    assert split.n_train == len(split.train) == n_train
    assert len(split.test) == n - n_train
    assert split.test.index[0] == n_train


def test_every_tenth_row_count_splits_exactly():
    assert all(split_by_time(history(n)).n_train == n * 9 // 10 for n in range(FEWEST_SESSIONS, 3000))


def test_too_few_sessions_are_refused_with_what_was_dropped():
    few = history(FEWEST_SESSIONS - 1)
    few.dropped.row("no charger type", 3)

    with pytest.raises(UnusableHistory, match=f"{FEWEST_SESSIONS - 1} usable sessions") as caught:
        split_by_time(few)

    assert caught.value.details["dropped"]["rows"] == {"no charger type": 3}


def test_a_single_type_is_refused_by_its_name():
    with pytest.raises(UnusableHistory, match="'A'"):
        split_by_time(history(100, types=("A",)))


def test_a_type_that_only_the_last_sessions_have_is_not_enough():
    one = history(100, types=("A",))
    one.frame.loc[95:, "charger_type"] = "B"

    with pytest.raises(UnusableHistory):
        split_by_time(one)


def test_a_user_type_that_only_the_last_sessions_have_can_be_asked_about():
    sample = sample_history(seed=3, drivers=12, months=2)
    sessions = sample.sessions.assign(session_id=range(len(sample.sessions)), vehicle_id=None)
    sessions.loc[sessions["charging_start_time"].idxmax(), "user_id"] = "late"
    users = pd.concat([sample.users, pd.DataFrame([{"user_id": "late", "user_type": "Astronaut"}])])
    vehicles = sample.vehicles.assign(vehicle_id=range(len(sample.vehicles)))
    split = split_by_time(clean_history(RawHistory(users, vehicles, sessions)))

    model = fit(split, n_jobs=1)

    assert "Astronaut" not in set(split.train["user_type"])
    assert "Astronaut" in model.contract_["categories"]["user_type"]
