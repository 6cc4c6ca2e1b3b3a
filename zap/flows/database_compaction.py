"""The compaction of a database: a SQLite file is written anew without free pages, and the new file takes its place."""

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, make_url

from zap.db.audit import note
from zap.db.free_pages import NEW_FILE, file_pages
from zap.db.moving.backup_file import like, new_private_file, put_in_place, remove_database
from zap.db.moving.connections import explained, reading, url_of_file, writing
from zap.db.moving.copy_turn import filling
from zap.db.moving.database_users import alone_on_file, refuse_users
from zap.errors import DiskTooSmall
from zap.progress import Progress, no_progress

_STOP = "Stop all servers and other programs that use it, then try again"
# How much larger than the used pages the new file may be: the pages that say where each page belongs, and the audit.
_SHARE_MORE, _BYTES_MORE = 0.02, 2**20
# After how many steps of SQLite's machine the progress is told, and Ctrl-C is heard.
_STEPS = 100_000
_POSTGRESQL = (
    "PostgreSQL uses the space of removed rows again by itself (autovacuum), so nothing was done. VACUUM FULL and tools"
    " such as pg_repack return the space to the disk; VACUUM FULL stops all requests meanwhile"
)


@dataclass(frozen=True)
class Compaction:
    """What a compaction has done.

    Attributes:
        bytes_before, bytes_after: the size of the database.
        note: why nothing was done; None if the file was compacted.
    """

    bytes_before: int
    bytes_after: int
    note: str | None = None


def compact(url: str, progress: Progress = no_progress) -> Compaction:
    """Write the file of a SQLite database anew, without free pages. From then on it returns free pages by itself.

    The old file is as it was until the new one is complete. A database on PostgreSQL is not changed.

    Args:
        url: of a database at head. This process must have no connection to it.
        progress: called with "compacting" (in bytes).

    Raises:
        DatabaseInUse: another program uses the file.
        DiskTooSmall: the disk has too little space for the new file.
        DatabaseUnavailable: the file cannot be read or written.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        with reading(url) as connection:
            size = _postgresql_bytes(connection)
        return Compaction(size, size, _POSTGRESQL)
    file = Path(str(parsed.database)).resolve()
    new = file.with_name(f"{file.name}.compacted")
    with filling(url), explained(parsed):
        refuse_users(url, _STOP)
        before, expected = file.stat().st_size, _expected_bytes(url)
        remove_database(new)
        _refuse_small_disk(file.parent, expected)
        try:
            with alone_on_file(file) as connection:
                new_private_file(new)
                _write_anew(connection, new, lambda: progress("compacting", new.stat().st_size, expected))
                after = new.stat().st_size
                with writing(url_of_file(new)) as engine, engine.begin() as audited:
                    note(audited, "database.compact", "database", before={"bytes": before}, after={"bytes": after})
                like(file, new)
                put_in_place(new, file)
        finally:
            remove_database(new)
    progress("compacting", expected, expected)
    return Compaction(before, file.stat().st_size)


def _expected_bytes(url: str) -> int:
    """Return the most bytes that the new file can have."""
    with reading(url) as connection:
        found = file_pages(connection)
    return round((found.pages - found.free) * found.size * (1 + _SHARE_MORE)) + _BYTES_MORE


def _refuse_small_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskTooSmall(
            f"the new file needs up to {needed:,} bytes beside the old one, and the disk of {folder} has {free:,} free;"
            " free some space, or move the database to a larger disk"
        )


def _write_anew(connection: sqlite3.Connection, new: Path, told: Callable[[], object]) -> None:
    """Write the content of a database into an empty file, in order, without free pages."""
    # VACUUM cannot be part of a transaction. The connection keeps its lock.
    connection.execute("COMMIT").close()
    connection.execute(NEW_FILE).close()

    def tell() -> int:
        told()
        return 0

    connection.set_progress_handler(tell, _STEPS)
    try:
        connection.execute("VACUUM INTO ?", (str(new),)).close()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            # The handler was interrupted, and SQLite has only heard that.
            raise KeyboardInterrupt from None
        raise
    finally:
        connection.set_progress_handler(None, 0)


def _postgresql_bytes(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
