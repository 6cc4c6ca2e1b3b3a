"""zap serve with several workers: none outlives the process that began it, and a dead one is back in a second."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from servers import listens

from zap.db.engine import create_engine
from zap.db.runs.training_runs import running_run

WORKERS = 2


def runs(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    # What has ended and waits for its parent to notice has ended.
    return state != "Z"


def until(condition, seconds):
    """The seconds until it is true; fails after so many."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() < start + seconds
        time.sleep(0.02)
    return time.monotonic() - start


@pytest.fixture
def workers(serve, trained_sqlite):
    """A server with two workers that both serve, and their numbers."""
    server = serve(trained_sqlite, "--workers", str(WORKERS), child_trainings=True).wait()
    until(lambda: server.log().count("Started server process") == WORKERS, 60)
    # Processes of Python's own, which end by themselves, do not count.
    found = [pid for pid in server.children() if "resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(found) == WORKERS
    return server, found


@pytest.mark.parametrize("busy", [False, True])
def test_workers_end_with_their_parent(workers, trained_sqlite, busy):
    server, pids = workers
    client = httpx.Client()
    assert client.get(f"{server.url}/health/live").status_code == 200
    if busy:
        long = {"hyper_parameters": {"n_estimators": 10_000, "num_leaves": 200}}
        reply = client.post(f"{server.url}/train-model", json=long, headers={"Prefer": "respond-async"})
        assert reply.status_code == 202
        pids += [child for pid in pids for child in server.children(pid)]
        assert len(pids) == WORKERS + 1

    server.process.kill()
    server.process.wait()

    until(lambda: not listens(server.port), 20)
    until(lambda: not any(runs(pid) for pid in pids), 30)
    client.close()
    engine = create_engine(trained_sqlite.database_url)
    assert running_run(engine) is None
    engine.dispose()


def test_a_worker_that_dies_is_back_in_a_second(workers):
    # A new worker is faster than a new import of zap, on a busy machine too. On an idle machine it takes 0.3 s.
    server, pids = workers
    took = []
    for n, pid in enumerate(pids, start=1):
        os.kill(pid, signal.SIGKILL)
        took.append(until(lambda n=n: server.log().count("Started server process") == WORKERS + n, 30))
        assert httpx.get(f"{server.url}/health/live").status_code == 200
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", "import zap.app"], check=True)
    loaded = time.monotonic() - start

    print(f"back after {took[0]:.2f} s and {took[1]:.2f} s; loading takes {loaded:.2f} s")
    assert min(took) < loaded
    assert "a worker died" in server.log()
    code, _ = server.stop()
    assert code == 0


def test_a_worker_that_stands_still_is_replaced(workers):
    server, pids = workers
    os.kill(pids[0], signal.SIGSTOP)

    until(lambda: not runs(pids[0]), 60)

    until(lambda: server.log().count("Started server process") == WORKERS + 1, 30)
    assert server.stop()[0] == 0


def test_a_worker_that_cannot_start_again_is_tried_again_while_the_others_serve(workers, trained_sqlite):
    # A worker dies while its database is away: another machine of PostgreSQL that restarts, for example.
    server, pids = workers
    until(lambda: server.log().count("Application startup complete") == WORKERS, 60)
    file = Path(trained_sqlite.url.database)
    away = file.rename(file.with_suffix(".away"))
    os.kill(pids[0], signal.SIGKILL)
    until(lambda: '"exit_code": 3' in server.log(), 60)

    away.rename(file)

    until(lambda: server.log().count("Application startup complete") == WORKERS + 1, 60)
    until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 200, 30)
    assert server.stop()[0] == 0


def test_workers_that_cannot_start_end_the_server(serve, trained_sqlite):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = serve(trained_sqlite, "--workers", "2", "--port", str(taken.getsockname()[1]))

        assert server.process.wait(60) == 3
