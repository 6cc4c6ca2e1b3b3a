"""Memory that a training has freed: the operating system is to have it back before the next phase takes more.

Of a million sessions what would be kept otherwise is a third of the feature matrix.
"""

import ctypes
import sys

import pyarrow as pa

# Only glibc keeps what it has to be asked for.
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def give_back() -> None:
    """Of Arrow's own pool, and of the C library's heap."""
    pa.default_memory_pool().release_unused()
    if _trim is not None:
        _trim(0)
