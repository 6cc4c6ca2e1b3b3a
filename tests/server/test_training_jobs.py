"""The process of a training: one that cannot be started, and one that starts when its client leaves."""

import asyncio
import sys
import threading
import time

import pytest
from forked import COMMANDS
from servers import until

from zap.db.runs.training_runs import claim_run, read_run
from zap.db.versions.production import Production
from zap.errors import ServerStopping, TrainingRunning
from zap.formats.training_options import TrainingOptions
from zap.server import training_process
from zap.server.training_jobs import TrainingProcesses
from zap.settings import Settings


@pytest.fixture
def processes(engine, database_url, tmp_path):
    # What forks a training is ready before the training begins.
    COMMANDS.connection()
    settings = Settings(database_url=database_url, models_dir=tmp_path)
    return TrainingProcesses(engine, settings, Production(engine, settings.model_file))


def test_a_process_that_cannot_be_started_fails_its_run_and_the_way_is_free(
    new_processes, processes, engine, monkeypatch
):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    with pytest.raises(FileNotFoundError):
        asyncio.run(processes.start(TrainingOptions()))

    run = read_run(engine, 1)
    assert (run["status"], run["report"]["detail"]) == ("failed", "the training process could not be started")
    assert claim_run(engine, "train", {}) == 2


@pytest.fixture
def slow_start(monkeypatch):
    """Make each process of a training start slowly. Return an event that is set when a start begins."""
    begins, real = threading.Event(), training_process.subprocess.Popen

    def slowly(*arguments, **options):
        begins.set()
        time.sleep(0.3)
        return real(*arguments, **options)

    monkeypatch.setattr(training_process.subprocess, "Popen", slowly)
    return begins


def test_a_training_whose_client_leaves_while_it_starts_goes_on(processes, engine, slow_start):
    async def story():
        start = asyncio.create_task(processes.start(TrainingOptions()))
        await asyncio.to_thread(slow_start.wait, 60)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        with pytest.raises(TrainingRunning):
            await processes.start(TrainingOptions())
        await asyncio.to_thread(until, lambda: read_run(engine, 1)["status"] != "running")
        await processes.ended(1)

    asyncio.run(story())
    run = read_run(engine, 1)
    processes.close()

    # The database has no sessions: the process has read it.
    assert (run["status"], run["report"]["type"]) == ("failed", "urn:zap:problem:unusable-history")


def test_a_training_that_starts_when_the_server_is_told_to_stop_is_cancelled(processes, engine, slow_start):
    async def story():
        start = asyncio.create_task(processes.start(TrainingOptions()))
        await asyncio.to_thread(slow_start.wait, 60)
        await processes.end()
        with pytest.raises(ServerStopping):
            await processes.start(TrainingOptions())
        return await processes.ended(await start)

    run = asyncio.run(story())
    processes.close()

    assert (run["status"], run["report"]["type"]) == ("cancelled", "urn:zap:problem:training-cancelled")
    assert claim_run(engine, "train", {}) == 2
