"""The other programs that use a database: found, and a reason to refuse a command."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import make_url, text

from zap.db.moving.connections import NAME, explained, url_of_file, writing
from zap.errors import DatabaseInUse, DatabaseUnavailable

# How long to wait for connections that are ending, and the pause between two looks, in seconds.
_PATIENCE_SECONDS, _PAUSE_SECONDS = 1.0, 0.1
# The most connections that a message names.
_SHOWN = 5
_OTHERS = text(
    "SELECT pid, coalesce(nullif(application_name, ''), 'no name'), usename, coalesce(host(client_addr), 'local')"
    " FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
    " AND pid <> pg_backend_pid() AND application_name <> :own ORDER BY pid"
)


def refuse_users(url: str, what: str) -> None:
    """Refuse a command as long as another program uses the database.

    Args:
        url: of the database. There must be no connection of this process to it.
        what: what to do, for the message.

    Raises:
        DatabaseInUse: another program has opened the file, or is connected.
        DatabaseUnavailable: there is no file, but something else, such as a folder.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while found := _users(url):
        if time.monotonic() >= until:
            raise DatabaseInUse(f"{make_url(url).render_as_string()}: {'; '.join(found)}. {what}")
        time.sleep(_PAUSE_SECONDS)


def _users(url: str) -> list[str]:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _users_of_file(Path(str(parsed.database)))
    with writing(url) as engine, explained(parsed), engine.connect() as connection:
        rows = connection.execute(_OTHERS, {"own": NAME}).all()
    shown = [f"connection {pid} ({name}, user {user}, from {address})" for pid, name, user, address in rows[:_SHOWN]]
    return shown + ([f"{len(rows) - _SHOWN} more connections"] if len(rows) > _SHOWN else [])


def _users_of_file(file: Path) -> list[str]:
    """Return whether a program has the file open."""
    if not file.exists():
        return []
    if not file.is_file():
        raise DatabaseUnavailable(f"{url_of_file(file)} is no file, so it can be no database. Check the URL")
    with closing(sqlite3.connect(file, isolation_level=None, timeout=0)) as connection:
        try:
            _take(connection)
        except DatabaseInUse as error:
            return [error.message]
    return []


@contextmanager
def alone_on_file(file: Path) -> Iterator[sqlite3.Connection]:
    """Keep all other programs from a SQLite file for the length of a block. Yield the connection that does so.

    A damaged file is not kept from them.

    Inside the block, all commits are in the file itself, and there is no WAL. The connection has an open transaction,
    and keeps its lock after the transaction.

    Raises:
        DatabaseInUse: another program has the file open.
    """
    with closing(sqlite3.connect(file, isolation_level=None, timeout=0)) as connection:
        _take(connection, "COMMIT", "PRAGMA journal_mode=DELETE", "BEGIN EXCLUSIVE")
        yield connection


def _take(connection: sqlite3.Connection, *then: str) -> None:
    """Lock a file for this connection alone. In WAL mode each open connection has a shared lock, even an idle one."""
    try:
        for statement in ("PRAGMA locking_mode=EXCLUSIVE", "BEGIN EXCLUSIVE", *then):
            connection.execute(statement).close()
    except sqlite3.DatabaseError as error:
        # Other errors are of a damaged file, which other checks find.
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise DatabaseInUse("another program, such as a server, has the file open") from None
