"""A database that does not answer, without closing: every request is answered in time, and the process ends in time."""

import sqlite3
import threading
import time

import httpx
import pytest
from databases import connect, postgresql
from faults.asking import IN_TIME, ask
from servers import until
from sqlalchemy import make_url


def test_behind_a_proxy_that_stalls_everybody_is_answered_in_time_and_it_goes_on_afterwards(
    serve, stalling_postgresql, good_request
):
    settings, proxy = stalling_postgresql
    server = serve(settings).wait()
    assert ask(server.url, good_request, 1)[0][0] == 200

    proxy.stall()
    # Those behind the first group, and those that need the database for more than the log.
    first = ask(server.url, good_request, 20)
    second = ask(server.url, good_request | {"user_id": "sample-1-00003"}, 20)
    begun = time.monotonic()
    ready = httpx.get(f"{server.url}/health/ready", timeout=60)
    models = httpx.get(f"{server.url}/models", timeout=60)
    asked = time.monotonic() - begun
    begun = time.monotonic()
    alive = httpx.get(f"{server.url}/health/live")
    alive_seconds = time.monotonic() - begun
    proxy.resume()

    for status, body, seconds in first + second:
        assert (status, seconds < IN_TIME) == (503, True), (status, body, seconds)
    assert "not known to be committed" in first[0][1]["detail"]
    assert (ready.status_code, models.status_code, alive.status_code) == (503, 503, 200)
    assert asked < 2 * IN_TIME
    assert alive_seconds < 2.5
    until(lambda: ask(server.url, good_request, 1)[0][0] == 200)
    assert server.stop()[1] < 12


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_ends_a_server_whose_database_has_stalled(serve, stalling_postgresql, good_request, workers):
    settings, proxy = stalling_postgresql
    server = serve(settings, "--workers", workers).wait()
    assert ask(server.url, good_request, 1)[0][0] == 200
    proxy.stall()
    asking = threading.Thread(target=lambda: ask_in_vain(server.url, good_request))
    asking.start()
    time.sleep(1)

    _, seconds = server.stop(seconds=60)

    asking.join()
    assert seconds < 20


def ask_in_vain(url, request):
    try:
        ask(url, request, 20)
    except httpx.HTTPError:
        # It has ended.
        return


def test_whoever_comes_behind_the_first_while_sqlite_is_locked_is_answered_in_time(serve, trained_sqlite, good_request):
    server = serve(trained_sqlite).wait()
    other = sqlite3.connect(trained_sqlite.url.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    first, second = [], []
    waiting = threading.Thread(target=lambda: first.extend(ask(server.url, good_request, 10)))
    waiting.start()
    time.sleep(1)

    second.extend(ask(server.url, good_request, 10))

    waiting.join()
    other.execute("ROLLBACK")
    other.close()
    for status, _, seconds in first + second:
        assert (status, seconds < IN_TIME) == (503, True), seconds
    # It goes on at once, and none of those that were refused is written later.
    assert ask(server.url, good_request, 1)[0][0] == 200
    with sqlite3.connect(trained_sqlite.url.database) as database:
        found = database.execute("SELECT count(*) FROM predictions WHERE source = 'inference'").fetchone()
    database.close()
    assert found == (1,)


def test_connections_that_cannot_write_are_not_kept(serve, trained_postgresql, good_request):
    # This happens after a failover, or while an administrator allows no writes.
    url = make_url(trained_postgresql.database_url)
    server = serve(trained_postgresql).wait()
    assert ask(server.url, good_request, 20)[0][0] == 200
    read_only = f'ALTER DATABASE "{url.database}" SET default_transaction_read_only = on'
    with connect(postgresql(), autocommit=True) as admin:
        admin.execute(read_only)
        # Connections that are there keep what they had; the next ones may not write.
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [url.database])
        until(lambda: ask(server.url, good_request, 1)[0][0] == 503)
        until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 503)
        ask(server.url, good_request, 20)

        admin.execute(read_only.replace("= on", "= off"))

        until(lambda: ask(server.url, good_request, 1)[0][0] == 200, seconds=20)
        assert {status for status, _, _ in ask(server.url, good_request, 20)} == {200}
        until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 200, seconds=20)
