"""RecentSessions gives requests the present that a training computes, whatever happens to the sessions."""

import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from recent import NOW, TODAY, TYPES, Clock, Version, add, at_day, moments_around, run, same, trained, values
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from zap.db.history import recent_sessions
from zap.db.history.recent_sessions import RecentSessions
from zap.ml.cells import to_seconds
from zap.ml.driver_columns import DAY
from zap.ml.population_history import PopulationHistory
from zap.ml.population_now import DAYS_BEFORE


@pytest.fixture
def patient(monkeypatch):
    """Nothing grows old in this test, but what a follow finds."""
    monkeypatch.setattr(recent_sessions, "FRESH_SECONDS", 1000)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def recent(engine, clock):
    with closing(RecentSessions(engine, clock)) as recent:
        yield recent


@pytest.fixture
def asked(engine):
    """The statements that read sessions."""
    found = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        if 'FROM "ChargingSessions"' in statement:
            found.append(statement)

    return found


def every_kind(random, n, dialect):
    """Return rows of all kinds that a cleaning drops or corrects, n of them, and as many good ones."""
    forms = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M", "%Y-%m-%d"]
    types = [*TYPES, " A", "B\u00a0", "A\u200b", "b", "C", "level 2", "Level  2", "NULL", "n/a", "", None, "-"]
    durations = [None, 0.0, 0.013, 1.5, 23.99, 30.0, -3.0, 8784.0, 9000.0, 1e300]
    odd = [None]
    if dialect == "sqlite":
        forms += ["%Y-%m-%dT%H:%M:%S.5", "%Y-%m-%dT%H:%M:%S.123456789", "%Y-%m-%d %H:%M:%S+05:00", "%d.%m.%Y %H:%M"]
        forms += ["%Y-%m-%d x", "%Y-%m-31 %H:%M:%S", "%Y-%m-%d 24:00:00", "%Y-%m-%d %H:%M:%SZ", "%H:%M:%S"]
        odd += ["soon", "", "NULL", "2024-02-30 10:00:00", 7, 1.5, b"2024-03-01 10\xff"]
        types += [b"A\xff", b"\xff", 7]
        durations += ["2.5", "n/a", "1_0", "inf", "nan", "1,5", "", 10**25]
    spans = [-3600, -1, 0, 1, 59, 60, 1800, 12_000, DAY, DAY + 1, 3 * DAY]

    def one(kind):
        start = NOW + timedelta(seconds=int(random.uniform(-100, 3) * DAY), microseconds=int(random.integers(10**6)))
        pick = lambda some: some[int(random.integers(len(some)))]  # noqa: E731
        end = (start + timedelta(seconds=pick(spans))).strftime(pick(forms))
        user = pick(["u", "v", None, "NULL"])
        if kind % 2:
            return pick(TYPES), start.isoformat(" ", "seconds"), end, 1.0, user
        begin = pick(odd) if kind % 10 == 0 else start.strftime(pick(forms))
        return pick(types), begin, pick([end, end, end, *odd]), pick(durations), user

    return [one(kind) for kind in range(2 * n)]


def test_it_works(engine, recent):
    """Two sessions are open ten minutes ago, and the one that has no end yet is open now."""
    add(engine, ("A", at_day(11), at_day(12.5)), ("B", at_day(12)))
    recent.follow()
    recent.presents([to_seconds(NOW)], [to_seconds(NOW)], Version())

    before, now = (
        recent.known(to_seconds(NOW), to_seconds(NOW) - 60 * minutes, Version()).values[:3] for minutes in (10, 0)
    )

    assert (before, now) == ([1, 1, 0], [1, 0, 0])


