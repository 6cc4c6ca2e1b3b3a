"""Bounds: how long this process waits for its database, normally and when the process ends."""

import math
import time

# The longest wait for the database when the process ends.
_HURRY_SECONDS = 1.0


class Bounds:
    """Limit how long one wait for the database may take.

    Args:
        seconds: the limit for one answer of the database; infinite if no request waits for it.
    """

    def __init__(self, seconds: float = math.inf) -> None:
        self._seconds = seconds
        self._end = math.inf

    def hurry(self) -> None:
        """Let every wait end within a second, including waits that have begun, because the process ends."""
        self._end = time.monotonic() + _HURRY_SECONDS

    def until(self, patience: float = math.inf) -> float:
        """Return the moment on the monotonic clock at which a wait that begins now is over."""
        return min(time.monotonic() + min(self._seconds, patience), self._end)

    def is_over(self, until: float) -> bool:
        """Return whether a wait that should be over at `until` has to end now."""
        return time.monotonic() >= min(until, self._end)
