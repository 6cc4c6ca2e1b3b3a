"""A client that reads its answers slowly: wait for it, and disconnect it if it reads nothing."""

import asyncio
import time
from collections.abc import Callable

import structlog

from zap.controllers.line_groups import ClientGoneError
from zap.controllers.unread_answers import UnreadAnswers

log = structlog.get_logger(__name__)

# How long (seconds) a client may read none of its answers before it is disconnected.
_UNREAD_SECONDS = 60.0
# The pause (seconds) between two looks at how much the client has read.
_LOOK_SECONDS = 1.0


async def let_read(
    answers: UnreadAnswers,
    sending: asyncio.Task[None],
    stopping: asyncio.Event,
    until: Callable[[], bool] | None = None,
) -> None:
    """Wait until the client has read all answers. With `until`, wait until it is true or the server stops.

    Args:
        answers: the answers to the client.
        sending: the task that sends them.
        stopping: is set when the server stops.
        until: says that the client has read enough.

    Raises:
        ClientGoneError: the client reads nothing for _UNREAD_SECONDS.
    """
    sent, since = answers.sent, time.monotonic()
    while not sending.done():
        changed = asyncio.ensure_future(answers.read_all.wait()) if until else None
        waiting = {sending, changed} if changed else {sending}
        patience = min(_LOOK_SECONDS, _UNREAD_SECONDS)
        await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if changed:
            changed.cancel()
        if until and (until() or stopping.is_set()):
            return
        if answers.sent > sent:
            sent, since = answers.sent, time.monotonic()
        elif time.monotonic() - since >= _UNREAD_SECONDS:
            log.warning("disconnected a client that does not read its answers", seconds=_UNREAD_SECONDS)
            raise ClientGoneError
    await sending
