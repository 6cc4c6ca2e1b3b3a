"""One followed run: its state and its newest events, as they are in the database."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from zap.db.runs.run_events import events_after
from zap.db.runs.training_runs import read_run
from zap.threads import Pool

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


class FollowedRun:
    """One followed run, with its state at the newest read of the database.

    Attributes:
        asking: the task that reads the database.
        followers: the number of clients that follow the run.
        changed: is set when there are news, and then replaced by a new event.
    """

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
