"""Upgrades of a PostgreSQL database in use: one at a time, in short attempts, so that other clients wait little."""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import psycopg
import sqlalchemy
from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from zap.db.bounds import Bounds
from zap.db.postgresql import bound_connections, connect_arguments
from zap.errors import UpgradeBlocked

# An arbitrary number, which every zap on a PostgreSQL database must use.
_UPGRADE_LOCK_KEY = 0x7A61_7003
# How long to wait for a new connection.
_CONNECT_SECONDS = 10
# How long an attempt waits for a lock. Other clients that need the table wait behind it, and go on in the pause.
_ATTEMPT_MILLISECONDS = 300
_PAUSE_SECONDS = 1.0
# How long an upgrade waits for locks in all: in several attempts, or in one step that blocks no other client.
_PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.2
_JOIN_SECONDS = 2.0
# The error codes of a lock timeout and of a deadlock: another attempt may succeed.
_TRY_AGAIN = frozenset({"55P03", "40P01"})
_CANCELLED = "57014"
# Settings of the role or the database must not end an upgrade. If the machine of an upgrade dies, the server notices
# within half a minute.
_TRANSACTION = {
    "lock_timeout": f"{_ATTEMPT_MILLISECONDS}ms",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
}
_BLOCKED = text(
    "SELECT pid, pg_blocking_pids(pid) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = :name AND state = 'active' AND cardinality(pg_blocking_pids(pid)) > 0"
)
_WHO = text(
    "SELECT pid, usename, coalesce(nullif(application_name, ''), 'no name') AS name,"
    " coalesce(state, 'unknown') AS state, extract(epoch FROM clock_timestamp() - xact_start)::int AS seconds"
    " FROM pg_stat_activity WHERE pid = ANY(:pids) ORDER BY xact_start"
)


def migration_engine(url: str, name: str | None = None) -> Engine:
    """Return an engine for migrations.

    Args:
        url: of the database.
        name: the name of its connections in PostgreSQL's pg_stat_activity.
    """
    parsed = make_url(url)
    arguments = connect_arguments(parsed, _CONNECT_SECONDS)
    if name is not None:
        arguments["application_name"] = name
    engine = sqlalchemy.create_engine(url, poolclass=NullPool, connect_args=arguments)
    # The limits are set in each transaction. CREATE INDEX CONCURRENTLY runs outside of a transaction, without limits.
    bound_connections(engine, Bounds(), _TRANSACTION, at_start=False)
    return engine


def run_beside_others(url: str, migrate: Callable[[Connection], None]) -> None:
    """Run migrations that commit step by step, and try again until they get the locks that they need.

    Args:
        url: of a PostgreSQL database.
        migrate: called with a connection, once for each attempt. It skips the steps that are already done.

    Raises:
        UpgradeBlocked: another connection kept a lock for too long. The message names the connection.
    """
    name = f"zap upgrade {secrets.token_hex(4)}"
    engine = migration_engine(url, name)
    # The blockers' connection is the last one: a pooler may allow only two, and an upgrade works without that look.
    with _one_at_a_time(engine), engine.connect() as connection, _Blockers(url, name) as blockers:
        attempts = max(1, round(_PATIENCE_SECONDS / (_PAUSE_SECONDS + _ATTEMPT_MILLISECONDS / 1000)))
        while True:
            attempts -= 1
            try:
                migrate(connection)
            except DBAPIError as error:
                connection.rollback()
                state = getattr(error.orig, "sqlstate", None)
                if blockers.given_up and state == _CANCELLED:
                    raise blockers.refusal() from error
                if state not in _TRY_AGAIN:
                    raise
                if attempts <= 0:
                    raise blockers.refusal() from error
            else:
                return
            time.sleep(_PAUSE_SECONDS)


@contextmanager
def _one_at_a_time(engine: Engine) -> Iterator[None]:
    """Keep other upgrades of the database out for the length of a block, by an idle transaction with a lock.

    A session lock would be lost behind a pooler. CREATE INDEX CONCURRENTLY waits for transactions that hold a snapshot.
    So an upgrade in line polls instead of waiting inside a statement, and the statement has no parameters, because with
    parameters the idle transaction would keep its snapshot.
    """
    with engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        while not connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({_UPGRADE_LOCK_KEY})").scalar():
            connection.rollback()
            time.sleep(_LOOK_SECONDS)
        yield


class _Blockers:
    """Find the connections that block an upgrade, and cancel a step that waits for too long.

    Args:
        url: of the database.
        name: the name of the upgrade's connections.
    """

    def __init__(self, url: str, name: str) -> None:
        self._engine = migration_engine(url, "zap upgrade: find blockers").execution_options(
            isolation_level="AUTOCOMMIT"
        )
        self._name = name
        self._who: list[str] = []
        self._pids: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="upgrade-blockers", daemon=True)
        # Whether a step was cancelled because it waited for too long.
        self.given_up = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        # With a timeout, because the thread may wait for a silent server or for a full pooler.
        self._thread.join(_JOIN_SECONDS)

    def refusal(self) -> UpgradeBlocked:
        """Return the error of an upgrade that did not get its locks."""
        who = "; ".join(self._who) or "a transaction that could not be identified"
        end = f" with SELECT pg_terminate_backend({self._pids[0]})" if self._pids else ""
        return UpgradeBlocked(
            f"another connection keeps a lock on a table that the upgrade changes, or has an old transaction: {who}."
            f" The upgrade tried for {_PATIENCE_SECONDS:.0f} seconds; the database is intact, and servers go on serving"
            f" it. Wait until that transaction ends, or end it{end}; then upgrade again."
        )

    def _look_on(self) -> None:
        # If these queries fail, the upgrade goes on, and its error names no blockers.
        with contextlib.suppress(SQLAlchemyError, psycopg.Error), self._engine.connect() as connection:
            blocked_since: float | None = None
            while not self._over.wait(_LOOK_SECONDS):
                found = connection.execute(_BLOCKED, {"name": self._name}).all()
                if not found:
                    blocked_since = None
                    continue
                self._note(connection, sorted({pid for row in found for pid in row[1]}))
                blocked_since = blocked_since or time.monotonic()
                if time.monotonic() - blocked_since > _PATIENCE_SECONDS:
                    self.given_up = True
                    for pid, _ in found:
                        connection.execute(select(func.pg_cancel_backend(pid)))

    def _note(self, connection: Connection, pids: Sequence[int]) -> None:
        rows = connection.execute(_WHO, {"pids": list(pids)}).all()
        if not rows:
            return
        self._pids = [row.pid for row in rows]
        self._who = [
            f"pid {row.pid} ({row.name}, user {row.usename}, {row.state}"
            + (f", for {row.seconds} s)" if row.seconds is not None else ")")
            for row in rows
        ]
