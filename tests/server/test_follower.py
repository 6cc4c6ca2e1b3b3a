"""The follower in a server: outcomes come by themselves, from one of its processes, and requests go first."""

import os
import subprocess
import sys
import threading

import httpx
import pytest
from databases import LEAST_RIGHTS, role_in
from followed import log_answers, row_of, statuses
from servers import until
from structlog.testing import capture_logs

from zap.db.engine import create_engine
from zap.db.schema import upgrade
from zap.server.follower import NICENESS, Follower
from zap.settings import Settings

START = "2030-01-07T18:30:00"


def ask_and_charge(client, good_request):
    """Ask twice and report the session that begins then. Return the numbers of the answers."""
    asked = [client.post("/predict", json=good_request | {"user_id": "driver"}).json() for _ in range(2)]
    report = {"session_id": 5, "user_id": "driver", "charger_type": "Level 2", "charging_start_time": START}
    assert client.post("/charging-sessions", json=report).json()["added"] == 1
    return [one["prediction_id"] for one in asked]


def test_a_server_finds_outcomes_within_seconds(serve, trained, good_request):
    server = serve(trained.model_copy(update={"workers": 2})).wait()
    engine = create_engine(trained.database_url)
    with httpx.Client(base_url=server.url) as client:
        first, second = ask_and_charge(client, good_request)

    until(lambda: statuses(engine) == {first: ("superseded", 5), second: ("matched", 5)}, 15)
    server.stop()
    engine.dispose()
    assert '"level": "error"' not in server.log()


def test_a_server_that_must_not_follow_does_not(serve, trained_sqlite, good_request):
    server = serve(trained_sqlite.model_copy(update={"follow": False})).wait()
    engine = create_engine(trained_sqlite.database_url)
    with httpx.Client(base_url=server.url) as client:
        ask_and_charge(client, good_request)
    server.stop()

    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM follower").scalar() == 0
    engine.dispose()


OUTCOMES_ONLY = "GRANT INSERT, UPDATE, DELETE ON follower, outcomes, quality_days, data_quality_days TO {role}"


NO_SEQUENCES = "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"


@pytest.mark.parametrize(
    "more", [[], [OUTCOMES_ONLY], [NO_SEQUENCES]], ids=["no more", "no alarms", "no numbers of alarms"]
)
def test_a_role_that_only_predicts_does_not_follow(empty_postgresql_url, more):
    upgrade(empty_postgresql_url)
    with role_in(empty_postgresql_url, *LEAST_RIGHTS, *more) as url, capture_logs() as logs:
        engine = create_engine(url)
        follower = Follower(engine, Settings(database_url=url))
        follower.look()
        follower.look()
        follower.close()
        engine.dispose()

    assert [one["event"].partition(":")[0] for one in logs] == [
        "this server does not follow what happens after its answers"
    ]


@pytest.mark.parametrize(("waits", "busy"), [(0, False), (0, True), (9, False), (9, True)])
def test_requests_go_first_when_the_process_is_busy(sqlite_engine, monkeypatch, waits, busy):
    log_answers(sqlite_engine, *(row_of(number) for number in range(1, 2_000)))
    follower = Follower(sqlite_engine, Settings(database_url="sqlite:///none", timezone="UTC"))
    clocks = {"monotonic": 0.0, "waited": 0.0, "process": 0.0, "thread": 0.0}
    paused = []

    def times():
        # Each step takes 0.05 s of the follower's thread, and the other threads use the processor or not. On a crowded
        # machine, the thread waits for a processor most of the time.
        clocks["monotonic"] += 0.05 * (1 + waits)
        clocks["waited"] += 0.05 * waits
        clocks["thread"] += 0.05
        clocks["process"] += 0.05 + 0.04 * busy
        return tuple(clocks.values())

    monkeypatch.setattr("zap.server.follower._times", times)
    monkeypatch.setattr(follower._stopping, "wait", paused.append)
    follower.look()
    follower.close()

    assert len(statuses(sqlite_engine)) == 1_999
    assert {round(pause, 3) for pause in paused} == ({1.0} if busy else set())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how long a thread has waited")
def test_a_thread_knows_how_long_it_has_waited_for_a_processor():
    """Two busy processes share one processor: each waits for about half of the time."""
    code = """
import os, time
from zap.server.follower import _waited

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
other = os.fork()
end = time.monotonic() + 1
while time.monotonic() < end:
    pass
if other:
    os.waitpid(other, 0)
    print(_waited())
"""
    waited = float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120).stdout)

    assert waited > 0.25


def test_its_thread_has_a_low_priority(engine):
    found = []

    def look():
        follower = Follower(engine, Settings(database_url="sqlite:///none"))
        follower.look()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        follower.close()

    before = os.getpriority(os.PRIO_PROCESS, 0)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()

    assert found == [NICENESS]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
