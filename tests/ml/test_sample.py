"""The synthetic history: deterministic, physically consistent, with known best scores."""

import numpy as np
import pandas as pd
import pytest
from histories import raw_sample

from zap.errors import InvalidSettings
from zap.ml import training
from zap.ml.features import SAMPLE_USER_PREFIX
from zap.ml.history import clean_history
from zap.ml.history_columns import present_columns, present_places
from zap.ml.sample import sample_history
from zap.ml.sample_choice import ASKED_BEFORE_MINUTES, CLASSES, QUICK, quick_places
from zap.ml.sample_days import EFFICIENCY, MISSING_SHARE
from zap.ml.sample_drivers import USER_TYPES, VEHICLES


@pytest.fixture(scope="module")
def sample():
    return sample_history()


def test_the_same_arguments_give_the_same_history():
    first, second = sample_history(seed=3, drivers=8, months=2), sample_history(seed=3, drivers=8, months=2)

    for name in ("users", "vehicles", "sessions"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(second, name))
    assert first.probabilities.tobytes() == second.probabilities.tobytes()


def test_another_seed_gives_another_history():
    first, second = sample_history(seed=3, drivers=8, months=2), sample_history(seed=4, drivers=8, months=2)

    assert not first.sessions["charging_start_time"].equals(second.sessions["charging_start_time"])


def test_a_shorter_history_is_the_begin_of_a_longer_one_and_has_the_same_drivers():
    short, long = sample_history(seed=3, drivers=8, months=1), sample_history(seed=3, drivers=8, months=2)

    pd.testing.assert_frame_equal(short.sessions, long.sessions[: len(short.sessions)])
    pd.testing.assert_frame_equal(short.users, sample_history(seed=3, drivers=9, months=1).users[:8])


@pytest.mark.parametrize(
    "arguments", [{"drivers": 0}, {"drivers": 10**9}, {"months": 0}, {"months": 121}, {"seed": -1}]
)
def test_impossible_sizes_are_refused_by_name(arguments):
    with pytest.raises(InvalidSettings, match=next(iter(arguments))):
        sample_history(**arguments)


def test_keys_are_unique(sample):
    assert sample.users["user_id"].is_unique
    assert not sample.vehicles.duplicated(["user_id", "vehicle_model"]).any()
    assert not sample.sessions.duplicated(["user_id", "charging_start_time", "charging_station_id"]).any()
    assert sample.sessions["user_id"].str.startswith(SAMPLE_USER_PREFIX).all()


def test_it_has_all_types_of_everything(sample):
    assert set(sample.users["user_type"]) == {one.name for one in USER_TYPES}
    assert set(sample.vehicles["vehicle_model"]) == {one.model for one in VEHICLES}
    shares = sample.sessions["charger_type"].value_counts(normalize=True)
    assert set(shares.index) == set(CLASSES)
    assert shares.min() > 0.12


def test_sessions_obey_physics(sample):
    frame = sample.sessions
    gained = frame["state_of_charge_end"] - frame["state_of_charge_start"]

    assert frame["state_of_charge_start"].between(0, 100).all()
    assert frame["state_of_charge_end"].between(0, 100).all()
    assert (gained > 0).all()
    # To the rounding of the percentages.
    arrived = frame["energy_consumed_kwh"] * EFFICIENCY
    assert np.allclose(arrived, gained / 100 * frame["battery_capacity_kwh"], atol=0.1)
    drawn = frame["charging_rate_kw"] * frame["charging_duration_hours"]
    assert np.allclose(drawn, frame["energy_consumed_kwh"], atol=1e-3)
    limits = frame["vehicle_model"].map({one.model: max(one.ac_kw, one.dc_kw) for one in VEHICLES})
    assert (frame["charging_rate_kw"] <= limits).all()
    lasted = (frame["charging_end_time"] - frame["charging_start_time"]).dt.total_seconds() / 3600
    assert np.allclose(lasted, frame["charging_duration_hours"], atol=1.1 / 3600)


def test_each_session_has_the_facts_of_its_driver_and_vehicle(sample):
    facts = sample.vehicles.merge(sample.users, on="user_id")

    own = sample.sessions[facts.columns].drop_duplicates().sort_values("user_id", ignore_index=True)
    pd.testing.assert_frame_equal(own, facts)
    assert clean_history(raw_sample(sample)).dropped.undated == {}


def test_a_driver_charges_once_at_a_time(sample):
    frame = sample.sessions.sort_values(["user_id", "charging_start_time"])

    before = frame.groupby("user_id")["charging_end_time"].shift()
    assert not (frame["charging_start_time"] <= before).any()


def test_clock_and_calendar_agree_with_the_start(sample):
    frame = sample.sessions

    assert (frame["day_of_week"] == frame["charging_start_time"].dt.day_name()).all()
    assert (frame.loc[frame["time_of_day"] == "Evening", "charging_start_time"].dt.hour >= 17).all()
    assert frame["charging_start_time"].is_monotonic_increasing


def test_winters_are_colder_than_summers(sample):
    by_month = sample.sessions.groupby(sample.sessions["charging_start_time"].dt.month)["temperature_c"].mean()

    assert by_month[1] < by_month[4] < by_month[7]


def test_few_values_are_missing(sample):
    assert sample.sessions["distance_driven_km"].isna().mean() == pytest.approx(MISSING_SHARE, rel=0.3)
    assert sample.sessions[["charger_type", "charging_start_time", "user_id"]].notna().all(axis=None)


