"""The signal to stop: the application hears it at once, not only after its last reply as ASGI provides."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import structlog

log = structlog.get_logger(__name__)

# How long a process takes at most to end after the signal, even if a part hangs. Replies have five seconds of this, and
# trainings and the log have the rest.
END_SECONDS = 10.0
_HUNG_EXIT_CODE = 70


@contextmanager
def told_to_stop(stopping: asyncio.Event) -> Iterator[None]:
    """Set `stopping` when this process gets SIGINT or SIGTERM, then call the earlier signal handler.

    A server waits for its last reply before it ends the application, so endless replies have to be ended earlier. After
    the signal the process has END_SECONDS to end.
    """
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread can handle signals. A server in another thread, as in tests, is stopped without a signal.
        yield
        return
    loop = asyncio.get_running_loop()
    before = {sign: signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM)}

    def handle(sign: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopping.set)
        _end_whatever_hangs()
        handler = before[signal.Signals(sign)]
        if callable(handler):
            handler(sign, frame)

    for sign in before:
        signal.signal(sign, handle)
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def _end_whatever_hangs() -> None:
    """End this process after END_SECONDS, if it still runs.

    Python waits for its threads at the end, and a thread may wait for a database that has stopped answering.
    """

    def end() -> None:
        log.error("the process did not stop in time and is ended by force", seconds=END_SECONDS)
        os._exit(_HUNG_EXIT_CODE)

    timer = threading.Timer(END_SECONDS, end)
    timer.daemon = True
    with contextlib.suppress(RuntimeError):
        timer.start()
