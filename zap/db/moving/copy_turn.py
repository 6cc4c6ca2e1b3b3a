"""One process at a time copies into a database or restores it; nothing writes into a source that is frozen."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from filelock import Timeout
from sqlalchemy import Table, make_url

from zap.db.engine import process_lock
from zap.db.moving.connections import explained, writing
from zap.errors import DatabaseInUse

# An arbitrary number, which every zap on a PostgreSQL database must use.
_COPY_LOCK_KEY = 0x7A61_7007


@contextmanager
def filling(url: str) -> Iterator[None]:
    """Keep other processes from copying into a database, or from restoring it, for the length of a block.

    Raises:
        DatabaseInUse: another process does so.
    """
    busy = f"{make_url(url).render_as_string()}: another process copies into this database, or restores it"
    with writing(url) as engine:
        lock = process_lock(engine, "filling", timeout=0)
        if lock is not None:
            try:
                with lock:
                    yield
            except Timeout:
                raise DatabaseInUse(busy) from None
            return
        # A lock of an idle transaction, because a lock of a session would be lost behind a pooler.
        with explained(engine.url):
            connection = engine.connect().execution_options(isolation_level="READ COMMITTED")
        with connection:
            with explained(engine.url):
                free = connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({_COPY_LOCK_KEY})").scalar()
            if not free:
                raise DatabaseInUse(busy)
            yield


@contextmanager
def frozen(url: str, tables: Sequence[Table]) -> Iterator[None]:
    """Let no program write into the tables of a database for the length of a block.

    Raises:
        DatabaseUnavailable: another transaction did not end in time.
    """
    with writing(url) as engine:
        with explained(engine.url):
            # On SQLite the transaction begins with the lock for writers.
            connection = engine.connect()
            transaction = connection.begin()
            if connection.dialect.name != "sqlite":
                quote = connection.dialect.identifier_preparer.quote
                names = ", ".join(quote(table.name) for table in tables)
                connection.exec_driver_sql(f"LOCK TABLE {names} IN SHARE MODE")
        with connection:
            yield
            transaction.rollback()
