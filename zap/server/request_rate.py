"""The limit of requests a second: a bucket that fills within a second, and from which each request takes one."""

import math
import time

_WINDOW_SECONDS = 1.0


class RequestRate:
    """Count the requests of one key in one process.

    The bucket is kept as one number: the moment at which it would be full again. So a request costs one comparison.

    Args:
        limit: how many requests a second are let through, in the long run. As many may come at once.

    Raises:
        ValueError: the limit is not above 0.
    """

    __slots__ = ("_full_at", "_interval", "_most", "limit")

    def __init__(self, limit: float) -> None:
        if not limit > 0:
            raise ValueError(f"{limit} is no limit of requests")
        self.limit = limit
        self._interval = 1.0 / limit
        # At least one request has to fit into the bucket, however seldom requests may come.
        self._most = max(_WINDOW_SECONDS, self._interval)
        self._full_at = 0.0

    def take(self) -> bool:
        """Take a request from the bucket. Return whether there was one."""
        now = time.monotonic()
        full_at = max(self._full_at, now) + self._interval
        # Rounding errors must not refuse the last request that fits.
        if full_at - now > self._most + 1e-9:
            return False
        self._full_at = full_at
        return True

    def headers(self) -> dict[str, str]:
        """Return the headers of a refusal, as the draft of RateLimit header fields for HTTP writes them."""
        seconds = max(0.0, self._full_at + self._interval - time.monotonic() - self._most)
        wait = max(1, math.ceil(seconds))
        window = math.ceil(self._most)
        quota = max(1, math.floor(self.limit * window))
        return {
            "Retry-After": str(wait),
            "RateLimit-Policy": f'"requests";q={quota};w={window}',
            "RateLimit": f'"requests";r=0;t={wait}',
        }
