"""The life inside a worker process: it serves, reports that it is alive, and ends with its parent process."""

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection

import structlog

log = structlog.get_logger(__name__)

# How often a worker reports that it is alive.
BEAT_SECONDS = 1.0
# How long workers that are told to stop may take: longer than a server allows its last requests and its trainings.
STOP_SECONDS = 20.0
# prctl's PR_SET_PDEATHSIG.
_SIGNAL_AT_PARENTS_DEATH = 1
# A function that serves on a listening socket until the process is told to stop; it must be importable by its name. The
# number is the worker's place among all workers, from 0; a worker that replaces another one has the place of it.
Serve = Callable[[socket.socket, int], None]


def run_worker(serve: Serve, listening: socket.socket, place: int, beats: Connection, parent: int) -> None:
    """Serve in a worker process, which ends with its parent.

    Args:
        serve: what the worker runs.
        listening: the socket of the port.
        place: the place of the worker.
        beats: the pipe through which the worker reports that it is alive.
        parent: the number of the parent process.
    """
    # A fork inherits the signal handlers of the supervisor, which must not run in a worker.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    let_signals_through()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SIGNAL_AT_PARENTS_DEATH, signal.SIGTERM)
    threading.Thread(target=_beat, args=[beats, parent], name="beat", daemon=True).start()
    serve(listening, place)


def _beat(beats: Connection, parent: int) -> None:
    """Report regularly that this process is alive, and end it when its parent is gone."""
    while os.getppid() == parent:
        # If the parent has just ended, the next round of the loop notices that.
        with suppress(OSError):
            beats.send_bytes(b".")
        time.sleep(BEAT_SECONDS)
    log.error("the parent process of this worker is gone; the worker ends")
    os.kill(os.getpid(), signal.SIGTERM)
    # The worker ends by force if it has not stopped after this time.
    time.sleep(STOP_SECONDS)
    os._exit(1)


def hold_signals() -> None:
    """Block SIGTERM and SIGINT, because a new worker must not get them before it has its own handlers."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})


def let_signals_through() -> None:
    """Unblock SIGTERM and SIGINT; a signal that was sent meanwhile arrives now."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
