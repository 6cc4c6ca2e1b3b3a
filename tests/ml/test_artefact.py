"""The artefact of a version: its description, and the refusal of code that reads it differently."""

import json
import math
import struct
from copy import deepcopy
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from histories import raw_sample

from zap.errors import DamagedModel
from zap.ml import driver_columns, golden_check
from zap.ml.artefact import check_artefact, describe_features
from zap.ml.cells import to_seconds
from zap.ml.driver_columns import DAY
from zap.ml.features import FEATURES
from zap.ml.fitted import FittedModel, sha256
from zap.ml.golden import golden_rows
from zap.ml.history import clean_history
from zap.ml.history_columns import driver_column
from zap.ml.sample import sample_history
from zap.ml.training import fit, split_by_time

NAMES = [feature.name for feature in FEATURES]


@pytest.fixture(scope="module")
def history():
    return clean_history(raw_sample(sample_history(seed=9, drivers=15, months=3)))


@pytest.fixture(scope="module")
def split(history):
    return split_by_time(history)


@pytest.fixture(scope="module")
def model(split):
    return fit(split, {"n_estimators": 10, "num_leaves": 7}, n_jobs=1)


@pytest.fixture(scope="module")
def stored(model, split):
    """Return the description that is stored with the bytes, as the database returns it."""
    described = {
        "features": describe_features(model.fitted()),
        "columns": model.columns_,
        "classes": model.classes_.tolist(),
        "golden": golden_rows(model.fitted(), split),
    }
    return json.loads(json.dumps(described, allow_nan=False))


@pytest.fixture
def described(stored):
    return deepcopy(stored)


def test_it_works(model, described):
    artefact = model.to_bytes()

    check_artefact(FittedModel.from_bytes(artefact, sha256(artefact)), described)


def test_a_version_that_is_older_than_its_description_is_not_checked(model):
    check_artefact(model.fitted(), dict.fromkeys(("features", "columns", "classes", "golden")))


# The description.


def test_every_feature_is_described_in_order(model, described):
    by_name = {one["name"]: one for one in described["features"]}

    assert list(by_name) == NAMES
    assert by_name["battery_capacity_kwh"] == {
        "name": "battery_capacity_kwh",
        "dtype": "float64",
        "in_requests": "required",
        "unit": "kWh",
        "minimum": 0,
        "maximum": 400,
    }
    assert by_name["user_type"] == {
        "name": "user_type",
        "dtype": "category",
        "in_requests": "required",
        "categories": ["Casual Driver", "Commuter", "Long-Distance Traveler"],
    }
    assert by_name["charging_start_time"]["dtype"] == "datetime64[s]"
    assert {name: one["in_requests"] for name, one in by_name.items()} == model.contract_["fields"]


def test_describing_changes_nothing_of_the_model(model):
    describe_features(model.fitted())[NAMES.index("user_type")]["categories"].clear()

    assert model.contract_["categories"]["user_type"]


# Golden rows.


def test_golden_rows_lie_evenly_over_the_training_part(described, split):
    starts = [datetime.fromisoformat(one["request"]["charging_start_time"]) for one in described["golden"]]

    places = [int(part * (split.n_train - 1) / 7) for part in range(8)]
    assert starts == split.train["charging_start_time"].iloc[places].tolist()


def test_golden_rows_are_what_was_trained_on(described, split, model):
    # This holds as long as the driver has no more sessions than a golden row keeps.
    every = split.train["charging_start_time"].dt.strftime("%Y-%m-%dT%H:%M:%S").tolist()
    matrix = model.matrix(split.train, split.train_past)
    sessions = split.train_past[:, driver_column("sessions", 3)]
    compared = 0
    for golden in described["golden"]:
        row = every.index(golden["request"]["charging_start_time"])
        if sessions[row] <= 20:
            found = np.array([math.nan if value is None else value for value in golden["features"]])
            assert found.tobytes() == matrix[row].tobytes()
            probabilities = model.predict_proba(split.train[row : row + 1], split.train_past[row : row + 1])[0]
            assert golden["probabilities"] == dict(zip(described["classes"], probabilities.tolist(), strict=True))
            compared += 1
        else:
            assert len(golden["past"]) == 20
    assert 3 <= compared < 8


