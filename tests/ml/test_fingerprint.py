"""Fingerprints: of the rows that a model was made of, of its trees, and of what made it."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zap import __version__
from zap.ml import fingerprint
from zap.ml import model as model_module
from zap.ml.cells import PAST_COLUMNS
from zap.ml.features import FEATURES
from zap.ml.fingerprint import code_version, libraries, rows_fingerprint, trees_sha256
from zap.ml.history import RawHistory, clean_history
from zap.ml.model import ChargerTypeModel
from zap.ml.sample import sample_history
from zap.ml.training import mix_of, past_features

READ = sorted({"user_id", *PAST_COLUMNS, *(feature.name for feature in FEATURES)})


@pytest.fixture(scope="module")
def frame():
    """A cleaned history of four months with holes in every column that may have some."""
    sample = sample_history(seed=7, drivers=8, months=4)
    vehicles = sample.vehicles.assign(vehicle_id=range(len(sample.vehicles)))
    sessions = sample.sessions.assign(session_id=range(len(sample.sessions)), vehicle_id=None)
    frame = clean_history(RawHistory(sample.users, vehicles, sessions)).frame
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


def test_it_is_of_what_was_read_and_not_of_how_it_is_held(frame):
    other = frame.set_index(frame.index + 1000).iloc[:, ::-1]
    other["session_id"] = [f"imported-{row}" for row in range(len(frame))]
    other["vehicle_id"] = None
    for name in ("user_id", "charger_type", "user_type", "vehicle_model"):
        other[name] = other[name].astype(object).where(other[name].notna(), None)
    for name in ("charging_start_time", "charging_end_time"):
        other[name] = other[name].astype("datetime64[ns]")

    assert rows_fingerprint(other) == rows_fingerprint(frame)


def another(value):
    """Something else of the same kind."""
    if pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        return value + pd.Timedelta(seconds=1)
    return value + "." if isinstance(value, str) else np.nextafter(value, np.inf)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_value_that_is_read_counts(frame, data):
    """Another value, however little it differs, changes the whole and its month, and no other month."""
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


@settings(max_examples=40, deadline=None)
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


def test_later_months_change_nothing_of_earlier_ones(frame):
    """What was imported since does not hide that the rows of then are still there."""
    months = list(rows_fingerprint(frame).months.items())
    earlier = frame[frame["charging_start_time"] < "2024-03-01"]

    assert list(rows_fingerprint(earlier).months.items()) == months[:2]


@given(
    st.lists(st.none() | st.text("a\x00\x1e\x1f,", max_size=3), min_size=2, max_size=3),
    st.lists(st.none() | st.text("a\x00\x1e\x1f,", max_size=3), min_size=2, max_size=3),
)
def test_ids_of_any_characters_are_told_apart(one, other):
    """Ids are kept to the letter, whatever somebody wrote into them."""

    def of(users):
        start = pd.Timestamp("2024-01-01")
        rows = pd.DataFrame({name: [1.0] * len(users) for name in READ})
        texts = dict.fromkeys(("charger_type", "user_type", "vehicle_model"), "x")
        times = dict.fromkeys(("charging_start_time", "charging_end_time"), start)
        return rows_fingerprint(rows.assign(**texts, **times, user_id=pd.Series(users, dtype="str"))).sha256

    assert (of(one) == of(other)) == (one == other)


def test_no_sessions_have_a_fingerprint_too(frame):
    """Where all sessions are gone since, that is what has changed."""
    assert rows_fingerprint(frame.iloc[:0]).months == {}


# The trees.


def test_the_same_rows_and_parameters_have_the_same_trees(learned):
    once, again = fitted(learned), fitted(learned)

    assert len(bytes.fromhex(trees_sha256(once.booster_))) == 32
    assert trees_sha256(again.booster_) == trees_sha256(once.booster_)


def test_what_does_not_make_the_trees_does_not_count(learned, monkeypatch):
    """Neither the threads, of which the booster's text tells, nor a way through a file."""
    monkeypatch.setattr(model_module, "_ROWS_PER_THREAD", 1)
    model = fitted(learned)
    others = [fitted(learned, n_jobs=2), ChargerTypeModel.from_fitted(model.fitted())]

    assert others[0].booster_.model_to_string() != model.booster_.model_to_string()
    assert {trees_sha256(other.booster_) for other in others} == {trees_sha256(model.booster_)}


@pytest.mark.parametrize(
    "params", [{"random_state": 1}, {"n_estimators": 4}, {"n_estimators": 2}, {"learning_rate": 0.0500001}]
)
def test_other_trees_have_another_fingerprint(learned, params):
    assert trees_sha256(fitted(learned, **params).booster_) != trees_sha256(fitted(learned).booster_)


def test_the_trees_of_other_rows_have_another_fingerprint(learned):
    frame, past = learned

    assert trees_sha256(fitted((frame[:-1], past[:-1])).booster_) != trees_sha256(fitted(learned).booster_)


def test_trees_without_a_split_have_a_fingerprint_too(learned):
    """Nothing is learned where a leaf needs more rows than there are."""
    stumps = fitted(learned, min_child_samples=1_000_000)

    assert trees_sha256(stumps.booster_) != trees_sha256(fitted(learned).booster_)


# What made them.


def test_the_libraries_are_those_that_run():
    found = libraries()

    assert found["lightgbm"] == version("lightgbm")
    assert found["numpy"] == np.__version__
    assert found["pandas"] == pd.__version__
    assert {"python", "scikit-learn", "scipy", "joblib", "machine"} < found.keys()
    assert all(isinstance(value, str) and value for value in found.values())


def test_the_code_that_learns_is_told_by_its_version_and_a_hash(tmp_path, monkeypatch):
    """It is the same wherever it is installed, and another when a line of it changes."""
    uncached = code_version.__wrapped__
    here = uncached()
    ml = shutil.copytree(Path(fingerprint.__file__).parent, tmp_path / "ml")
    monkeypatch.setattr(fingerprint, "__file__", str(ml / "fingerprint.py"))

    assert here.startswith(f"{__version__}+")
    assert uncached() == here
    with (ml / "user_history.py").open("a") as code:
        code.write("PRIOR_WEIGHT = 2.0\n")
    assert uncached() != here
    assert uncached().startswith(f"{__version__}+")


def test_the_version_of_the_code_is_read_once():
    assert code_version() is code_version()
