"""The files of zap: the folders of the SQLite database and of the models, their file systems, and who can read them."""

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from zap.checks.finding import Finding
from zap.settings import Settings

# File systems on which processes of several machines cannot share the memory that SQLite's WAL needs, or whose locks do
# not hold: https://www.sqlite.org/wal.html
_OF_NETWORKS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "9p", "gpfs", "beegfs", "ncpfs", "davfs"}
    | {"glusterfs", "fuse.glusterfs", "fuse.sshfs", "fuse.ceph", "fuse.rclone", "fuse.s3fs", "fuse.davfs2"}
)
# File systems that end with the container, or with the machine's power.
_NOT_KEPT = frozenset({"overlay", "aufs", "tmpfs", "ramfs"})
_MOUNTS = Path("/proc/self/mountinfo")
# As the alarm about a disk: less than this share, and less than these bytes.
_LEAST_SHARE = 0.05
_LEAST_BYTES = 2**30


def look_at_folders(settings: Settings) -> Iterator[Finding]:
    """Yield what is wrong with the folders and files of these settings."""
    database = None
    if settings.url.drivername == "sqlite":
        database = Path(str(settings.url.database)).absolute()
        yield from _sqlite(settings, database)
    yield from _models(settings.models_dir.absolute())
    named = {"ZAP_MODELS_DIR": settings.models_dir.absolute()}
    if database is not None:
        named = {"ZAP_DATABASE_URL": database.parent, **named}
    seen = set()
    for setting, folder in named.items():
        there = _existing(folder)
        if (device := there.stat().st_dev) not in seen:
            seen.add(device)
            yield from _room(setting, there)


def _sqlite(settings: Settings, database: Path) -> Iterator[Finding]:
    if settings.sqlite_synchronous == "NORMAL":
        yield Finding(
            "synchronous-normal",
            "ZAP_SQLITE_SYNCHRONOUS",
            "NORMAL",
            "a power cut may lose the last answers, although clients have them",
            "leave ZAP_SQLITE_SYNCHRONOUS out, which means FULL",
        )
    folder = _existing(database.parent)
    system = _file_system(folder)
    if system in _OF_NETWORKS:
        yield Finding(
            "network-file-system",
            "ZAP_DATABASE_URL",
            str(folder),
            f"the SQLite file is on a network file system ({system}), whose locks may fail: rows may be lost",
            "keep the file on a disk of this machine, or use PostgreSQL",
        )
    if system in _NOT_KEPT:
        yield Finding(
            "folder-not-kept",
            "ZAP_DATABASE_URL",
            str(folder),
            f"the SQLite file is on a file system that is not kept ({system}): it ends with the container or with the"
            " power",
            "keep the file in a volume or on a disk",
        )
    if sys.platform != "win32" and database.exists() and database.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        others = "all users" if database.stat().st_mode & stat.S_IROTH else "its group"
        yield Finding(
            "database-readable",
            "ZAP_DATABASE_URL",
            str(database),
            f"{others} of this machine can read the database file, which holds what drivers do",
            f"chmod 600 {database}",
        )


def _models(folder: Path) -> Iterator[Finding]:
    there = _existing(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding(
            "models-folder",
            "ZAP_MODELS_DIR",
            str(folder),
            "zap cannot write the model file into this folder, so data scientists do not get it; predictions need no"
            " file",
            "let the user of zap write into the folder, or choose another one with ZAP_MODELS_DIR",
        )
    elif sys.platform != "win32" and there == folder and folder.stat().st_mode & stat.S_IWOTH:
        yield Finding(
            "models-folder-open",
            "ZAP_MODELS_DIR",
            str(folder),
            "all users of this machine can replace the model file, and a program that loads it runs code from it",
            f"chmod o-w {folder}",
        )


def _room(setting: str, folder: Path) -> Iterator[Finding]:
    disk = shutil.disk_usage(folder)
    if disk.free < min(_LEAST_SHARE * disk.total, _LEAST_BYTES):
        yield Finding(
            "disk-nearly-full",
            setting,
            str(folder),
            f"its disk has {disk.free // 2**20:,} MiB left; if it is full, zap refuses all requests for predictions",
            "make room, or use a larger disk",
        )


def _existing(folder: Path) -> Path:
    """Return a folder, or the nearest folder above it that exists. zap makes the missing folders."""
    return next(one for one in (folder, *folder.parents) if one.exists())


def _file_system(folder: Path) -> str:
    """Return the kind of the file system of a folder, such as `ext4`; `` if it is not known."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    real = folder.resolve()
    found = (0, "")
    for line in lines:
        before, _, after = line.partition(" - ")
        # A space in the path is written as \040.
        place = Path(before.split()[4].encode().decode("unicode_escape", errors="replace"))
        if real.is_relative_to(place) and len(place.parts) >= found[0]:
            # Of mounts on one place, the last one is on top.
            found = (len(place.parts), after.split()[0])
    return found[1]
