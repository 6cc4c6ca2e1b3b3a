"""Fingerprints of the training rows and of the trees."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import EXAMPLES
from histories import raw_sample
from hypothesis import given, settings
from hypothesis import strategies as st

from zap.ml import boosting, fingerprint
from zap.ml.cells import PAST_COLUMNS
from zap.ml.features import FEATURES, Feature
from zap.ml.fingerprint import rows_fingerprint
from zap.ml.history import clean_history
from zap.ml.history_matrix import mix_of, past_features
from zap.ml.model import ChargerTypeModel
from zap.ml.sample import sample_history

READ = sorted({"user_id", *PAST_COLUMNS, *(feature.name for feature in FEATURES)})


@pytest.fixture(scope="module")
def frame():
    """Return a cleaned history of four months, with missing values in every column that may have some."""
    frame = clean_history(raw_sample(sample_history(seed=7, drivers=8, months=4))).frame
    for place, name in enumerate(sorted(set(READ) - {"charger_type", "charging_start_time"})):
        frame.loc[frame.index % 17 == place, name] = None
    return frame


@pytest.fixture(scope="module")
def learned(frame):
    types = sorted(frame["charger_type"].unique())
    return frame, past_features(frame, types, mix_of(frame, types))


def fitted(learned, **params):
    frame, past = learned
    model = ChargerTypeModel(**{"n_estimators": 3, "num_leaves": 5, "n_jobs": 1} | params)
    return model.fit(frame, frame["charger_type"], past=past)


# The rows.


def test_it_works(frame):
    found = rows_fingerprint(frame)

    assert len(bytes.fromhex(found.sha256)) == 32
    counts = frame.groupby(frame["charging_start_time"].dt.strftime("%Y-%m")).size()
    assert {month: n for month, (n, _) in found.months.items()} == counts.to_dict()
    assert list(found.months) == sorted(counts.index)
    assert len({part for _, part in found.months.values()}) == len(counts)
    # It is stored as JSON.
    assert json.loads(json.dumps(found.months)).keys() == found.months.keys()


def test_the_fingerprint_depends_on_the_values_and_not_on_their_storage(frame):
    other = frame.set_index(frame.index + 1000).iloc[:, ::-1]
    other["session_id"] = [f"imported-{row}" for row in range(len(frame))]
    other["vehicle_id"] = None
    for name in ("user_id", "charger_type", "user_type", "vehicle_model"):
        other[name] = other[name].astype(object).where(other[name].notna(), None)
    for name in ("charging_start_time", "charging_end_time"):
        other[name] = other[name].astype("datetime64[ns]")

    assert rows_fingerprint(other) == rows_fingerprint(frame)


def another(value):
    """Return another value of the same type."""
    if pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        return value + pd.Timedelta(seconds=1)
    return value + "." if isinstance(value, str) else np.nextafter(value, np.inf)


@settings(max_examples=EXAMPLES // 2)
@given(st.data())
def test_every_value_that_is_read_counts(frame, data):
    # Any changed value changes the hash of all rows and of its month, but of no other month.
    name = data.draw(st.sampled_from(READ))
    row = data.draw(st.sampled_from(np.flatnonzero(frame[name].notna()).tolist()))
    changed = frame.copy()
    missing = name not in {"charger_type", "charging_start_time"} and data.draw(st.booleans())
    changed.loc[row, name] = None if missing else another(frame.loc[row, name])

    then, now = rows_fingerprint(frame), rows_fingerprint(changed)

    assert now.sha256 != then.sha256
    month = frame.loc[row, "charging_start_time"].strftime("%Y-%m")
    assert {name for name in then.months if then.months[name] != now.months[name]} == {month}
    assert now.months[month][0] == then.months[month][0]


@settings(max_examples=EXAMPLES // 2)
@given(st.data())
def test_every_session_and_its_place_count(frame, data):
    row = data.draw(st.integers(1, len(frame) - 1))
    month = frame.loc[row, "charging_start_time"].strftime("%Y-%m")
    then = rows_fingerprint(frame)

    without = rows_fingerprint(frame.drop(index=row))
    twice = rows_fingerprint(frame.loc[[*range(row + 1), *range(row, len(frame))]])

    for changed, n in ((without, -1), (twice, 1)):
        assert changed.sha256 != then.sha256
        assert {name for name in then.months if then.months[name] != changed.months[name]} == {month}
        assert changed.months[month][0] == then.months[month][0] + n
    together = frame.assign(charging_start_time=frame["charging_start_time"].iloc[0])
    swapped = together.loc[[*range(row - 1), row, row - 1, *range(row + 1, len(frame))]]
    assert rows_fingerprint(swapped).sha256 != rows_fingerprint(together).sha256


def test_a_feature_that_is_added_later_changes_nothing(frame, monkeypatch):
    """A version of older code keeps its fingerprint; a version that is trained from now on reads the column."""
    known = {feature.name for feature in FEATURES}
    then = rows_fingerprint(frame)
    monkeypatch.setattr(fingerprint, "FEATURES", (Feature("humidity_percent", "number", "", 60.0), *FEATURES))

    newer = frame.assign(humidity_percent=60.0)

    assert rows_fingerprint(newer, known) == then
    assert rows_fingerprint(newer).sha256 != then.sha256


def test_later_months_change_nothing_of_earlier_ones(frame):
    # Later imports do not change the hashes of earlier months.
    months = list(rows_fingerprint(frame).months.items())
    earlier = frame[frame["charging_start_time"] < "2024-03-01"]

    assert list(rows_fingerprint(earlier).months.items()) == months[:2]


@given(
    st.lists(st.none() | st.text("a\x00\x1e\x1f,", max_size=3), min_size=2, max_size=3),
    st.lists(st.none() | st.text("a\x00\x1e\x1f,", max_size=3), min_size=2, max_size=3),
)
def test_ids_of_any_characters_are_told_apart(one, other):
    # Ids are hashed unchanged, whatever characters they contain.
    def of(users):
        start = pd.Timestamp("2024-01-01")
        rows = pd.DataFrame({name: [1.0] * len(users) for name in READ})
        texts = dict.fromkeys(("charger_type", "user_type", "vehicle_model"), "x")
        times = dict.fromkeys(("charging_start_time", "charging_end_time"), start)
        return rows_fingerprint(rows.assign(**texts, **times, user_id=pd.Series(users, dtype="str"))).sha256

    assert (of(one) == of(other)) == (one == other)


def test_an_empty_history_has_a_fingerprint(frame):
    # An empty history has a fingerprint that differs from others.
    assert rows_fingerprint(frame.iloc[:0]).months == {}


# The trees.


def test_the_same_rows_and_parameters_have_the_same_trees(learned):
    once, again = fitted(learned), fitted(learned)

    assert len(bytes.fromhex(once.scorer_.digest())) == 32
    assert again.scorer_.digest() == once.scorer_.digest()


def test_parameters_that_do_not_change_the_trees_do_not_count(learned, monkeypatch):
    # The number of threads, which is in the booster's text, does not count, and neither does saving to a file.
    monkeypatch.setattr(boosting, "_ROWS_PER_THREAD", 1)
    model = fitted(learned)
    others = [fitted(learned, n_jobs=2), ChargerTypeModel.from_fitted(model.fitted())]

    assert others[0].booster_.model_to_string() != model.booster_.model_to_string()
    assert {other.scorer_.digest() for other in others} == {model.scorer_.digest()}


@pytest.mark.parametrize(
    "params", [{"random_state": 1}, {"n_estimators": 4}, {"n_estimators": 2}, {"learning_rate": 0.0500001}]
)
def test_other_trees_have_another_fingerprint(learned, params):
    assert fitted(learned, **params).scorer_.digest() != fitted(learned).scorer_.digest()


def test_the_trees_of_other_rows_have_another_fingerprint(learned):
    frame, past = learned

    assert fitted((frame[:-1], past[:-1])).scorer_.digest() != fitted(learned).scorer_.digest()


def test_trees_without_a_split_have_a_fingerprint_too(learned):
    # Nothing is learned if a leaf needs more rows than the history has.
    stumps = fitted(learned, min_child_samples=1_000_000)

    assert stumps.scorer_.digest() != fitted(learned).scorer_.digest()
