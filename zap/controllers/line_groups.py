"""The lines of a body in groups, as they arrive; each group is committed together."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

from litestar.types import Receive

from zap.errors import LogUnavailable, TooSlow
from zap.formats.request_rows import GROUP_BYTES, GROUP_LINES, Lines, Refusal

# How long (seconds) a line waits for more lines to be committed together with it.
_WAITING_SECONDS = 1.0
# The number of a line, and its text or why it is refused.
Line = tuple[int, bytes | Refusal]


class ClientGoneError(Exception):
    """The client has disconnected, or does not read."""


async def line_groups(
    receive: Receive, sending: asyncio.Task[None], stopping: asyncio.Event, silence: float
) -> AsyncGenerator[list[Line], None]:
    """Yield the lines of a body in groups; each group is committed together.

    Args:
        receive: gives the pieces of the body.
        sending: sends the answers until the client is gone.
        stopping: is set when the server stops.
        silence: how long (seconds) the client may send nothing.

    Raises:
        ClientGoneError: the client has disconnected.
        LogUnavailable: the server is stopping.
        TooSlow: the client sends nothing for `silence` seconds.
    """
    lines = Lines()
    group: list[Line] = []
    size = 0
    since = 0.0

    def patience() -> float:
        return max(0.0, since + _WAITING_SECONDS - time.monotonic()) if group else _WAITING_SECONDS

    async with contextlib.aclosing(_pieces(receive, sending, stopping, patience, silence)) as pieces:
        async for piece in pieces:
            for number, line in lines.feed(piece) if piece is not None else ():
                since = since if group else time.monotonic()
                group.append((number, line))
                size += len(line) if isinstance(line, bytes) else 0
                if len(group) == GROUP_LINES or size >= GROUP_BYTES:
                    yield group
                    group, size = [], 0
            if group and time.monotonic() - since >= _WAITING_SECONDS:
                yield group
                group, size = [], 0
    group += lines.end()
    if group:
        yield group


async def _pieces(
    receive: Receive,
    sending: asyncio.Task[None],
    stopping: asyncio.Event,
    patience: Callable[[], float],
    silence: float,
) -> AsyncGenerator[bytes | None, None]:
    """Yield the pieces of a body as they arrive, and None whenever none arrives within `patience()` seconds."""
    reading = asyncio.ensure_future(receive())
    heard = time.monotonic()
    try:
        while True:
            await asyncio.wait({reading, sending}, timeout=patience(), return_when=asyncio.FIRST_COMPLETED)
            if stopping.is_set():
                raise LogUnavailable("the server is stopping; send the lines without an answer again")
            if sending.done():
                sending.result()
                raise ClientGoneError
            if not reading.done():
                if time.monotonic() - heard >= silence:
                    raise TooSlow(f"no data arrived for {silence:g} seconds; send the other lines in a new request")
                yield None
                continue
            message: Any = reading.result()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            yield message.get("body", b"")
            if not message.get("more_body", False):
                return
            reading = asyncio.ensure_future(receive())
            heard = time.monotonic()
    finally:
        reading.cancel()