def test_types_were_drawn_with_the_stated_probabilities(sample):
    # This is calibration: of the sessions with a probability near p, a share of about p used the type.
    for code, name in enumerate(sample.classes):
        stated, used = sample.probabilities[:, code], sample.sessions["charger_type"] == name
        for low in np.arange(0, 1, 0.2):
            some = (stated >= low) & (stated < low + 0.2)
            deviation = np.sqrt((stated[some] * (1 - stated[some])).sum())
            assert abs(used[some].sum() - stated[some].sum()) < 4 * deviation


def test_the_reachable_scores_are_those_of_the_true_probabilities(sample):
    labels = pd.Categorical(sample.sessions["charger_type"], categories=sample.classes).codes
    best, without = sample.reachable(), sample.reachable_without_habit()

    found = sample.probabilities[np.arange(len(labels)), labels]
    assert (sample.probabilities.argmax(axis=1) == labels).mean() == pytest.approx(best.accuracy, abs=0.01)
    assert -np.log(found).mean() == pytest.approx(best.log_loss, abs=0.01)
    assert without.log_loss > best.log_loss


def open_quick_charges(frame, moments):
    """Count, one by one, the quick charges that started before each moment and had not ended before it."""
    quick = frame[frame["charger_type"] == CLASSES[QUICK]]
    starts, ends = (quick[f"charging_{edge}_time"].to_numpy()[:, None] for edge in ("start", "end"))
    return ((starts < moments) & (ends >= moments)).sum(axis=0)


def test_drivers_see_the_quick_charges_that_are_open_when_they_ask():
    for drivers in (30, 400):
        sample = sample_history(seed=3, drivers=drivers, months=1)
        asked = sample.sessions["charging_start_time"] - pd.Timedelta(minutes=ASKED_BEFORE_MINUTES)

        counted = open_quick_charges(sample.sessions, asked.dt.floor("min").to_numpy())

        assert sample.choices.taken.tolist() == counted.tolist()
        assert sample.choices.taken.max() > quick_places(drivers)


def test_a_model_has_a_column_with_what_drivers_saw():
    sample = sample_history(seed=3, drivers=30, months=1)
    split = training.split_by_time(clean_history(raw_sample(sample)))

    place = present_places(len(split.types)).start + present_columns(split.types).index(f"open[{CLASSES[QUICK]}]")

    # Nothing is known before the first session.
    assert np.isnan(split.past[0, place])
    assert split.past[1:, place].tolist() == sample.choices.taken[1:].tolist()


def test_taken_places_change_what_is_chosen(sample):
    codes = pd.Categorical(sample.sessions["charger_type"], categories=sample.classes).codes
    taken, situation = sample.choices.taken, sample.choices.situation[:, QUICK]
    for low in (0, 1, 2):
        alike = (situation >= low) & (situation < low + 1)
        free, full = (codes[alike & seen] == QUICK for seen in (taken == 0, taken >= sample.choices.places))
        assert free.mean() - full.mean() > 0.15


def test_the_present_is_worth_three_to_six_percent_of_the_log_loss(sample):
    best, without = sample.reachable(), sample.reachable_without_present()

    assert 0.03 <= 1 - best.log_loss / without.log_loss <= 0.06
    assert without.accuracy < best.accuracy
    # The mean over what others of the same hour saw is calibrated too.
    labels = pd.Categorical(sample.sessions["charger_type"], categories=sample.classes).codes
    found = sample.choices.without_present()[np.arange(len(labels)), labels]
    assert -np.log(found).mean() == pytest.approx(without.log_loss, abs=0.01)


def test_without_the_habit_ten_points_are_out_of_reach(sample):
    last = slice(int(len(sample.sessions) * 0.9), None)

    for rows in (slice(None), last):
        assert sample.reachable(rows).accuracy - sample.reachable_without_habit(rows).accuracy >= 0.10


# The bootstrap in tests/cli/test_serve.py trains on this sample too, and its report is asked for these scores.
@pytest.mark.long
def test_the_model_comes_close_to_what_is_reachable_and_beats_every_baseline(sample, capsys):
    split = training.split_by_time(clean_history(raw_sample(sample)))

    scores = training.score(split, training.fit(split, n_jobs=1))

    best = sample.reachable(slice(split.n_train, None))
    unseen = sample.reachable_without_present(slice(split.n_train, None))
    with capsys.disabled():
        print(f"\n{len(split.test):,} last sessions      accuracy  log loss")
        print(f"reachable                    {best.accuracy:.3f}     {best.log_loss:.3f}")
        known = sample.reachable_without_habit(slice(split.n_train, None))
        print(f"without the habit            {known.accuracy:.3f}     {known.log_loss:.3f}")
        share = f"{scores['accuracy'] / best.accuracy:.1%} and {scores['log_loss'] / best.log_loss:.1%} of it"
        print(f"without the present          {unseen.accuracy:.3f}     {unseen.log_loss:.3f}")
        print(f"model                        {scores['accuracy']:.3f}     {scores['log_loss']:.3f}   {share}")
        for name, baseline in scores["baselines"].items():
            print(f"baseline: {name:24} F1 {baseline['weighted_f1']:.3f}     {baseline['log_loss']:.3f}")
    assert 0.97 * best.accuracy <= scores["accuracy"] <= 1.01 * best.accuracy
    assert 0.99 * best.log_loss <= scores["log_loss"] <= 1.05 * best.log_loss
    # No model can score so well without knowledge of the present.
    assert scores["log_loss"] < unseen.log_loss
    assert scores["beats_baseline"]
    for baseline in scores["baselines"].values():
        assert scores["test_f1_score"] > baseline["weighted_f1"]
        assert scores["macro_f1"] > baseline["macro_f1"]
        assert scores["log_loss"] < baseline["log_loss"]
