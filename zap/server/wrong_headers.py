"""The wrong keys in headers, by the network of their clients.

The limit keeps a program with a wrong key from sending it again and again. It does not protect keys: a right key is
accepted whatever else comes from its network, so that nobody can shut it out, and the secret of a key is far too long
to be guessed.
"""

import math
import time

import structlog

log = structlog.get_logger(__name__)

# How many wrong keys a network may send in a minute, and how many networks are remembered.
_MOST, _WITHIN_SECONDS, _MOST_NETWORKS = 100, 60.0, 1_000


class WrongHeaders:
    """Count the wrong keys that came to one process in the present minute."""

    def __init__(self) -> None:
        self._until = float("-inf")
        self._counts: dict[str, int] = {}

    def note(self, network: str) -> int:
        """Count a wrong key. Return how many seconds its network has to wait; 0 if it need not wait."""
        now = time.monotonic()
        if now >= self._until or len(self._counts) >= _MOST_NETWORKS:
            self._until, self._counts = now + _WITHIN_SECONDS, {}
        count = self._counts[network] = self._counts.get(network, 0) + 1
        if count <= _MOST:
            return 0
        if count == _MOST + 1:
            log.warning("very many wrong keys came from one network", client=network)
        return max(1, math.ceil(self._until - now))
