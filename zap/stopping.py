"""The moment when a server is told to stop, which an ASGI application otherwise learns only after its last reply."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def told_to_stop(stopping: asyncio.Event) -> Iterator[None]:
    """Set `stopping` when this process is told to stop, before whoever handles that.

    A server waits for its last reply before it ends the application; replies that go on as long as the server does
    have to be ended earlier.
    """
    if threading.current_thread() is not threading.main_thread():
        # Signals are the main thread's; a server elsewhere, as in tests, is stopped without one.
        yield
        return
    loop = asyncio.get_running_loop()
    before = {sign: signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM)}

    def handle(sign: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopping.set)
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
