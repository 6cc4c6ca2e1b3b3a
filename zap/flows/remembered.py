"""Remembered: results that are expensive to compute, of bounded number."""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """The results that were used last, by a key that says all that they depend on. Threads may share it.

    Args:
        most: how many results it remembers.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: OrderedDict[Key, Value] = OrderedDict()
        self._lock = Lock()

    def find(self, key: Key) -> Value | None:
        """Return a result, which nobody may change; None if it is not remembered."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def keep(self, key: Key, value: Value) -> None:
        """Remember a result. The result that was not used for the longest time may be forgotten."""
        with self._lock:
            self._found[key] = value
            self._found.move_to_end(key)
            if len(self._found) > self._most:
                self._found.popitem(last=False)
