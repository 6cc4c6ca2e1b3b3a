"""GET /training-runs/{run_id}/events with many followers: the database is asked once for all of them."""

import contextlib
import json
import threading
import time

import httpx
from servers import until
from sqlalchemy import event

from zap.db.engine import create_engine, process_lock, write_transaction
from zap.db.runs.dead_runs import PROCESS_LOCK
from zap.db.runs.run_events import add_events, events_after
from zap.db.runs.training_runs import claim_run, finish_run

FOLLOWERS = 40


@contextlib.contextmanager
def running(engine):
    """A run that lives for as long as a test needs it: whoever looks for dead runs finds its lock held."""
    with process_lock(engine, PROCESS_LOCK, timeout=60):
        yield claim_run(engine, "train", {})


def tell(engine, run, *numbers):
    with write_transaction(engine) as connection:
        add_events(connection, run, [{"phase": "fit", "done": number, "total": 100} for number in numbers])


def finish(engine, run):
    with write_transaction(engine) as connection:
        finish_run(connection, run, {"model_version": 7})


def told(text):
    """The numbers that a stream of events has told, and its last event."""
    blocks = text.replace("\r\n", "\n").strip().split("\n\n")
    events = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks if not block.startswith(":")]
    return [json.loads(one["data"])["done"] for one in events if one["event"] == "progress"], events[-1]["event"]


def test_many_followers_of_a_run_ask_the_database_as_often_as_one(sqlite_client):
    engine = sqlite_client.app.state.engine
    with running(engine) as run:
        tell(engine, run, 0, 1)
        first = events_after(engine, run, 0)[0][0]
        heard = [None] * FOLLOWERS

        def follow(place):
            # Every other one has had the first event.
            headers = {"Last-Event-ID": str(first * (place % 2))}
            heard[place] = told(sqlite_client.get(f"/training-runs/{run}/events", headers=headers).text)

        threads = [threading.Thread(target=follow, args=[place]) for place in range(FOLLOWERS)]
        asked = []
        event.listen(
            engine,
            "before_cursor_execute",
            lambda *arguments: asked.append(arguments[2]) if "events" in arguments[2] else 0,
        )
        for thread in threads:
            thread.start()
        until(lambda: len(asked) >= FOLLOWERS)
        time.sleep(1)
        before = len(asked)
        time.sleep(3)
        after = len(asked)
        tell(engine, run, 2, 3)
        time.sleep(1)
        tell(engine, run, 4)
        finish(engine, run)
        for thread in threads:
            thread.join(60)

        # Two looks a second for all of them, each of two questions. Forty followers that each ask: 480 questions.
        assert after - before <= 30
        assert heard == [([0, 1, 2, 3, 4], "end"), ([1, 2, 3, 4], "end")] * (FOLLOWERS // 2)
        # Nobody follows any more, so nobody asks.
        until(lambda: not sqlite_client.app.state.run_news._runs)
        before = len(asked)
        time.sleep(1.5)
        assert len(asked) == before


def test_a_follower_that_does_not_read_holds_nobody_and_one_that_is_far_behind_hears_all(monkeypatch, sqlite_client):
    monkeypatch.setattr("zap.server.followed_run._KEPT", 3)
    engine = sqlite_client.app.state.engine
    with running(engine) as run:
        heard = []
        first = threading.Thread(
            target=lambda: heard.append(told(sqlite_client.get(f"/training-runs/{run}/events").text))
        )
        first.start()
        until(lambda: sqlite_client.app.state.run_news._runs)
        tell(engine, run, *range(10))
        until(lambda: len(sqlite_client.app.state.run_news._runs[run]._events) == 3)
        second = threading.Thread(
            target=lambda: heard.append(told(sqlite_client.get(f"/training-runs/{run}/events").text))
        )
        second.start()
        until(lambda: sqlite_client.app.state.run_news._runs[run].followers == 2)
        tell(engine, run, 10)
        finish(engine, run)
        first.join(60)
        second.join(60)

        assert heard == [(list(range(11)), "end")] * 2


def test_followers_on_real_sockets_hear_all_beside_one_that_reads_nothing(serve, trained_sqlite):
    server = serve(trained_sqlite).wait()
    engine = create_engine(trained_sqlite.database_url)
    with running(engine) as run:
        url = f"{server.url}/training-runs/{run}/events"
        with httpx.stream("GET", url, timeout=60) as silent, httpx.stream("GET", url, timeout=60) as reading:
            assert silent.status_code == reading.status_code == 200
            tell(engine, run, *range(50))
            finish(engine, run)
            assert told(reading.read().decode()) == (list(range(50)), "end")
        engine.dispose()


def test_a_server_that_stops_ends_its_followers(serve, trained_sqlite):
    server = serve(trained_sqlite).wait()
    engine = create_engine(trained_sqlite.database_url)
    with running(engine) as run:
        with httpx.stream("GET", f"{server.url}/training-runs/{run}/events", timeout=60) as followed:
            time.sleep(1)
            _, seconds = server.stop()
            assert b"end" not in followed.read()
        assert seconds < 15
        engine.dispose()
