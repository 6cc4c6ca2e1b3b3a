"""The counts of serving in the database: nothing is added twice, merges keep the sums, the table is bounded."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from zap.db.engine import create_engine
from zap.db.monitoring.serving_counts import (
    KEPT,
    CountedMinute,
    clock_of,
    first_span,
    merge_minutes,
    read_spans,
    write_minutes,
)
from zap.db.monitoring_tables import ServingCount
from zap.db.tables import utc_now
from zap.flows.serving_figures import serving_figures
from zap.monitoring.answer_counts import LOG, PREDICT, Counts, total

NOW = datetime(2026, 3, 2, 12, 34, tzinfo=UTC)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def minute(number, begins_at, n=1, bucket=20):
    return CountedMinute(
        number, begins_at, {PREDICT: Counts(2 * n, n, n * 10**6, {bucket: n}), LOG: Counts(buckets={5: n})}
    )


def sums(engine):
    """Return the sums of all spans, by subject."""
    spans = read_spans(engine, LONG_AGO)
    return {subject: total(one.counts for one in spans if one.subject == subject) for subject in (PREDICT, LOG)}


def lengths(engine):
    return [(one.minutes, one.begins_at) for one in read_spans(engine, LONG_AGO) if one.subject == PREDICT]


def rows(engine):
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(ServingCount))


def test_it_works(engine):
    write_minutes(engine, "a", [minute(1, NOW), minute(2, NOW + timedelta(minutes=1), 5)])
    write_minutes(engine, "b", [minute(1, NOW, 3)])

    assert sums(engine) == {PREDICT: Counts(18, 9, 9 * 10**6, {20: 9}), LOG: Counts(buckets={5: 9})}
    assert first_span(engine) == NOW
    assert [one.begins_at for one in read_spans(engine, NOW + timedelta(minutes=1))] == [NOW + timedelta(minutes=1)] * 2
    assert abs(clock_of(engine) - utc_now()) < timedelta(minutes=1)


def test_a_minute_that_is_written_again_adds_nothing(engine):
    write_minutes(engine, "a", [minute(1, NOW)])
    write_minutes(engine, "a", [minute(1, NOW), minute(2, NOW + timedelta(minutes=1))])
    # The clock was set back, and the process counts another minute of this time.
    write_minutes(engine, "a", [minute(3, NOW)])

    assert sums(engine)[PREDICT].answered == 3


def test_old_minutes_become_ten_minutes_and_then_hours(engine):
    begin = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
    write_minutes(engine, "a", [minute(n, begin + timedelta(minutes=n), n % 3 + 1, 20 + n % 7) for n in range(90)])
    write_minutes(engine, "b", [minute(n, begin + timedelta(minutes=n)) for n in range(90)])
    before = sums(engine)

    merge_minutes(engine, begin + timedelta(minutes=105))
    assert sums(engine) == before
    tens = [(10, begin + timedelta(minutes=10 * n)) for n in range(3)]
    assert [one for one in lengths(engine) if one[0] == 10] == tens
    assert min(begins_at for minutes, begins_at in lengths(engine) if minutes == 1) == begin + timedelta(minutes=30)

    merge_minutes(engine, begin + timedelta(hours=30))
    assert sums(engine) == before
    assert lengths(engine) == [(60, begin), (60, begin + timedelta(hours=1))]

    # A process that was suspended for a day writes at last.
    write_minutes(engine, "c", [minute(1, begin + timedelta(minutes=5))])
    merge_minutes(engine, begin + timedelta(hours=30))
    assert lengths(engine) == [(60, begin), (60, begin + timedelta(hours=1))]
    assert sums(engine)[PREDICT].answered == before[PREDICT].answered + 1

    write_minutes(engine, "a", [minute(200, begin + KEPT)])
    merge_minutes(engine, begin + KEPT + timedelta(hours=40))
    assert lengths(engine) == [(60, begin + KEPT)]


def test_two_processes_merge_at_once(database_url):
    engines = [create_engine(database_url) for _ in range(2)]
    begin = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)

    def work(engine):
        name = str(engines.index(engine))
        for hour in range(8):
            first = begin + timedelta(hours=hour)
            write_minutes(engine, name, [minute(60 * hour + n, first + timedelta(minutes=n)) for n in range(60)])
            merge_minutes(engine, first + timedelta(hours=4))

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(work, engines))
    merge_minutes(engines[0], begin + timedelta(days=2))
    found, spans = sums(engines[0]), lengths(engines[0])
    for engine in engines:
        engine.dispose()

    assert found[PREDICT] == Counts(2 * 960, 960, 960 * 10**6, {20: 960})
    assert spans == [(60, begin + timedelta(hours=hour)) for hour in range(8)]


def test_the_table_is_bounded_and_the_week_is_right(engine):
    """Write nine days of two processes, one minute in each hour and every minute of the last hour."""
    end = datetime(2026, 3, 10, tzinfo=UTC)
    moments = [end - timedelta(hours=hours) for hours in range(9 * 24, 1, -1)]
    moments += [end - timedelta(minutes=minutes) for minutes in range(60, 0, -1)]
    for process in "ab":
        write_minutes(engine, process, [minute(n, moment) for n, moment in enumerate(moments)])
    before = sums(engine)
    while True:
        found = rows(engine)
        merge_minutes(engine, end)
        if rows(engine) == found:
            break

    figures = serving_figures(engine, end + timedelta(seconds=15))

    # Per subject: the minutes of each process, one span of ten minutes for each hour of a day, and the older hours.
    assert found <= 2 * (2 * 61 + 25 + 8 * 24)
    assert sums(engine) == before
    hour, day, week = figures.spans
    assert [span.answered for span in figures.spans] == [120, 120 + 2 * 23, 120 + 2 * (7 * 24 - 1)]
    assert [len(span.points) for span in figures.spans] == [60, 144, 168]
    assert [span.answered_per_minute for span in figures.spans] == [2, 166 / 1440, 454 / 10_080]
    assert [sum(point.failed for point in span.points) for span in figures.spans] == [120, 166, 454]
    assert {span.routes[0].p50_ms for span in figures.spans} == {figures.spans[0].points[0].predict_p50_ms}
    assert (hour.since, day.since, week.since) == tuple(end - timedelta(hours=hours) for hours in (1, 24, 168))
