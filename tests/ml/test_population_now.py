"""PopulationNow: the open sessions and the recent starts of all drivers, as they were known at a moment."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zap.ml.driver_columns import DAY
from zap.ml.population_history import PopulationHistory
from zap.ml.population_now import (
    DAYS_BEFORE,
    LONGEST_OPEN,
    MOST_OPEN_DAYS,
    PRIOR_SESSIONS,
    PopulationNow,
    Started,
    present_columns,
    started,
)
from zap.ml.presents import BLOCK_DAYS, presents

HOUR = 3600
WEEK = 7 * DAY
# A Wednesday at noon, in seconds.
NOON = 20_000 * DAY + 12 * HOUR
TYPES = ("AC", "DC")
MIX = [0.25, 0.75]


def sessions(*rows: tuple[int, int, int]) -> Started:
    """Return sessions from their starts, ends and codes."""
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return Started(columns[:, 0], columns[:, 1], columns[:, 2])


def window(some: Started, around: int = NOON) -> PopulationNow:
    now = PopulationNow(around // DAY - DAYS_BEFORE, DAYS_BEFORE + 1, len(TYPES))
    now.observe(some)
    return now


def known(some: Started, moment: int = NOON, start: int | None = None) -> dict[str, float]:
    """Return the columns by name at a moment; the session starts at that moment by default."""
    at = np.array([moment])
    begin = np.array([moment if start is None else start])
    values = window(some, moment).columns(at, begin, np.array([MIX]))
    return dict(zip(present_columns(TYPES), values[0].tolist(), strict=True))


def drawn(count: int, total: int, prior: float) -> float:
    return (count + PRIOR_SESSIONS * prior) / (total + PRIOR_SESSIONS)


def test_a_session_is_open_from_after_its_start_until_after_its_end() -> None:
    one = sessions((NOON, NOON + HOUR, 0))

    at = {minutes: known(one, NOON + 60 * minutes)["open[AC]"] for minutes in (1, 30, 60, 61, 90)}

    # At the minute of its end it is still open: an end counts once it lies before the moment.
    assert at == {1: 1, 30: 1, 60: 1, 61: 0, 90: 0}
    assert math.isnan(known(one, NOON)["open[AC]"]), "a session that starts at the moment was known"


def test_a_session_without_an_end_is_open_for_a_bounded_time() -> None:
    start, nothing = np.array([NOON], dtype="datetime64[s]"), np.array(["NaT"], dtype="datetime64[s]")
    endless = started(start, nothing, np.array([math.nan]), np.array([0]))
    long = started(start, start + 3 * LONGEST_OPEN, np.array([math.nan]), np.array([0]))
    short = started(start, nothing, np.array([0.5]), np.array([0]))

    for one in (endless, long):
        assert known(one, NOON + LONGEST_OPEN)["open[AC]"] == 1
        assert known(one, NOON + LONGEST_OPEN + 60)["open[AC]"] == 0
    assert known(short, NOON + 1800)["open[AC]"] == 1
    assert known(short, NOON + 1860)["open[AC]"] == 0


def test_an_end_before_the_start_counts_as_missing() -> None:
    start, nothing = np.array([NOON], dtype="datetime64[s]"), math.nan
    before, same = (
        started(start, start - np.timedelta64(seconds, "s"), np.array([hours]), np.array([0]))
        for seconds, hours in ((1, nothing), (0, nothing))
    )
    with_duration = started(start, start - np.timedelta64(3, "D"), np.array([0.5]), np.array([0]))

    assert [one.ends[0] - NOON for one in (before, same, with_duration)] == [LONGEST_OPEN, 0, 1800]
    assert known(before, NOON + HOUR)["open[AC]"] == 1


def test_sessions_of_other_types_are_left_out() -> None:
    start = np.array([NOON - HOUR, NOON - HOUR], dtype="datetime64[s]")
    some = started(start, start + HOUR, np.array([1.0, 1.0]), np.array([-1, 1]))

    found = known(some)

    assert (found["open[AC]"], found["open[DC]"]) == (0, 1)


def test_the_share_of_the_open_sessions_is_relative_to_the_most_of_eight_weeks() -> None:
    three = [(NOON - 3 * DAY, NOON - 3 * DAY + HOUR, 0)] * 3
    one = (NOON - HOUR, NOON + HOUR, 0)

    assert known(sessions(*three, one))["open_share[AC]"] == 1 / 3
    older = [(start - MOST_OPEN_DAYS * DAY, end - MOST_OPEN_DAYS * DAY, code) for start, end, code in three]
    assert known(sessions(*older, one))["open_share[AC]"] == 1
    later = [(NOON + HOUR, NOON + 2 * HOUR, 0)] * 3
    assert known(sessions(*later, one))["open_share[AC]"] == 1, "sessions of the future count for the most"


def test_the_mixes_are_drawn_from_the_week_to_the_day_to_the_hour() -> None:
    week = [(NOON - 2 * DAY, NOON - 2 * DAY + HOUR, 0)] * 4
    day = [(NOON - 5 * HOUR, NOON - 4 * HOUR, 1)] * 3
    hour = [(NOON - 1800, NOON, 0)] * 2

    found = known(sessions(*week, *day, *hour))

    of_week = drawn(6, 9, MIX[0])
    of_day = drawn(2, 5, of_week)
    assert found["mix_week[AC]"] == of_week
    assert found["mix_day[AC]"] == of_day
    assert found["mix_hour[AC]"] == drawn(2, 2, of_day)
    assert found["mix_hour[AC]"] + found["mix_hour[DC]"] == pytest.approx(1)


def test_the_mix_of_the_hour_of_the_week_counts_that_hour_of_eight_weeks() -> None:
    # The start is 12:40, so the hour begins at noon.
    start = NOON + 2400
    near = [(start - weeks * WEEK - 1200, start - weeks * WEEK, 0) for weeks in range(1, 9)]
    other = [(start - DAY, start - DAY + HOUR, 1), (start - 9 * WEEK, start - 9 * WEEK, 1), (NOON - WEEK - 1, NOON, 1)]

    found = known(sessions(*near, *other), NOON, start)

    counted = sessions(*near, *other)
    since = (counted.starts >= NOON - WEEK) & (counted.starts < NOON)
    in_week = drawn(int((since & (counted.codes == 0)).sum()), int(since.sum()), MIX[0])
    assert found["mix_hour_of_week[AC]"] == drawn(8, 8, in_week)


def test_a_start_far_in_the_future_knows_only_the_sessions_until_now() -> None:
    start = NOON + 2 * WEEK + 600
    some = sessions((NOON - 7200, NOON, 0), (NOON + 300, NOON + 900, 1), (start - WEEK, start, 1))

    found, without = known(some, NOON, start), known(sessions((NOON - 7200, NOON, 0)), NOON, start)

    assert found == without


def test_without_a_session_in_the_week_before_the_present_is_not_known() -> None:
    found = known(sessions((NOON - WEEK - 60, NOON, 0)))

    assert all(math.isnan(value) for value in found.values())
    assert not math.isnan(known(sessions((NOON - WEEK, NOON, 0)))["open[AC]"])


ROWS = st.lists(
    st.tuples(
        st.integers(NOON - 70 * DAY, NOON + 3 * DAY), st.integers(0, 30 * HOUR), st.integers(0, 1), st.integers(0, 2)
    ),
    max_size=60,
)


@given(rows=ROWS, minutes=st.lists(st.integers(-3 * DAY // 60, DAY // 60), min_size=1, max_size=5))
def test_the_counts_equal_a_plain_count_and_do_not_depend_on_the_order(
    rows: list[tuple[int, int, int, int]], minutes: list[int]
) -> None:
    """Sessions of the last group are observed and forgotten again."""
    some = sessions(*((start, min(start + long, start + LONGEST_OPEN), code) for start, long, code, _ in rows))
    gone = np.array([group == 2 for *_, group in rows], dtype=bool)
    kept = some.some(~gone)
    moments = np.array([NOON + 60 * minute for minute in minutes])
    starts = moments + 900
    mixes = np.array([MIX] * len(moments))
    at_once = PopulationNow(NOON // DAY - DAYS_BEFORE - 4, DAYS_BEFORE + 8, 2)
    at_once.observe(kept)
    one_by_one = PopulationNow(NOON // DAY - DAYS_BEFORE - 4, DAYS_BEFORE + 8, 2)
    for place in np.argsort(-some.starts):
        one_by_one.observe(some.some(np.array([place])))
        one_by_one.columns(moments[:1], starts[:1], mixes[:1])
    one_by_one.forget(some.some(gone))

    found = at_once.columns(moments, starts, mixes)

    assert found.tobytes() == one_by_one.copy().columns(moments, starts, mixes).tobytes()
    alone = [
        at_once.columns(moments[place : place + 1], starts[place : place + 1], mixes[:1])
        for place in range(len(moments))
    ]
    assert found.tobytes() == np.vstack(alone).tobytes()
    for values, moment in zip(found, moments.tolist(), strict=True):
        if not math.isnan(values[0]):
            is_open = (kept.starts < moment) & (kept.ends >= moment)
            assert values[:2].tolist() == [int((is_open & (kept.codes == code)).sum()) for code in (0, 1)]


def test_blocks_give_the_values_of_windows_of_their_own() -> None:
    """Moments over several years, in any order, each beside a window that serves it alone."""
    draw = np.random.default_rng(1)
    begin = np.sort(draw.integers(NOON, NOON + 200 * DAY, 3000))
    some = Started(begin, begin + draw.integers(0, LONGEST_OPEN, 3000), draw.integers(0, 2, 3000))
    moments = draw.permutation(
        np.concatenate(
            [draw.integers(NOON, NOON + 200 * DAY, 50), [BLOCK_DAYS * DAY * 720 - 1, BLOCK_DAYS * DAY * 720]]
        )
    )
    counts = {20_000: [3, 1], 20_100: [5, 9]}
    population = PopulationHistory(counts, 2)
    found = np.empty((len(moments), len(present_columns(TYPES))))

    presents(some, moments, moments + 900, population, found)

    for values, moment in zip(found, moments.tolist(), strict=True):
        alone = window(some, moment).columns(
            np.array([moment]), np.array([moment + 900]), np.array([population.mix(moment)])
        )
        assert values.tobytes() == alone[0].tobytes()
