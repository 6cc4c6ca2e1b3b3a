"""Several server processes on one port: a worker that dies is replaced, and workers end with their parent process."""

import ctypes
import math
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

import structlog

from zap.server.address import is_listening

log = structlog.get_logger(__name__)

# How often a worker reports that it is alive, and how many reports may be missing before it is ended.
_BEAT_SECONDS = 1.0
_MOST_MISSED = 10
# The pause between two looks whether the first worker listens.
_LOOK_SECONDS = 0.1
# If a worker and its predecessor both lived shorter than this, the next one starts after a pause: workers that fail at
# their start must not occupy a core.
_SHORT_SECONDS = 5.0
# How long workers that are told to stop may take: longer than a server allows its last requests and its trainings.
_STOP_SECONDS = 20.0
# The exit code of a server that could not start (uvicorn.config.STARTUP_FAILURE).
_NOT_STARTED = 3
# Forks of a process that has imported everything start fast. That process must not use LightGBM, whose threads do not
# survive a fork once they have run.
FORKS = sys.platform == "linux"
# prctl's PR_SET_PDEATHSIG.
_SIGNAL_AT_PARENTS_DEATH = 1

# A function that serves on a listening socket until the process is told to stop; it must be importable by its name.
Serve = Callable[[socket.socket], None]


def run_workers(serve: Serve, listening: socket.socket, n: int, on_start: Callable[[], object]) -> int:
    """Keep `n` worker processes serving until this process is told to stop. Return the exit code.

    If a worker cannot start, all workers end, because a new one could not start either.

    Args:
        serve: what a worker runs.
        listening: the socket of the port.
        n: how many workers.
        on_start: called when the first worker listens.
    """
    return _Supervisor(serve, listening, on_start).run(n)


@dataclass
class _Worker:
    process: BaseProcess
    beats: Connection
    started_at: float
    missed: int = 0

    @property
    def is_young(self) -> bool:
        return time.monotonic() - self.started_at < _SHORT_SECONDS

    def take_beats(self) -> None:
        with suppress(EOFError, OSError):
            while self.beats.poll():
                self.beats.recv_bytes()
                self.missed = 0


class _Supervisor:
    def __init__(self, serve: Serve, listening: socket.socket, on_start: Callable[[], object]) -> None:
        self._serve = serve
        self._listening = listening
        self._on_start: Callable[[], object] | None = on_start
        self._told = False
        self._context: Any = multiprocessing.get_context("fork" if FORKS else "spawn")
        # A signal writes to this pipe, which ends the wait for workers.
        self._wakened, self._wake = multiprocessing.Pipe(duplex=False)

    def run(self, n: int) -> int:
        # A process that was started with SIGINT ignored, as by nohup, goes on ignoring it.
        heard = [sign for sign in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(sign) is not signal.SIG_IGN]
        before = {sign: signal.signal(sign, self._stop) for sign in heard}
        workers: list[_Worker] = []
        try:
            workers += [self._start() for _ in range(n)]
            return self._watch(workers)
        finally:
            _end(workers)
            for sign, handler in before.items():
                signal.signal(sign, handler)

    def _watch(self, workers: list[_Worker]) -> int:
        """Replace each worker that dies or hangs, until this process is told to stop or a worker cannot start."""
        next_round = time.monotonic() + _BEAT_SECONDS
        died_young = [False] * len(workers)
        while not self._told:
            sentinels = [worker.process.sentinel for worker in workers]
            beats = [worker.beats for worker in workers]
            longest = math.inf if self._on_start is None else _LOOK_SECONDS
            wait([*sentinels, *beats, self._wakened], min(longest, max(0.0, next_round - time.monotonic())))
            self._look_for_start()
            for place, worker in enumerate(workers):
                worker.take_beats()
                if worker.missed > _MOST_MISSED:
                    log.error("a worker does not respond and is ended", worker=worker.process.pid)
                    worker.process.kill()
                    worker.process.join()
                if worker.process.is_alive() or self._told:
                    continue
                worker.beats.close()
                if worker.process.exitcode == _NOT_STARTED:
                    log.error("a worker could not start; the server ends", worker=worker.process.pid)
                    return _NOT_STARTED
                log.error("a worker died", worker=worker.process.pid, exit_code=worker.process.exitcode)
                if died_young[place]:
                    time.sleep(_BEAT_SECONDS)
                died_young[place] = worker.is_young
                workers[place] = self._start()
            if time.monotonic() >= next_round:
                # Rounds are counted, not seconds: if the whole machine was suspended, no worker has hung.
                next_round = time.monotonic() + _BEAT_SECONDS
                for worker in workers:
                    worker.missed += 1
        return 0

    def _look_for_start(self) -> None:
        if self._on_start is not None and is_listening(self._listening):
            self._on_start()
            self._on_start = None

    def _start(self) -> _Worker:
        reading, writing = multiprocessing.Pipe(duplex=False)
        arguments = (self._serve, self._listening, writing, os.getpid())
        process = self._context.Process(target=_work, args=arguments)
        _hold_signals()
        try:
            process.start()
        finally:
            _let_signals_through()
        writing.close()
        log.info("a worker started", worker=process.pid)
        return _Worker(process, reading, time.monotonic())

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._told = True
        self._wake.send_bytes(b".")


def _end(workers: list[_Worker]) -> None:
    """Tell workers to stop, and kill the ones that have not stopped in time."""
    for worker in workers:
        worker.process.terminate()
    end = time.monotonic() + _STOP_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, end - time.monotonic()))
        if worker.process.is_alive():
            log.error("a worker did not stop in time and is ended", worker=worker.process.pid)
            worker.process.kill()
            worker.process.join()


def _work(serve: Serve, listening: socket.socket, beats: Connection, parent: int) -> None:
    """Serve in a worker process, which ends with its parent."""
    # A fork inherits the signal handlers of the supervisor, which must not run in a worker.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _let_signals_through()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SIGNAL_AT_PARENTS_DEATH, signal.SIGTERM)
    threading.Thread(target=_beat, args=[beats, parent], name="beat", daemon=True).start()
    serve(listening)


def _beat(beats: Connection, parent: int) -> None:
    """Report regularly that this process is alive, and end it when its parent is gone."""
    while os.getppid() == parent:
        # If the parent has just ended, the next round of the loop notices that.
        with suppress(OSError):
            beats.send_bytes(b".")
        time.sleep(_BEAT_SECONDS)
    log.error("the parent process of this worker is gone; the worker ends")
    os.kill(os.getpid(), signal.SIGTERM)
    # The worker ends by force if it has not stopped after this time.
    time.sleep(_STOP_SECONDS)
    os._exit(1)


def _hold_signals() -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})


def _let_signals_through() -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
