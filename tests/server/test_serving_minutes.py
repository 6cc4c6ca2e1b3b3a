"""The minutes of a server process: written when they are over, kept when that fails, bounded, safe from the clock."""

from datetime import UTC, datetime, timedelta

import pytest
from databases import LEAST_RIGHTS, role_in
from sqlalchemy import text
from structlog.testing import capture_logs

from zap.db.engine import create_engine
from zap.db.monitoring.serving_counts import read_spans
from zap.db.schema import upgrade
from zap.monitoring.answer_counts import PREDICT, new_counters, total
from zap.server import serving_minutes
from zap.server.serving_minutes import ServingMinutes
from zap.server.watch import last_write

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
START = datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch):
    """Return the clock of the database, which a test sets. The monotonic clock stands still."""
    clock = [START]
    monkeypatch.setattr(serving_minutes, "clock_of", lambda _engine: clock[0])
    monkeypatch.setattr(serving_minutes, "monotonic", lambda: datetime.timestamp(*clock))
    return clock


def answer(counters, n=1):
    for _ in range(n):
        counters[PREDICT].replied(200, 1_000_000)


def stored(engine):
    """Return the minutes with their numbers of answers."""
    return [(one.begins_at, one.counts.answered) for one in read_spans(engine, LONG_AGO) if one.subject == PREDICT]


def test_it_works(engine, clock):
    counters = new_counters()
    minutes = ServingMinutes(engine, counters)
    answer(counters, 3)
    minutes.look()
    assert stored(engine) == []

    clock[0] += timedelta(minutes=1)
    minutes.look()
    minutes.look()
    assert stored(engine) == [(START.replace(second=0), 3)]

    # A minute without answers has no row.
    for n in (0, 2):
        answer(counters, n)
        clock[0] += timedelta(minutes=1)
        minutes.look()
    answer(counters, 4)
    minutes.write_rest()

    begins = [START.replace(second=0, minute=minute) for minute in (0, 2, 3)]
    assert stored(engine) == list(zip(begins, (3, 2, 4), strict=True))


def break_it(engine):
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE serving_counts RENAME TO away"))


def mend_it(engine):
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO serving_counts"))


def test_minutes_that_cannot_be_written_are_kept_for_an_hour(engine, clock):
    counters = new_counters()
    minutes = ServingMinutes(engine, counters)
    minutes.look()
    break_it(engine)
    with capture_logs() as logs:
        for _ in range(70):
            answer(counters)
            clock[0] += timedelta(minutes=1)
            with pytest.raises(Exception, match="serving_counts"):
                minutes.look()
            # The next attempt is made after a pause.
            minutes.look()
    mend_it(engine)
    clock[0] += timedelta(seconds=10)
    minutes.look()

    assert stored(engine) == [(START.replace(second=0) + timedelta(minutes=n), 1) for n in range(11, 70)]
    lost = [one["minutes"] for one in logs if one["event"].startswith("the figures of serving lack minutes")]
    assert sum(lost) == 11


def test_a_minute_that_is_too_old_is_not_written(engine, clock):
    counters = new_counters()
    minutes = ServingMinutes(engine, counters)
    minutes.look()
    answer(counters)
    minutes.end_minute()
    # The machine was suspended; meanwhile other processes may have merged this minute.
    clock[0] += timedelta(hours=3)
    answer(counters)
    with capture_logs() as logs:
        minutes.look()
        minutes.write_rest()

    assert [one["minutes"] for one in logs] == [2]
    assert stored(engine) == []


def test_the_clock_may_go_back_and_forth(engine, clock):
    counters = new_counters()
    minutes = ServingMinutes(engine, counters)
    for step in (1, 1, -60, 1, 1, 58, 1, -1, 1, 0):
        answer(counters)
        clock[0] += timedelta(minutes=step)
        minutes.look()
    minutes.write_rest()

    assert sum(n for _, n in stored(engine)) == 10


def test_two_processes_add_up(engine, clock):
    processes = []
    for _ in range(2):
        counters = new_counters()
        processes.append((counters, ServingMinutes(engine, counters)))
    for counters, minutes in processes:
        minutes.look()
        answer(counters, 3)
        minutes.write_rest()

    spans = read_spans(engine, LONG_AGO)
    assert len(spans) == 2
    assert total(one.counts for one in spans).answered == 6


def test_an_attempt_whose_end_is_not_known_adds_nothing_twice(engine, clock, monkeypatch):
    counters = new_counters()
    minutes = ServingMinutes(engine, counters)
    minutes.look()
    answer(counters)
    clock[0] += timedelta(minutes=1)
    write = serving_minutes.write_minutes

    def committed_and_broken(*arguments):
        write(*arguments)
        raise ConnectionError

    monkeypatch.setattr(serving_minutes, "write_minutes", committed_and_broken)
    with pytest.raises(ConnectionError):
        minutes.look()
    monkeypatch.setattr(serving_minutes, "write_minutes", write)
    minutes.write_rest()

    assert stored(engine) == [(START.replace(second=0), 1)]


def test_a_role_that_only_predicts_writes_nothing(empty_postgresql_url):
    upgrade(empty_postgresql_url)
    with role_in(empty_postgresql_url, *LEAST_RIGHTS) as url, capture_logs() as logs:
        engine = create_engine(url)
        counters = new_counters()
        minutes = ServingMinutes(engine, counters)
        for _ in range(2):
            answer(counters)
            minutes.end_minute()
            minutes.look()
        last_write(minutes.write_rest, "minutes")
        found = stored(engine)
        engine.dispose()

    assert found == []
    assert [one["event"].partition(":")[0] for one in logs] == ["the figures of serving lack this server"]


def test_a_broken_database_does_not_keep_a_server_from_ending(engine, clock):
    counters = new_counters()
    minutes = ServingMinutes(engine, counters)
    answer(counters)
    break_it(engine)
    with capture_logs() as logs:
        last_write(minutes.write_rest, "minutes of the figures of serving")
    mend_it(engine)

    assert [one["lost"] for one in logs] == ["minutes of the figures of serving"]
