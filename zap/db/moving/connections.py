"""Connections that read or write a whole database, without limits of time."""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import URL, Connection, Engine, event, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from zap.db.bounds import Bounds
from zap.db.engine import reading_engine
from zap.db.moving.canonical_values import decoded
from zap.db.unusable import unusable

# How long a statement waits for a lock, and SQLite for another writer, in seconds.
_PATIENCE_SECONDS = 10
# Settings of the role or the database must not end a copy, nor change how numbers and bytes are written.
_TRANSACTION = {
    "lock_timeout": f"{_PATIENCE_SECONDS}s",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}
# The name of zap's connections in PostgreSQL's pg_stat_activity.
NAME = "zap db"


@contextmanager
def reader(url: str) -> Iterator[Engine]:
    """Yield an engine for `snapshot`."""
    engine = reading_engine(url) if make_url(url).get_backend_name() == "sqlite" else _postgresql(url)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a transaction that sees one snapshot of the database. Writers do not wait for it.

    Args:
        engine: of `reader`.

    Raises:
        DatabaseUnavailable: the database cannot be opened.
    """
    sqlite = engine.dialect.name == "sqlite"
    options: dict[str, Any] = {} if sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with explained(engine.url):
        connection = engine.connect().execution_options(**options)
    with connection:
        with explained(engine.url):
            if sqlite:
                driver: Any = connection.connection.driver_connection
                driver.text_factory = decoded
            # The snapshot begins with the first read.
            connection.exec_driver_sql("SELECT 1 FROM sqlite_master" if sqlite else "SELECT 1")
        yield connection


@contextmanager
def reading(url: str) -> Iterator[Connection]:
    """Yield a connection that sees one snapshot of the database, as `snapshot` does."""
    with reader(url) as engine, snapshot(engine) as connection:
        yield connection


@contextmanager
def writing(url: str) -> Iterator[Engine]:
    """Yield an engine whose transactions write, without foreign keys on SQLite."""
    engine = _sqlite(url) if make_url(url).get_backend_name() == "sqlite" else _postgresql(url)
    try:
        yield engine
    finally:
        engine.dispose()


def set_journal(engine: Engine, mode: str) -> None:
    """Set the journal of a SQLite file: `WAL`, so that it can be read while it is written, or `DELETE`.

    With `DELETE` there is no file beside it. Nothing is done on PostgreSQL.
    """
    if engine.dialect.name == "sqlite":
        with explained(engine.url), engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute(f"PRAGMA journal_mode={mode}").close()


def url_of_file(file: Path) -> str:
    """Return the database URL of a SQLite file."""
    return URL.create("sqlite", database=str(file)).render_as_string()


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Raise DatabaseUnavailable for an error of the database driver."""
    psycopg = sys.modules.get("psycopg")
    drivers = (SQLAlchemyError, sqlite3.Error, *((psycopg.Error,) if psycopg else ()))
    try:
        yield
    except drivers as error:
        raise unusable(url, error) from error


def _sqlite(url: str) -> Engine:
    engine = sqlalchemy.create_engine(
        url, poolclass=NullPool, connect_args={"isolation_level": None, "timeout": _PATIENCE_SECONDS}
    )

    @event.listens_for(engine, "connect")
    def _overwrite(connection: Any, _record: Any) -> None:
        # A copy of a database loses the rows of an erased driver too.
        connection.execute("PRAGMA secure_delete=ON").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _postgresql(url: str) -> Engine:
    # Imported here, because psycopg is not needed with SQLite.
    from zap.db.postgresql import bound_connections, connect_arguments  # noqa: PLC0415

    arguments = connect_arguments(make_url(url), _PATIENCE_SECONDS) | {"application_name": NAME}
    engine = sqlalchemy.create_engine(url, connect_args=arguments)
    bound_connections(engine, Bounds(), _TRANSACTION, at_start=False)
    return engine
