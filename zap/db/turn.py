"""WriterTurn: a queue of the writers on SQLite, over all threads and processes of zap on one machine."""

import contextlib
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

# How long a writer waits for its turn. After that it writes without the turn, because the holder may be suspended.
_MOST_SECONDS = 0.5
# The first and the last pause between two attempts, and the factor from one pause to the next.
_FIRST_LOOK_SECONDS, _LAST_LOOK_SECONDS, _SLOWER_EACH_TIME = 0.0001, 0.0015, 1.2


def pauses() -> Iterator[float]:
    """Yield, without end, the seconds to sleep between attempts to get a lock.

    The pauses are short at first, and then long enough that attempts cost almost nothing. They are random, so that
    waiting writers do not try at the same moment.
    """
    pause = _FIRST_LOOK_SECONDS
    while True:
        yield pause * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        pause = min(pause * _SLOWER_EACH_TIME, _LAST_LOOK_SECONDS)


class WriterTurn:
    """Let one writer at a time wait for the lock of the database; other writers wait for this turn.

    SQLite has no queue for its lock. A writer with many transactions in a row would keep the lock from other writers.
    With turns it has to wait before each transaction while another writer has the turn.
    """

    def __init__(self, database: str) -> None:
        self._folder = Path(database).absolute().parent
        self._lock = threading.Lock()
        self._handle: int | None = None

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Hold the turn for a block. Go on without it if the wait is too long or the system has no such locks."""
        until = time.monotonic() + _MOST_SECONDS
        if not self._lock.acquire(timeout=_MOST_SECONDS):
            yield
            return
        try:
            handle = self._locked(until)
            try:
                yield
            finally:
                if handle is not None:
                    fcntl.flock(handle, fcntl.LOCK_UN)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the handle of the folder."""
        with self._lock:
            handle, self._handle = self._handle, None
            if handle is not None:
                os.close(handle)

    def _locked(self, until: float) -> int | None:
        """Lock the folder, and return its handle; None if it cannot be locked until `until` (monotonic clock)."""
        if sys.platform == "win32":
            return None
        # The folder is locked, not the file: closing a handle of the file would free SQLite's own locks on it.
        try:
            if self._handle is None:
                self._handle = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
            for pause in pauses():
                try:
                    fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() > until:
                        return None
                    time.sleep(pause)
                else:
                    return self._handle
        except OSError:
            # Some file systems do not support flock.
            return None
        return None
