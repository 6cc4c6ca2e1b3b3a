"""Settings of Python's interpreter for the length of a block: garbage collection and thread switching."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# How many new objects there are before Python looks for cycles.
_COLLECT_AFTER = 50_000
# How long one thread may keep the interpreter while another thread waits for it. The default is 5 ms, and a request or
# a transaction waits for the interpreter several times.
_SWITCH_SECONDS = 0.0005


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Let Python look for reference cycles rarely, and only among objects that are made inside the block.

    By default the garbage collector takes a sixth of the time of a request, because it visits the objects of all
    concurrent requests again and again.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def taking_turns() -> Iterator[None]:
    """Let Python switch between threads often: a request waits less for a batch, a heartbeat less for a training.

    Two such blocks in one process must be nested, because each restores the interval that it found.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
