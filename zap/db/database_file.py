"""DatabaseFile: the SQLite file that a process has opened, and whether its path still leads to that file."""

import contextlib
import os
import sqlite3
import sys
import threading
from pathlib import Path

import structlog

from zap.db.database_content import DatabaseContent
from zap.errors import DatabaseReplaced
from zap.sentences import phrase, say

log = structlog.get_logger(__name__)

# The endings of the files that SQLite keeps beside the database.
_WAL, _SHM = "-wal", "-shm"
_Identity = tuple[int, int] | None
_OVERWRITTEN = say(
    "other bytes were written into the database file while zap was running; zap reads and writes nothing more: "
    "stop zap, restore the file, then start zap"
)
_FILES = (
    phrase("the database file"),
    phrase("the -wal file of the database"),
    phrase("the -shm file of the database"),
)


class DatabaseFile:
    """Remember by device and inode the three files that this process has opened: the database, its -wal and its -shm.

    Without this check a process goes on writing into a file that was removed or replaced, and its rows are lost. As
    long as the connection that is kept here is open, SQLite itself removes none of the three files.

    Args:
        database: the path of the file, or an SQLite URI.
        serves: whether this process has no other engine on the file. Then changes of the file's content without SQLite
            are detected too.
    """

    def __init__(self, database: str, *, serves: bool = False) -> None:
        self._database = database
        self._serves = serves and sys.platform != "win32"
        self._content: DatabaseContent | None = None
        self._overwritten = False
        self._kept: sqlite3.Connection | None = None
        self._names: tuple[str, str, str] = ("", "", "")
        self._opened: tuple[_Identity, ...] = ()
        self._lock = threading.Lock()

    def open(self) -> None:
        """Remember the three files at the first call. It is called after a connection has entered WAL mode."""
        with self._lock:
            if self._kept is not None:
                return
            is_uri = self._database.startswith("file:")
            kept = sqlite3.connect(self._database, isolation_level=None, check_same_thread=False, timeout=0, uri=is_uri)
            # SQLite opens the other two files at the first read of a connection.
            kept.execute("SELECT count(*) FROM sqlite_master").close()
            # SQLite names the two files after it has followed symbolic links.
            (real,) = (row[2] for row in kept.execute("PRAGMA database_list") if row[1] == "main")
            named = real if is_uri else str(Path(self._database).absolute())
            self._names = (named, f"{real}{_WAL}", f"{real}{_SHM}")
            self._opened = self._found()
            if self._serves and None not in self._opened:
                self._content = DatabaseContent(kept, real, self._names[2])
            self._kept = kept

    def check(self) -> None:
        """Check that the paths lead to the files that were opened. This takes microseconds.

        Raises:
            DatabaseReplaced: a path leads to another file or to none. The message says which path and what to do.
        """
        if self._kept is None:
            return
        if self._overwritten:
            raise DatabaseReplaced(_OVERWRITTEN)
        found = self._found()
        if found != self._opened:
            raise DatabaseReplaced(self._said(found))

    def secure(self) -> None:
        """Copy the opened WAL into the opened file, even if both were moved or removed, and empty the WAL.

        The last commits are then in the file that they belong to. A WAL that was left beside another file must be
        empty, because SQLite would read it as a part of that file.
        """
        with self._lock, contextlib.suppress(sqlite3.Error, OSError):
            if self._overwritten:
                # The WAL belongs to the overwritten content: SQLite would mix its pages with the new content.
                if _identity(self._names[1]) == self._opened[1]:
                    os.truncate(self._names[1], 0)
            elif self._kept is not None:
                self._kept.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()

    def checkpoint(self, most_bytes: int) -> int:
        """Empty the WAL if it has more than `most_bytes` and no connection reads from it. Return its size in bytes.

        Raises:
            DatabaseReplaced: the files are not the ones that were opened.
        """
        self.check()
        with self._lock:
            if self._kept is None:
                return 0
            with contextlib.suppress(sqlite3.Error):
                if _size(self._names[1]) > most_bytes:
                    # PASSIVE does not wait for readers or writers, and copies as many pages as it can without them.
                    _, pages, done = self._kept.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                    if done == pages:
                        self._kept.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
            return _size(self._names[1])

    @property
    def wal_bytes(self) -> int:
        """Return the size of the WAL; 0 without one."""
        return _size(self._names[1])

    def close(self) -> None:
        """Close the connection that is kept. The next `open` remembers the files again."""
        with self._lock:
            kept, self._kept = self._kept, None
            if kept is not None:
                kept.close()
            content, self._content = self._content, None
            if content is not None:
                content.close()

    def _found(self) -> tuple[_Identity, ...]:
        try:
            database = os.stat(self._names[0])  # noqa: PTH116 - pathlib costs more than the call
        except OSError:
            found: _Identity = None
        else:
            found = database.st_dev, database.st_ino
            if self._content is not None and found == self._opened[0] and self._content.is_strange():
                self._overwritten = True
                raise DatabaseReplaced(_OVERWRITTEN)
        return found, _identity(self._names[1]), _identity(self._names[2])

    def _said(self, found: tuple[_Identity, ...]) -> str:
        which = next(place for place, one in enumerate(found) if one != self._opened[place])
        what = say("removed or moved") if found[which] is None else say("replaced by another file")
        return say(
            "{name} was {what} while zap was running; zap reads and writes nothing until the file is back: "
            "put it back, or restart zap to use the files that exist now",
            name=_FILES[which],
            what=what,
        )


def _identity(name: str) -> _Identity:
    try:
        found = os.stat(name)  # noqa: PTH116 - pathlib costs more than the call
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _size(name: str) -> int:
    try:
        return os.stat(name).st_size  # noqa: PTH116 - pathlib costs more than the call
    except OSError:
        return 0
