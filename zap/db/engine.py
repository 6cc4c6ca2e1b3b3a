"""The engine, its transactions, the database's clock, and locks between processes."""

import math
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy
from filelock import FileLock
from sqlalchemy import Connection, Engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool, PoolProxiedConnection

from zap.db.bounds import Bounds
from zap.db.database_file import DatabaseFile
from zap.db.turn import WriterTurn, pauses
from zap.errors import DatabaseReplaced
from zap.threads import PATIENCE_SECONDS

# How long one answer of PostgreSQL may take if requests wait for it: longer than the limits that the server enforces.
_ANSWER_SECONDS = PATIENCE_SECONDS + 2
# How long the lock is free between two background transactions: long enough for a waiting writer to find it free.
_GAP_SECONDS = 0.0006
# SQLite cuts the WAL file to this size when it starts a new WAL.
WAL_BYTES = 64 * 2**20
# The keys under which a connection stores its patience, and an engine its bounds, file and turn.
_PATIENCE, _BOUNDS, _FILE, _TURN = "patience", "zap_bounds", "zap_file", "zap_turn"
# The option under which a connection stores what follows its commit.
_AFTER_COMMIT = "zap_after_commit"


def create_engine(
    url: str, *, sqlite_synchronous: str = "FULL", patience: float = PATIENCE_SECONDS, serves: bool = False
) -> Engine:
    """Return an engine on `url`. It connects on first use and creates no file before that.

    On SQLite the engine uses WAL, enforces foreign keys, and waits `patience` seconds for another writer. Transactions
    begin when SQLAlchemy begins them (`BEGIN`, or `BEGIN IMMEDIATE` inside `write_transaction`), so that DDL is rolled
    back too. After the file was removed or replaced, it is neither read nor written.
    On PostgreSQL the engine waits `patience` seconds for a lock, for a connection, and for the acknowledgement of sent
    bytes. Options in the URL override this.

    Args:
        url: of the database.
        sqlite_synchronous: SQLite's PRAGMA synchronous, which says how durable a commit is.
        patience: how long to wait, in seconds.
        serves: whether requests wait for this engine. Then each answer of PostgreSQL has a time limit.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return _postgresql_engine(url, patience, serves=serves)
    engine = sqlalchemy.create_engine(url)
    name = str(parsed.database)
    bounds, file, turn = Bounds(), DatabaseFile(name, serves=serves), WriterTurn(name)
    engine.update_execution_options(**{_BOUNDS: bounds, _FILE: file, _TURN: turn})

    @event.listens_for(engine, "do_connect")
    def _before_connecting(*_arguments: Any) -> None:
        # Before connecting, because SQLite may change another file, and creates a missing one.
        file.check()

    @event.listens_for(engine, "connect")
    def _set_pragmas(connection: Any, record: Any) -> None:
        record.info[_PATIENCE] = patience
        connection.isolation_level = None
        # An old history may hold bytes that are not UTF-8, and one such cell must not make its table unreadable.
        connection.text_factory = _decode
        _wait_inside_sqlite(connection, patience)
        pragmas = (
            f"synchronous={sqlite_synchronous}",
            "foreign_keys=ON",
            f"journal_size_limit={WAL_BYTES}",
            # Of an erased driver, no bytes may stay in the file. Earlier versions of changed rows count too.
            "secure_delete=ON",
        )
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()
        _enter_wal(connection, patience)
        file.open()

    @event.listens_for(engine, "checkout")
    @event.listens_for(engine, "commit")
    def _check_file(*_arguments: Any) -> None:
        file.check()

    @event.listens_for(engine, "engine_disposed")
    def _forget_file(_engine: Engine) -> None:
        file.close()
        turn.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if not connection.get_execution_options().get("immediate", False):
            connection.exec_driver_sql("BEGIN")
            return
        try:
            driver = connection.connection.driver_connection
            _wait_inside_sqlite(driver, 0)
            try:
                _begin_when_free(engine, driver, patience)
            finally:
                _wait_inside_sqlite(driver, patience)
        except sqlite3.OperationalError as error:
            raise OperationalError("BEGIN IMMEDIATE", None, error) from error

    return engine


def reading_engine(url: str) -> Engine:
    """Return an engine that only reads. On SQLite it changes nothing in the file, not even the journal's mode.

    Args:
        url: of a database that exists.
    """
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url)
    engine = sqlalchemy.create_engine(url, poolclass=NullPool, connect_args={"isolation_level": None})

    @event.listens_for(engine, "connect")
    def _only_read(connection: Any, _record: Any) -> None:
        connection.text_factory = _decode
        connection.execute("PRAGMA query_only=ON").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _postgresql_engine(url: str, patience: float, *, serves: bool) -> Engine:
    # Imported here, because psycopg is not needed with SQLite.
    from zap.db.postgresql import bound_connections, connect_arguments, time_limits  # noqa: PLC0415

    arguments = connect_arguments(make_url(url), patience)
    engine = sqlalchemy.create_engine(url, pool_pre_ping=True, pool_timeout=patience, connect_args=arguments)
    bounds = Bounds(_ANSWER_SECONDS) if serves else Bounds()
    engine.update_execution_options(**{_BOUNDS: bounds})
    bound_connections(engine, bounds, time_limits(patience, serves=serves))
    return engine


def bounds_of(engine: Engine) -> Bounds:
    """Return the limits for the waits of an engine's connections."""
    bounds: Bounds = engine.get_execution_options()[_BOUNDS]
    return bounds


