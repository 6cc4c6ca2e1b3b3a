"""One driver with tens of thousands of sessions: answered, and no reason for others to wait."""

import contextlib
import http.client
import json
import statistics
import threading
import time
from datetime import datetime, timedelta

import pytest
from conftest import GOOD_REQUEST
from faults.clients import server_on
from histories import add_sessions, session_row

from zap.db.engine import create_engine

pytestmark = pytest.mark.long

SESSIONS_OF_ONE = 60_000
BEGIN = datetime.fromisoformat("2010-01-01T00:00:00")
_SECONDS = 1.5
_ROUNDS = 3


@pytest.fixture(scope="module")
def server(_trained_sqlite, tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    with contextlib.closing(server_on(_trained_sqlite, folder)) as server:
        fill(f"sqlite:///{folder / 'zap.sqlite'}")
        yield server.wait()


def fill(url):
    """Give one driver all these sessions."""
    engine = create_engine(url)
    starts = [BEGIN + timedelta(hours=2 * number) for number in range(SESSIONS_OF_ONE)]
    add_sessions(
        engine,
        *[
            session_row(
                "all of them",
                ("Level 1", "Level 2")[number % 3 == 0],
                start,
                charging_end_time=start + timedelta(hours=1),
                energy_consumed_kwh=10.0 + number % 7,
            )
            for number, start in enumerate(starts)
        ],
    )
    engine.dispose()


class Client(threading.Thread):
    """Asks one thing after the other until it is told to end; what it was answered."""

    def __init__(self, port, bodies):
        super().__init__(daemon=True)
        self._port, self._bodies = port, bodies
        self.over, self.answers = threading.Event(), []

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        number = 0
        while not self.over.is_set():
            body = json.dumps(self._bodies[number % len(self._bodies)])
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            self.answers.append((reply.status, json.loads(reply.read())))
            number += 1
        connection.close()


def asked_for(seconds, *clients):
    for client in clients:
        client.start()
    time.sleep(seconds)
    for client in clients:
        client.over.set()
    for client in clients:
        client.join(60)


def of_the_long_driver():
    """Now, and at many moments before: each request another past."""
    named = GOOD_REQUEST | {"user_id": "all of them"}
    moments = [BEGIN + timedelta(hours=7 * number) for number in range(100, 16_000, 97)]
    return [named | {"charging_start_time": moment.isoformat()} for moment in moments] + [named]


def test_others_are_answered_as_quickly_beside_one_long_driver(server):
    """Compare the throughput of other clients alone and beside the driver; the driver's first read is included."""
    ratios, long = [], []
    for _ in range(_ROUNDS):
        alone = Client(server.port, [GOOD_REQUEST])
        asked_for(_SECONDS, alone)
        beside = Client(server.port, [GOOD_REQUEST])
        askers = [Client(server.port, of_the_long_driver()[number::4]) for number in range(4)]
        asked_for(_SECONDS, beside, *askers)
        ratios.append(len(beside.answers) / len(alone.answers))
        long += [status for one in askers for status, _ in one.answers]
    print("beside over alone:", [round(ratio, 2) for ratio in ratios], "answers to the long driver:", len(long))

    assert statistics.median(ratios) > 0.4
    assert 200 in long
    assert set(long) <= {200, 503}


def test_its_past_is_whole(server):
    client = Client(server.port, [GOOD_REQUEST | {"user_id": "all of them"}])
    asked_for(1, client)

    status, answer = client.answers[-1]
    assert (status, answer["history_sessions"]) == (200, SESSIONS_OF_ONE)
