"""The engine, its transactions, its clock, and locks of processes."""

import math
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy
from filelock import FileLock
from sqlalchemy import Connection, Engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import PoolProxiedConnection

# How long a transaction waits for whoever else writes.
PATIENCE_SECONDS = 5
# How often it looks whether they still do, on SQLite.
_LOOK_AGAIN_SECONDS = 0.0001
# For how long the lock is free between two transactions in the background: for somebody who looks again to find it so.
_GAP_SECONDS = 0.0006
# The name under which a driver's connection to SQLite carries its own patience.
_PATIENCE = "patience"


def create_engine(url: str, *, sqlite_synchronous: str = "FULL", patience: float = PATIENCE_SECONDS) -> Engine:
    """An engine on `url`. It connects on first use and creates no file before that.

    On SQLite: WAL, foreign keys enforced, `patience` seconds for another writer, and transactions that begin
    when SQLAlchemy says so (`BEGIN`, or `BEGIN IMMEDIATE` inside `write_transaction`), so that DDL rolls back too.
    On PostgreSQL five seconds for a lock and for a server that does not answer; options in the URL go first.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        bounds = {"connect_timeout": PATIENCE_SECONDS, "options": f"-c lock_timeout={PATIENCE_SECONDS}s"}
        bounds = {name: value for name, value in bounds.items() if name not in parsed.query}
        return sqlalchemy.create_engine(url, pool_pre_ping=True, connect_args=bounds)
    engine = sqlalchemy.create_engine(url)

    @event.listens_for(engine, "connect")
    def _set_pragmas(connection: Any, record: Any) -> None:
        record.info[_PATIENCE] = patience
        connection.isolation_level = None
        # An old history may hold bytes that are not UTF-8; one such cell must not make its table unreadable.
        connection.text_factory = _decode
        _wait_inside_sqlite(connection, patience)
        for pragma in (f"synchronous={sqlite_synchronous}", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()
        _enter_wal(connection, patience)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if not connection.get_execution_options().get("immediate", False):
            connection.exec_driver_sql("BEGIN")
            return
        try:
            driver = connection.connection.driver_connection
            _wait_inside_sqlite(driver, 0)
            try:
                _begin_when_free(driver, patience)
            finally:
                _wait_inside_sqlite(driver, patience)
        except sqlite3.OperationalError as error:
            raise OperationalError("BEGIN IMMEDIATE", None, error) from error

    return engine


def _wait_inside_sqlite(driver: Any, seconds: float) -> None:
    driver.execute(f"PRAGMA busy_timeout={round(seconds * 1000)}").close()


def _begin_when_free(driver: Any, patience: float) -> None:
    """BEGIN IMMEDIATE as soon as nobody else writes, on a connection that does not wait inside SQLite.

    SQLite's own waiting looks again after up to 100 ms, and misses the moments between the transactions of somebody
    who writes many.
    """
    end = time.monotonic() + patience
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                raise
            time.sleep(_LOOK_AGAIN_SECONDS)
        else:
            return


def _enter_wal(connection: Any, patience: float) -> None:
    """Of several that open a new file at once SQLite refuses some this without any patience."""
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
    # Different bytes stay different texts.
    return text.decode(errors="backslashreplace")


class DriverConnection:
    """The driver's own connection, cursors and errors, for a thread that commits many times a second.

    What SQLAlchemy does for one transaction costs more than a row in it. On SQLite the connection is kept: to another
    one every page that this wrote would be new. On PostgreSQL each transaction asks the pool for one that is alive.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sqlite = engine.dialect.name == "sqlite"
        self._connection: PoolProxiedConnection | None = None

    @contextmanager
    def transaction(self) -> Iterator[DBAPICursor]:
        """One transaction that writes: committed at the end, rolled back by any exception."""
        connection = self._connection
        if connection is None:
            connection = self._connection = self._engine.raw_connection()
            if self._sqlite:
                _wait_inside_sqlite(connection.driver_connection, 0)
        try:
            if self._sqlite:
                _begin_when_free(connection.driver_connection, connection.info[_PATIENCE])
            with closing(connection.cursor()) as cursor:
                yield cursor
            connection.commit()
        except BaseException:
            self.close()
            raise
        if not self._sqlite:
            self.close()

    def close(self) -> None:
        """Roll back what is not committed, and give the connection up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._sqlite:
                _wait_inside_sqlite(connection.driver_connection, connection.info[_PATIENCE])
            connection.close()


@contextmanager
def write_transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction that writes: committed at the end, rolled back by any exception."""
    with engine.connect().execution_options(immediate=True) as connection, connection.begin():
        yield connection


def background_transactions(engine: Engine) -> Callable[[], AbstractContextManager[Connection]]:
    """`write_transaction`, for many short ones in a row, between which others who write get their turn.

    SQLite gives the lock to whoever asks first: between two of these it is free for long enough to be found so. On
    PostgreSQL nobody waits.
    """
    gap = _GAP_SECONDS if engine.dialect.name == "sqlite" else 0.0
    ended = -math.inf

    @contextmanager
    def transaction() -> Iterator[Connection]:
        nonlocal ended
        time.sleep(max(0.0, ended + gap - time.monotonic()))
        with write_transaction(engine) as connection:
            yield connection
        ended = time.monotonic()

    return transaction


def copy_rows(cursor: Any, table: str, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """PostgreSQL's COPY, by a cursor of its driver: the quickest way for many rows."""
    with cursor.copy(f"COPY {table} ({', '.join(names)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def database_now(connection: Connection) -> datetime:
    """Now, on the one clock that all who share the database can see."""
    # Whoever shares a SQLite file is on one machine.
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return now.astimezone(UTC)


def process_lock(engine: Engine, name: str, *, timeout: float) -> FileLock | None:
    """On SQLite a lock beside the file, which the operating system frees when the process dies; on PostgreSQL none."""
    if engine.dialect.name != "sqlite":
        return None
    return FileLock(f"{Path(str(engine.url.database)).resolve()}.{name}.lock", timeout=timeout)
