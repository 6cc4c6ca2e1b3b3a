"""A zap server with a follower or a trial beside its requests, from the same state in each round."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import following

from harness.fixture import Fixture
from harness.load import RefusedRound, on_cores
from harness.programs import program
from harness.server import Program, Server

_PATIENCE_SECONDS = 60
# More answers than a follower works off in a round.
BACKLOG = 100_000
TITLES = {
    "alone": "zap, FULL, no follower",
    "follow": "zap, FULL, `zap follow` works off a backlog",
    "server-follows": "zap, FULL, the server works off a backlog",
    "trial": "zap, FULL, a trial runs",
}


@dataclass
class Done:
    """How many answers were followed, and how many a challenger gave, while requests came."""

    followed: int
    tried: int


def with_backlog(fixture: Fixture) -> Fixture:
    """Return the fixture with a backlog of answers, and with a candidate for a trial."""
    folder = fixture.folder / "backlog"
    folder.mkdir()
    shutil.copy(fixture.folder / "zap.sqlite", folder / "zap.sqlite")
    shutil.copytree(fixture.folder / "models", folder / "models")
    following.make_backlog(f"sqlite:///{folder / 'zap.sqlite'}", BACKLOG)
    with contextlib.closing(sqlite3.connect(folder / "zap.sqlite")) as database:
        columns = [name for _, name, *_ in database.execute("PRAGMA table_info(model_versions)")]
        copied = ", ".join(name for name in columns if name not in {"model_version", "status"})
        database.execute(
            f"INSERT INTO model_versions (status, {copied}) SELECT 'candidate', {copied} FROM model_versions"
        )
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return replace(fixture, folder=folder)


@contextlib.contextmanager
def beside(name: str, fixture: Fixture, cores: Sequence[int], everything: Sequence[int]) -> Iterator[Server]:
    """Yield a server that has just started, with one of TITLES beside it. A follower of its own may use all cores."""
    shutil.rmtree(fixture.folder / f"zap-{name}", ignore_errors=True)
    asked = _program(name, fixture)
    with Server(asked, cores, fixture.folder) as server:
        if name == "trial":
            _followed_all(asked)
            reply, text = server.ask("POST", "/models/2/trial", "{}")
            if reply.status != 200:
                raise RefusedRound(f"/models/2/trial answers {reply.status} {text[:300]!r}")
        with _follower(asked, everything) if name == "follow" else contextlib.nullcontext():
            if name == "follow":
                _wait_for_the_follower(name, fixture)
            yield server


def _wait_for_the_follower(name: str, fixture: Fixture) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while not done(name, fixture).followed:
        if time.monotonic() > end:
            raise RefusedRound("`zap follow` has followed nothing")
        time.sleep(0.05)


def done(name: str, fixture: Fixture) -> Done:
    """Return what was done beside the requests so far."""
    with contextlib.closing(sqlite3.connect(fixture.folder / f"zap-{name}" / "zap.sqlite", timeout=30)) as database:
        (followed,) = database.execute("SELECT count(*) FROM outcomes").fetchone()
        (tried,) = database.execute("SELECT count(*) FROM trial_predictions").fetchone()
    return Done(followed, tried)


def _program(name: str, fixture: Fixture) -> Program:
    environment = fixture.zap_environment(
        f"zap-{name}", sqlite_synchronous="FULL", follow=json.dumps(name in {"server-follows", "trial"})
    )
    return replace(program("zap", fixture), name=f"zap-{name}", title=TITLES[name], environment=environment)


def _followed_all(asked: Program) -> None:
    """Let the follower begin after the backlog: a trial is only of new answers."""
    place = Path(asked.environment["ZAP_DATABASE_URL"].removeprefix("sqlite:///"))
    with contextlib.closing(sqlite3.connect(place, timeout=30)) as database:
        database.execute("UPDATE follower SET prediction_id = (SELECT max(prediction_id) FROM predictions)")
        database.commit()


@contextlib.contextmanager
def _follower(asked: Program, cores: Sequence[int]) -> Iterator[None]:
    process = subprocess.Popen(
        on_cores(cores, [sys.executable, "-m", "zap", "follow"]),
        env={**os.environ, **asked.environment},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
