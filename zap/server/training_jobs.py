"""The trainings of a server: each runs in its own process, and its state is in the database."""

import asyncio
import signal
import subprocess
import time
from typing import Any

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.db.runs.training_runs import claim_run, fail_run, read_run
from zap.db.versions.production import Production
from zap.errors import (
    DatabaseUnavailable,
    ServerStopping,
    TrainingCancelled,
    TrainingFailed,
    TrainingLimited,
    ZapError,
)
from zap.formats.training_options import TrainingOptions
from zap.sentences import say
from zap.server.training_process import log_end, start_training
from zap.settings import Settings
from zap.threads import Pool

log = structlog.get_logger(__name__)

# How long (seconds) a server that stops waits for a training that is starting.
_START_SECONDS = 2
# How long to wait for a training that was told to stop: longer than its own limits (zap/cli/ending.py).
_STOP_SECONDS = 4
# How long a server that stops may wait for the database, to store how a training ended.
_NOTE_SECONDS = 5
# The pause between two checks whether a training has ended.
_LOOK_SECONDS = 0.05
# A training ends itself when its time is over. If it has not ended after this much longer, it is killed.
_LATE_SECONDS = 15
# The signals that end a process without memory, sent by the process itself or by the system.
_OF_MEMORY = frozenset({signal.SIGABRT, signal.SIGSEGV, 9})
# The exit codes of a training that SIGTERM ended, before and after it could store that in its run.
_OF_SIGTERM = frozenset({-signal.SIGTERM, 128 + signal.SIGTERM})


class TrainingProcesses:
    """Start and end the trainings of this server process.

    Each training has its own process, so that its threads and its memory do not disturb predictions. The process is
    spawned, never forked, because LightGBM's threads do not survive a fork. A thread starts it: on the event loop,
    uvloop would copy the server's page tables while requests wait. The state of a run is in the database, so a server
    that is killed loses none of it.
    """

    def __init__(self, engine: Engine, settings: Settings, production: Production) -> None:
        self._engine = engine
        self._settings = settings
        self._production = production
        self._threads = Pool("trainings", 2)
        self._starting: set[asyncio.Task[int]] = set()
        self._children: dict[int, tuple[subprocess.Popen[bytes], asyncio.Task[None]]] = {}
        self._stopping = False

    async def start(self, options: TrainingOptions) -> int:
        """Start a training, and return the number of its run. If the caller is cancelled, the training continues.

        Raises:
            TrainingRunning: another training is running, on this or another machine.
            ServerStopping: the server has been told to stop.
        """
        starting = asyncio.create_task(self._start(options))
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)
        return await asyncio.shield(starting)

    async def ended(self, run_id: int) -> dict[str, Any]:
        """Return the run after its process has ended.

        Raises:
            DatabaseUnavailable: the end of the run could not be stored.
        """
        if run_id in self._children:
            await asyncio.shield(self._children[run_id][1])
        run = await self._threads.run(read_run, self._engine, run_id)
        if run["status"] == "running":
            raise DatabaseUnavailable(say("the end of training run {run_id} could not be stored yet", run_id=run_id))
        return run

    async def end(self) -> None:
        """End the running trainings when the server stops. They are told to stop first, so that they can clean up."""
        self._stopping = True
        if self._starting:
            # A process that starts in this time is ended too.
            await asyncio.wait(self._starting, timeout=_START_SECONDS)
        for child, settled in list(self._children.values()):
            child.terminate()
            done, _ = await asyncio.wait([settled], timeout=_STOP_SECONDS)
            if not done:
                child.kill()
                # A database that does not answer must not delay the server's end. Another server, or the next start,
                # then finds that the run is dead.
                await asyncio.wait([settled], timeout=_NOTE_SECONDS)

    def close(self) -> None:
        """End the threads, once what they do for the database is done."""
        self._threads.close()

    async def _start(self, options: TrainingOptions) -> int:
        if self._stopping:
            raise ServerStopping(say("the server is stopping; send the request again"))
        run_id, child = await self._threads.to_its_end(self._begin, options)
        log.info("a training began", run_id=run_id, options=options.as_dict())
        self._children[run_id] = child, asyncio.create_task(self._settle(run_id, child))
        return run_id

    def _begin(self, options: TrainingOptions) -> tuple[int, subprocess.Popen[bytes]]:
        """Claim a run and start its process. This blocks, so it runs on a thread."""
        run_id = claim_run(self._engine, "train", options.as_dict())
        try:
            child = start_training(run_id, self._settings)
        except BaseException:
            fail_run(self._engine, run_id, TrainingFailed(say("the training process could not be started")))
            raise
        return run_id, child

    async def _settle(self, run_id: int, child: subprocess.Popen[bytes]) -> None:
        """Wait until a training has ended, store its failure if it died, and serve the version that it promoted."""
        limit = self._settings.training_seconds
        until = time.monotonic() + limit + _LATE_SECONDS
        # Not in a thread: a thread that waits for the child would delay the end of this process.
        while (exit_code := child.poll()) is None:
            await asyncio.sleep(_LOOK_SECONDS)
            if time.monotonic() > until:
                # The training ends itself earlier, unless its process is suspended.
                child.kill()
        late = exit_code == TrainingLimited.exit_code or time.monotonic() > until
        died: ZapError = TrainingLimited.of_time(limit) if late else self._died(exit_code)
        if exit_code in _OF_SIGTERM:
            died = TrainingCancelled.by_signal(signal.SIGTERM)
        try:
            if await self._threads.to_its_end(fail_run, self._engine, run_id, died):
                log.error("the training process died", run_id=run_id, exit_code=exit_code)
            await self._threads.to_its_end(self._production.refresh)
            log_end(await self._threads.to_its_end(read_run, self._engine, run_id))
        except SQLAlchemyError as error:
            # When the run's heartbeat has lapsed, the watch of dead runs stores that it failed.
            log.warning("the end of a training could not be stored yet", run_id=run_id, error=type(error).__name__)
        finally:
            del self._children[run_id]

    def _died(self, exit_code: int) -> TrainingFailed:
        """Return the error of a training whose process died, with the likely reason."""
        died = say("the training process died; the log says more, and the version in production is unchanged")
        if -exit_code not in _OF_MEMORY:
            return TrainingFailed(died)
        return TrainingFailed(
            say(
                "{died}. It may have needed more memory than the {allowed:,} bytes that it may use"
                " (ZAP_TRAINING_MEMORY), or than the machine has",
                died=died,
                allowed=self._settings.training_memory,
            )
        )
