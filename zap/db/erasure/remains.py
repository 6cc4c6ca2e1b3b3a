"""What is left of an erased driver in the files of a database after the commit, and how it is overwritten.

SQLite overwrites removed rows with zeros (PRAGMA secure_delete), and the WAL is emptied after an erasure. Two kinds of
bytes may be left: rows that a zap without this setting has removed or changed, and copies of rows that SQLite has moved
to another page. Only a VACUUM overwrites both. It rewrites the whole file while nobody can write, so a large file is
rewritten only if a person asks for it.
"""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.db.erasure import unused_bytes

log = structlog.get_logger(__name__)

# A file up to this size is rewritten at once if the id is found in its unused bytes.
REWRITTEN_AT_ONCE = 64 * 2**20
# How long the erasure waits for readers of the WAL, in all and at once: meanwhile nobody can write.
_WAL_SECONDS, _AT_ONCE_SECONDS, _PAUSE_SECONDS = 2.0, 0.1, 0.1
_VACUUM_SECONDS = 5.0
_SEARCH_SECONDS = 60.0
# A shorter text is found everywhere.
_SHORTEST_SEARCHED = 4
_SQLITE = b"SQLite format 3\0"
_TOUCHED = (
    *('"Users"', '"Vehicles"', '"ChargingSessions"', "session_facts", "session_text_ids", "session_predictions"),
    *("session_changes", "inference_inputs", "predictions", "outcomes", "trial_predictions", "model_versions"),
    "monitor_states",
)


class Remains(NamedTuple):
    """What is left of a driver in unused bytes of the files.

    Attributes:
        wal_is_empty: whether the WAL was emptied. It was not if another program reads an older snapshot.
        places: how often the id is in unused bytes of the file; None if the search did not come to its end.
        rewritten: whether the whole file was rewritten.
    """

    wal_is_empty: bool = True
    places: int | None = 0
    rewritten: bool = False


def overwrite_remains(engine: Engine, user_id: str, *, rewrite: bool = False) -> Remains:
    """Overwrite what is left of an erased driver after the commit, as far as the engine can.

    On PostgreSQL, VACUUM lets the server use the room of the removed rows again, and so overwrite it.

    Args:
        engine: on the database.
        user_id: the id of the driver.
        rewrite: whether to rewrite a SQLite file of any size.
    """
    if engine.dialect.name != "sqlite":
        _vacuum_tables(engine)
        return Remains()
    file = Path(str(engine.url.database)).resolve()
    is_empty, places = _empty_wal(file), _places(file, user_id)
    if not rewrite and (places == 0 or file.stat().st_size > REWRITTEN_AT_ONCE):
        return Remains(is_empty, places)
    try:
        rewrite_file(file)
    except sqlite3.Error:
        # Another program was busy all the time, or the disk has no room.
        return Remains(is_empty, places)
    return Remains(_empty_wal(file), _places(file, user_id), rewritten=True)


def overwrite_unused(engine: Engine) -> bool:
    """Overwrite all unused bytes of a database, as far as the engine can. On SQLite the whole file is rewritten.

    Returns:
        False if another program was busy all the time, or reads an older snapshot, or if the disk has no room.
    """
    if engine.dialect.name != "sqlite":
        _vacuum_tables(engine)
        return True
    file = Path(str(engine.url.database)).resolve()
    try:
        rewrite_file(file)
    except sqlite3.Error:
        _empty_wal(file)
        return False
    return _empty_wal(file)


def rewrite_file(file: Path) -> None:
    """Rewrite a SQLite file without the bytes of removed rows. Nobody can write meanwhile.

    Raises:
        sqlite3.Error: another program was busy all the time, or the disk has no room. Nothing was changed.
    """
    with closing(sqlite3.connect(file, isolation_level=None, timeout=_VACUUM_SECONDS)) as connection:
        connection.execute("VACUUM").close()


def names_of_databases(url_database: str, folders: Sequence[Path]) -> list[str]:
    """Return the names of the other SQLite files beside a database and in some folders, such as backups.

    An erased driver may be in each of them.
    """
    file = Path(url_database).resolve()
    found: set[str] = set()
    for folder in (file.parent, *folders):
        found.update(one.name for one in _files(folder) if not _is_of(one, file) and _begins_like_a_database(one))
    return sorted(found)


def _is_of(one: Path, database: Path) -> bool:
    """Return whether a file is a database or belongs to it. Closing such a file would drop the locks of SQLite."""
    return one.resolve() == database or one.name.startswith(f"{database.name}-")


def _files(folder: Path) -> list[Path]:
    try:
        return [one for one in folder.iterdir() if one.is_file()]
    except OSError:
        return []


def _empty_wal(file: Path) -> bool:
    """Move the content of the WAL into the file, and empty it. Return whether this was possible."""
    until = time.monotonic() + _WAL_SECONDS
    with closing(sqlite3.connect(file, isolation_level=None, timeout=_AT_ONCE_SECONDS)) as connection:
        while True:
            try:
                busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError:
                busy = True
            if not busy or time.monotonic() >= until:
                return not busy
            time.sleep(_PAUSE_SECONDS)


def _places(file: Path, user_id: str) -> int | None:
    """Return how often an id is in unused bytes of a SQLite file; None if the search did not come to its end.

    A longer id of another driver that contains it counts too, if it is in unused bytes.
    """
    wanted = user_id.encode(errors="surrogatepass")
    if len(wanted) < _SHORTEST_SEARCHED:
        return 0
    command = [sys.executable, "-I", "-S", unused_bytes.__file__, str(file)]
    try:
        found = subprocess.run(command, input=wanted, capture_output=True, timeout=_SEARCH_SECONDS, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        # The file is too large for this time, or the machine has no room for one more process. The driver is erased.
        log.warning("the file was not searched for unused bytes with the id", error=type(error).__name__)
        return None
    return int(found.stdout)


def _vacuum_tables(engine: Engine) -> None:
    for table in _TOUCHED:
        try:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql(f"VACUUM (SKIP_LOCKED) {table}")
        except SQLAlchemyError:
            # The table may be too large for the time that a statement of a server may take. PostgreSQL does it later.
            continue


def _begins_like_a_database(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False
