"""The counts of answers: sums of whole numbers, and quantiles that are at most a bucket too high."""

import math
import random

import pytest

from zap.monitoring.answer_counts import BOUNDS, NOTHING, RESOLUTION, AnswerCounter, Counts, total

SECOND = 10**9


def counted(times):
    counter = AnswerCounter()
    for one in times:
        counter.answered(one)
    return counter.read()


@pytest.mark.parametrize("share", [0.5, 0.99, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_quantile_is_at_most_a_bucket_too_high(seed, share):
    draw = random.Random(seed)
    times = sorted(round(SECOND * draw.lognormvariate(-5, 1.5)) for _ in range(draw.randrange(1, 2_000)))
    exact = times[math.ceil(share * len(times)) - 1] / 1e6

    found = counted(times).quantile_ms(share)

    assert max(exact, 0.1) <= found <= max(exact * (1 + RESOLUTION), 0.1)


def test_the_buckets_are_about_a_fifth_wide_and_have_round_bounds():
    assert round(RESOLUTION, 3) == 0.208
    assert {round(SECOND * bound) for bound in (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60)} <= {*BOUNDS}
    assert list(BOUNDS) == sorted({*BOUNDS})


def test_a_time_on_a_bound_is_at_most_the_bound():
    assert counted([5_000_000]).quantile_ms(0.5) == 5
    assert counted([5_000_001]).quantile_ms(0.5) == 6
    assert counted([0]).quantile_ms(0.5) == 0.1


def test_without_answers_or_above_the_last_bound_there_is_no_quantile():
    assert NOTHING.quantile_ms(0.5) is None
    far = counted([SECOND, 10_001 * SECOND])
    assert (far.quantile_ms(0.5), far.quantile_ms(0.99)) == (1_000, None)


def test_replies_are_counted_by_their_status():
    counter = AnswerCounter()
    for status in (200, 204, 304, 400, 422, 499, 500, 503, 503):
        counter.replied(status, 1_000_000)

    counts = counter.read()

    assert (counts.answered, counts.refused, counts.failed) == (3, 2, 3)
    assert counts.nanoseconds == 3_000_000


def test_differences_of_readings_add_up():
    draw, counter, parts, before = random.Random(1), AnswerCounter(), [], NOTHING
    for _ in range(20):
        for _ in range(draw.randrange(50)):
            counter.replied(draw.choice([200, 404, 503]), draw.randrange(SECOND))
        now = counter.read()
        parts.append(now.since(before))
        before = now

    assert total(parts) == counter.read()
    assert now.since(now) == NOTHING
    assert total([]) == Counts()
