"""What the system knows about a server process: its processor time, memory, files and threads, as Linux shows them."""

import os
from functools import cache
from pathlib import Path

_PROC = Path("/proc")


def process_figures(process: int) -> dict[str, float]:
    """Return figures of a process by the names of their metrics.

    A figure that the system does not show is left out: on other systems than Linux all of them, and all figures of a
    process that has ended.

    Args:
        process: the number of a process of the same user.
    """
    folder = _PROC / str(process)
    try:
        # The name of the program, in parentheses, may have spaces.
        fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        ticks, pages = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        figures = {
            "process_cpu_seconds": (int(fields[11]) + int(fields[12])) / ticks,
            "process_threads": float(fields[17]),
            "process_start_time_seconds": _started() + int(fields[19]) / ticks,
            "process_virtual_memory_bytes": float(fields[20]),
            "process_resident_memory_bytes": float(int(fields[21]) * pages),
        }
        figures["process_open_fds"] = float(sum(1 for _ in (folder / "fd").iterdir()))
        limits = (folder / "limits").read_text().splitlines()
        most = next(line for line in limits if line.startswith("Max open files")).split()[3]
        return figures | ({"process_max_fds": float(most)} if most.isdigit() else {})
    except (OSError, ValueError, IndexError, StopIteration):
        return {}


@cache
def _started() -> float:
    """Return when the machine started, in seconds since 1970."""
    lines = (_PROC / "stat").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("btime")).split()[1])
