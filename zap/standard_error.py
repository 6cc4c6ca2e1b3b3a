"""Lines on standard error for the person or the program that reads it: plain text, or events of the log."""

import sys
from contextlib import suppress
from typing import Any, Literal

Level = Literal["info", "warning", "error"]


class _Form:
    as_events = False


def tell_events(*, on: bool) -> None:
    """Let `tell` write events of the log, so that every line on standard error is JSON."""
    _Form.as_events = on


def tells_events() -> bool:
    """Return whether `tell` writes events of the log."""
    return _Form.as_events


def tell(line: str, level: Level = "info", **values: Any) -> None:
    """Write one line to standard error.

    A standard error that cannot be written never ends the work, so its errors are ignored.

    Args:
        line: the text.
        level: the level of the event.
        values: further values of the event; a plain line leaves them out.
    """
    if _Form.as_events:
        import structlog  # noqa: PLC0415 - a plain line does not need it

        getattr(structlog.get_logger("zap"), level)(line, **values)
    elif sys.stderr is not None:
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
