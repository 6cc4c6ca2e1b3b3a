"""Every change of sessions is noticed, by whomever and however late it commits, and the log stays small."""

import json
import sqlite3
import threading
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest
from databases import connect
from histories import NO_USERS, NO_VEHICLES, table
from sqlalchemy import event, func, select, text

from zap.db.engine import database_now, write_transaction
from zap.db.history.history_store import upsert_history
from zap.db.history.session_changes import CHANGES, KEPT, changes_since, prune_changes
from zap.db.history.session_removal import remove_sessions
from zap.db.history.session_reports import report_sessions
from zap.db.schema import upgrade
from zap.formats.session_report import parse_report
from zap.settings import Settings

NOW = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
TODAY = NOW.date()
YESTERDAY, LAST_WEEK = TODAY - timedelta(days=1), TODAY - timedelta(days=7)
LONG_AGO = date(2020, 5, 17)


def at(day, hour=10):
    return f"{day} {hour}:00:00"


class Follower:
    """Keep the mark between calls: `look` returns the days that have changed since its previous call."""

    def __init__(self, engine):
        self.engine = engine
        self.mark = None
        assert self.look() is None

    def look(self):
        with self.engine.connect() as connection:
            days, self.mark = changes_since(connection, self.mark)
        return days


@pytest.fixture
def follower(engine):
    return Follower(engine)


@contextmanager
def other(engine):
    """Yield a connection of a program that is not zap; commit at the end."""
    if engine.dialect.name == "sqlite":
        with closing(sqlite3.connect(engine.url.database)) as connection:
            yield connection
            connection.commit()
        return
    with connect(engine.url.render_as_string(hide_password=False)) as connection:
        yield connection


def run(engine, *statements):
    """Run SQL as another program."""
    with other(engine) as connection:
        for statement in statements:
            connection.execute(statement)


def add(session_id, day, user="u"):
    return (
        'INSERT INTO "ChargingSessions" (session_id, user_id, charger_type, charging_start_time)'
        f" VALUES ({session_id}, '{user}', 'A', '{at(day)}')"
    )


def size(engine):
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(CHANGES))


# By whom.


def test_it_works(engine, follower):
    """Follow the SQL of another program: nothing, then an insert, an update, a delete."""
    assert follower.look() == set()
    run(engine, add(1, TODAY))
    assert follower.look() == {TODAY}
    assert follower.look() == set()
    run(engine, "UPDATE \"ChargingSessions\" SET charger_type = 'B'")
    assert follower.look() == {TODAY}
    run(engine, f"UPDATE \"ChargingSessions\" SET charging_start_time = '{at(LAST_WEEK)}'")
    assert follower.look() == {TODAY, LAST_WEEK}
    run(engine, "UPDATE \"ChargingSessions\" SET user_id = 'v', session_id = 4")
    assert follower.look() == {LAST_WEEK}
    run(engine, 'DELETE FROM "ChargingSessions"')
    assert follower.look() == {LAST_WEEK}
    assert follower.look() == set()


def test_the_rows_of_the_log(engine):
    run(engine, add(1, TODAY), add(2, LAST_WEEK, "v"), "UPDATE \"ChargingSessions\" SET user_id = 'w'")
    run(engine, 'DELETE FROM "ChargingSessions" WHERE session_id = 2')
    with engine.connect() as connection:
        rows = connection.execute(select(CHANGES).order_by(CHANGES.c.change_id).offset(1)).all()
    found = [(row.session_id, row.user_id, row.charging_start_time) for row in rows]
    first, second = at(TODAY), at(LAST_WEEK)
    assert found[:2] == [(1, "u", first), (2, "v", second)]
    assert sorted(found[2:6]) == [(1, "u", first), (1, "w", first), (2, "v", second), (2, "w", second)]
    assert found[6:] == [(2, "w", second)]
    assert all(abs(row.changed_at - datetime.now(UTC)) < timedelta(minutes=5) for row in rows)
    on_postgresql = engine.dialect.name == "postgresql"
    assert {row.transaction_id is not None for row in rows} == {on_postgresql}
    assert len({row.transaction_id for row in rows[:6]}) == 1


