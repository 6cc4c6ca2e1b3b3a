"""A watch looks again and again, survives what it meets, and leaves nothing behind."""

import asyncio
import threading
from datetime import timedelta

import pytest
from databases import LEAST_RIGHTS, connect, role_in
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from zap.db.engine import create_engine
from zap.db.monitoring.data_quality_days import REFUSED, REFUSED_REPORTS, day_of
from zap.db.schema import upgrade
from zap.db.tables import utc_now
from zap.server.refusals import Refusals
from zap.server.watch import watch


async def stopped(watching):
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


def test_it_looks_again_and_again_whatever_a_look_meets():
    looks = []
    enough = threading.Event()

    def look():
        looks.append(threading.current_thread())
        if len(looks) == 5:
            enough.set()
        raise (OperationalError("", {}, Exception()), ValueError())[len(looks) % 2]

    async def story():
        watching = asyncio.create_task(watch(look, 0.001))
        await asyncio.to_thread(enough.wait, 20)
        await stopped(watching)

    asyncio.run(asyncio.wait_for(story(), 20))

    assert len(looks) >= 5
    assert threading.main_thread() not in looks


def test_when_it_ends_no_look_is_under_way():
    # The engine is disposed after the watch. A connection that came back later would stay open.
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def look():
        begun.set()
        go_on.wait(20)
        over.set()

    async def story():
        watching = asyncio.create_task(watch(look, 0.001))
        await asyncio.to_thread(begun.wait, 20)
        asyncio.get_running_loop().call_later(0.2, go_on.set)
        await stopped(watching)
        assert over.is_set()

    asyncio.run(asyncio.wait_for(story(), 20))


def test_a_missing_right_is_told_once_and_when_it_changes(empty_postgresql_url):
    upgrade(empty_postgresql_url)
    right = "GRANT INSERT, UPDATE ON data_quality_days TO {role}"
    with role_in(empty_postgresql_url, *LEAST_RIGHTS) as url, capture_logs() as logs:
        engine = create_engine(url)
        refusals = Refusals(engine)
        refusals.note(REFUSED, {("temperature_c", "out_of_range"): 2})
        looks = threading.Semaphore(0)

        def look():
            try:
                refusals.write()
            finally:
                looks.release()

        def enough():
            for _ in range(5):
                assert looks.acquire(timeout=20)

        async def story():
            watching = asyncio.create_task(watch(look, 0.001))
            await asyncio.to_thread(enough)
            with connect(empty_postgresql_url, autocommit=True) as admin:
                admin.execute(right.format(role=make_url(url).username))
            # The looks before the right was granted.
            await asyncio.to_thread(enough)
            await asyncio.to_thread(enough)
            await stopped(watching)

        asyncio.run(asyncio.wait_for(story(), 60))
        with engine.connect() as connection:
            kept = connection.exec_driver_sql("SELECT field, found, count FROM data_quality_days").all()
        engine.dispose()

    assert kept == [("temperature_c", "out_of_range", 2)]
    assert [(one["log_level"], one.get("reason")) for one in logs] == [
        ("warning", "permission denied for table data_quality_days"),
        ("info", None),
    ]


def test_refusals_that_are_never_written_have_a_bound(sqlite_engine, monkeypatch):
    refusals = Refusals(sqlite_engine)
    today = day_of(utc_now())
    for days in range(400):
        monkeypatch.setattr("zap.server.refusals.day_of", lambda _, days=days: today + timedelta(days=days))
        refusals.note(REFUSED, {("", "not_json"): 1})
        refusals.note(REFUSED_REPORTS, {("", "not_json"): 1})
    refusals.write()

    with sqlite_engine.connect() as connection:
        kept = connection.exec_driver_sql("SELECT count(DISTINCT day), sum(count) FROM data_quality_days").one()
    assert tuple(kept) == (7, 14)
