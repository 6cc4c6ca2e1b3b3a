"""The lease of a run: its process says that it is alive and how far it has come, and learns when it is to stop."""

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
from zap.db.training_runs import PROCESS_LOCK, add_events, beat, fail_run
from zap.errors import TrainingFailed, TrainingRunning, ZapError

log = structlog.get_logger(__name__)

# How often a run is heard of; within two of these it learns that it was cancelled.
BEAT_SECONDS = 0.5
# A process that was told to stop frees its lock within this.
_LOCK_SECONDS = 5


@contextmanager
def run_lease(engine: Engine, run_id: int, on_end: Callable[[ZapError], object] = lambda _: None) -> Iterator["Lease"]:
    """The lease of a run that was claimed. Left by an error, the run has failed with it, and nothing of it stays.

    Raises:
        TrainingRunning: on SQLite another process of a run has not ended yet.
    """
    with Lease(engine, run_id, on_end) as lease:
        try:
            yield lease
        except BaseException as error:
            lease.stop_beating()
            ended_by = (
                error if isinstance(error, ZapError) else TrainingFailed(f"it was ended by {type(error).__name__}")
            )
            fail_run(engine, run_id, ended_by)
            raise


class Lease:
    """Held by the one process of a run, from its claim to its end.

    Args:
        engine: the database.
        run_id: a run that was claimed.
        on_end: called on a thread of the lease when the run was ended by somebody else, with the reason.
    """

    def __init__(self, engine: Engine, run_id: int, on_end: Callable[[ZapError], object] = lambda _: None) -> None:
        self.run_id = run_id
        self._engine = engine
        self._on_end = on_end
        self._process_lock = process_lock(engine, PROCESS_LOCK, timeout=_LOCK_SECONDS)
        self._lock = threading.Lock()
        # What was told and is not in the database yet; of one phase the last that was told stands for the rest.
        self._events: list[dict[str, Any]] = []
        self._ended: ZapError | None = None
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        """Begin.

        Raises:
            TrainingRunning: on SQLite another process of a run has not ended yet.
        """
        if self._process_lock is not None:
            try:
                self._process_lock.acquire()
            except Timeout:
                refused = TrainingRunning("the process of another training has not ended; try again in a moment")
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
        """Note how far the run has come.

        Raises:
            ZapError: the run was ended by somebody else.
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
        """In a transaction of the run: it is still running, and will be until the transaction ends.

        Raises:
            ZapError: it was ended by somebody else.
        """
        beat(connection, self.run_id)

    @contextmanager
    def last_transaction(self) -> Iterator[Connection]:
        """The transaction in which the run ends: what was told is written, and nothing is heard of it any more.

        Raises:
            ZapError: it was ended by somebody else.
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
        """Nothing is heard of the run any more, because it ends."""
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
