"""The file of a backup: a SQLite database with the table zap_backup, which says what the backup holds.

It holds the tables of the database that was backed up, whatever engine that was.
"""

import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, column, inspect, select, table

from zap import __version__
from zap.db.moving.table_digest import TableDigest
from zap.db.tables import utc_now
from zap.errors import DamagedBackup, UnusableFile
from zap.progress import Progress

_BACKUP = table("zap_backup", column("name"), column("value"))
# How many pages are copied between two reports of progress.
_PAGES = 2000


class BackupFacts(NamedTuple):
    """The description of a backup, which is stored in its file.

    Attributes:
        made_at: when it was begun (UTC, ISO 8601).
        engine: the engine of the database that was backed up.
        version: of the zap that made it.
        tables: the number of rows and the hash of each table.
    """

    made_at: str
    engine: str
    version: str
    tables: dict[str, tuple[int, str]]


def copy_pages(source: str, target: Path, progress: Progress, what: str) -> None:
    """Copy one snapshot of a SQLite database into a new file, while other programs write into the source.

    Args:
        source: the file, or an SQLite URI.
        target: an existing empty file.
        progress: called with `what` (in pages).
        what: the name of the phase.
    """
    with (
        closing(sqlite3.connect(source, isolation_level=None, uri=source.startswith("file:"))) as reader,
        closing(sqlite3.connect(target, isolation_level=None)) as writer,
    ):
        # An open transaction keeps its snapshot. Without it, each commit of a server would begin the copy anew.
        reader.execute("BEGIN").close()
        reader.execute("SELECT 1 FROM sqlite_master").close()
        progress(what, 0, 1)
        reader.backup(
            writer, pages=_PAGES, sleep=0, progress=lambda _status, left, total: progress(what, total - left, total)
        )
        # Then the file is complete without a file beside it.
        writer.execute("PRAGMA journal_mode=DELETE").close()


def check_pages(file: Path, shown: Path) -> None:
    """Check that a file is a SQLite database without damage.

    Args:
        file: the file.
        shown: the file that a message names: people do not know the copy of a backup that is restored.

    Raises:
        DamagedBackup: it is not.
    """
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    if found != ["ok"]:
        raise DamagedBackup(f"{shown}: {'; '.join(found)}")


def write_facts(file: Path, engine: str, made_at: str, digests: Mapping[str, TableDigest]) -> None:
    """Store in the file of a backup what it holds."""
    tables = {name: [digest.rows, digest.shown] for name, digest in digests.items()}
    facts = {"made_at": made_at, "engine": engine, "version": __version__, "tables": json.dumps(tables)}
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(f"DROP TABLE IF EXISTS {_BACKUP.name}")
        connection.execute(f"CREATE TABLE {_BACKUP.name} (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        connection.executemany(f"INSERT INTO {_BACKUP.name} VALUES (?, ?)", facts.items())  # noqa: S608


def read_facts(connection: Connection) -> BackupFacts | None:
    """Return what a backup says about itself; None for a file that another program has made.

    Args:
        connection: of `reading`, on the file.
    """
    if not inspect(connection).has_table(_BACKUP.name):
        return None
    rows = connection.execute(select(_BACKUP.c.name, _BACKUP.c.value)).all()
    facts: dict[str, Any] = {row.name: row.value for row in rows}
    tables = {name: (int(rows), str(shown)) for name, (rows, shown) in json.loads(facts["tables"]).items()}
    return BackupFacts(**{**facts, "tables": tables})


def forget_facts(connection: Connection) -> None:
    """Remove the table of the facts from a database that was restored."""
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_BACKUP.name}")


def new_private_file(file: Path) -> None:
    """Make an empty file that only its user can read, instead of an earlier unfinished file with this name."""
    remove_database(file)
    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def remove_database(file: Path) -> None:
    """Remove a SQLite file, and the files that SQLite keeps beside it, as far as they exist."""
    for ending in ("", "-wal", "-shm", "-journal"):
        Path(f"{file}{ending}").unlink(missing_ok=True)


def like(old: Path, new: Path) -> None:
    """Give a new file the owner and the rights of the file whose place it will take.

    Raises:
        UnusableFile: the old file belongs to another user, who could not use the new one.
    """
    was, made = old.stat(), new.stat()
    if (was.st_uid, was.st_gid) != (made.st_uid, made.st_gid):
        try:
            os.chown(new, was.st_uid, was.st_gid)
        except PermissionError:
            if was.st_uid != made.st_uid:
                raise UnusableFile(f"{old} belongs to another user; run the command as this user") from None
    new.chmod(was.st_mode & 0o777)


def put_in_place(part: Path, file: Path) -> None:
    """Let the disk take a complete file, and give it its name. After a power cut the name leads to one whole file."""
    _sync(part, os.O_RDWR)
    part.replace(file)
    _sync(file.parent, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def now_as_text() -> str:
    """Return the present time as the facts of a backup have it."""
    return utc_now().isoformat(timespec="seconds")
