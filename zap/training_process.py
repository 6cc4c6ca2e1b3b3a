"""Trainings of a server: each in a process of its own, whose state is in the database."""

import asyncio
import os
import subprocess
import sys
from typing import Any

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.db.production import Production
from zap.db.training_runs import claim_run, fail_run, read_run
from zap.errors import DatabaseUnavailable, TrainingFailed
from zap.ml.training_options import TrainingOptions
from zap.settings import Settings

log = structlog.get_logger(__name__)

# How long a training that is told to stop may clean up behind itself.
_STOP_SECONDS = 3
# How often a training is looked at whether it has ended.
_LOOK_SECONDS = 0.05


class TrainingProcesses:
    """The trainings that this server process started.

    A process each, so that neither its threads nor its memory disturb predictions; spawned, never forked, because
    LightGBM's threads do not survive a fork. A thread starts it: uvloop would copy the server's page tables first, and
    requests would wait for that. What becomes of a run stands in the database: a server that is killed loses nothing
    of it.
    """

    def __init__(self, engine: Engine, settings: Settings, production: Production) -> None:
        self._engine = engine
        self._settings = settings
        self._production = production
        self._children: dict[int, tuple[subprocess.Popen[bytes], asyncio.Task[None]]] = {}

    async def start(self, options: TrainingOptions) -> int:
        """Begin a training; the number of its run.

        Raises:
            TrainingRunning: another one is running, on whatever machine.
        """
        run_id = await asyncio.to_thread(claim_run, self._engine, "train", options.as_dict())
        starting = asyncio.create_task(
            asyncio.to_thread(
                subprocess.Popen,
                [sys.executable, "-m", "zap", "train", "--run-id", str(run_id)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **self._settings.environment()},
            )
        )
        try:
            child = await asyncio.shield(starting)
        except BaseException:
            # Nobody waits for it any more, but a thread cannot be stopped.
            starting.add_done_callback(_kill)
            await asyncio.to_thread(fail_run, self._engine, run_id, TrainingFailed("its process could not be started"))
            raise
        self._children[run_id] = child, asyncio.create_task(self._settle(run_id, child))
        return run_id

    async def ended(self, run_id: int) -> dict[str, Any]:
        """The run, once its process has ended.

        Raises:
            DatabaseUnavailable: it could not be noted how it ended.
        """
        if run_id in self._children:
            await asyncio.shield(self._children[run_id][1])
        run = await asyncio.to_thread(read_run, self._engine, run_id)
        if run["status"] == "running":
            raise DatabaseUnavailable(f"how training run {run_id} ended could not be noted yet")
        return run

    async def end(self) -> None:
        """End the trainings that run when the server stops: asked first, so that they clean up behind themselves."""
        for child, settled in list(self._children.values()):
            child.terminate()
            done, _ = await asyncio.wait([settled], timeout=_STOP_SECONDS)
            if not done:
                child.kill()
                await asyncio.wait([settled])

    async def _settle(self, run_id: int, child: subprocess.Popen[bytes]) -> None:
        # A thread that waits for it would keep this process from ending where it has to end at once.
        while (exit_code := child.poll()) is None:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)
        try:
            died = TrainingFailed("its process died; the log says more, and the model that served still does")
            if await asyncio.to_thread(fail_run, self._engine, run_id, died):
                log.error("the training process died", run_id=run_id, exit_code=exit_code)
            await asyncio.to_thread(self._production.refresh)
        except SQLAlchemyError as error:
            # Its heartbeat lapses, and the watch looks again in a moment.
            log.warning("the end of a training is not seen to yet", run_id=run_id, error=type(error).__name__)
        finally:
            del self._children[run_id]


def _kill(starting: asyncio.Task[subprocess.Popen[bytes]]) -> None:
    """End what was started after all."""
    if not starting.cancelled() and starting.exception() is None:
        with starting.result() as child:
            child.kill()
