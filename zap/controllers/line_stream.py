"""NDJSON in both directions at once: lines are read and answered in groups, and answers are sent as they come."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Self

import msgspec
import structlog
from litestar import Request, Response
from litestar.types import ASGIApp, Receive, Scope, Send

from zap.controllers.problems import problem_of
from zap.errors import LogUnavailable
from zap.ml.batch import GROUP_BYTES, GROUP_LINES, Lines, Refusal

log = structlog.get_logger(__name__)

NDJSON = "application/x-ndjson"
# Lines do not wait longer than this (seconds) for others to be committed with.
_WAITING_SECONDS = 1.0
# Answers that a client has not read yet: beyond this they wait in an unnamed file, not in memory; and beyond this many
# no more lines are read until the client has read them all.
_IN_MEMORY = 2**20
_MOST_UNREAD = 64 * 2**20
# A client that has answers to read and reads nothing for so long (seconds) is let go.
_UNREAD_SECONDS = 60.0
_PIECE = 2**16

# A line that can be answered or not, with its number.
Line = tuple[int, bytes | Refusal]
# Answers a group of lines, in NDJSON, once all of it is in the database.
AnswerLines = Callable[[Sequence[Line]], Awaitable[bytes]]


class LineStream(Response[Any]):
    """A reply of one line for each line of the request, while that still comes."""

    def __init__(self, request: Request[Any, Any, Any], answer: AnswerLines, stopping: asyncio.Event) -> None:
        super().__init__(content=b"", media_type=NDJSON)
        self._conversation = _Conversation(request, answer, stopping)

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override]
        return self._conversation


class _Conversation:
    """One request that is answered while it comes.

    Reading does not wait for the client to read until very much is unread, so that one that sends all before it reads
    is answered too. The client's sending waits while a group is answered: no more than that group and one line are in
    memory.
    """

    def __init__(self, request: Request[Any, Any, Any], answer: AnswerLines, stopping: asyncio.Event) -> None:
        self._request = request
        self._answer = answer
        self._stopping = stopping

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        with _Answers() as answers:
            sending = asyncio.create_task(_send(answers, send))
            try:
                line = 1
                try:
                    async with contextlib.aclosing(_groups(receive, sending, self._stopping)) as groups:
                        async for group in groups:
                            line = group[0][0]
                            answers.write(await self._answer(group))
                            line = group[-1][0] + 1
                            if answers.many:
                                await self._let_read(answers, sending, until=lambda: not answers.many)
                except _ClientGoneError:
                    return
                except Exception as error:
                    if not answers.any:
                        # Nothing is sent yet: it becomes an ordinary reply.
                        raise
                    answers.write(self._problem(error, line))
                answers.close()
                with contextlib.suppress(_ClientGoneError):
                    await self._let_read(answers, sending)
            finally:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sending

    async def _let_read(
        self, answers: "_Answers", sending: asyncio.Task[None], until: Callable[[], bool] | None = None
    ) -> None:
        """Wait until the client has read all there is, or until something else or the server's end.

        Raises:
            _ClientGoneError: it reads nothing.
        """
        sent, since = answers.sent, time.monotonic()
        while not sending.done():
            changed = asyncio.ensure_future(answers.read_all.wait()) if until else None
            waiting = {sending, changed} if changed else {sending}
            patience = min(_WAITING_SECONDS, _UNREAD_SECONDS)
            await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if changed:
                changed.cancel()
            if until and (until() or self._stopping.is_set()):
                return
            if answers.sent > sent:
                sent, since = answers.sent, time.monotonic()
            elif time.monotonic() - since >= _UNREAD_SECONDS:
                log.warning("a client that does not read its answers is let go", seconds=_UNREAD_SECONDS)
                raise _ClientGoneError
        await sending

    def _problem(self, error: Exception, line: int) -> bytes:
        """The last line of a stream that could not go on: from this line on nothing is answered."""
        return msgspec.json.encode(problem_of(self._request, error) | {"line": line}) + b"\n"


class _ClientGoneError(Exception):
    """Nobody is there to answer to."""


async def _groups(
    receive: Receive, sending: asyncio.Task[None], stopping: asyncio.Event
) -> AsyncGenerator[list[Line], None]:
    """The lines of a body, so many together as are committed together.

    Raises:
        LogUnavailable: the server is told to stop.
    """
    lines = Lines()
    group: list[Line] = []
    size = 0
    since = 0.0

    def patience() -> float:
        return max(0.0, since + _WAITING_SECONDS - time.monotonic()) if group else _WAITING_SECONDS

    async with contextlib.aclosing(_pieces(receive, sending, stopping, patience)) as pieces:
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
    receive: Receive, sending: asyncio.Task[None], stopping: asyncio.Event, patience: Callable[[], float]
) -> AsyncGenerator[bytes | None, None]:
    """The body as it comes; None where it does not come within the patience (seconds)."""
    reading = asyncio.ensure_future(receive())
    try:
        while True:
            await asyncio.wait({reading, sending}, timeout=patience(), return_when=asyncio.FIRST_COMPLETED)
            if stopping.is_set():
                raise LogUnavailable("the server is stopping; send what is not answered again")
            if sending.done():
                sending.result()
                raise _ClientGoneError
            if not reading.done():
                yield None
                continue
            message: Any = reading.result()
            if message["type"] == "http.disconnect":
                raise _ClientGoneError
            yield message.get("body", b"")
            if not message.get("more_body", False):
                return
            reading = asyncio.ensure_future(receive())
    finally:
        reading.cancel()


async def _send(answers: "_Answers", send: Send) -> None:
    """Send answers as they come; the reply begins with the first, so that until then it may become another."""
    started = False
    async for piece in answers:
        if not started:
            started = True
            await send(_start())
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    if not started:
        await send(_start())
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _start() -> Any:
    # A proxy that kept the answers together would undo it all.
    headers = [(b"content-type", NDJSON.encode()), (b"x-accel-buffering", b"no")]
    return {"type": "http.response.start", "status": 200, "headers": headers}


class _Answers:
    """Answers on their way to a client who may read slower than they come, or not before all is sent."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by __exit__
        self._read = self._written = 0
        self._changed = asyncio.Event()
        self._closed = False
        self.any = False
        # How many pieces the client has taken, and whether these were all.
        self.sent = 0
        self.read_all = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, answers: bytes) -> None:
        self._file.seek(self._written)
        self._file.write(answers)
        self._written += len(answers)
        self.any = self.any or bool(answers)
        self.read_all.clear()
        self._changed.set()

    @property
    def many(self) -> bool:
        """Whether those that are kept are as many as may be."""
        return self._written >= _MOST_UNREAD

    def close(self) -> None:
        """There will be no more."""
        self._closed = True
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self._changed.clear()
            for piece in self._unread():
                yield piece
                self.sent += 1
            self.read_all.set()
            if self._closed:
                return
            await self._changed.wait()

    def _unread(self) -> Iterator[bytes]:
        while self._read < self._written:
            self._file.seek(self._read)
            piece = self._file.read(_PIECE)
            self._read += len(piece)
            if self._read == self._written:
                self._read = self._written = 0
                self._file.seek(0)
                self._file.truncate()
            yield piece
