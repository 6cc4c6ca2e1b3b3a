"""The events of training runs, read from the database once for all clients that follow a run."""

import asyncio
from collections.abc import AsyncGenerator

from sqlalchemy import Engine

from zap.server.followed_run import FollowedRun, News
from zap.server.watch import watch
from zap.threads import Pool

# The pause between two reads of one run's events, and how long a follower gets no event before it gets empty news.
_ASK_SECONDS = 0.5
_SILENT_SECONDS = 15.0


class RunNews:
    """Read the followed runs, each in one task that exists from the run's first follower to its last.

    Two hundred followers of a run cost the database as much as one. A slow follower does not delay other followers:
    each takes the kept events at its own pace.
    """

    def __init__(self, engine: Engine, threads: Pool, stopping: asyncio.Event) -> None:
        self._engine = engine
        self._threads = threads
        self._stopping = stopping
        self._runs: dict[int, FollowedRun] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._waking = asyncio.create_task(self._wake_at_the_end())

    async def follow(self, run_id: int, last: int) -> AsyncGenerator[News, None]:
        """Yield the news after the event `last`, until the run ends or the server is told to stop.

        When nothing happens for _SILENT_SECONDS, empty news are yielded. The run must be in the database.
        """
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = FollowedRun(self._engine, self._threads, run_id, last)
            run.asking = asyncio.create_task(watch(run.look, _ASK_SECONDS))
            self._asking.add(run.asking)
            run.asking.add_done_callback(self._asking.discard)
        run.followers += 1
        try:
            while not self._stopping.is_set():
                changed = run.changed
                news, last = await run.news_after(last)
                if news.events or news.end:
                    yield news
                if news.end:
                    return
                try:
                    await asyncio.wait_for(changed.wait(), _SILENT_SECONDS)
                except TimeoutError:
                    yield News([], None)
        finally:
            run.followers -= 1
            if not run.followers:
                run.asking.cancel()
                del self._runs[run_id]

    async def close(self) -> None:
        """End the tasks that read the database, after the reads that are running."""
        tasks = [self._waking, *self._asking]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wake_at_the_end(self) -> None:
        await self._stopping.wait()
        for run in self._runs.values():
            run.wake()
