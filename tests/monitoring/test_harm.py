"""Harm: false alarms in years without harm, and the delay after a fault."""

import json

import numpy as np
import pytest
from simulations.harm import Service, delays, naive_alarms, of_years

from zap.monitoring.driver_means import brier, driver_means
from zap.monitoring.harm import (
    MOST_JUDGED,
    THRESHOLD,
    TOLERANCE,
    HarmState,
    HarmWatch,
    Window,
    evidence_of,
    promised,
)
from zap.monitoring.harm_days import add_scores, from_plain, group_of, kept_days, to_plain, windows_until

NO_BETTER = Service(drivers=100, no_better=True)


def test_years_without_harm_have_no_alarm():
    # At the promised rate, more than two alarms in 10 years have a probability of 1 %.
    assert sum(map(len, of_years(NO_BETTER, 5) + of_years(Service(drivers=100, exact=True), 5))) <= 2


def test_the_simulation_finds_an_interval_that_is_looked_at_daily_false():
    assert all(of_years(NO_BETTER, 5, ask=naive_alarms))


def test_answers_that_are_turned_round_are_found_within_days():
    days = delays(Service(drivers=200, days=60, fault_day=40, swapped=1.0), 5)

    assert (days <= 7).all()


def _window(drivers, score, difference, seed=0):
    random = np.random.default_rng(seed)
    scores = np.clip(random.normal(score, 0.1, drivers), 0, 1)
    return Window(scores, np.clip(random.normal(difference, 0.1, drivers), -1, 1))


def _windows(drivers, score, difference, seed=0):
    return {length: _window(drivers, score, difference, seed) for length in (7, 28, 91)}


def test_the_threshold_follows_from_the_rate():
    # 5 % a year, with 365 looks a year.
    assert pytest.approx(7300) == THRESHOLD


LIMITS = {7: 0.25, 28: 0.25}


@pytest.mark.parametrize(
    ("score", "difference", "check", "says"),
    [(0.4, -0.1, "promise", "worse than its test promised for 300 drivers of the last 7 days"),
     (0.2, 0.1, "baseline", "worse than its best baseline")],
)  # fmt: skip
def test_an_alarm_says_what_is_worse_and_stands_until_it_is_over(score, difference, check, says):
    watch = HarmWatch(LIMITS, HarmState.beginning(10))
    found = [watch.add_day(day, _windows(300, 0.2, -0.1, day)) for day in range(10, 40)]
    assert not any(found)

    alarms = [watch.add_day(day, _windows(300, score, difference, day)) for day in range(40, 50)]
    (alarm,) = filter(None, alarms)
    assert alarms[0] == alarm == watch.state.raised
    assert (alarm.check, alarm.drivers) == (check, 300)
    assert alarm.limit < alarm.lower < alarm.mean
    assert alarm.evidence >= THRESHOLD
    assert says in alarm.in_words()

    watch.add_day(50, _windows(300, 0.2, -0.1))
    assert watch.state.raised is None
    assert watch.add_day(51, _windows(300, score, difference)) is not None


def test_a_day_counts_once_and_a_window_is_whole_before_it_counts():
    watch = HarmWatch(LIMITS, HarmState.beginning(10))
    for day in range(10, 16):
        assert watch.add_day(day, _windows(300, 0.9, 0.5)) is None
    assert watch.state.sums == {}
    assert watch.add_day(16, _windows(300, 0.2, -0.1)) is None
    sums = dict(watch.state.sums)
    assert set(sums) == {"promise 7", "baseline 7"}
    watch.add_day(16, _windows(300, 0.9, 0.5))
    assert watch.state.sums == sums


def test_old_evidence_alone_raises_no_alarm():
    state = HarmState(0, 99, {"promise 7": 1e9})
    watch = HarmWatch(LIMITS, state)

    assert watch.add_day(100, _windows(300, 0.2, -0.1)) is None


def test_the_state_survives_a_restart_as_json():
    watch = HarmWatch(LIMITS, HarmState.beginning(0))
    for day in range(12):
        watch.add_day(day, _windows(100, 0.2 + 0.2 * (day > 8), -0.1, day))
    again = HarmState.from_plain(json.loads(json.dumps(watch.state.to_plain())))

    assert again == watch.state
    assert again.raised is not None