def file_of(engine: Engine) -> DatabaseFile | None:
    """Return the file that an engine on SQLite has opened; None on PostgreSQL."""
    file: DatabaseFile | None = engine.get_execution_options().get(_FILE)
    return file


def _check_file_of(engine: Engine) -> None:
    if (file := file_of(engine)) is not None:
        file.check()


def _wait_inside_sqlite(driver: Any, seconds: float) -> None:
    driver.execute(f"PRAGMA busy_timeout={round(seconds * 1000)}").close()


def _begin_when_free(engine: Engine, driver: Any, patience: float) -> None:
    """Run BEGIN IMMEDIATE as soon as no other connection writes, on a connection with a busy timeout of 0.

    SQLite's own busy handler sleeps up to 100 ms, and misses the short gaps between the transactions of another writer.
    """
    bounds = bounds_of(engine)
    turn: WriterTurn = engine.get_execution_options()[_TURN]
    until = bounds.until(patience)
    with turn.taken():
        for pause in pauses():
            try:
                driver.execute("BEGIN IMMEDIATE").close()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or bounds.is_over(until):
                    raise
                time.sleep(pause)
            else:
                return


def _enter_wal(connection: Any, patience: float) -> None:
    """Enter WAL mode. Try again, because SQLite refuses without waiting when several connections open a new file."""
    end = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.01)
        else:
            return


def _decode(text: bytes) -> str:
    # backslashreplace: different bytes must give different texts.
    return text.decode(errors="backslashreplace")


