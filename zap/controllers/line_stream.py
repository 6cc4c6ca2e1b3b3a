"""NDJSON in both directions at once: lines are read and answered in groups while the client still sends."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.types import ASGIApp, Receive, Scope, Send

from zap.controllers.line_groups import ClientGoneError, Line, line_groups
from zap.controllers.problems import problem_of
from zap.controllers.slow_client import let_read
from zap.controllers.unread_answers import UnreadAnswers

NDJSON = "application/x-ndjson"
# How long (seconds) a client may send nothing.
_SILENT_SECONDS = 300.0
# A function that returns the answers to a group of lines, in NDJSON, after they are committed.
AnswerLines = Callable[[Sequence[Line]], Awaitable[bytes]]


class LineStream(Response[Any]):
    """Reply with one line for each line of the request, while the request is still being received.

    Args:
        request: the request whose body is read.
        answer: returns the answers to a group of lines.
        stopping: is set when the server stops.
        silence: how long (seconds) the client may send nothing.
    """

    def __init__(
        self,
        request: Request[Any, Any, Any],
        answer: AnswerLines,
        stopping: asyncio.Event,
        silence: float = _SILENT_SECONDS,
    ) -> None:
        super().__init__(content=b"", media_type=NDJSON)
        self._conversation = _Conversation(request, answer, stopping, silence)

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override]
        return self._conversation


class _Conversation:
    """Answer one request while it is received.

    A client that sends everything before it reads is answered too: lines are read on until `UnreadAnswers.many`.
    Nothing is read while a group is answered, so at most one group and one line are in memory.
    """

    def __init__(
        self, request: Request[Any, Any, Any], answer: AnswerLines, stopping: asyncio.Event, silence: float
    ) -> None:
        self._request = request
        self._answer = answer
        self._stopping = stopping
        self._silence = silence

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        with UnreadAnswers() as answers:
            sending = asyncio.create_task(answers.send_all(send, NDJSON))
            try:
                line = 1
                try:
                    async with contextlib.aclosing(
                        line_groups(receive, sending, self._stopping, self._silence)
                    ) as groups:
                        async for group in groups:
                            line = group[0][0]
                            answers.write(await self._answer(group))
                            line = group[-1][0] + 1
                            if answers.many:
                                await let_read(answers, sending, self._stopping, until=lambda: not answers.many)
                except ClientGoneError:
                    return
                except Exception as error:
                    if not answers.any:
                        # The reply has not begun, so the error can be answered with its own status.
                        raise
                    answers.write(self._problem(error, line))
                answers.close()
                with contextlib.suppress(ClientGoneError):
                    await let_read(answers, sending, self._stopping)
            finally:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sending

    def _problem(self, error: Exception, line: int) -> bytes:
        """Return the last line of a stream that cannot go on. `line` is the first line that is not answered."""
        return msgspec.json.encode(problem_of(self._request, error) | {"line": line}) + b"\n"
