"""Return freed memory to the operating system before the next phase of a training allocates more.

With a million sessions, the memory that would be kept otherwise is a third of the feature matrix.
"""

import ctypes
import sys

import pyarrow as pa

# glibc keeps freed memory until malloc_trim is called; other C libraries do not need the call.
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def release_memory() -> None:
    """Return the freed memory of Arrow's pool and of the C library's heap to the operating system."""
    pa.default_memory_pool().release_unused()
    if _trim is not None:
        _trim(0)