def test_reports_imports_and_removals_are_noticed(engine, follower):
    wall_time = Settings(timezone="Europe/London").wall_time

    def report(**fields):
        document = {"session_id": 7, "user_id": "U", "charger_type": "A"} | fields
        report_sessions(engine, parse_report(json.dumps(document).encode(), wall_time), NOW)

    report(charging_start_time=f"{YESTERDAY}T10:00:00")
    assert follower.look() == {YESTERDAY}
    report(charging_start_time=f"{YESTERDAY}T10:00:00", charging_end_time=f"{YESTERDAY}T11:00:00")
    assert follower.look() == {YESTERDAY}

    columns = ("session_id", "user_id", "charging_start_time", "charger_type")
    rows = table((8, "U", at(LAST_WEEK), "A"), (9, "U", at(LONG_AGO), "A"), columns=columns)
    upsert_history(engine, NO_USERS, NO_VEHICLES, rows)
    # An old session may be the outcome of an old answer.
    assert follower.look() == {LAST_WEEK, LONG_AGO}
    remove_sessions(engine, [7, 8, 9])
    assert follower.look() == {YESTERDAY, LAST_WEEK, LONG_AGO}


def test_sessions_of_any_age_are_noticed_also_after_the_triggers_were_made_again(engine, follower):
    run(engine, add(1, LONG_AGO), add(2, TODAY - timedelta(days=63)))
    assert follower.look() == {LONG_AGO, TODAY - timedelta(days=63)}
    on = ' ON "ChargingSessions"' if engine.dialect.name == "postgresql" else ""
    run(engine, f"DROP TRIGGER zap_session_inserted{on}")
    assert follower.look() is None
    upgrade(engine.url.render_as_string(hide_password=False))
    assert follower.look() is None
    run(engine, add(3, LONG_AGO))
    assert follower.look() == {LONG_AGO}


def test_a_statement_that_replaces_rows_logs_what_it_replaced(sqlite_engine):
    # SQLite fires no trigger for the row that REPLACE deletes.
    follower = Follower(sqlite_engine)
    run(sqlite_engine, add(1, LAST_WEEK), add(2, YESTERDAY))
    assert follower.look() == {LAST_WEEK, YESTERDAY}
    run(sqlite_engine, add(1, TODAY).replace("INSERT", "INSERT OR REPLACE"))
    assert follower.look() == {LAST_WEEK, TODAY}
    run(sqlite_engine, "UPDATE OR REPLACE ChargingSessions SET session_id = 2 WHERE session_id = 1")
    assert follower.look() == {TODAY, YESTERDAY}


def test_ids_of_new_sessions_are_told_as_before(sqlite_engine):
    with closing(sqlite3.connect(sqlite_engine.url.database)) as connection:
        cursor = connection.execute(f"INSERT INTO ChargingSessions (charging_start_time) VALUES ('{at(TODAY)}')")
        assert (cursor.lastrowid, cursor.rowcount) == (1, 1)


@pytest.mark.parametrize("statement", ['TRUNCATE "ChargingSessions"', 'TRUNCATE "ChargingSessions", "Users"'])
def test_after_a_truncate_anything_may_have_changed(empty_postgresql_url, at_head, statement):
    engine = at_head(empty_postgresql_url)
    run(engine, add(1, TODAY))
    follower = Follower(engine)
    run(engine, statement)
    assert follower.look() is None
    assert follower.look() == set()


def test_what_logical_replication_writes_is_noticed(empty_postgresql_url, at_head):
    # Its processes have this setting.
    engine = at_head(empty_postgresql_url)
    follower = Follower(engine)
    replica = "SET session_replication_role = replica"
    run(engine, replica, add(1, LONG_AGO))
    assert follower.look() == {LONG_AGO}
    run(engine, replica, add(2, TODAY), add(3, YESTERDAY))
    assert follower.look() == {TODAY, YESTERDAY}
    run(
        engine, replica, f"UPDATE \"ChargingSessions\" SET charging_start_time = '{at(LAST_WEEK)}' WHERE session_id = 2"
    )
    assert follower.look() == {TODAY, LAST_WEEK}
    run(engine, replica, "UPDATE \"ChargingSessions\" SET charger_type = 'B' WHERE session_id = 2")
    assert follower.look() == {LAST_WEEK}
    run(engine, replica, 'DELETE FROM "ChargingSessions" WHERE session_id <> 2')
    assert follower.look() == {YESTERDAY, LONG_AGO}
    run(engine, replica, 'TRUNCATE "ChargingSessions"')
    assert follower.look() is None


