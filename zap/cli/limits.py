"""Limits of a training that a server starts: memory and time."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from zap.cli.ending import Ending
from zap.errors import TrainingLimited

if TYPE_CHECKING:
    from zap.settings import Settings

if sys.platform != "win32":
    import resource

# Parts of the messages with which libraries report that they got no memory.
_NO_MEMORY = ("bad_alloc", "bad allocation", "Cannot allocate", "new thread", "Unable to allocate")


@contextmanager
def limited(settings: "Settings", ending: Ending) -> Iterator[None]:
    """End this training if it takes more memory or more time than the settings allow.

    Memory is limited by the system (RLIMIT_DATA): writable memory counts from its allocation on, the files of libraries
    do not count. Time is measured by a thread, which ends the process whatever the main thread is doing.

    Raises:
        TrainingLimited: the training needed more memory than ZAP_TRAINING_MEMORY.
    """
    _get_ready()
    timer = ending.end_soon(TrainingLimited.of_time(settings.training_seconds), settings.training_seconds)
    before = _may_take(settings.training_memory)
    try:
        yield
    except Exception as error:
        if not _is_memory(error):
            raise
        # Reporting the error takes some memory too.
        _restore(before)
        raise TrainingLimited.of_memory(settings.training_memory) from None
    finally:
        _restore(before)
        timer.cancel()


def _get_ready() -> None:
    """Let the libraries allocate their working memory before the limit: OpenBLAS retries for ever if it gets none."""
    import numpy as np
    from scipy.linalg import solve

    import zap.flows.training  # noqa: F401

    square = np.eye(512)
    solve(square @ square, square)


def _may_take(most_bytes: int) -> int | None:
    """Set the limit of the memory (bytes). Return the earlier limit; None if the system has no such limit."""
    if sys.platform == "win32":
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        most_bytes = min(most_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, hard))
    return soft


def _restore(soft: int | None) -> None:
    if sys.platform != "win32" and soft is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _is_memory(error: BaseException) -> bool:
    """Return whether an error means that there was not enough memory."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY)
