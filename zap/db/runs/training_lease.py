"""The lease of a run: its process reports that it is alive and its progress, and learns that it was cancelled."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import structlog
from filelock import Timeout
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.db.engine import process_lock, write_transaction
from zap.db.runs.dead_runs import PROCESS_LOCK
from zap.db.runs.run_events import add_events
from zap.db.runs.training_runs import beat, fail_run
from zap.errors import TrainingCancelled, TrainingFailed, TrainingRunning, ZapError
from zap.sentences import say

log = structlog.get_logger(__name__)

# The pause between two heartbeats of a run. Within two pauses the run learns that it was cancelled.
BEAT_SECONDS = 0.5
# How long to wait for the lock of a process that was told to stop.
_LOCK_SECONDS = 5


@contextmanager
def run_lease(engine: Engine, run_id: int, on_end: Callable[[ZapError], object] = lambda _: None) -> Iterator["Lease"]:
    """Hold the lease of a claimed run. If the block raises an error, the run fails with it, and its rows are removed.

    Args:
        engine: on the database.
        run_id: the claimed run.
        on_end: called on another thread when another process has ended the run, with the error.

    Raises:
        TrainingRunning: on SQLite the process of another run has not ended yet.
    """
    with Lease(engine, run_id, on_end) as lease:
        try:
            yield lease
        except BaseException as error:
            lease.stop_beating()
            fail_run(engine, run_id, _reason(error))
            raise


def _reason(error: BaseException) -> ZapError:
    """Return the error that is stored in a run whose process ends with `error`."""
    if isinstance(error, ZapError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return TrainingCancelled.by_signal(signal.SIGINT)
    return TrainingFailed(say("the training was ended by {error}", error=type(error).__name__))


class Lease:
    """The right of one process to work on a run, from its claim to its end.

    Args:
        engine: on the database.
        run_id: the claimed run.
        on_end: called on a thread of the lease when another process has ended the run, with the error.
    """

    def __init__(self, engine: Engine, run_id: int, on_end: Callable[[ZapError], object] = lambda _: None) -> None:
        self.run_id = run_id
        self._engine = engine
        self._on_end = on_end
        self._process_lock = process_lock(engine, PROCESS_LOCK, timeout=_LOCK_SECONDS)
        self._lock = threading.Lock()
        # Progress that is not in the database yet; for each phase only the newest report after the first.
        self._events: list[dict[str, Any]] = []
        self._ended: ZapError | None = None
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        """Take the process lock and start the heartbeat.

        Raises:
            TrainingRunning: on SQLite the process of another run has not ended yet.
        """
        if self._process_lock is not None:
            try:
                self._process_lock.acquire()
            except Timeout:
                refused = TrainingRunning(
                    say("the process of another training has not ended yet; try again in a moment")
                )
                fail_run(self._engine, self.run_id, refused)
                raise refused from None
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_beating()
        if self._process_lock is not None:
            self._process_lock.release()

    def tell(self, what: str, done: int, total: int, log_loss: float | None = None) -> None:
        """Report progress, which the next heartbeat writes.

        Raises:
            ZapError: another process has ended the run.
        """
        if self._ended is not None:
            raise self._ended
        event: dict[str, Any] = {"phase": what, "done": done, "total": total}
        if log_loss is not None:
            event["log_loss"] = log_loss
        with self._lock:
            if self._events and self._events[-1]["phase"] == what and self._events[-1]["done"] > 0:
                self._events[-1] = event
            else:
                self._events.append(event)

    def check(self, connection: Connection) -> None:
        """Check in a transaction of the run that the run is running, and keep it so until the transaction ends.

        Raises:
            ZapError: another process has ended the run.
        """
        beat(connection, self.run_id)

    @contextmanager
    def last_transaction(self) -> Iterator[Connection]:
        """Stop the heartbeat, write the last progress, and yield the transaction in which the run ends.

        Raises:
            ZapError: another process has ended the run.
        """
        self.stop_beating()
        with write_transaction(self._engine) as connection:
            beat(connection, self.run_id)
            add_events(connection, self.run_id, self._events)
            yield connection

    def _write_events(self) -> None:
        with self._lock:
            events, self._events = self._events, []
        try:
            with write_transaction(self._engine) as connection:
                beat(connection, self.run_id)
                add_events(connection, self.run_id, events)
        except SQLAlchemyError:
            with self._lock:
                self._events = [*events, *self._events]
            raise

    def stop_beating(self) -> None:
        """Stop the heartbeat, because the run ends."""
        self._over.set()
        if self._heart.is_alive():
            self._heart.join()

    def _beat_on(self) -> None:
        while not self._over.is_set():
            try:
                self._write_events()
            except SQLAlchemyError as error:
                log.warning("the heartbeat of a training was not written", error=type(error).__name__)
            except ZapError as error:
                if self._over.is_set():
                    return
                self._ended = error
                self._on_end(error)
                return
            self._over.wait(BEAT_SECONDS)
