"""A machine that is cut off from the database while others roll back: it does not answer with the old version."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from faults.asking import ask
from keyed import make_key
from servers import until
from trialled import add_copies

from zap.db.api_keys import revoke_keys
from zap.db.engine import create_engine
from zap.db.versions.promotions import promote_version, roll_back
from zap.formats.promotion_reason import Reason

# Longer than two seconds, shorter than a request waits.
CUT_OFF_SECONDS = 3.5


@pytest.fixture
def elsewhere(trained_postgresql):
    """Yield an engine of another machine on the database, with a second version in production."""
    engine = create_engine(trained_postgresql.database_url)
    add_copies(engine)
    promote_version(engine, 2, Reason())
    yield engine
    engine.dispose()


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_what_waited_while_its_version_was_rolled_back_is_answered_by_the_version_that_serves(
    serve, stalling_postgresql, elsewhere, good_request, path
):
    # The commits have begun when the connection stalls, and end when it goes on: on time, but after the rollback.
    settings, proxy = stalling_postgresql
    server = serve(settings).wait()
    body = good_request if path == "/predict" else {"inputs": [good_request] * 3}
    assert ask(server.url, body, 1, path)[0][0] == 200
    replies = []

    def request():
        for status, reply, _ in ask(server.url, body, 5, path):
            replies.append((time.monotonic(), status, reply))

    # Between two looks at the version in production, so that the look before the cut has seen the old one.
    until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 200)
    proxy.stall()
    asking = threading.Thread(target=request)
    asking.start()
    time.sleep(0.2)
    roll_back(elsewhere, Reason())
    rolled_back = time.monotonic()
    time.sleep(CUT_OFF_SECONDS)
    proxy.resume()
    asking.join()

    assert min(at for at, _, _ in replies) > rolled_back + 2
    # Nobody is refused, because there is time enough for another answer.
    assert {status for _, status, _ in replies} == {200}
    answers = [one for _, _, reply in replies for one in reply.get("predictions", [reply])]
    assert {one["model_version"] for one in answers} == {1}


def test_a_key_that_was_revoked_while_its_request_waited_is_refused(
    serve, stalling_postgresql, elsewhere, good_request
):
    settings, proxy = stalling_postgresql
    keys = {name: make_key(elsewhere, "predict", name=name) for name in ("revoked", "right")}
    server = serve(settings).wait()

    def status(name):
        sent = {"X-API-Key": keys[name]}
        return httpx.post(f"{server.url}/predict", json=good_request, headers=sent, timeout=30).status_code

    assert [status(name) for name in keys] == [200, 200]
    proxy.stall()
    revoke_keys(elsewhere, "revoked")
    time.sleep(2)
    with ThreadPoolExecutor() as asking:
        waiting = [asking.submit(status, name) for name in (*keys, *keys)]
        time.sleep(1.5)
        assert not any(one.done() for one in waiting)
        proxy.resume()

        # The database has the last word, and nobody else is refused.
        assert [one.result() for one in waiting] == [401, 200, 401, 200]


def test_without_the_database_no_key_of_it_is_accepted(serve, stalling_postgresql, elsewhere):
    """Nobody knows whether the key was revoked. The metrics are in memory, and would be told all the same."""
    settings, proxy = stalling_postgresql
    key = make_key(elsewhere, "read")
    server = serve(settings).wait()
    proxy.stall()
    time.sleep(2)

    begun = time.monotonic()
    refused = httpx.get(f"{server.url}/metrics", headers={"X-API-Key": key}, timeout=30)

    assert refused.status_code == 503
    assert time.monotonic() - begun < 7
    proxy.resume()
    until(lambda: httpx.get(f"{server.url}/metrics", headers={"X-API-Key": key}, timeout=30).status_code == 200)
