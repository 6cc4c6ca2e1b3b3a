"""Lines on standard error for the person or the program that reads it: plain text, or events of the log."""

import os
import sys
import textwrap
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
    """Write one line to standard error. On a terminal, a long line is wrapped between words.

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
            sys.stderr.write(f"{_folded(line, _width())}\n")
            sys.stderr.flush()


def _width() -> int:
    """Return the width of the terminal; 0 if standard error is no terminal, or a terminal of unknown width."""
    with suppress(OSError, ValueError):
        return os.get_terminal_size(sys.stderr.fileno()).columns if sys.stderr.isatty() else 0
    return 0


def _folded(text: str, width: int) -> str:
    """Return a text whose lines end between words at the width of the terminal; unchanged with the width 0.

    A word that is wider than the terminal, such as a path, stays whole, so that it can be copied.
    """
    if width <= 0:
        return text
    folded = []
    for line in text.splitlines():
        # The further lines of an item of a list are indented more than its first line.
        begin = line[: len(line) - len(line.lstrip())]
        folded += textwrap.wrap(
            line,
            width,
            subsequent_indent=f"{begin}  " if begin else "",
            break_long_words=False,
            break_on_hyphens=False,
            expand_tabs=False,
            replace_whitespace=False,
        ) or [""]
    return "\n".join(folded)
