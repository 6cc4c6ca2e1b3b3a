"""Which session follows which answer: the rules one by one, and all of them against their definition."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matching import what_happened

from zap.monitoring.matching import Answer, Match, Session, kind_of, matched

NOON = datetime.fromisoformat("2026-03-02T12:00:00")
HORIZON = timedelta(hours=24)
HOUR = timedelta(hours=1)


def answer(number, after=0.0, user_id="u", kind="live"):
    return Answer(number, user_id, NOON + after * HOUR, kind)


def session(number, after, user_id="u", charger_type="A", names=None):
    return Session(number, user_id, NOON + after * HOUR, charger_type, names)


def found(answers, sessions):
    return matched(answers, sessions, {one.prediction_id: one.kind for one in answers}, HORIZON)


@pytest.mark.parametrize(
    ("after", "status"),
    [(-0.26, "waiting"), (-0.25, "matched"), (0, "matched"), (24, "matched"), (24.01, "waiting")],
)
def test_a_session_counts_from_a_quarter_of_an_hour_before_to_the_horizon_after(after, status):
    assert found([answer(1)], [session(7, after)])[1].status == status


def test_the_first_session_of_the_driver_is_the_outcome():
    sessions = [session(7, 5, charger_type="late"), session(8, 1, user_id="other"), session(9, 2, charger_type="first")]

    assert found([answer(1)], sessions) == {1: Match("matched", 9, "first", 7200, "time")}


def test_of_several_answers_before_a_session_the_last_counts():
    happened = found([answer(1, 0), answer(3, 2), answer(2, 1)], [session(7, 5)])

    assert {number: (one.status, one.superseded_by) for number, one in happened.items()} == {
        1: ("superseded", 2),
        2: ("superseded", 3),
        3: ("matched", None),
    }


def test_the_answer_that_a_report_names_counts_also_after_the_horizon_and_without_a_driver():
    answers = [answer(1, user_id=None), answer(2, -100), answer(3, user_id=None)]

    happened = found(answers, [session(7, 1, names=1), session(8, 2, names=2)])

    assert happened == {
        1: Match("matched", 7, "A", 3600, "report"),
        2: Match("matched", 8, "A", 102 * 3600, "report"),
        3: Match("no_driver"),
    }


def test_a_named_answer_supersedes_the_last_of_the_others():
    happened = found([answer(1, 0), answer(2, 1), answer(3, 2)], [session(7, 5, names=1)])

    assert {number: (one.status, one.superseded_by) for number, one in happened.items()} == {
        1: ("matched", None),
        2: ("superseded", 3),
        3: ("superseded", 1),
    }


def test_of_two_sessions_that_name_an_answer_the_first_start_counts():
    assert found([answer(1)], [session(7, 9, names=1), session(8, 2, names=1)])[1].session_id == 8


def test_a_backtest_never_supersedes_a_live_answer():
    happened = found([answer(1, 0), answer(2, 1, kind="backtest")], [session(7, 5)])

    assert [one.status for one in happened.values()] == ["matched", "matched"]


@pytest.mark.parametrize(("requested_after", "kind"), [(-50, "live"), (0, "live"), (24, "live"), (24.001, "backtest")])
def test_a_backtest_asks_about_a_moment_before_the_request_by_more_than_the_horizon(requested_after, kind):
    assert kind_of(NOON, NOON + requested_after * HOUR, HORIZON) == kind


QUARTERS = st.integers(-8, 120).map(lambda quarters: NOON + quarters * timedelta(minutes=15))
DRIVERS = st.sampled_from(["u", "v", None])


@given(
    answers=st.lists(st.tuples(DRIVERS, QUARTERS, st.sampled_from(["live", "backtest"])), max_size=9),
    sessions=st.lists(st.tuples(DRIVERS, QUARTERS, st.just("A"), st.none() | st.integers(1, 10)), max_size=7),
    hours=st.integers(1, 24),
)
def test_the_rules_are_those_of_the_definition(answers, sessions, hours):
    answers = [Answer(number, *one) for number, one in enumerate(answers, 1)]
    sessions = [Session(number, *one) for number, one in enumerate(sessions, 1)]
    horizon = timedelta(hours=hours)

    happened = matched(answers, sessions, {one.prediction_id: one.kind for one in answers}, horizon)

    assert happened == {one.prediction_id: what_happened(one, answers, sessions, horizon) for one in answers}
