"""Work outside the event loop, in named pools of threads with deadlines; and turns with deadlines."""

import asyncio
import contextvars
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

from zap.errors import DatabaseUnavailable, ZapError
from zap.sentences import say

log = structlog.get_logger(__name__)

# How long a request waits for the database; README names this number.
PATIENCE_SECONDS = 5
_TOO_LONG = say("the database, or the requests before this one, take too long")

_Done = TypeVar("_Done")


class Pool:
    """Run one kind of work in its own threads. A database that does not answer blocks only these threads.

    Args:
        name: the name of the threads.
        threads: the number of threads.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)
        # Keeps the futures alive, because the event loop holds only weak references.
        self._going_on: set[asyncio.Future[Any]] = set()

    async def run(self, work: Callable[..., _Done], *arguments: Any, until: float | None = None) -> _Done:
        """Return what `work` returns. Events that the thread logs have the id of the request.

        Args:
            work: the function to call in a thread.
            arguments: the arguments of `work`.
            until: when to stop waiting, on the monotonic clock; by default after PATIENCE_SECONDS.

        Raises:
            DatabaseUnavailable: the work took too long. Work that has begun goes on; other work never begins.
        """
        last = time.monotonic() + PATIENCE_SECONDS if until is None else until
        working = self._begin(work, arguments, last)
        try:
            done, _ = await asyncio.wait([working], timeout=max(0.0, last - time.monotonic()))
            if not done:
                raise DatabaseUnavailable(_TOO_LONG)
            return working.result()
        finally:
            working.cancel()

    async def to_its_end(
        self,
        work: Callable[..., _Done],
        *arguments: Any,
        after: Callable[[asyncio.Future[_Done]], object] = lambda _: None,
        until: float = float("inf"),
    ) -> _Done:
        """Return what `work` returns, however long it takes. The work goes on if the caller is cancelled.

        Args:
            work: the function to call in a thread.
            arguments: the arguments of `work`.
            after: called on the event loop when the work has ended, for example to give the turn to the next request.
            until: when it is too late to begin, on the monotonic clock.

        Raises:
            CancelledError: the caller was cancelled. The work goes on, and `after` is called when it ends.
            DatabaseUnavailable: earlier work took too long, and this work did not begin.
        """
        working = self._begin(work, arguments, until)
        self._going_on.add(working)
        working.add_done_callback(self._going_on.discard)
        working.add_done_callback(after)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            working.add_done_callback(_tell)
            raise

    def start(self, work: Callable[..., object], *arguments: Any) -> None:
        """Begin work for whose result nobody waits; an error of it is logged."""
        self._begin(work, arguments, float("inf")).add_done_callback(_tell)

    def close(self) -> None:
        """End the threads after the work that runs now, which waits for the database no longer than its limits."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _begin(self, work: Callable[..., _Done], arguments: tuple[Any, ...], last: float) -> asyncio.Future[_Done]:
        context = contextvars.copy_context()

        def in_time() -> _Done:
            if time.monotonic() > last:
                raise DatabaseUnavailable(_TOO_LONG)
            return context.run(work, *arguments)

        return asyncio.get_running_loop().run_in_executor(self._executor, in_time)


class Turns:
    """Let one caller in at a time, in the order of their arrival.

    Args:
        seconds: how long a caller waits for its turn.
        refusal: makes the error of a caller that has waited this long.
    """

    def __init__(self, seconds: float, refusal: Callable[[], ZapError]) -> None:
        self._lock = asyncio.Lock()
        self._seconds = seconds
        self._refusal = refusal

    async def take(self) -> None:
        """Wait for a turn, which the caller must end with `give`.

        Raises:
            ZapError: the error of `refusal`: the caller has waited too long.
        """
        try:
            await asyncio.wait_for(self._lock.acquire(), self._seconds)
        except TimeoutError:
            raise self._refusal() from None

    def give(self) -> None:
        """End the turn, and let the next caller in."""
        self._lock.release()

    @asynccontextmanager
    async def taken(self) -> AsyncGenerator[None, None]:
        """Hold a turn for the length of a block."""
        await self.take()
        try:
            yield
        finally:
            self.give()


def _tell(working: asyncio.Future[Any]) -> None:
    """Log the error of work whose caller was cancelled."""
    if not working.cancelled() and (error := working.exception()) is not None:
        log.warning("the work of a cancelled request has failed", error=f"{type(error).__name__}: {error}"[:500])