def test_it_is_the_present_of_a_training_to_the_bit(engine, recent, patient):
    random = np.random.default_rng(7)
    add(engine, *every_kind(random, 1500, engine.dialect.name))
    starts, moments = moments_around(random, 300)
    recent.follow()

    found = recent.presents(starts, moments, Version())

    expected = trained(engine, starts, moments, Version())
    assert np.isfinite(expected).mean() > 0.8
    assert same(found, expected)
    known = [recent.known(start, moment, Version()) for start, moment in zip(starts, moments, strict=True)]
    there = [place for place, one in enumerate(known) if one is not None]
    assert there == [place for place, moment in enumerate(moments) if TODAY - 2 <= moment // DAY < TODAY + 2]
    assert len(there) > 5
    assert same([known[place] for place in there], expected[there])
    again = [recent.known(starts[place], moments[place], Version()) for place in there]
    assert same(again, expected[there])


@pytest.mark.parametrize("moment", ["1990-05-05 10:00", "0001-03-01 10:00", "2100-05-05 10:00", "9999-12-31 23:59"])
def test_a_moment_long_ago_or_in_the_far_future_is_as_in_a_training(engine, recent, moment):
    at = datetime.fromisoformat(moment)
    near = at - timedelta(days=2)
    add(engine, ("A", near.isoformat(" "), (near + timedelta(hours=2)).isoformat(" ")), ("B", near.isoformat(" ")))
    seconds = to_seconds(at)

    found = recent.presents([seconds], [seconds], Version())

    assert same(found, trained(engine, [seconds], [seconds], Version()))
    assert np.isfinite(values(found)).all()
    assert recent.known(seconds, seconds, Version()) is None


def test_a_version_that_asks_at_the_start_knows_no_present(engine, recent, asked):
    version = Version(asked_before=None)

    assert np.isnan(values(recent.presents([5], [5], version))).all()
    assert np.isnan(recent.known(5, 5, version).values).all()
    assert asked == []


# What is read bit by bit is what is read at once.

TABLE = 'UPDATE "ChargingSessions" SET'


def change(random, engine, clock):
    """Change something, as other programs do; return what."""
    some = f"session_id % 7 = {random.integers(7)}"
    start = lambda: str(clock.now + timedelta(seconds=int(random.uniform(-80, 2) * DAY)))  # noqa: E731
    what = int(random.integers(10))
    if what < 3:
        add(engine, *[(("A", "B", "C")[place % 3], start()) for place in range(int(random.integers(1, 30)))])
    elif what == 3:
        clock.now += timedelta(hours=int(random.choice([1, 11, 24, 80, -2])))
    elif what == 9 and random.random() < 0.4:
        truncates = engine.dialect.name != "sqlite" and random.random() < 0.5
        run(engine, 'TRUNCATE "ChargingSessions"' if truncates else 'DELETE FROM "ChargingSessions"')
        add(engine, *[("A", start()) for _ in range(40)])
    elif what != 9:
        run(
            engine,
            {
                4: f"{TABLE} charging_end_time = '{clock.now}' WHERE {some}",
                5: f"{TABLE} charging_start_time = '{start()}' WHERE {some} AND session_id % 3 = 0",
                6: f'DELETE FROM "ChargingSessions" WHERE {some} AND session_id % 2 = 0',
                7: f"{TABLE} charger_type = 'Level 2', charging_duration_hours = 0.5 WHERE {some}",
                8: f"{TABLE} session_id = session_id + {random.integers(10**6, 10**8)}, user_id = NULL WHERE {some}",
            }[what].replace(":", "\\:"),
        )
    return what


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 10))])
def test_what_is_followed_is_what_is_read_from_scratch(engine, clock, recent, patient, seed):
    random = np.random.default_rng(seed)
    versions = (Version(), Version(("A", "B"), 2, population=PopulationHistory({}, 2)))
    add(engine, *[("AB"[place % 2], str(NOW - timedelta(hours=9 * place))) for place in range(250)])
    for _ in range(8):
        did = [change(random, engine, clock) for _ in range(int(random.integers(1, 3)))]
        starts, moments = moments_around(random, 12, -100)
        moments += [to_seconds(clock.now), (to_seconds(clock.now) // DAY + 1) * DAY]
        starts += moments[-2:]

        recent.follow()

        recent._past_windows.clear()
        for version in versions:
            found = recent.presents(starts, moments, version)
            with closing(RecentSessions(engine, clock)) as fresh:
                assert same(found, values(fresh.presents(starts, moments, version))), did
            for start, moment, one in zip(starts, moments, found, strict=True):
                known = recent.known(start, moment, version)
                assert known is None or same([known], values([one])), did
            assert recent.known(starts[-1], moments[-1], version) is not None
    assert same(recent.presents(starts, moments, Version()), trained(engine, starts, moments, Version()))


def test_a_change_is_read_by_its_day(engine, recent, patient, asked):
    add(engine, *[("A", str(NOW - timedelta(days=days))) for days in range(60)])
    recent.follow()
    asked.clear()

    recent.follow()
    assert asked == []
    run(engine, f"{TABLE} charger_type = 'B' WHERE session_id = 5")
    recent.follow()
    assert len(asked) == 1
    add(engine, ("A", "2010-01-01 10:00:00"), ("A", "2050-01-01 10:00:00"))
    recent.follow()
    assert len(asked) == 1


# The database does not always answer.


@pytest.mark.parametrize("lost", ['FROM "ChargingSessions"', "session_changes"])
def test_a_follow_that_fails_misses_nothing_later(engine, recent, patient, lost):
    at = [to_seconds(NOW)]
    recent.follow()
    assert np.isnan(values(recent.presents(at, at, Version()))).all()
    add(engine, ("A", at_day(12)))

    @event.listens_for(engine, "before_cursor_execute")
    def fail(_connection, _cursor, statement, *_):
        if lost in statement:
            raise OperationalError(statement, None, Exception("lost"))

    with pytest.raises(OperationalError):
        recent.follow()
    assert np.isnan(recent.known(*at, *at, Version()).values).all()
    event.remove(engine, "before_cursor_execute", fail)
    recent.follow()

    assert recent.known(*at, *at, Version()).values[1] == 1


def test_what_is_old_is_not_known_and_is_compared_with_the_database(engine, recent, monkeypatch):
    at = [to_seconds(NOW)]
    recent.presents(at, at, Version())
    add(engine, ("A", at_day(12)))
    assert recent.known(*at, *at, Version()) is not None
    monkeypatch.setattr(recent_sessions, "FRESH_SECONDS", 0)
    assert recent.known(*at, *at, Version()) is None

    assert recent.presents(at, at, Version())[0].values[1] == 1


# The past, which may be asked for again and again.


def test_the_past_is_read_once_for_several_requests(engine, recent, monkeypatch, asked):
    old = to_seconds(NOW) - 200 * DAY
    add(engine, *[("A", str(NOW - timedelta(days=days))) for days in range(300)])
    monkeypatch.setattr(recent_sessions, "FRESH_SECONDS", 1000)
    recent.presents([old], [old], Version())
    asked.clear()

    for minutes in range(5):
        recent.presents([old], [old - 60 * minutes], Version())
    assert asked == []
    add(engine, *[("A", str(NOW - timedelta(days=201)))] * 2)
    monkeypatch.setattr(recent_sessions, "FRESH_SECONDS", 0)
    monkeypatch.setattr(recent_sessions, "_PAST_PAUSE", 10_000)
    recent.presents([old], [old], Version())
    assert asked == [], "a window whose read took long was read again at once"
    monkeypatch.setattr(recent_sessions, "_PAST_PAUSE", 0)
    found = recent.presents([old], [old], Version())
    assert same(found, trained(engine, [old], [old], Version()))


@pytest.mark.parametrize("hours", [-12, 0, 14])
def test_a_session_that_is_added_late_counts_on_every_day_of_the_window(engine, clock, recent, patient, hours):
    """The log lacks sessions that are added too late, so the window must not have such days in any time zone."""
    clock.now = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=hours)
    recent.follow()
    first = min(recent._days)
    at = (first + DAYS_BEFORE) * DAY
    added = [datetime(1970, 1, 1) + timedelta(days=first + days, hours=1) for days in (0, 1, 53)]  # noqa: DTZ001
    recent.presents([at], [at], Version())
    assert np.isnan(recent.known(at, at, Version()).values).all()

    add(engine, *[("A", str(start)) for start in added])
    recent.follow()

    assert [len(recent._days[first + days].codes) for days in (0, 1, 53)] == [1, 1, 1]
    assert same([recent.known(at, at, Version())], trained(engine, [at], [at], Version()))


def test_a_read_of_the_past_that_takes_long_keeps_nothing_from_being_fresh(engine, recent, patient):
    now, old = to_seconds(NOW), to_seconds(NOW) - 200 * DAY
    recent.presents([now], [now], Version())
    reads, goes_on = threading.Event(), threading.Event()

    @event.listens_for(engine, "before_cursor_execute")
    def wait(_connection, _cursor, statement, *_):
        if threading.current_thread() is slow and 'FROM "ChargingSessions"' in statement:
            reads.set()
            goes_on.wait(60)

    slow = threading.Thread(target=recent.presents, args=([old], [old], Version()))
    slow.start()
    assert reads.wait(60)
    add(engine, ("A", at_day(12)))
    following = threading.Thread(target=recent.follow)
    following.start()
    following.join(20)
    known = recent.known(now, now, Version())
    goes_on.set()
    slow.join()

    assert known.values[1] == 1


# The memory.


def test_the_memory_is_bounded(engine, recent, patient, monkeypatch):
    monkeypatch.setattr(recent_sessions, "_MOST_VALUES", 50)
    add(engine, *[("AB"[days % 2], str(NOW - timedelta(days=days))) for days in range(400)])
    now = to_seconds(NOW)
    for number in range(7):
        version = Version((*TYPES, f"type {number}"), number, population=PopulationHistory({}, 4))
        moments = [now - 60 * minutes for minutes in range(60)] + [now - days * DAY for days in range(10, 400, 50)]
        recent.follow()
        found = recent.presents(moments, moments, version)
        known = [recent.known(moment, moment, version) for moment in moments[:60]]
        assert same(known, values(found)[:60])
        assert same(found, trained(engine, moments, moments, version))

    assert len(recent._windows) == 4
    assert {len(window.values) <= 50 for window in recent._windows.values()} == {True}
    assert len(recent._past_windows) == 4
    assert len(recent._days) == 61
    recent.follow()
    assert recent.known(now, now, version) is not None


def test_versions_with_other_types_are_known_at_the_same_time(engine, recent, patient):
    add(engine, ("A", str(NOW - timedelta(hours=1))), (" a", str(NOW - timedelta(hours=1))))
    at = to_seconds(NOW)
    one = Version(("A",), 1, population=PopulationHistory({}, 1))
    other = Version(("a", "A"), 2, population=PopulationHistory({}, 2))
    recent.follow()
    assert (recent.known(at, at, one), recent.known(at, at, other)) == (None, None)
    for version in (one, other):
        recent.presents([at], [at], version)

    for _ in range(2):
        assert recent.known(at, at, one).values[:1] == [1]
        assert recent.known(at, at, other).values[:2] == [1, 1]
        recent.follow()
