"""A zap server with what others put around it: a scoped key with a limit, a reader of its metrics, and the follower."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

from harness.fixture import Fixture
from harness.load import RefusedRound
from harness.programs import program
from harness.server import Program, Server

# More than any server answers, so that the limit is checked and never reached.
_LIMIT = "100000"
_SCOPES = ("predict", "read")
_SCRAPE_SECONDS = 1.0


def keyed(fixture: Fixture) -> Program:
    """Return zap with one key in its database, which each request carries."""
    environment = fixture.zap_environment("zap-keyed", sqlite_synchronous="FULL", follow="true")
    scopes = [part for scope in _SCOPES for part in ("--scope", scope)]
    made = subprocess.run(
        [sys.executable, "-m", "zap", "keys", "create", "bench", *scopes, "--requests-per-second", _LIMIT, "--json"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if made.returncode:
        raise RefusedRound(f"no key could be made: {made.stderr.strip()[-300:]}")
    return replace(
        program("zap", fixture),
        name="zap-keyed",
        title="zap, FULL, a scoped key, metrics and the follower",
        environment=environment,
        headers={"X-API-Key": json.loads(made.stdout)["key"]},
    )


@contextlib.contextmanager
def scraped(server: Server) -> Iterator[None]:
    """Read the metrics of a server each second, as Prometheus does more seldom."""
    ended, refused = threading.Event(), []

    def read() -> None:
        while not ended.wait(_SCRAPE_SECONDS):
            reply, text = server.ask("GET", "/metrics")
            if reply.status != 200:
                refused.append(f"/metrics answers {reply.status} {text[:300]!r}")

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if refused:
        raise RefusedRound(refused[0])
