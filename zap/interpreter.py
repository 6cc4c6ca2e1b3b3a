"""What a process asks of Python's interpreter for a while."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# New objects, in numbers.
_COLLECT_AFTER = 50_000
# How long Python code keeps the interpreter from a thread that has something to do; by default 5 ms, and a request, or
# a transaction, needs it several times.
_SWITCH_SECONDS = 0.0005


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Python looks for cycles among new objects alone, and when there are many.

    By default that is a sixth of all that a request costs: many are under way at once, and their objects are looked at
    again and again.
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
    """Threads take turns quickly: a request beside a batch, a heartbeat's transaction beside a training that computes.

    Of two of these in one process the first that was entered has to be the last that is left.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