def test_the_evidence_of_judged_days_is_kept_with_its_means():
    watch = HarmWatch(LIMITS, HarmState.beginning(0))
    for day in range(MOST_JUDGED + 10):
        watch.add_day(day, _windows(100, 0.2, -0.1, day))
    judged = watch.state.judged

    assert [one.day for one in judged] == list(range(10, MOST_JUDGED + 10))
    assert judged[-1].sums == watch.state.sums
    assert judged[-1].means["promise 7"] == pytest.approx(0.2, abs=0.05)
    assert judged[-1].means["baseline 7"] == pytest.approx(-0.1, abs=0.05)
    assert (judged[-1].limits["promise 7"], judged[-1].limits["baseline 7"]) == (LIMITS[7], 0.0)
    assert judged[-1].drivers["promise 7"] == 100


def test_no_day_is_judged_while_an_alarm_stands():
    watch = HarmWatch(LIMITS, HarmState.beginning(0))
    found = {day: watch.add_day(day, _windows(100, 0.2 + 0.4 * (day > 8), -0.1, day)) for day in range(20)}
    raised = min(day for day, harm in found.items() if harm)

    assert [one.day for one in watch.state.judged] == list(range(raised + 1))
    assert evidence_of(watch.state.judged[-1].sums) == pytest.approx(watch.state.raised.evidence)


def test_a_state_that_an_older_zap_stored_has_no_judged_days():
    plain = HarmState.beginning(0).to_plain()
    del plain["judged"]

    assert HarmState.from_plain(plain) == HarmState.beginning(0)


def test_the_promise_is_made_as_production_is_measured():
    # Driver 0 comes daily and is easy, the drivers 1 to 21 come once in three weeks and are hard. A window of seven
    # days has the easy driver once and seven hard drivers.
    days = np.concatenate([np.arange(21), np.arange(21)])
    drivers = np.concatenate([np.zeros(21, int), np.arange(1, 22)])
    scores = np.where(drivers == 0, 0.0, 0.8)
    limits = promised(days, drivers, scores, tolerance=0.0)
    error = limits[7] - 0.7

    assert set(limits) == {7}
    assert 0 < error < 0.4
    assert promised(days, drivers, scores)[7] == pytest.approx(limits[7] + TOLERANCE)


def test_a_longer_test_promises_more_windows_and_a_short_test_one():
    days = np.arange(30)
    assert set(promised(days, days, np.full(30, 0.1))) == {7, 28}
    assert set(promised(days[:3], days[:3], np.full(3, 0.1))) == {7}
    assert promised(days[:0], days[:0], np.empty(0)) == {}


def test_windows_hold_each_driver_once():
    of_days = {1: ("5", 0.9, 0.9), 2: ("5", 0.1, 0.1), 8: ("5", 0.3, 0.2), 30: ("5", 0.0, 0.0)}
    days = {}
    for day, (driver, score, baseline) in of_days.items():
        add_scores(days.setdefault(day, {}), [driver], np.array([score]), np.array([baseline]))
    add_scores(days[8], ["6"], np.array([0.5]), np.array([0.5]))
    windows = windows_until(8, from_plain(json.loads(json.dumps(to_plain(days)))))

    assert group_of("5") != group_of("6")
    assert sorted(windows[7].scores) == pytest.approx([0.2, 0.5])
    assert sorted(windows[28].scores) == pytest.approx([1.3 / 3, 0.5])
    assert sorted(windows[7].differences) == pytest.approx([0.0, 0.05])
    assert set(kept_days(92, days)) == {2, 8, 30}


def test_the_score_is_half_of_the_squared_distance():
    probabilities = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])

    found = brier(probabilities, np.array([0, 0, 0, -1]))
    assert found == pytest.approx([(0.09 + 0.04 + 0.01) / 2, 0.0, 1.0, 0.75])
    assert driver_means(np.array([3, 9, 9, 3]), found)[0] == pytest.approx([0.41, 0.5])
