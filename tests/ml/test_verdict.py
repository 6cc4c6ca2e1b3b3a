"""The verdict: `better` needs every baseline beaten, and one better baseline is enough for `worse`."""

import pytest

from zap.ml.verdict import verdict_in_words, verdict_of

BELOW, ACROSS, ABOVE = [-0.3, -0.1], [-0.1, 0.2], [0.1, 0.2]


def differs(alone, together):
    return {"interval": alone, "interval_of_all": together}


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([BELOW, BELOW], "better"),
        ([BELOW, ACROSS], "not_shown"),
        ([BELOW, [-0.3, 0.0]], "not_shown"),
        ([ACROSS, ACROSS], "not_shown"),
        ([[0.0, 0.1]], "not_shown"),
        ([BELOW, ABOVE], "worse"),
        ([ABOVE, ABOVE], "worse"),
        ([None, None], "not_shown"),
        ([None, ABOVE], "worse"),
        ([], "not_shown"),
    ],
)
def test_the_verdict_follows_from_all_intervals(intervals, expected):
    assert verdict_of({str(place): differs(one, one) for place, one in enumerate(intervals)}) == expected


def test_worse_needs_the_interval_that_holds_for_all_baselines_at_once():
    # The worst of many comparisons looks bad by chance.
    assert verdict_of({"one": differs(ABOVE, ACROSS), "other": differs(BELOW, BELOW)}) == "not_shown"
    assert verdict_of({"one": differs(BELOW, ACROSS)}) == "better"


def judged(verdict, intervals, **more):
    names = ("prior", "driver_share")
    return {
        "sessions_of": "the last part",
        "sessions": 1243,
        "past_known": True,
        "effective_drivers": 149.3,
        "log_loss_difference_interval": intervals[0],
        "baseline_differences": {name: differs(one, one) for name, one in zip(names, intervals, strict=True)},
        "verdict": verdict,
    } | more


def test_each_verdict_reads_differently_and_says_which_sessions_it_is_about():
    better = verdict_in_words(judged("better", [BELOW, BELOW]))
    unclear = verdict_in_words(judged("not_shown", [ACROSS, BELOW]))
    worse = verdict_in_words(judged("worse", [BELOW, ABOVE]))
    few = verdict_in_words(judged("not_shown", [None, None], effective_drivers=12.4))
    seen = verdict_in_words({"sessions_of": "the last part", "sessions": 0, "verdict": "not_shown"})

    assert better.startswith("The model beats every baseline")
    assert unclear.startswith("It is not shown that the model beats every baseline")
    assert "lies between -0.1000 and +0.2000 (95 % interval)" in unclear
    assert worse.startswith("The model is worse than a baseline (the driver's own past share of types)")
    assert "0.1000 to 0.2000. The baseline would predict better." in worse
    assert "(the last part) have 12.4 effective drivers (" in few
    assert "at least 30 effective drivers are needed" in few
    assert "has seen all test sessions" in seen
    assert all("1,243 sessions (the last part)" in one for one in (better, unclear, worse, few))
