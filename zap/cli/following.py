"""The command `follow`, which keeps outcomes up to date in a process of its own."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from zap.cli.bars import shown_progress
from zap.cli.command import DATABASE, JSON, Command, engine_at_head, print_json, read_settings
from zap.errors import FollowerRunning
from zap.standard_error import tell

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from zap.flows.looking_back import LookingBack
    from zap.progress import Progress

# The pause between two looks.
_PAUSE_SECONDS = 1.0
# The pause after a look at a database that did not answer.
_RETRY_SECONDS = 5.0
# Predictions get the processor before the follower.
_NICENESS = 10
# While servers log answers, the follower pauses after each step for this many times as long as the step took, but at
# most for _LONGEST_PAUSE seconds. On SQLite, requests wait for its transactions whatever its priority is.
_PAUSES = 3
_LONGEST_PAUSE = 3.0
_OTHER = "another process follows"


@click.command(cls=Command)
@click.option("--once", is_flag=True, help="End when everything is followed. Default: go on until SIGTERM or Ctrl-C.")
@click.option("--from-start", is_flag=True, help="Remove all outcomes and sums first, and make them again.")
@DATABASE
@JSON
def follow(once: bool, from_start: bool, database_url: str | None, as_json: bool) -> None:
    """Find what happened after the answers: match them with later sessions.

    Servers do this by themselves, unless ZAP_FOLLOW is false. One process follows at a time, and the other processes
    wait.
    """
    settings = read_settings(database_url=database_url)
    with engine_at_head(settings, upgraded=False) as engine, _told() as told, shown_progress() as progress:
        from zap.flows.looking_back import LookingBack
        from zap.server.interpreter import collecting_seldom

        os.nice(_NICENESS)
        looking_back = LookingBack(engine, settings)
        following = looking_back.following
        if from_start:
            _begin_anew(engine)
        try:
            # Python would spend a fifth of the time on looking for cycles among the rows of a portion.
            with collecting_seldom():
                _follow(looking_back, Turns(engine, told), told, progress, once=once, from_start=from_start)
        finally:
            looking_back.close()
    if as_json:
        print_json({"rows": following.rows, "changed": following.changed})
    else:
        click.echo(f"read {following.rows:,} rows of the log; {following.changed:,} outcomes changed")


class Turns:
    """Let requests go first: pause after each step in which servers have logged answers.

    Args:
        engine: on the database.
        told: ends a pause.
    """

    def __init__(self, engine: "Engine", told: threading.Event) -> None:
        self._engine, self._told = engine, told
        self.begin()

    def begin(self) -> None:
        """Begin the first step of a look."""
        self._began_at, self._newest = time.monotonic(), self._newest_answer()

    def pause(self) -> None:
        """Pause after a step if there are newer answers than after the last step."""
        took, newest = time.monotonic() - self._began_at, self._newest_answer()
        if newest != self._newest:
            self._told.wait(min(_PAUSES * took, _LONGEST_PAUSE))
        self._began_at, self._newest = time.monotonic(), newest

    def _newest_answer(self) -> int | None:
        from sqlalchemy import func, select
        from sqlmodel import col

        from zap.db.tables import Prediction

        with self._engine.connect() as connection:
            newest: int | None = connection.scalar(select(func.max(col(Prediction.prediction_id))))
        return newest


def _follow(  # noqa: PLR0913 - the options of the command
    looking_back: "LookingBack",
    turns: Turns,
    told: threading.Event,
    progress: "Progress",
    *,
    once: bool,
    from_start: bool,
) -> None:
    """Look again and again until this process is told to stop.

    Raises:
        FollowerRunning: another process follows, and `once` is set.
        SQLAlchemyError: the database does not answer, and `once` is set.
    """
    # Imported here, because --help must be quick.
    from sqlalchemy.exc import SQLAlchemyError

    following, stands_by = looking_back.following, False

    def stop() -> bool:
        progress("following", following.rows, following.rows)
        turns.pause()
        return told.is_set()

    while not told.is_set():
        try:
            turns.begin()
            follows = looking_back.look(stop)
        except SQLAlchemyError as error:
            if once:
                raise
            # The database may answer again, as after a restart, and nobody else would go on.
            tell(f"the database does not answer ({type(error).__name__}); the next look tries again", "warning")
            told.wait(_RETRY_SECONDS)
            continue
        if once and not follows and not from_start:
            raise FollowerRunning("it does all that this command would do")
        if not follows and not stands_by:
            tell(f"{_OTHER}; " + ("it begins with the first answer" if once else "this process waits"))
        stands_by = not follows
        if once:
            return
        told.wait(_PAUSE_SECONDS)


def _begin_anew(engine: "Engine") -> None:
    """Let the process that follows begin with the first answer."""
    from zap.db.engine import write_transaction
    from zap.db.monitoring.follower_marks import begin_anew

    with write_transaction(engine) as connection:
        begin_anew(connection)


@contextmanager
def _told() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and Ctrl-C set. A signal that this process was started to ignore is still ignored."""
    told = threading.Event()
    heard = [sign for sign in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(sign) is not signal.SIG_IGN]
    before = {sign: signal.signal(sign, lambda *_: told.set()) for sign in heard}
    try:
        yield told
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
