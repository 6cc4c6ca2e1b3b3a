"""Standard output of a command: checked before the work begins, and never a reason for a traceback."""

import errno
import io
import os
import stat
import sys
from typing import Any, NoReturn

from zap.errors import OutputFailed

# The exit code of a command whose reader has closed the pipe, as with `| head -1`: 128 and the number of SIGPIPE.
READER_LEFT = 141
# A file system with less room (bytes) than this cannot take the report of a command.
_LEAST_ROOM = 65_536


def prepare_output() -> None:
    """Let `sys.stdout` escape characters that its encoding lacks, and raise OutputFailed if it cannot be written."""
    out = sys.stdout
    if not isinstance(out, io.TextIOWrapper):
        return
    # With PYTHONUNBUFFERED there is no buffer in between.
    if sys.platform == "win32" or not isinstance(getattr(out.buffer, "raw", out.buffer), io.FileIO):
        out.reconfigure(errors="backslashreplace")
        return
    out.flush()
    # The file stays open until the process ends, because other parts may hold the earlier `sys.stdout`.
    raw = _Checked(out.fileno(), "wb", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw),
        out.encoding,
        errors="backslashreplace",
        line_buffering=out.line_buffering or out.write_through,
    )


def check_output() -> None:
    """Raise an error if standard output surely cannot take the report of a command, before the command changes data.

    Raises:
        OutputFailed: standard output is closed, nobody reads it, or there is no room for it.
    """
    if sys.stdout is None:
        raise OutputFailed("standard output is closed; open it, or send it to /dev/null")
    try:
        number = sys.stdout.fileno()
        mode = os.fstat(number).st_mode
        if stat.S_ISREG(mode) and sys.platform != "win32":
            room = os.fstatvfs(number)
            if room.f_bavail * room.f_frsize < _LEAST_ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        elif stat.S_ISCHR(mode) and not os.isatty(number):
            # A device that is full, such as /dev/full, refuses any byte. A space changes no document.
            os.write(number, b" ")
        elif stat.S_ISFIFO(mode) and sys.platform != "win32":
            _check_reader(number)
    except io.UnsupportedOperation:
        # A standard output without a file, as in tests.
        return
    except OSError as error:
        raise failed(error) from None


def drop_output() -> None:
    """Send the rest of standard output nowhere, so that Python's end does not fail with it too."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (AttributeError, OSError, ValueError):
        sys.stdout = None


def failed(error: OSError) -> OutputFailed:
    """Return the error of a standard output that cannot be written."""
    found = OutputFailed(f"standard output: {error.strerror or error}")
    if error.errno == errno.EPIPE:
        found.exit_code = READER_LEFT  # type: ignore[misc]
    return found


def takes_unicode() -> bool:
    """Return whether standard output has an encoding for every character."""
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "").startswith("utf")


class _Checked(io.FileIO):
    """The bytes of standard output, whose errors are errors of zap."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise failed(error) from None


def _check_reader(number: int) -> None:
    import select

    poll = select.poll()
    poll.register(number, select.POLLOUT)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        _raise_left()


def _raise_left() -> NoReturn:
    raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