def test_a_golden_past_is_the_drivers_own_and_earlier(described, split):
    frame = split.frame
    for golden in described["golden"]:
        start = datetime.fromisoformat(golden["request"]["charging_start_time"])
        driver = frame.loc[frame["charging_start_time"] == start, "user_id"].item()
        own = frame[(frame["user_id"] == driver) & (frame["charging_start_time"] < start)].tail(20)
        assert [session[0] for session in golden["past"]] == [to_seconds(moment) for moment in own.charging_start_time]
        assert [split.types[session[1]] for session in golden["past"]] == own["charger_type"].tolist()
        assert [session[3] for session in golden["past"]] == own["energy_consumed_kwh"].tolist()


def test_sessions_with_the_same_start_are_not_in_a_golden_past(split, model):
    frame = split.frame.assign(charging_start_time=split.frame["charging_start_time"].dt.floor("7D"), user_id="one")

    for golden in golden_rows(model.fitted(), replace(split, frame=frame)):
        start = to_seconds(datetime.fromisoformat(golden["request"]["charging_start_time"]))
        assert all(session[0] < start for session in golden["past"])


def test_a_session_without_a_user_has_no_golden_past(split, model, described):
    nobody = replace(split, frame=split.frame.assign(user_id=None))

    golden = golden_rows(model.fitted(), nobody)

    assert [one["past"] for one in golden] == [[]] * 8
    check_artefact(model.fitted(), described | {"golden": golden})


def test_golden_rows_of_a_window_of_history_may_have_an_earlier_past(history):
    since = history.frame["charging_start_time"].iloc[200].to_pydatetime()
    split = split_by_time(history, since=since, test_share=0.5)
    model = fit(split, {"n_estimators": 3}, n_jobs=1)

    golden = golden_rows(model.fitted(), split)

    starts = [datetime.fromisoformat(one["request"]["charging_start_time"]) for one in golden]
    assert starts[0] == split.train["charging_start_time"].iloc[0] == since
    assert starts[-1] == split.train["charging_start_time"].iloc[-1]
    assert golden[0]["past"]
    assert all(session[0] < to_seconds(since) for session in golden[0]["past"])
    check_artefact(model.fitted(), {**dict.fromkeys(("features", "columns", "classes")), "golden": golden})


def test_holes_are_stored_and_read_as_holes(split, model, described):
    holed = split.frame.assign(temperature_c=np.nan, vehicle_model=None, charging_duration_hours=np.nan)
    holed["charging_end_time"] = holed["charging_end_time"].where(holed.index % 2 == 0)
    holed["energy_consumed_kwh"] = holed["energy_consumed_kwh"].where(holed.index % 3 == 0)

    golden = golden_rows(model.fitted(), replace(split, frame=holed))

    kept = json.loads(json.dumps(golden, allow_nan=False))
    assert kept == golden
    assert kept[-1]["request"]["temperature_c"] is kept[-1]["request"]["vehicle_model"] is None
    # Unknown ends and energies of a past stay unknown.
    holes = {(session[2] is None, session[3] is None) for one in kept for session in one["past"]}
    assert holes == {(True, True), (True, False), (False, True), (False, False)}
    check_artefact(model.fitted(), described | {"golden": kept})


# Refusals.


@pytest.mark.parametrize(
    ("what", "change", "said"),
    [
        ("classes", lambda names: names[::-1], "classes .* their order differs"),
        ("classes", lambda names: [*names, "Tesla"], "classes .* without Tesla;"),
        ("classes", lambda names: names[1:], "classes .* with DC Fast Charger;"),
        ("classes", lambda names: ["AC", *names[1:]], "classes .* without AC and with DC Fast Charger;"),
        ("columns", lambda names: [*names[1:], names[0]], "columns .* their order differs"),
        ("columns", lambda names: [*names, "wind", "rain"], "columns .* without wind, rain;"),
        (
            "columns",
            lambda names: names[:-2],
            r"columns .* with mix_hour_of_week\[Level 1\], mix_hour_of_week\[Level 2\];",
        ),
        ("features", lambda some: some[::-1], "features .* their order differs"),
        ("features", lambda some: [{"name": "wind"}, *some[1:]], "features .* without wind and with state_of_charge"),
        ("features", lambda some: some[:-1], "features .* with charging_start_time;"),
    ],
)
def test_another_description_is_refused_by_what_differs(model, described, what, change, said):
    described[what] = change(described[what])

    with pytest.raises(DamagedModel, match=said):
        check_artefact(model.fitted(), described)


@pytest.mark.parametrize(
    "change", [{"minimum": -5}, {"maximum": 4000}, {"unit": "MJ"}, {"description": "how long the way was"}]
)
def test_another_range_or_unit_is_no_reason_to_refuse(model, described, change):
    # The golden rows show whether a prediction has changed.
    described["features"][NAMES.index("distance_driven_km")] |= change

    check_artefact(model.fitted(), described)


