"""The machine: what figures belong to, and which cores servers and load get."""

import os
import platform
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Cores:
    """Who runs where. With one core only, or where cores cannot be given, servers and load share what there is.

    Attributes:
        server: the cores of the servers.
        load: the cores of the load.
        everything: all cores that this process may use.
    """

    server: tuple[int, ...]
    load: tuple[int, ...]
    everything: tuple[int, ...]

    @property
    def said(self) -> str:
        if not self.everything:
            return "nothing pinned: this system cannot give cores to processes"
        if self.server == self.load:
            return f"one core only ({self.server[0]}): servers and load share it, and all figures are of both"
        said = f"servers on core {self.server[0]}, load on core {self.load[0]}"
        return f"{said}, which are threads of one physical core" if self.load[0] in _siblings(self.server[0]) else said


def find_cores() -> Cores:
    """The first core for the servers; for the load the last one that is not its hyper-thread, where there is one."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores((), (), ())
    usable = tuple(sorted(os.sched_getaffinity(0)))
    apart = [core for core in usable if core not in {usable[0], *_siblings(usable[0])}]
    return Cores(usable[:1], tuple(apart or usable)[-1:], usable)


def _siblings(core: int) -> set[int]:
    """The threads of the same physical core."""
    listed = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    found = set()
    if listed.exists():
        for part in listed.read_text().strip().split(","):
            first, _, last = part.partition("-")
            found |= set(range(int(first), int(last or first) + 1))
    return found


@dataclass(frozen=True)
class Machine:
    date: str
    cpu: str
    cores: int
    python: str
    kernel: str
    load_average: float | None

    def as_dict(self):
        return asdict(self)


def this_machine(cores: int) -> Machine:
    return Machine(
        date=datetime.now(UTC).date().isoformat(),
        cpu=_cpu_name(),
        cores=cores or os.cpu_count() or 1,
        python=platform.python_version(),
        # What follows the number names a build of it.
        kernel=f"{platform.system()} {platform.release().split('-')[0]}",
        # Of the last minute before the run: other work on the machine shows here.
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    )


def _cpu_name() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
