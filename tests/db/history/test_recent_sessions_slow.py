"""RecentSessions with a slow database: without the log of changes, at the begin of a server, and beside the past."""

import asyncio
import threading
import time
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
from recent import NOW, Clock, Version, add, at_day, run
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from zap.db.history import recent_sessions
from zap.db.history.recent_sessions import RecentSessions
from zap.db.history.session_changes import CHANGES
from zap.ml.cells import to_seconds
from zap.ml.driver_columns import DAY


@pytest.fixture
def patient(monkeypatch):
    """Nothing grows old in this test."""
    monkeypatch.setattr(recent_sessions, "FRESH_SECONDS", 1000)


@pytest.fixture
def recent(engine):
    with closing(RecentSessions(engine, Clock())) as recent:
        yield recent


# The log of changes may be missing.


@pytest.fixture
def slow(monkeypatch):
    """Return a clock and the moments of reads; a read of the sessions takes a second on this clock."""
    found = SimpleNamespace(seconds=0.0, reads=[])
    read_days = recent_sessions.read_days

    def read(connection, days):
        if days:
            found.seconds += 1
            found.reads.append(found.seconds)
        return read_days(connection, days)

    monkeypatch.setattr(recent_sessions, "read_days", read)
    monkeypatch.setattr(recent_sessions, "time", SimpleNamespace(monotonic=lambda: found.seconds))
    return found


def test_without_triggers_the_sessions_are_read_at_a_bounded_rate(engine, recent, slow):
    at = [to_seconds(NOW)]
    recent.presents(at, at, Version())
    on_table = "" if engine.dialect.name == "sqlite" else ' ON "ChargingSessions"'
    run(engine, f"DROP TRIGGER zap_session_inserted{on_table}")
    add(engine, ("A", at_day(12)))
    slow.reads.clear()
    open_at = []

    while slow.seconds < 105:
        slow.seconds += 0.5
        recent.follow()
        # A request is answered from memory all the time.
        open_at.append(recent.known(*at, *at, Version()).values[1])

    # A read of a second is followed by a pause of 20 seconds.
    assert 4 <= len(slow.reads) <= 5
    assert min(np.diff(slow.reads)) > 20
    assert (np.isnan(open_at[0]), open_at[-1]) == (True, 1)
    seen = next(place for place, value in enumerate(open_at) if value == 1)
    assert seen <= 45


def test_changes_that_are_unknown_once_are_read_at_once(engine, recent, slow):
    at = [to_seconds(NOW)]
    add(engine, ("B", at_day(11)))
    recent.presents(at, at, Version())
    for _ in range(2):
        slow.seconds += 0.5
        recent.follow()
    # A TRUNCATE, or a log that lacks the last change that was read.
    if engine.dialect.name == "sqlite":
        run(engine, f"DELETE FROM {CHANGES.name}", 'DELETE FROM "ChargingSessions"')
    else:
        run(engine, 'TRUNCATE "ChargingSessions"')
    add(engine, ("A", at_day(12)))
    assert recent._read_again_at > slow.seconds + 10
    slow.seconds += 0.5

    recent.follow()

    assert recent.known(*at, *at, Version()).values[:3] == [0, 1, 0]
    slow.seconds += 0.5
    add(engine, ("A", at_day(12)))
    recent.follow()
    assert recent.known(*at, *at, Version()).values[1] == 2


def test_a_change_during_the_pause_is_read_after_it(engine, recent, slow):
    """Two unknown changes follow each other, and then the log knows all changes again."""
    at = [to_seconds(NOW)]
    add(engine, ("B", at_day(11)))
    recent.presents(at, at, Version())
    for used in ("B", "A"):
        if engine.dialect.name == "sqlite":
            run(engine, f"DELETE FROM {CHANGES.name}", 'DELETE FROM "ChargingSessions"')
        else:
            run(engine, 'TRUNCATE "ChargingSessions"')
        add(engine, (used, at_day(12)))
        slow.seconds += 0.5
        recent.follow()

    for _ in range(50):
        slow.seconds += 0.5
        recent.follow()

    assert recent.known(*at, *at, Version()).values[:3] == [0, 1, 0]


# A server begins to read before its first request.


def test_a_server_begins_with_the_sessions_of_these_weeks(engine, recent, patient):
    add(engine, ("A", at_day(12)))
    at = [to_seconds(NOW)]

    asyncio.run(recent.begin(60))

    @event.listens_for(engine, "before_cursor_execute")
    def fail(*_):
        raise AssertionError

    assert recent.presents(at, at, Version())[0].values[1] == 1
    event.remove(engine, "before_cursor_execute", fail)


def test_a_server_begins_although_the_database_is_slow_or_does_not_answer(engine, recent):
    goes_on = threading.Event()

    @event.listens_for(engine, "before_cursor_execute")
    def wait(_connection, _cursor, statement, *_):
        goes_on.wait(60)
        raise OperationalError(statement, None, Exception("lost"))

    begun = time.monotonic()
    asyncio.run(recent.begin(0.2))
    assert time.monotonic() - begun < 20
    goes_on.set()

    asyncio.run(recent.begin(60))
    event.remove(engine, "before_cursor_execute", wait)

    asyncio.run(recent.begin(60))
    assert recent._days


def test_requests_for_today_do_not_wait_for_reads_of_the_past(engine, recent, patient):
    now, old = to_seconds(NOW), to_seconds(NOW) - 200 * DAY
    add(engine, ("A", at_day(12)))
    recent.presents([now], [now], Version())
    reads, goes_on = threading.Event(), threading.Event()

    @event.listens_for(engine, "before_cursor_execute")
    def wait(_connection, _cursor, statement, *_):
        if "past" in threading.current_thread().name and 'FROM "ChargingSessions"' in statement:
            reads.set()
            goes_on.wait(60)

    async def both():
        until = time.monotonic() + 60
        past = asyncio.create_task(recent.present(old, old, Version(), until))
        await asyncio.to_thread(reads.wait, 30)
        found = await recent.present(now, now, Version(), until)
        was_done = past.done()
        goes_on.set()
        await past
        return found, was_done

    found, was_done = asyncio.run(both())

    assert reads.is_set()
    assert (found.values[1], was_done) == (1, False)
