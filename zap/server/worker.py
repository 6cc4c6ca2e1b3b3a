"""A worker: a server process, seen from the process that starts it, hears from it and ends it."""

import multiprocessing
import os
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import structlog

from zap.server.worker_process import STOP_SECONDS, Serve, hold_signals, let_signals_through, run_worker

log = structlog.get_logger(__name__)

# If a worker and its predecessor both lived shorter than this, the next one starts after a pause: workers that fail at
# their start must not occupy a core.
_SHORT_SECONDS = 5.0
# Forks of a process that has imported everything start fast. That process must not use LightGBM, whose threads do not
# survive a fork once they have run.
FORKS = sys.platform == "linux"


@dataclass
class Worker:
    """A worker, seen from the process that started it.

    Attributes:
        process: its process.
        beats: the pipe through which it reports that it is alive.
        started_at: when it started, on the monotonic clock.
        missed: the number of rounds of the supervisor since its last report.
    """

    process: BaseProcess
    beats: Connection
    started_at: float
    missed: int = 0

    @property
    def is_young(self) -> bool:
        """Return whether the worker has lived for less than _SHORT_SECONDS."""
        return time.monotonic() - self.started_at < _SHORT_SECONDS

    def take_beats(self) -> None:
        """Read the reports that have arrived."""
        with suppress(EOFError, OSError):
            while self.beats.poll():
                self.beats.recv_bytes()
                self.missed = 0


def start_worker(serve: Serve, listening: socket.socket, place: int) -> Worker:
    """Start a worker.

    Args:
        serve: what the worker runs.
        listening: the socket of the port.
        place: the place of the worker among all workers.
    """
    context: Any = multiprocessing.get_context("fork" if FORKS else "spawn")
    reading, writing = multiprocessing.Pipe(duplex=False)
    process = context.Process(target=run_worker, args=(serve, listening, place, writing, os.getpid()))
    hold_signals()
    try:
        process.start()
    finally:
        let_signals_through()
    writing.close()
    log.info("a worker started", worker=process.pid)
    return Worker(process, reading, time.monotonic())


def end_workers(workers: list[Worker]) -> None:
    """Tell workers to stop, and kill the ones that have not stopped in time."""
    for worker in workers:
        worker.process.terminate()
    end = time.monotonic() + STOP_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, end - time.monotonic()))
        if worker.process.is_alive():
            log.error("a worker did not stop in time and is ended", worker=worker.process.pid)
            worker.process.kill()
            worker.process.join()
