"""Arrivals of outcomes: which changes are arrivals, and the usual delay."""

from datetime import datetime, timedelta

import pytest

from zap.monitoring.outcome_arrivals import CLASSES, arrived, count_delays, usual_delay
from zap.monitoring.outcome_change import OutcomeChange, OutcomeState

NOON = datetime.fromisoformat("2026-03-02T12:00:00")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def change(before, after, kind="live"):
    states = (status and OutcomeState(NOON, kind, status, "A", 3600) for status in (before, after))
    return OutcomeChange(1, 1, "u", "A", None, None, *states)


@pytest.mark.parametrize("before", ["waiting", "no_driver"])
def test_an_answer_that_gets_its_session_is_an_arrival(before):
    assert arrived([change(before, "matched")]) == [NOON + HOUR]


@pytest.mark.parametrize(
    "other", [change(None, "matched"), change("matched", "matched"), change("superseded", "matched"),
              change("matched", "waiting"), change("waiting", "superseded"), change("waiting", "matched", "backtest")],
)  # fmt: skip
def test_other_changes_are_no_arrivals(other):
    assert arrived([other]) == []


def test_delays_are_counted_in_classes_and_a_load_of_old_sessions_is_not():
    hours = [-0.2, 0, 0.5, 1, 1.01, 20, 24.5, 91 * 24, 91 * 24 + 1]

    assert count_delays([NOON - one * HOUR for one in hours], NOON) == {1: 4, 2: 1, 24: 1, 48: 1, 91 * 24: 1}


def days(*counts):
    return {NOON + place * DAY: one for place, one in enumerate(counts)}


def test_the_usual_delay_holds_on_nine_of_ten_days():
    assert usual_delay({}) is None
    assert usual_delay(days({1: 3})) == HOUR
    # A few late sessions are not usual; more are.
    assert usual_delay(days({1: 96, 168: 4})) == HOUR
    assert usual_delay(days({1: 94, 168: 6})) == 168 * HOUR
    # A load of older sessions once; an import each week besides reports at plug-in.
    assert usual_delay(days(*[{1: 50}] * 12, {2160: 9000})) == HOUR
    assert usual_delay(days(*[{1: 50}] * 6, {1: 50, 168: 100}, *[{1: 50}] * 6, {1: 50, 168: 100})) == 168 * HOUR
    # An older habit is forgotten.
    assert usual_delay(days(*[{168: 50}] * 10, *[{2: 50}] * 28)) == 2 * HOUR
    assert list(CLASSES) == sorted(set(CLASSES))
