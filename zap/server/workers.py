"""Several server processes on one port: a worker that dies is replaced, and workers end with their parent process."""

import math
import multiprocessing
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from types import FrameType

import structlog

from zap.server.address import is_listening
from zap.server.systemd import ALIVE, STOPPING, tell_systemd, watchdog_seconds
from zap.server.worker import Worker, end_workers, start_worker
from zap.server.worker_process import BEAT_SECONDS, Serve

log = structlog.get_logger(__name__)

# How many reports of a worker may be missing before it is ended.
_MOST_MISSED = 10
# The pause between two looks whether the first worker listens.
_LOOK_SECONDS = 0.1
# The exit code of a server that could not start (uvicorn.config.STARTUP_FAILURE).
_NOT_STARTED = 3


def run_workers(serve: Serve, listening: socket.socket, n: int, on_start: Callable[[], object]) -> int:
    """Keep `n` worker processes serving until this process is told to stop. Return the exit code.

    If a worker cannot start before the first one listens, all workers end, because a new one could not start either.

    Args:
        serve: what a worker runs.
        listening: the socket of the port.
        n: how many workers.
        on_start: called when the first worker listens.
    """
    return _Supervisor(serve, listening, on_start).run(n)


class _Supervisor:
    def __init__(self, serve: Serve, listening: socket.socket, on_start: Callable[[], object]) -> None:
        self._serve = serve
        self._listening = listening
        self._on_start: Callable[[], object] | None = on_start
        self._told = False
        # A signal writes to this pipe, which ends the wait for workers.
        self._wakened, self._wake = multiprocessing.Pipe(duplex=False)

    def run(self, n: int) -> int:
        # A process that was started with SIGINT ignored, as by nohup, goes on ignoring it.
        heard = [sign for sign in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(sign) is not signal.SIG_IGN]
        before = {sign: signal.signal(sign, self._stop) for sign in heard}
        workers: list[Worker] = []
        try:
            workers += [start_worker(self._serve, self._listening, place) for place in range(n)]
            return self._watch(workers)
        finally:
            tell_systemd(STOPPING)
            end_workers(workers)
            for sign, handler in before.items():
                signal.signal(sign, handler)

    def _watch(self, workers: list[Worker]) -> int:
        """Replace each worker that dies or hangs, until this process is told to stop or a worker cannot start."""
        next_round = time.monotonic() + BEAT_SECONDS
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
                # After the start the reason may pass, such as a database that restarts, and other workers serve.
                if worker.process.exitcode == _NOT_STARTED and self._on_start is not None:
                    log.error("a worker could not start; the server ends", worker=worker.process.pid)
                    return _NOT_STARTED
                log.error("a worker died", worker=worker.process.pid, exit_code=worker.process.exitcode)
                if died_young[place]:
                    time.sleep(BEAT_SECONDS)
                died_young[place] = worker.is_young
                workers[place] = start_worker(self._serve, self._listening, place)
            if time.monotonic() >= next_round:
                # Rounds are counted, not seconds: if the whole machine was suspended, no worker has hung.
                next_round = time.monotonic() + BEAT_SECONDS
                for worker in workers:
                    worker.missed += 1
                if watchdog_seconds() is not None:
                    tell_systemd(ALIVE)
        return 0

    def _look_for_start(self) -> None:
        if self._on_start is not None and is_listening(self._listening):
            self._on_start()
            self._on_start = None

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._told = True
        self._wake.send_bytes(b".")
