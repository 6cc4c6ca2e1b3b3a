"""The events of a training run as server-sent events, for clients that follow the run."""

import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from litestar import Request
from litestar.datastructures import State
from litestar.response import ServerSentEventMessage

from zap.errors import InvalidRequest
from zap.formats.values import LARGEST_ID
from zap.server.run_news import RunNews

# The name and the id of the last event of a run.
_END = "end"


def last_event(request: Request[Any, Any, State]) -> int | None:
    """Return the id of the last event that the client received, 0 for none; None after the event `end`."""
    sent = request.headers.get("Last-Event-ID", "0")
    if sent == _END:
        return None
    if not (sent.isascii() and sent.isdigit() and int(sent[:19]) <= LARGEST_ID and len(sent) <= 19):
        raise InvalidRequest(
            [{"pointer": "#", "detail": f"the header Last-Event-ID must be the number of an event, or {_END}"}]
        )
    return int(sent)


async def run_events(
    news: RunNews, run_id: int, last: int, goes_on: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[ServerSentEventMessage, None]:
    """Yield the events of a run after the event `last`, and at last the event `end`.

    Args:
        news: the news of all runs.
        run_id: the run.
        last: the number of an event, 0 for all events.
        goes_on: whether the client may still read the events.
    """
    async with contextlib.aclosing(news.follow(run_id, last)) as following:
        async for new in following:
            if not await goes_on():
                return
            for event_id, data in new.events:
                yield ServerSentEventMessage(event="progress", id=str(event_id), data=json.dumps(data))
            if new.end:
                yield ServerSentEventMessage(event=_END, id=_END, data=json.dumps(new.end))
            elif not new.events:
                # Without data, because a client reads a line `data:` as an event.
                yield ServerSentEventMessage(data=None, comment="still running")
