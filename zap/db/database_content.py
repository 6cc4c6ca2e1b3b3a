"""DatabaseContent: whether a SQLite file was changed without SQLite, as by a restore with `cp`."""

import os
import sqlite3
import struct
import threading
from typing import NamedTuple

# The header of the -shm file: https://www.sqlite.org/walformat.html, "The WAL-Index Header" and "WAL Checkpoint Info".
_SHM_BYTES = 136
_SALT, _BACKFILL, _ATTEMPTED = slice(32, 40), slice(96, 100), slice(128, 132)


class _Checkpoint(NamedTuple):
    """The state of checkpoints in the -shm file.

    Attributes:
        salt: identifies the present WAL.
        done: how many pages of the WAL have been copied into the file.
        attempted: how many pages a checkpoint has begun to copy.
    """

    salt: bytes
    done: int
    attempted: int


class DatabaseContent:
    """Detect changes of the database file that no checkpoint made. In WAL mode only checkpoints change the file.

    Before a checkpoint writes, it stores in the -shm file how far it will go, and afterwards how far it came. The two
    files that are read here stay open as long as the process uses the database, because closing them would free
    SQLite's locks on them.

    Args:
        connection: on the database; it must have read already.
        database: the path of the file, without symbolic links.
        shm: the path of the -shm file.
    """

    def __init__(self, connection: sqlite3.Connection, database: str, shm: str) -> None:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        # The page of sqlite_sequence holds the last ids of the log, which differ in an older backup.
        numbers = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchall()
        self._pages = [(size, 0), *((size, (root - 1) * size) for (root,) in numbers)]
        self._file = os.open(database, os.O_RDONLY | os.O_CLOEXEC)
        self._shm = os.open(shm, os.O_RDONLY | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._changed = (0, 0)
        self._known: tuple[_Checkpoint, list[bytes]] | None = None
        self.is_strange()

    def is_strange(self) -> bool:
        """Return whether the file has changed since the last call without a checkpoint."""
        with self._lock:
            return self._has_changed()

    def close(self) -> None:
        """Close the two files. Call this only after all connections of this process are closed."""
        os.close(self._file)
        os.close(self._shm)

    def _has_changed(self) -> bool:
        # The checkpoint is read first: if one starts in between, the file counts as unchanged, never as strange.
        before = self._checkpoint()
        found = os.fstat(self._file)
        changed = found.st_mtime_ns, found.st_size
        if self._known is not None and changed == self._changed:
            self._known = before, self._known[1]
            return False
        pages = [os.pread(self._file, *page) for page in self._pages]
        if before != self._checkpoint():
            # A checkpoint is running: the next call decides.
            return False
        known, self._known, self._changed = self._known, (before, pages), changed
        if known is None or known[0] != before or before.done != before.attempted:
            return False
        # The time of the file may have been set without a change of its pages.
        return known[1] != pages

    def _checkpoint(self) -> _Checkpoint:
        header = os.pread(self._shm, _SHM_BYTES, 0)
        (done,), (attempted,) = (struct.unpack("=I", header[part]) for part in (_BACKFILL, _ATTEMPTED))
        return _Checkpoint(header[_SALT], done, attempted)