@pytest.mark.parametrize("change", [{"dtype": "category"}, {"in_requests": "ignored"}])
def test_another_type_or_need_of_a_feature_is_refused(model, described, change):
    described["features"][NAMES.index("distance_driven_km")] |= change

    with pytest.raises(DamagedModel, match=f"{next(iter(change))} of the feature distance_driven_km is"):
        check_artefact(model.fitted(), described)


@pytest.mark.parametrize("factor", [1 + 1e-6, 1 + 1e-8, 1 - 1e-8, -1])
def test_another_feature_of_a_golden_row_is_refused_by_its_name(model, described, factor):
    place = model.columns_.index("share[Level 2]")
    described["golden"][4]["features"][place] *= factor

    with pytest.raises(
        DamagedModel, match=r"feature share\[Level 2\] of golden row 5 is 0\.\d+ with this code and was"
    ):
        check_artefact(model.fitted(), described)


@pytest.mark.parametrize("was", ["missing", "there"])
def test_a_feature_that_is_missing_in_one_of_them_alone_is_refused(model, described, was):
    # The first row is of a driver without a past, the last is not.
    place, name = (0, "last_energy") if was == "missing" else (7, "largest_energy")
    features = described["golden"][place]["features"]
    column = model.columns_.index(name)
    assert (features[column] is None) == (was == "missing")
    features[column] = 1.0 if was == "missing" else None

    with pytest.raises(DamagedModel, match=f"feature {name} of golden row {place + 1}"):
        check_artefact(model.fitted(), described)


@pytest.mark.parametrize("difference", [0.1, 1e-8, -1e-8])
def test_another_probability_of_a_golden_row_is_refused_by_its_type(model, described, difference):
    described["golden"][2]["probabilities"]["Level 1"] += difference

    with pytest.raises(DamagedModel, match="probability of 'Level 1' of golden row 3"):
        check_artefact(model.fitted(), described)


def test_the_last_bits_may_differ_from_machine_to_machine(model, described):
    for golden in described["golden"]:
        golden["features"] = [value and value * (1 + 1e-10) for value in golden["features"]]
        golden["probabilities"] = {name: value + 5e-10 for name, value in golden["probabilities"].items()}

    check_artefact(model.fitted(), described)


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        (("PRIOR_WEIGHT", 2.0), r"share\[.*\]"),
        (("_HALF_LIFE", 30 * DAY), r"share_recent\[.*\]"),
        (("_HOUR", 7200), r"(share_near\[.*\]|hours_since_last)"),
    ],
)
def test_code_that_computes_otherwise_is_refused(model, described, monkeypatch, changed, differs):
    # Such a mistake changes no list of names.
    monkeypatch.setattr(driver_columns, *changed)

    with pytest.raises(DamagedModel, match=rf"feature {differs} of golden row \d is .* go back to the code"):
        check_artefact(model.fitted(), described)


@pytest.mark.parametrize("params", [{"random_state": 7}, {"n_estimators": 9}])
def test_other_trees_are_refused(split, described, params):
    other = fit(split, {"n_estimators": 10, "num_leaves": 7} | params, n_jobs=1)

    with pytest.raises(DamagedModel, match="probability of"):
        check_artefact(other.fitted(), described)


def test_another_weight_of_new_drivers_is_refused(split, described):
    # The first golden row is of a driver without a past.
    other = fit(split, {"n_estimators": 10, "num_leaves": 7}, n_jobs=1)
    other.cold_weight_ = 1 - other.cold_weight_

    with pytest.raises(DamagedModel, match=r"probability of .* of golden row 1 is"):
        check_artefact(other.fitted(), described)


def test_another_order_of_known_values_is_refused(model, described, split):
    other = fit(split, {"n_estimators": 10, "num_leaves": 7}, n_jobs=1)
    other.contract_["categories"]["user_type"].reverse()

    with pytest.raises(DamagedModel, match="categories of the feature user_type is"):
        check_artefact(other.fitted(), described)


def test_a_row_of_another_length_than_the_model_is_damage(model, described, monkeypatch):
    def packed(*_):
        return struct.pack("<2d", 1.0)

    monkeypatch.setattr(golden_check, "scored", packed)

    with pytest.raises(DamagedModel, match="do not match"):
        check_artefact(model.fitted(), described)
