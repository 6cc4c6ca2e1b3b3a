"""A machine that is cut off from the database while others roll back: it does not answer with the old version."""

import threading
import time

import httpx
import pytest
from faults.asking import ask
from servers import until
from sqlalchemy import create_engine
from trialled import add_copies

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
