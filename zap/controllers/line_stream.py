"""NDJSON in both directions at once: lines are read and answered in groups while the client still sends."""

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
from zap.errors import LogUnavailable, TooSlow
from zap.formats.request_rows import GROUP_BYTES, GROUP_LINES, Lines, Refusal

log = structlog.get_logger(__name__)

NDJSON = "application/x-ndjson"
# How long (seconds) a line waits for more lines to be committed together with it.
_WAITING_SECONDS = 1.0
# Limits (bytes) of the answers that clients have not read yet. With more than _IN_MEMORY for one client, they go to an
# unnamed file. With more than _MOST_UNREAD for one client, or _MOST_UNREAD_OF_ALL for all clients, no more lines are
# read until the client has read all of its answers.
_IN_MEMORY = 2**16
_MOST_UNREAD = 64 * 2**20
_MOST_UNREAD_OF_ALL = 16 * _MOST_UNREAD
# How long (seconds) a client may send nothing.
_SILENT_SECONDS = 300.0
# How long (seconds) a client may read none of its answers before it is disconnected.
_UNREAD_SECONDS = 60.0
_PIECE = 2**16

# The number of a line, and its text or why it is refused.
Line = tuple[int, bytes | Refusal]
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

    A client that sends everything before it reads is answered too: lines are read on until _MOST_UNREAD bytes of
    answers are unread. Nothing is read while a group is answered, so at most one group and one line are in memory.
    """

    def __init__(
        self, request: Request[Any, Any, Any], answer: AnswerLines, stopping: asyncio.Event, silence: float
    ) -> None:
        self._request = request
        self._answer = answer
        self._stopping = stopping
        self._silence = silence

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        with _Answers() as answers:
            sending = asyncio.create_task(_send(answers, send))
            try:
                line = 1
                try:
                    async with contextlib.aclosing(_groups(receive, sending, self._stopping, self._silence)) as groups:
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
                        # The reply has not begun, so the error can be answered with its own status.
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
        """Wait until the client has read all answers, `until` is true, or the server stops.

        Raises:
            _ClientGoneError: the client reads nothing for _UNREAD_SECONDS.
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
                log.warning("disconnected a client that does not read its answers", seconds=_UNREAD_SECONDS)
                raise _ClientGoneError
        await sending

    def _problem(self, error: Exception, line: int) -> bytes:
        """Return the last line of a stream that cannot go on. `line` is the first line that is not answered."""
        return msgspec.json.encode(problem_of(self._request, error) | {"line": line}) + b"\n"


class _ClientGoneError(Exception):
    """The client has disconnected, or does not read."""


async def _groups(
    receive: Receive, sending: asyncio.Task[None], stopping: asyncio.Event, silence: float
) -> AsyncGenerator[list[Line], None]:
    """Yield the lines of a body in groups; each group is committed together.

    Raises:
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
                raise _ClientGoneError
            if not reading.done():
                if time.monotonic() - heard >= silence:
                    raise TooSlow(f"no data arrived for {silence:g} seconds; send the other lines in a new request")
                yield None
                continue
            message: Any = reading.result()
            if message["type"] == "http.disconnect":
                raise _ClientGoneError
            yield message.get("body", b"")
            if not message.get("more_body", False):
                return
            reading = asyncio.ensure_future(receive())
            heard = time.monotonic()
    finally:
        reading.cancel()


async def _send(answers: "_Answers", send: Send) -> None:
    """Send answers as they are written. The reply begins with the first answer: until then it can become an error."""
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
    # nginx buffers replies unless it is told not to, and the client would get no answer before the end.
    headers = [(b"content-type", NDJSON.encode()), (b"x-accel-buffering", b"no")]
    return {"type": "http.response.start", "status": 200, "headers": headers}


class _Answers:
    """Hold the answers that a client has not read yet, in memory and then in a file."""

    # The bytes that are held for all clients of this process.
    of_all = 0

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by __exit__
        self._read = self._written = 0
        self._changed = asyncio.Event()
        self._closed = False
        self.any = False
        # How many pieces have been sent, and whether none is unread.
        self.sent = 0
        self.read_all = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _Answers.of_all -= self._written
        self._file.close()

    def write(self, answers: bytes) -> None:
        """Add answers."""
        self._file.seek(self._written)
        self._file.write(answers)
        self._written += len(answers)
        _Answers.of_all += len(answers)
        self.any = self.any or bool(answers)
        self.read_all.clear()
        self._changed.set()

    @property
    def many(self) -> bool:
        """Return whether the limit of unread answers is reached, of this client or of all."""
        return self._written >= _MOST_UNREAD or (self._written > 0 and _Answers.of_all >= _MOST_UNREAD_OF_ALL)

    def close(self) -> None:
        """Declare that no more answers will be added."""
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
                _Answers.of_all -= self._written
                self._read = self._written = 0
                self._file.seek(0)
                self._file.truncate()
            yield piece
