"""The process of a training: one that cannot be started, and one that nobody waits for any more."""

import asyncio
import signal
import subprocess
import sys
import threading
import time

import pytest

from zap.db.runs.training_runs import claim_run, read_run
from zap.db.versions.production import Production
from zap.formats.training_options import TrainingOptions
from zap.server.training_jobs import TrainingProcesses
from zap.settings import Settings


@pytest.fixture
def processes(engine, database_url, tmp_path):
    settings = Settings(database_url=database_url, models_dir=tmp_path)
    return TrainingProcesses(engine, settings, Production(engine, settings.model_file))


def test_a_process_that_cannot_be_started_fails_its_run_and_the_way_is_free(processes, engine, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    with pytest.raises(FileNotFoundError):
        asyncio.run(processes.start(TrainingOptions()))

    run = read_run(engine, 1)
    assert (run["status"], run["report"]["detail"]) == ("failed", "the training process could not be started")
    assert claim_run(engine, "train", {}) == 2


def test_a_process_that_starts_when_nobody_waits_for_it_any_more_is_ended(processes, engine, monkeypatch):
    begins, started, children = threading.Event(), threading.Event(), []
    real = subprocess.Popen

    def slowly(*arguments, **options):
        begins.set()
        time.sleep(0.3)
        children.append(real(*arguments, **options))
        started.set()
        return children[0]

    monkeypatch.setattr(subprocess, "Popen", slowly)

    async def story():
        start = asyncio.create_task(processes.start(TrainingOptions()))
        await asyncio.to_thread(begins.wait, 60)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        await asyncio.to_thread(started.wait, 60)
        await asyncio.to_thread(children[0].wait, 60)

    asyncio.run(story())
    processes.close()

    assert children[0].returncode == -signal.SIGKILL
    assert read_run(engine, 1)["status"] == "failed"