def test_a_copy_is_noticed_on_postgresql(empty_postgresql_url, at_head):
    engine = at_head(empty_postgresql_url)
    follower, before = Follower(engine), size(engine)
    statement = 'COPY "ChargingSessions" (session_id, charging_start_time) FROM STDIN'
    with other(engine) as connection, connection.cursor().copy(statement) as copy:
        copy.write_row((1, at(TODAY)))
    assert follower.look() == {TODAY}
    assert size(engine) == before + 1


@pytest.mark.parametrize("start", [None, "soon", "", b"\xff\xfe", 7, "31.12.2026 10:00"])
def test_a_start_that_is_no_time_has_no_day(sqlite_engine, start):
    follower = Follower(sqlite_engine)
    with other(sqlite_engine) as connection:
        connection.execute("INSERT INTO ChargingSessions (session_id, charging_start_time) VALUES (1, ?)", (start,))
        connection.execute("UPDATE ChargingSessions SET charger_type = 'B'")
    assert follower.look() == set()


@pytest.mark.parametrize("start", ["infinity", "-infinity", "20000-01-01"])
def test_a_start_that_python_does_not_know_has_no_day(empty_postgresql_url, at_head, start):
    engine = at_head(empty_postgresql_url)
    follower = Follower(engine)
    statement = add(1, TODAY).replace(at(TODAY), start)
    run(engine, statement, 'UPDATE "ChargingSessions" SET user_id = NULL')
    assert follower.look() == set()


# However late.


def test_a_change_that_commits_late_is_not_missed(empty_postgresql_url, at_head):
    engine = at_head(empty_postgresql_url)
    follower = Follower(engine)
    with other(engine) as late:
        late.execute(add(1, LAST_WEEK))
        # Changes with higher numbers commit first, and are read.
        run(engine, add(2, TODAY))
        assert follower.look() == {TODAY}
        run(engine, add(3, YESTERDAY))
        assert follower.look() == {YESTERDAY}
        late.execute(add(4, LONG_AGO))
        late.execute("UPDATE \"ChargingSessions\" SET charger_type = 'B' WHERE session_id IN (1, 4)")
        assert follower.look() == set()
    # Nothing is read again and again while a transaction is open, and nothing is missed.
    assert follower.look() == {LAST_WEEK, LONG_AGO}
    assert follower.look() == set()


def test_a_change_of_a_savepoint_or_a_rolled_back_change(empty_postgresql_url, at_head):
    engine = at_head(empty_postgresql_url)
    follower = Follower(engine)
    with other(engine) as late:
        late.execute("SAVEPOINT one")
        late.execute(add(1, LAST_WEEK))
        late.execute("SAVEPOINT two")
        late.execute(add(2, YESTERDAY))
        late.execute("ROLLBACK TO two")
        run(engine, add(3, TODAY))
        assert follower.look() == {TODAY}
    assert follower.look() == {LAST_WEEK}


