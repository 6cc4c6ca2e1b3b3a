"""The deadline of a request: a client gets a reply in time even if the work behind the route hangs."""

import asyncio
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from zap.errors import DatabaseUnavailable
from zap.sentences import say
from zap.threads import PATIENCE_SECONDS

# A little longer than the database's own limits: after their errors it is certain that nothing was changed, and after
# this deadline it is not.
_DEADLINE_SECONDS = PATIENCE_SECONDS + 0.5


def in_time(app: ASGIApp) -> ASGIApp:
    """Return the app wrapped so that a request whose reply has not begun in time is answered 503.

    The time starts when the whole body has been received, as the speed of the client does not count.

    Raises:
        DatabaseUnavailable: the reply did not begin in time; it is not known whether a change was made.
    """

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        handler: Any = scope.get("route_handler")
        if scope["type"] != ScopeType.HTTP or handler is None or handler.opt.get("takes_its_time"):
            await app(scope, receive, send)
            return
        begun = False

        async def received() -> Any:
            message = await receive()
            ended = message["type"] == "http.request" and not message.get("more_body")
            if ended and not begun and not deadline.expired():
                deadline.reschedule(asyncio.get_running_loop().time() + _DEADLINE_SECONDS)
            return message

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            # The time that the client takes to read does not count. A reply may begin just as the deadline expires.
            if not deadline.expired():
                deadline.reschedule(None)
            await send(message)

        try:
            # Only POST has a body to wait for.
            async with asyncio.timeout(None if scope["method"] == "POST" else _DEADLINE_SECONDS) as deadline:
                await app(scope, received, sent)
        except TimeoutError:
            if begun or not deadline.expired():
                raise
            reason = say(
                "the request took over {deadline_seconds:g} seconds; it is not known whether a change was made",
                deadline_seconds=_DEADLINE_SECONDS,
            )
            raise DatabaseUnavailable(reason) from None

    return answered
