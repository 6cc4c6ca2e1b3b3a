"""The end of a training that is told to stop: certain within seconds, whatever its main thread is doing."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from zap.errors import TrainingCancelled, ZapError
from zap.standard_error import tell

# How long a training that is told to stop may clean up.
CLEAN_SECONDS = 2.0
# How long it may then wait for the database, to store in its run why it ended.
NOTE_SECONDS = 1.0
# How long a training may go on after another process has ended its run.
_CANCELLED_SECONDS = 0.5


class Ending:
    """End this process when a signal or its own code asks for it.

    Python calls a signal handler only between two steps of the main thread, and a computation in C, or a transaction
    that waits for a lock, is one long step. Python also loses an error that a handler raises while an object is being
    deleted. So the handler alone cannot end a process for certain. A thread receives each signal at once, and ends the
    process if the main thread has not ended it in time.

    Attributes:
        note: called with the error before the process is ended by force; a training stores the error in its run.
    """

    def __init__(self) -> None:
        self.note: Callable[[ZapError], object] = lambda _: None
        self._held = False
        # The number of the first signal.
        self._told: int | None = None

    @contextmanager
    def later(self) -> Iterator[None]:
        """Delay the error of a signal handler to the end of this block."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._told is not None:
            raise TrainingCancelled.by_signal(self._told)

    def end_soon(self, error: ZapError, seconds: float = _CANCELLED_SECONDS) -> threading.Timer:
        """End this process after `seconds` with the exit code of `error`, if it has not ended by then.

        Returns:
            The timer that ends the process; it can be cancelled.
        """
        timer = threading.Timer(seconds, self.end, [error])
        timer.daemon = True
        timer.start()
        return timer

    def end(self, error: ZapError) -> None:
        """Store the error with `note`, and end this process although its main thread is busy."""
        # In threads, because the database may not answer, and nobody may read standard error.
        said = (f"Error: {error.title}: {error.message}", "error")
        threads = [
            threading.Thread(target=self._note, args=[error], daemon=True),
            threading.Thread(target=tell, args=said, daemon=True),
        ]
        for thread in threads:
            thread.start()
        until = time.monotonic() + NOTE_SECONDS
        for thread in threads:
            thread.join(max(0.1, until - time.monotonic()))
        os._exit(error.exit_code)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Raise the error that ends the training, only for the first signal so that cleaning up is not interrupted."""
        if self._told is not None:
            return
        self._told = number
        if not self._held:
            raise TrainingCancelled.by_signal(number)

    def listen(self, signals: socket.socket) -> None:
        """Wait for the first signal, then start the timer that ends this process."""
        # Python writes the number of each signal.
        with signals:
            number = signals.recv(1)
        if number:
            self.end_soon(TrainingCancelled.by_signal(number[0]), CLEAN_SECONDS)

    def _note(self, error: ZapError) -> None:
        try:
            self.note(error)
        except Exception as not_noted:  # noqa: BLE001 - the process ends even if the database fails
            tell(f"warning: the end could not be stored in the run: {type(not_noted).__name__}", "warning")


@contextmanager
def ending_when_told() -> Iterator[Ending]:
    """End this process within CLEAN_SECONDS + NOTE_SECONDS after SIGTERM or Ctrl-C.

    A process that was started with SIGINT ignored, as by nohup or a supervisor, goes on ignoring it.
    """
    ending = Ending()
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    heard = [sign for sign in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(sign) is not signal.SIG_IGN]
    handlers = {sign: signal.signal(sign, ending.handle) for sign in heard}
    before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=ending.listen, args=[reading], name="ending", daemon=True).start()
    try:
        yield ending
    finally:
        signal.set_wakeup_fd(before)
        for sign, handler in handlers.items():
            signal.signal(sign, handler)
        writing.close()
