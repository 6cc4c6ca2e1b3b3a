"""Reads and writes of files that other programs may touch at any time."""

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path


def digest_of(path: Path) -> str | None:
    """Return the SHA-256 of a file; None if it does not exist.

    Raises:
        OSError: the path is not a file, or the file cannot be read.
    """
    try:
        with opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """Open a file to read it. A path that is not a file is refused at once, because opening a pipe would wait."""
    without_waiting = getattr(os, "O_NONBLOCK", 0)
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | without_waiting)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "this is not a file; move it away", str(path))
        yield file


def state_of(path: Path) -> tuple[int, ...] | None:
    """Return numbers that change when a file changes; None if it does not exist."""
    try:
        found = path.stat()
    except OSError:
        return None
    # A program can set mtime, but not ctime.
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file in one step, so that readers see the old content or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp lets only the server's user read the file. This is kept, because the model holds drivers' habits.
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
