"""The answers that a client has not read yet: in memory, then in a file, and sent as the client reads."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

from litestar.types import Send

# Limits (bytes) of the answers that clients have not read yet. With more than _IN_MEMORY for one client, they go to an
# unnamed file. With more than _MOST_UNREAD for one client, or _MOST_UNREAD_OF_ALL for all clients, no more lines are
# read until the client has read all of its answers.
_IN_MEMORY = 2**16
_MOST_UNREAD = 64 * 2**20
_MOST_UNREAD_OF_ALL = 16 * _MOST_UNREAD
_PIECE = 2**16


class UnreadAnswers:
    """Hold the answers that a client has not read yet, in memory and then in a file.

    Attributes:
        any: whether an answer was written.
        sent: the number of pieces that were sent.
        read_all: is set when no answer is unread.
    """

    # The bytes that are held for all clients of this process.
    of_all = 0

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by __exit__
        self._read = self._written = 0
        self._changed = asyncio.Event()
        self._closed = False
        self.any = False
        self.sent = 0
        self.read_all = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        UnreadAnswers.of_all -= self._written
        self._file.close()

    def write(self, answers: bytes) -> None:
        """Add answers."""
        self._file.seek(self._written)
        self._file.write(answers)
        self._written += len(answers)
        UnreadAnswers.of_all += len(answers)
        self.any = self.any or bool(answers)
        self.read_all.clear()
        self._changed.set()

    @property
    def many(self) -> bool:
        """Return whether the limit of unread answers is reached, of this client or of all."""
        return self._written >= _MOST_UNREAD or (self._written > 0 and UnreadAnswers.of_all >= _MOST_UNREAD_OF_ALL)

    def close(self) -> None:
        """Declare that no more answers will be added."""
        self._closed = True
        self._changed.set()

    async def send_all(self, send: Send, media_type: str) -> None:
        """Send the answers as they are written. The reply begins with the first answer: until then it can be an error.

        Args:
            send: takes the messages of the reply.
            media_type: the media type of the reply.
        """
        started = False
        async for piece in self:
            if not started:
                started = True
                await send(_start(media_type))
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if not started:
            await send(_start(media_type))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

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
                UnreadAnswers.of_all -= self._written
                self._read = self._written = 0
                self._file.seek(0)
                self._file.truncate()
            yield piece


def _start(media_type: str) -> Any:
    # nginx buffers replies unless it is told not to, and the client would get no answer before the end.
    headers = [(b"content-type", media_type.encode()), (b"x-accel-buffering", b"no")]
    return {"type": "http.response.start", "status": 200, "headers": headers}