def test_nobody_misses_a_change_of_many_writers(engine):
    """Let four programs write while one follows; it must have seen each day at the end."""
    days = [TODAY - timedelta(days=n) for n in range(40)]
    follower, seen = Follower(engine), set()

    def write(part):
        for number in range(part, 40, 4):
            with write_transaction(engine) as connection:
                connection.execute(text(add(number, days[number])))

    writers = [threading.Thread(target=write, args=(part,)) for part in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        seen |= follower.look()
    assert seen | follower.look() == set(days)


def test_writers_do_not_wait_for_each_other(empty_postgresql_url, at_head):
    engine = at_head(empty_postgresql_url)
    run(engine, add(1, TODAY), add(2, TODAY))
    with other(engine) as one, other(engine) as two:
        two.execute("SET lock_timeout = '1s'")
        for connection, number in ((one, 1), (two, 2)):
            connection.execute(f'UPDATE "ChargingSessions" SET user_id = NULL WHERE session_id = {number}')
            connection.execute(add(10 + number, TODAY))
            connection.execute(f'DELETE FROM "ChargingSessions" WHERE session_id = {number}')


# The log stays small.


def age(engine, by=KEPT + timedelta(minutes=1)):
    """Make all changes older."""
    with engine.begin() as connection:
        rows = connection.execute(select(CHANGES.c.change_id, CHANGES.c.changed_at)).all()
        for change_id, changed_at in rows:
            older = CHANGES.update().where(CHANGES.c.change_id == change_id).values(changed_at=changed_at - by)
            connection.execute(older)


def test_old_changes_are_pruned_in_portions(engine):
    for number in range(20):
        run(engine, add(number, TODAY))
    assert prune_changes(engine) == 0
    age(engine)
    run(engine, add(100, TODAY))

    writes = []
    listener = lambda *_: writes.append(1)  # noqa: E731
    event.listen(engine, "commit", listener)
    removed = prune_changes(engine, portion=6)
    event.remove(engine, "commit", listener)

    assert removed >= 18
    assert len(writes) >= 4
    # The new change stays, and what says that nothing after it is lost.
    assert 1 <= size(engine) <= 3
    assert prune_changes(engine) == 0


def test_a_follower_misses_nothing_by_pruning(engine, follower):
    run(engine, add(1, TODAY))
    assert follower.look() == {TODAY}
    age(engine)
    idle = Follower(engine)
    run(engine, add(2, YESTERDAY))
    prune_changes(engine)
    assert idle.look() == {YESTERDAY}


def test_a_mark_that_is_older_than_the_log_knows_nothing(sqlite_engine):
    follower = Follower(sqlite_engine)
    run(sqlite_engine, add(1, TODAY))
    run(sqlite_engine, add(2, TODAY))
    age(sqlite_engine)
    prune_changes(sqlite_engine)
    assert follower.look() is None
    assert follower.look() == set()


def test_a_mark_of_another_time_or_server_knows_nothing_on_postgresql(empty_postgresql_url, at_head):
    engine = at_head(empty_postgresql_url)
    follower = Follower(engine)
    for changed in ({"at": follower.mark.at - KEPT}, {"place": "another server"}):
        follower.mark = type(follower.mark)(**vars(follower.mark) | changed)
        assert follower.look() is None
        assert follower.look() == set()


def test_old_changes_that_have_just_been_committed_are_not_pruned(empty_postgresql_url, at_head):
    engine = at_head(empty_postgresql_url)
    run(engine, add(1, TODAY))
    follower = Follower(engine)
    with other(engine) as late:
        late.execute(add(2, LAST_WEEK))
        late.execute("UPDATE session_changes SET changed_at = changed_at - interval '2 hours' WHERE session_id = 2")
        run(engine, add(3, TODAY))
        age(engine)
        prune_changes(engine)
        assert follower.look() == {TODAY}
    # Both an old change and the newest, but nobody has seen it.
    prune_changes(engine)
    assert follower.look() == {LAST_WEEK}


def test_an_emptied_log_is_noticed_once(engine, follower):
    run(engine, "DELETE FROM session_changes")
    prune_changes(engine)
    follower.look()
    assert follower.look() == set()
    run(engine, add(1, TODAY))
    assert follower.look() == {TODAY}


def test_a_backup_that_is_restored_is_noticed(sqlite_engine, tmp_path):
    file, backup = sqlite_engine.url.database, tmp_path / "backup.sqlite"
    follower = Follower(sqlite_engine)
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    run(sqlite_engine, add(1, TODAY))
    assert follower.look() == {TODAY}
    with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(file)) as target:
        source.backup(target)
    # Other changes have taken the numbers before the next look.
    run(sqlite_engine, add(2, LAST_WEEK), add(3, YESTERDAY))
    assert follower.look() is None


def test_pruning_does_not_pass_over_the_changes_of_the_last_hour(engine):
    new = 3_000
    values = {"user_id": "u", "charging_start_time": f"{TODAY} 10:00:00", "oldest_running": 10**6}
    with engine.begin() as connection:
        now = database_now(connection)
        connection.execute(CHANGES.delete())
        rows = [
            values | {"change_id": number, "session_id": number, "changed_at": now - (2 * KEPT if old else KEPT / 2),
                      "transaction_id": number}
            for number, old in enumerate([True] * 5 + [False] * new, start=1)
        ]  # fmt: skip
        connection.execute(CHANGES.insert(), rows)
    asked = []
    listener = lambda *arguments: asked.append(arguments[2])  # noqa: E731
    event.listen(engine, "before_cursor_execute", listener)
    removed = prune_changes(engine)
    event.remove(engine, "before_cursor_execute", listener)

    # On SQLite the newest old change stays, because a mark may name it.
    assert removed >= 4
    assert size(engine) <= new + 1
    searched = [one for one in asked if "change_id >=" in one]
    assert 0 < len(searched) <= 14
    assert not any("ORDER BY session_changes.change_id DESC" in one for one in asked)
