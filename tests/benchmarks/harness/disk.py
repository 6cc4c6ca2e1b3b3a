"""How often a second the disk under a folder makes 12 KiB durable: about what one small commit writes."""

import os
import tempfile
import time
from pathlib import Path

WRITTEN = 12 * 1024


def syncs_per_second(folder: Path, seconds: float = 0.3) -> float:
    """fdatasync (where there is none: fsync) of 12 KiB, appended to a new file, again and again."""
    sync = getattr(os, "fdatasync", os.fsync)
    block = os.urandom(WRITTEN)
    with tempfile.NamedTemporaryFile(dir=folder, buffering=0) as file:
        number, begin = 0, time.perf_counter()
        while (spent := time.perf_counter() - begin) < seconds:
            file.write(block)
            sync(file.fileno())
            number += 1
    return number / spent