class RawConnection:
    """A connection of the database driver without SQLAlchemy, for a thread that commits many times a second.

    SQLAlchemy's work for a transaction takes longer than writing a row. On SQLite the connection is kept, because
    another connection would have to read again every page that was written. On PostgreSQL each transaction takes a
    live connection from the pool.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sqlite = engine.dialect.name == "sqlite"
        self._connection: PoolProxiedConnection | None = None

    @contextmanager
    def transaction(self, patience: float = PATIENCE_SECONDS) -> Iterator[DBAPICursor]:
        """Yield the cursor of a writing transaction. Commit it at the end; roll it back on any exception.

        Args:
            patience: how long to wait for another writer on SQLite, in seconds.

        Raises:
            DatabaseReplaced: the database file was replaced, so the commit may be in another file.
        """
        _check_file_of(self._engine)
        connection = self._connection
        if connection is None:
            connection = self._connection = self._engine.raw_connection()
            if self._sqlite:
                _wait_inside_sqlite(connection.driver_connection, 0)
        try:
            if self._sqlite:
                _begin_when_free(self._engine, connection.driver_connection, patience)
            with closing(connection.cursor()) as cursor:
                if not self._sqlite:
                    driver: Any = connection.driver_connection
                    driver.limit_transaction(cursor)
                yield cursor
            _check_file_of(self._engine)
            connection.commit()
            # Checked again: if the file was replaced during the commit, the rows must not be reported as stored.
            _check_file_of(self._engine)
        except BaseException as error:
            self._give_up(error)
            raise
        if not self._sqlite:
            self.close()

    def close(self) -> None:
        """Roll back an open transaction, and return the connection to the pool."""
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._sqlite:
                _wait_inside_sqlite(connection.driver_connection, connection.info[_PATIENCE])
            connection.close()

    def _give_up(self, error: BaseException) -> None:
        """Roll back. On PostgreSQL drop a connection that is useless now, and all idle connections of the pool."""
        if self._sqlite:
            self.close()
            return
        from zap.db.postgresql import is_useless  # noqa: PLC0415

        connection, self._connection = self._connection, None
        if connection is None:
            return
        if is_useless(error) or getattr(connection.driver_connection, "closed", False):
            connection.invalidate(error)
            self._engine.dispose()
        else:
            connection.close()


def is_unavailable(error: BaseException) -> bool:
    """Return whether an error is caused by the state of the database, not by the values to write."""
    if isinstance(error, (OperationalError, DatabaseReplaced)):
        return True
    if isinstance(error, sqlite3.Error):
        # sqlite3 raises DatabaseError itself, not a subclass, for a damaged file.
        return isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError
    driver = sys.modules.get("psycopg")
    if driver is None or not isinstance(error, driver.Error):
        return False
    from zap.db.postgresql import is_useless  # noqa: PLC0415

    return isinstance(error, driver.OperationalError) or is_useless(error)


@contextmanager
def write_transaction(engine: Engine, *, durable: bool = True) -> Iterator[Connection]:
    """Yield the connection of a writing transaction. Commit it at the end; roll it back on any exception.

    Args:
        engine: on the database.
        durable: whether the commit waits for the disk, as the setting says. Without it, a power cut may undo the last
            transactions, but only from the last one backwards. So it is enough for rows that can be made again, if
            their transaction also writes how far the work has come.

    Raises:
        DatabaseReplaced: the database file was replaced, so the commit may be in another file.
    """
    following: list[Callable[[], object]] = []
    options: dict[str, Any] = {"immediate": True, _AFTER_COMMIT: following}
    with (
        engine.connect().execution_options(**options) as connection,
        nullcontext() if durable else _not_waiting_for_the_disk(connection),
        connection.begin(),
    ):
        if not durable and connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
        yield connection
    _check_file_of(engine)
    for follow in following:
        follow()


def after_commit(connection: Connection, follow: Callable[[], object]) -> None:
    """Call a function after the commit of a `write_transaction`; never if it is rolled back.

    Args:
        connection: of the transaction. Nothing is called for a connection of another kind.
        follow: the function, which must not fail.
    """
    following: list[Callable[[], object]] = connection.get_execution_options().get(_AFTER_COMMIT, [])
    following.append(follow)


@contextmanager
def _not_waiting_for_the_disk(connection: Connection) -> Iterator[None]:
    """Let SQLite not wait for the disk at the end of a transaction. Requests get the connection as it was before."""
    if connection.dialect.name != "sqlite":
        yield
        return
    driver: Any = connection.connection.driver_connection
    (before,) = driver.execute("PRAGMA synchronous").fetchone()
    driver.execute("PRAGMA synchronous=NORMAL").close()
    try:
        yield
    finally:
        try:
            driver.execute(f"PRAGMA synchronous={before}").close()
        except sqlite3.Error:
            # No request may get a connection that does not wait for the disk.
            connection.invalidate()


def background_transactions(
    engine: Engine, *, durable: bool = True
) -> Callable[[], AbstractContextManager[Connection]]:
    """Return a `write_transaction` for many short transactions in a row that lets other writers in between.

    SQLite has no queue for its lock, so the lock stays free between two transactions long enough for other writers to
    take it. PostgreSQL needs no gap.

    Args:
        engine: on the database.
        durable: as in `write_transaction`.
    """
    gap = _GAP_SECONDS if engine.dialect.name == "sqlite" else 0.0
    ended = -math.inf

    @contextmanager
    def transaction() -> Iterator[Connection]:
        nonlocal ended
        time.sleep(max(0.0, ended + gap - time.monotonic()))
        with write_transaction(engine, durable=durable) as connection:
            yield connection
        ended = time.monotonic()

    return transaction


def copy_rows(cursor: Any, table: str, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Insert rows with PostgreSQL's COPY, which is the fastest way for many rows. The cursor is psycopg's."""
    with cursor.copy(f"COPY {table} ({', '.join(names)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def database_now(connection: Connection) -> datetime:
    """Return the present time (UTC) of the one clock that all processes on this database share."""
    # All processes on an SQLite file run on one machine.
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return now.astimezone(UTC)


def process_lock(engine: Engine, name: str, *, timeout: float) -> FileLock | None:
    """Return a lock file beside the SQLite file, which the system frees when its process dies; None on PostgreSQL."""
    if engine.dialect.name != "sqlite":
        return None
    return FileLock(f"{Path(str(engine.url.database)).resolve()}.{name}.lock", timeout=timeout)
