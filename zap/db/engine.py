"""The engine, its transactions, and the lock that keeps trainings one at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from zap.errors import TrainingRunning

# Any constant will do, as long as every zap on one PostgreSQL database uses the same.
_TRAINING_LOCK_KEY = 0x7A61_7001
# How long a transaction waits for whoever else writes.
PATIENCE_SECONDS = 5


def create_engine(url: str, *, sqlite_synchronous: str = "FULL") -> Engine:
    """An engine on `url`. It connects on first use and creates no file before that.

    On SQLite: WAL, foreign keys enforced, five seconds of patience for another writer, and transactions that begin
    when SQLAlchemy says so (`BEGIN`, or `BEGIN IMMEDIATE` inside `write_transaction`), so that DDL rolls back too.
    On PostgreSQL the same patience for a lock and for a server that does not answer; options in the URL go first.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        patience = {"connect_timeout": PATIENCE_SECONDS, "options": f"-c lock_timeout={PATIENCE_SECONDS}s"}
        patience = {name: value for name, value in patience.items() if name not in parsed.query}
        return sqlalchemy.create_engine(url, pool_pre_ping=True, connect_args=patience)
    engine = sqlalchemy.create_engine(url)

    @event.listens_for(engine, "connect")
    def _set_pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        # An old history may hold bytes that are not UTF-8; one such cell must not make its table unreadable.
        connection.text_factory = _decode
        for pragma in (
            f"busy_timeout={PATIENCE_SECONDS * 1000}",
            "journal_mode=WAL",
            f"synchronous={sqlite_synchronous}",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    event.listen(engine, "begin", begin_sqlite_transaction)
    return engine


def _decode(text: bytes) -> str:
    # Different bytes stay different texts.
    return text.decode(errors="backslashreplace")


def begin_sqlite_transaction(connection: Connection) -> None:
    # A deferred transaction that turns writer half-way fails at once when somebody else wrote in between; an
    # immediate one waits its turn.
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def write_transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction that writes: committed at the end, rolled back by any exception."""
    with engine.connect().execution_options(immediate=True) as connection, connection.begin():
        yield connection


@contextmanager
def training_lock(engine: Engine) -> Iterator[None]:
    """Held by the one process that trains on this database. The operating system or the server frees it when it dies.

    Raises:
        TrainingRunning: when another process holds it.
    """
    refused = TrainingRunning("another training on this database has not ended; try again when it has")
    if engine.dialect.name == "sqlite":
        lock = FileLock(f"{Path(str(engine.url.database)).resolve()}.training.lock", timeout=0)
        try:
            with lock:
                yield
        except Timeout:
            raise refused from None
        return
    # A connection of its own: the lock lives as long as this session on the server does.
    locker = sqlalchemy.create_engine(engine.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with locker.connect() as connection:
        if not connection.scalar(select(func.pg_try_advisory_lock(_TRAINING_LOCK_KEY))):
            raise refused
        try:
            yield
        finally:
            connection.execute(select(func.pg_advisory_unlock(_TRAINING_LOCK_KEY)))
