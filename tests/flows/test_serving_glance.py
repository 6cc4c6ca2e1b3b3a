"""The sums of serving for a page: they are those of `serving_figures`, on both engines."""

from datetime import UTC, datetime, timedelta

import pytest

from zap.db.monitoring.serving_counts import CountedMinute, merge_minutes, write_minutes
from zap.flows.serving_figures import serving_figures
from zap.flows.serving_glance import serving_glance
from zap.monitoring.answer_counts import SUBJECTS, Counts

NOW = datetime(2026, 3, 9, 12, 34, 20, tzinfo=UTC)


def write(engine, ages):
    """Write a minute of two processes at each age, with other times in each."""
    for number, age in enumerate(ages, start=1):
        begins_at = (NOW - age).replace(second=0)
        counts = {
            subject: Counts(number, place, 10**6, {place + number % 7: number, 30: 1})
            for place, subject in enumerate(SUBJECTS)
        }
        for process in ("a", "b"):
            write_minutes(engine, process, [CountedMinute(number, begins_at, counts)])


@pytest.mark.parametrize("longest", [timedelta(minutes=20), timedelta(days=9)])
def test_its_sums_are_those_of_the_figures_and_pages_do_not_count_as_answers(engine, longest):
    ages = [timedelta(minutes=n) for n in range(1, 80, 3)] + [timedelta(hours=n) for n in range(2, 200, 5)]
    write(engine, [age for age in ages if age <= longest])
    merge_minutes(engine, NOW)

    glance, figures = serving_glance(engine, NOW), serving_figures(engine, NOW)

    assert [one.span for one in glance.spans] == ["hour", "day", "week"]
    for short, full in zip(glance.spans, figures.spans, strict=True):
        predict, batch, *_ = full.routes
        assert short == (
            full.span,
            predict.answered + batch.answered,
            predict.answered_per_minute + batch.answered_per_minute,
            predict.p50_ms,
            predict.p99_ms,
            full.refused,
            full.failed,
            full.log_delay.p99_ms,
        )
    counted = [one for one in glance.minutes if one is not None]
    # All four routes have answered equally often.
    assert counted == [one.answered_per_minute / 2 for one in figures.spans[0].points]
    assert len(glance.minutes) == 60
    assert glance.busiest == max(counted) > 0


def test_nothing_is_counted(engine):
    glance = serving_glance(engine, NOW)

    assert {(one.answered, one.answered_per_minute, one.p50_ms, one.log_p99_ms) for one in glance.spans} == {
        (0, None, None, None)
    }
    assert glance.minutes == [None] * 60
    assert glance.busiest == 0
