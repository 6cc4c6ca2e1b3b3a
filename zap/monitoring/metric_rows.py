"""Metric rows: the numbers of each server process in memory that all processes of a server share.

Each process has a row that only it writes, and every process reads all rows. A process that replaces a dead one goes
on with its row, so counts never go back. All numbers are whole: times are in nanoseconds.
"""

import json
import mmap
import multiprocessing
import struct
import threading
import time
from array import array
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

# A row has numbers at fixed places, then the cells of series, then a note. All sizes are in words of 8 bytes.
_WORD = 8
_USED, _NOTE_CHANGES, _NOTE_BYTES = range(3)
_FIRST_NUMBER, _NUMBERS = 8, 64
_FIRST_CELL = _FIRST_NUMBER + _NUMBERS
_CELLS = 65_536
_NOTE = 8_192
_ROW = _FIRST_CELL + _CELLS + _NOTE
# A name with its labels has at most this many bytes.
_LONGEST_KEY = 256
_BETWEEN = "\0"
# How often a note is read again while its writer changes it, and the pause before each time.
_TRIES, _PAUSE_SECONDS = 20, 0.0005

# A series: the name of its metric and its labels.
Key = tuple[str, ...]


class Note(NamedTuple):
    """The note of a process, for what is no whole number.

    Attributes:
        seconds: when it was written, on the monotonic clock, which all processes of a machine share.
        content: a JSON object.
    """

    seconds: float
    content: dict[str, Any]


class MetricRow:
    """The row of one process. Several threads may add cells; each cell and each number has one thread that writes it.

    Args:
        words: the memory of the row, as numbers of 64 bits.

    Attributes:
        numbers: numbers at fixed places.
    """

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self.numbers = words[_FIRST_NUMBER:_FIRST_CELL]
        self._lock = threading.Lock()
        self._places = {key: (first, n) for key, first, n in _entries(words)}

    @property
    def keys(self) -> Collection[Key]:
        """Return the series that have cells."""
        return self._places.keys()

    def cells(self, key: Key, n: int) -> memoryview:
        """Return the cells of a series. New cells are 0.

        If the row has no room for them, or the series has another number of cells, they are cells that nobody reads.

        Args:
            key: the metric and its labels.
            n: how many cells it has.
        """
        with self._lock:
            first, known = self._places.get(key) or self._added(key, n)
            if first is None or known != n:
                return memoryview(bytearray(n * _WORD)).cast("q")
            return self._words[first : first + n]

    def _added(self, key: Key, n: int) -> tuple[int | None, int]:
        name = _BETWEEN.join(key).encode()
        begin = self._used
        first = begin + 1 + -(-len(name) // _WORD)
        if len(name) > _LONGEST_KEY or first + n > _FIRST_CELL + _CELLS:
            return None, n
        words = self._words
        words[begin] = len(name) << 32 | n
        words[begin + 1 : first] = memoryview(name.ljust((first - begin - 1) * _WORD, b"\0")).cast("q")
        words[first : first + n] = memoryview(bytes(n * _WORD)).cast("q")
        # The last step: a reader, and a process that takes the row over, see whole entries only.
        words[_USED] = first + n - _FIRST_CELL
        self._places[key] = first, n
        return first, n

    @property
    def _used(self) -> int:
        return _FIRST_CELL + int(self._words[_USED])

    def read(self) -> Iterator[tuple[Key, Sequence[int]]]:
        """Yield each series with the numbers in its cells, also while its process writes."""
        words = array("q", self._words[: self._used].tobytes())
        for key, first, n in _entries(memoryview(words)):
            yield key, words[first : first + n]

    def write_note(self, content: dict[str, Any]) -> None:
        """Replace the note. A note that is too long is not written. Only one thread may call this."""
        text = struct.pack("d", time.monotonic()) + json.dumps(content).encode()
        if len(text) > _NOTE * _WORD:
            return
        words, first = self._words, _FIRST_CELL + _CELLS
        # A process may have been killed while it wrote the note, so the number may be odd.
        changes = words[_NOTE_CHANGES] & ~1
        words[_NOTE_CHANGES] = changes + 1
        padded = text.ljust(-(-len(text) // _WORD) * _WORD, b"\0")
        words[first : first + len(padded) // _WORD] = memoryview(padded).cast("q")
        words[_NOTE_BYTES] = len(text)
        words[_NOTE_CHANGES] = changes + 2

    def read_note(self) -> Note | None:
        """Return the note; None if there is none, or if its process has died while it wrote it."""
        words, first = self._words, _FIRST_CELL + _CELLS
        for _ in range(_TRIES):
            changes, size = words[_NOTE_CHANGES], words[_NOTE_BYTES]
            text = words[first : first + -(-size // _WORD)].tobytes()[:size]
            if changes == words[_NOTE_CHANGES] and not changes % 2:
                return _note_of(text) if text else None
            time.sleep(_PAUSE_SECONDS)
        return None


def _note_of(text: bytes) -> Note:
    (seconds,) = struct.unpack_from("d", text)
    return Note(seconds, json.loads(text[_WORD:]))


def _entries(words: memoryview) -> Iterator[tuple[Key, int, int]]:
    """Yield each series of a row, the place of its first cell, and the number of its cells."""
    place, end = _FIRST_CELL, _FIRST_CELL + words[_USED]
    while place < end:
        length, n = words[place] >> 32, words[place] & 0xFFFFFFFF
        first = place + 1 + -(-length // _WORD)
        name = words[place + 1 : first].tobytes()[:length].decode()
        yield tuple(name.split(_BETWEEN)), first, n
        place = first + n


class MetricRows:
    """The rows of all processes of a server. The process that starts the others makes them, and passes them on.

    The memory belongs to no file that has a name, so nothing is left of it when the processes have ended, however they
    end.

    Args:
        n: the number of processes.
        forks: whether the other processes are forks of this one. Others get the memory when they are started.
    """

    def __init__(self, n: int = 1, *, forks: bool = True) -> None:
        self.n = n
        # Pages of memory that nobody has written to take no memory.
        size = n * _ROW * _WORD
        self._memory: Any = mmap.mmap(-1, size) if forks else multiprocessing.RawArray("b", size)

    def row(self, place: int) -> MetricRow:
        """Return a row, for the process that writes it or for a process that reads it.

        Args:
            place: which process it is of, from 0.
        """
        words = memoryview(self._memory).cast("B").cast("q")
        return MetricRow(words[place * _ROW : (place + 1) * _ROW])


def sums(rows: Sequence[MetricRow]) -> dict[Key, list[int]]:
    """Return each series with the sums of its cells over all rows."""
    found: dict[Key, list[int]] = {}
    for row in rows:
        for key, cells in row.read():
            before = found.get(key)
            found[key] = list(cells) if before is None else [a + b for a, b in zip(before, cells, strict=False)]
    return found
