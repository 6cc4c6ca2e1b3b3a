"""The machine, or the part of it that a container has: time zone, cores, memory, open files."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from zap.checks.finding import Finding
from zap.settings import Settings

# What a server process needs, with its model and caches (bytes).
_WORKER_BYTES = 400 * 2**20
# The file descriptors that a server process needs beside its connections.
_OTHER_FILES = 128
_MIB = 2**20
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def look_at_machine(settings: Settings) -> Iterator[Finding]:
    """Yield what does not fit between these settings and the machine."""
    if settings.timezone is None and _is_utc():
        yield Finding(
            "time-zone-utc",
            "ZAP_TIMEZONE",
            "UTC",
            "the time zone of this machine is UTC, so zap takes the drivers' wall time for UTC",
            "set ZAP_TIMEZONE to the drivers' time zone, such as Europe/London; if they live by UTC, set it to UTC",
        )
    cores = _cores()
    if settings.workers > cores:
        yield Finding(
            "too-many-workers",
            "ZAP_WORKERS",
            str(settings.workers),
            f"zap has {cores:g} core{'s' * (cores != 1)} here, and {settings.workers} server processes only wait for"
            " each other",
            f"set ZAP_WORKERS to {max(1, int(cores))}",
        )
    yield from _memory(settings)
    yield from _files(settings)
    if settings.log_level == "DEBUG":
        yield Finding(
            "log-debug",
            "ZAP_LOG_LEVEL",
            "DEBUG",
            "libraries then write details of requests and of the database into the log",
            "use INFO for a service",
        )


def _is_utc() -> bool:
    year = datetime.now(UTC).year
    # London has UTC in January only.
    moments = (datetime(year, month, 1, tzinfo=UTC) for month in (1, 7))
    return all(moment.astimezone().utcoffset() == timedelta(0) for moment in moments)


def _memory(settings: Settings) -> Iterator[Finding]:
    limit = _memory_limit()
    needed = settings.training_memory + settings.workers * _WORKER_BYTES
    if limit is not None and needed > limit:
        left = limit - settings.workers * _WORKER_BYTES
        # The least that the setting takes.
        fits = max(2**28, left // _MIB * _MIB)
        yield Finding(
            "training-memory",
            "ZAP_TRAINING_MEMORY",
            str(settings.training_memory),
            f"a training may take {settings.training_memory // _MIB:,} MiB, and the server processes need about"
            f" {settings.workers * _WORKER_BYTES // _MIB:,} MiB, but there are {limit // _MIB:,} MiB, so the system may"
            " end the server during a large training",
            f"set ZAP_TRAINING_MEMORY to at most {fits}, or give zap more memory",
        )


def _files(settings: Settings) -> Iterator[Finding]:
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not on Windows

    # A server raises its soft limit to this hard limit.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < settings.connections + _OTHER_FILES:
        yield Finding(
            "too-few-files",
            "ZAP_CONNECTIONS",
            str(settings.connections),
            f"a process may open {most:,} files here, so it takes fewer connections than ZAP_CONNECTIONS",
            f"raise the limit of open files to {settings.connections + _OTHER_FILES} (ulimit -n, LimitNOFILE), or set"
            f" ZAP_CONNECTIONS to {max(1, most - _OTHER_FILES)}",
        )


def _cores() -> float:
    """Return how many cores this process may use; a container may have a part of a core."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores: float = len(affinity(0)) if affinity else os.cpu_count() or 1
    for folder in _groups("cpu"):
        quota, period = (
            _words(folder / "cpu.max", 2)
            or (
                *_words(folder / "cpu.cfs_quota_us", 1),
                *_words(folder / "cpu.cfs_period_us", 1),
            )
            or ("max", "")
        )
        if quota.isdecimal() and period.isdecimal() and int(period):
            cores = min(cores, int(quota) / int(period))
    return cores


def _memory_limit() -> int | None:
    """Return how many bytes of memory this machine, or the container, has; None if this is not known."""
    limits = []
    with suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for folder in _groups("memory"):
        found = [*_words(folder / "memory.max", 1), *_words(folder / "memory.limit_in_bytes", 1)]
        limits += [int(one) for one in found if one.isdecimal()]
    return min(limits, default=None)


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups of this process for a controller, with those above."""
    with suppress(OSError):
        for line in _OWN_GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            # Version 1 has a folder for each controller, and version 2 has one for all.
            top = _GROUPS / controllers if controllers else _GROUPS
            folder = top / path.lstrip("/")
            yield from (folder, *(one for one in folder.parents if one.is_relative_to(top)))


def _words(file: Path, number: int) -> list[str]:
    """Return the words of a file; none if it does not have this number of words."""
    try:
        words = file.read_text().split()
    except OSError:
        return []
    return words if len(words) == number else []
