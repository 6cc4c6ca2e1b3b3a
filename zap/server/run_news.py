"""The events of training runs, read from the database once for all clients that follow a run."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from zap.db.runs.training_runs import events_after, read_run
from zap.server.watch import watch
from zap.threads import Pool

# The pause between two reads of one run's events, and how long a follower gets no event before it gets empty news.
_ASK_SECONDS = 0.5
_SILENT_SECONDS = 15.0
# How many of a run's newest events are kept in memory. A follower that is further behind reads older ones by itself.
_KEPT = 1000

# An event with its number.
Event = tuple[int, dict[str, Any]]


@dataclass(frozen=True)
class News:
    """The events that a follower has not received yet, in order.

    Attributes:
        events: the events.
        end: how the run ended, if these are its last events.
    """

    events: list[Event]
    end: dict[str, Any] | None


class RunNews:
    """Read the followed runs, each in one task that exists from the run's first follower to its last.

    Two hundred followers of a run cost the database as much as one. A slow follower does not delay other followers:
    each takes the kept events at its own pace.
    """

    def __init__(self, engine: Engine, threads: Pool, stopping: asyncio.Event) -> None:
        self._engine = engine
        self._threads = threads
        self._stopping = stopping
        self._runs: dict[int, _FollowedRun] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._waking = asyncio.create_task(self._wake_at_the_end())

    async def follow(self, run_id: int, last: int) -> AsyncGenerator[News, None]:
        """Yield the news after the event `last`, until the run ends or the server is told to stop.

        When nothing happens for _SILENT_SECONDS, empty news are yielded. The run must be in the database.
        """
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = _FollowedRun(self._engine, self._threads, run_id, last)
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


class _FollowedRun:
    """One followed run, with its state at the newest read of the database."""

    asking: asyncio.Task[None]

    def __init__(self, engine: Engine, threads: Pool, run_id: int, last: int) -> None:
        self._engine = engine
        self._threads = threads
        self._run_id = run_id
        self._loop = asyncio.get_running_loop()
        self._end: dict[str, Any] | None = None
        self._events: deque[Event] = deque()
        # Every event after `_complete_after` and up to `_newest` is in `_events`.
        self._complete_after = self._newest = last
        self.followers = 0
        # Set when there are news, and then replaced by a new event.
        self.changed = asyncio.Event()

    def look(self) -> None:
        """Read the run and its new events from the database, on a thread."""
        # In this order: when the run has ended, the read that follows gets all of its events.
        run = read_run(self._engine, self._run_id)
        told = events_after(self._engine, self._run_id, self._newest)
        self._loop.call_soon_threadsafe(self._note, run, told)

    async def news_after(self, last: int) -> tuple[News, int]:
        """Return the news after the event `last`, and the event after which to continue."""
        end, complete_after = self._end, self._complete_after
        if last >= complete_after:
            events = []
            for event in reversed(self._events):
                if event[0] <= last:
                    break
                events.append(event)
            events.reverse()
        else:
            events = await self._threads.run(events_after, self._engine, self._run_id, last)
            last = complete_after
        return News(events, end), max([last, *(event_id for event_id, _ in events[-1:])])

    def wake(self) -> None:
        """Wake all followers."""
        self.changed.set()
        self.changed = asyncio.Event()

    def _note(self, run: dict[str, Any], told: list[Event]) -> None:
        told = [event for event in told if event[0] > self._newest]
        for event in told:
            self._events.append(event)
            self._newest = event[0]
        while len(self._events) > _KEPT:
            self._complete_after = self._events.popleft()[0]
        if run["status"] != "running" and self._end is None:
            self._end = {"status": run["status"], "model_version": (run["report"] or {}).get("model_version")}
            self.wake()
        elif told:
            self.wake()
