"""FEATURES and build_features: the inputs that are known before a session, as numbers."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zap.ml.cells import to_seconds
from zap.ml.features import (
    CATEGORIES,
    FEATURES,
    KNOWN_ONLY_AFTER,
    MATRIX_COLUMNS,
    NUMBERS,
    build_features,
    check_features,
    matrix_columns,
)

CODES = {
    "user_type": {"Casual Driver": 0, "Commuter": 1},
    "vehicle_model": {"Nissan LEAF": 0, "Tesla Model 3": 1},
}


def columns(**values):
    """Build the columns of one session with the given values."""
    session = {feature.name: np.nan for feature in NUMBERS} | {feature.name: None for feature in CATEGORIES}
    session |= {"charging_start_time": "2024-01-01T00:00:00"} | values
    return {
        name: np.array([value], dtype="datetime64[s]" if "time" in name else None) for name, value in session.items()
    }


def test_it_works():
    values = {feature.name: feature.example for feature in NUMBERS}

    row = build_features(
        columns(
            **values,
            user_type="Commuter",
            vehicle_model="Nissan LEAF",
            charging_start_time="2024-01-06T18:30:00",
        ),
        CODES,
    )

    assert row.dtype == np.float64
    assert dict(zip(MATRIX_COLUMNS, row[0].tolist(), strict=True)) == {
        **values,
        "user_type": 1.0,
        "vehicle_model": 0.0,
        "hour": 18.5,
        "weekday": 5.0,
    }


@pytest.mark.parametrize("name", sorted(KNOWN_ONLY_AFTER))
def test_a_column_that_is_known_only_after_the_session_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"known only after.*{name}"):
        check_features([*(feature.name for feature in FEATURES), name])


@pytest.mark.parametrize("name", ["charging_station_id", "charging_station_location"])
def test_the_station_of_the_session_itself_is_refused(name):
    with pytest.raises(ValueError, match=f"not chosen yet.*{name}"):
        check_features([name])


def test_an_unknown_category_is_missing():
    row = build_features(columns(user_type="Astronaut", vehicle_model=None), CODES)[0]

    assert np.isnan(row[[MATRIX_COLUMNS.index("user_type"), MATRIX_COLUMNS.index("vehicle_model")]]).all()


@pytest.mark.parametrize("minimum_excluded", [feature for feature in NUMBERS if feature.minimum_excluded])
def test_a_battery_of_zero_is_outside_its_range(minimum_excluded):
    assert minimum_excluded.inside(np.array([0.0, 1e-9, 400.0, 400.1, np.nan])).tolist() == [
        False,
        True,
        True,
        False,
        False,
    ]


sessions = st.fixed_dictionaries(
    {feature.name: st.none() | st.floats(-1e6, 1e6) for feature in NUMBERS}
    | {"user_type": st.sampled_from([None, "Commuter", "Casual Driver", "x"])}
    | {"vehicle_model": st.sampled_from([None, "Nissan LEAF", "y"])}
    | {"charging_start_time": st.datetimes(min_value=pd.Timestamp("1900-01-01"), max_value=pd.Timestamp("2200-01-01"))}
)


@given(st.lists(sessions, min_size=1, max_size=20))
def test_a_session_alone_has_the_features_it_has_among_others(rows):
    # The features of training and serving are bit-identical.
    together = build_features(arrays(rows), CODES)

    for place, row in enumerate(rows):
        alone = build_features(arrays([row]), CODES)
        assert alone.tobytes() == together[place : place + 1].tobytes()
        numbers = [float("nan") if row[feature.name] is None else row[feature.name] for feature in NUMBERS]
        codes = [CODES[feature.name].get(row[feature.name], float("nan")) for feature in CATEGORIES]
        served = matrix_columns(numbers, codes, to_seconds(row["charging_start_time"].replace(microsecond=0)))
        assert np.array(served, dtype=np.float64).tobytes() == alone.tobytes()


@given(sessions)
def test_the_clock_agrees_with_python(session):
    row = dict(zip(MATRIX_COLUMNS, build_features(arrays([session]), CODES)[0], strict=True))
    start = session["charging_start_time"]

    assert row["weekday"] == start.weekday()
    assert row["hour"] == (start.hour * 3600 + start.minute * 60 + start.second) / 3600


def arrays(rows):
    kinds = {"number": np.float64, "category": object, "time": "datetime64[s]"}
    return {
        feature.name: np.array([row[feature.name] for row in rows], dtype=kinds[feature.kind]) for feature in FEATURES
    }
