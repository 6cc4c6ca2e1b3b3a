"""Limits of the open batches: how many are answered at once, and how many bytes of them are in memory.

A batch takes a place only when all of it, or a group of its lines, has been received. So a client that sends slowly
takes no place from other clients.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from litestar.types import ASGIApp, Receive, ReceiveMessage, Scope, Send

from zap.errors import TooBusy

# How many batches or groups of lines may be answered or wait for their turn. A body may have ZAP_BATCH_BYTES, and needs
# several times as much memory while it is answered.
_MOST_OPEN = 16
# How long a group of lines waits for a place.
_PATIENCE_SECONDS = 30
# The key of a request's batch in Litestar's state of the request.
_BATCH = "batch"


def few_at_once(app: ASGIApp) -> ASGIApp:
    """Return the route wrapped so that a batch is refused when all open batches together exceed the limits."""
    batches = OpenBatches()

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        # Before the body is read, so that the client need not send it.
        batches.check_for_a_place()
        batch = Batch(batches, receive, _MOST_OPEN * scope["litestar_app"].state.settings.batch_bytes)
        scope["state"][_BATCH] = batch
        try:
            await app(scope, batch.receive, send)
        finally:
            batches.forget(batch)

    return limited


def batch_of(scope: Scope) -> "Batch":
    """Return the batch of a request that came through `few_at_once`."""
    batch: Batch = scope["state"][_BATCH]
    return batch


class OpenBatches:
    """Count the places and the bytes that the open batches of one process take."""

    def __init__(self) -> None:
        self._answered = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._bytes = 0
        # The batches that wait for their next piece, the longest silent first.
        self._silent: dict[Batch, asyncio.Future[None]] = {}

    def check_for_a_place(self) -> None:
        """Refuse a batch if all places are taken.

        Raises:
            TooBusy: _MOST_OPEN batches are answered, or wait for their turn.
        """
        if self._answered >= _MOST_OPEN:
            raise TooBusy(f"{_MOST_OPEN} batches are open already; send this batch again later")

    @asynccontextmanager
    async def place(self, patience: float) -> AsyncGenerator[None, None]:
        """Hold a place, as soon as there is one.

        Raises:
            TooBusy: no place becomes free within `patience` seconds.
        """
        end = asyncio.get_running_loop().time() + patience
        while self._answered >= _MOST_OPEN:
            free = asyncio.get_running_loop().create_future()
            self._waiting.append(free)
            try:
                await asyncio.wait_for(free, end - asyncio.get_running_loop().time())
            except TimeoutError:
                self.check_for_a_place()
            except asyncio.CancelledError:
                # This batch may just have been given the free place: give it to the next one.
                self._wake_one()
                raise
        self._answered += 1
        try:
            yield
        finally:
            self._answered -= 1
            self._wake_one()

    @asynccontextmanager
    async def silence(self, batch: "Batch") -> AsyncGenerator[asyncio.Future[None], None]:
        """Mark a batch as waiting for its next piece. The future is done when another batch needs its memory."""
        given_up = self._silent[batch] = asyncio.get_running_loop().create_future()
        try:
            yield given_up
        finally:
            self._silent.pop(batch, None)

    def add(self, batch: "Batch", n: int, most: int) -> None:
        """Hold more bytes of a batch. If they do not fit, give up the batches that have been silent for longest.

        Args:
            batch: the batch.
            n: how many more bytes.
            most: how many bytes all batches together may have.

        Raises:
            TooBusy: the bytes do not fit, and no other batch is waiting for its client.
        """
        while self._bytes + n > most:
            silent = next((one for one in self._silent if one.held and one is not batch), None)
            if silent is None:
                raise TooBusy(f"the open batches already hold {most:,} bytes; send this batch again later")
            self._silent.pop(silent).set_result(None)
            self.release(silent)
        batch.held += n
        self._bytes += n

    def release(self, batch: "Batch") -> None:
        """Count the bytes of a batch as free."""
        self._bytes -= batch.held
        batch.held = 0

    def forget(self, batch: "Batch") -> None:
        """Remove a batch that has ended, whether it was answered or not."""
        self._silent.pop(batch, None)
        self.release(batch)

    def _wake_one(self) -> None:
        while self._waiting:
            free = self._waiting.popleft()
            if not free.done():
                free.set_result(None)
                return


class Batch:
    """One batch request. `held` is how many bytes of it are in memory."""

    def __init__(self, all_: OpenBatches, receive: Receive, most: int) -> None:
        self._all = all_
        self._receive = receive
        self._most = most
        self.held = 0

    async def receive(self) -> ReceiveMessage:
        """Return the next piece of the body.

        Raises:
            TooBusy: the piece does not fit into memory, or this batch was given up for another one.
        """
        receiving: asyncio.Future[Any] = asyncio.ensure_future(self._receive())
        try:
            async with self._all.silence(self) as given_up:
                await asyncio.wait((receiving, given_up), return_when=asyncio.FIRST_COMPLETED)
            if given_up.done():
                raise TooBusy("this batch arrived too slowly while others needed its memory; send it again later")
            message: Any = receiving.result()
        finally:
            receiving.cancel()
        self._all.add(self, len(message.get("body", b"")), self._most)
        return message  # type: ignore[no-any-return]

    @asynccontextmanager
    async def answered(self, *, group: bool) -> AsyncGenerator[None, None]:
        """Hold a place while the received rows are answered, and free their bytes at the end.

        Args:
            group: whether this is a group of lines. A group waits for a place; a whole batch is refused at once.

        Raises:
            TooBusy: there is no place.
        """
        if not group:
            self._all.check_for_a_place()
        try:
            async with self._all.place(_PATIENCE_SECONDS):
                yield
        finally:
            self._all.release(self)
