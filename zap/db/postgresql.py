"""Engines on PostgreSQL with deadlines: no thread waits for ever for a server, or for a proxy in front of it."""

from collections.abc import Mapping
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry

from zap.db.bounded_connection import BoundedConnection
from zap.db.bounds import Bounds
from zap.db.postgresql_connector import Connector

# The server ends a statement, or an idle transaction, after this time, because its client may be gone.
_SERVER_SECONDS = 30
# The seconds between two TCP keepalive probes, and how many unanswered probes end the connection.
_KEEPALIVE_SECONDS, _KEEPALIVES = 3, 3
# SQLSTATEs of connections that cannot write or have ended. A new connection may work.
_USELESS = frozenset(
    {
        "25006",  # read-only: the server is a standby now, or default_transaction_read_only is set
        "25P03",  # the transaction was idle for too long
        "57P01",  # an administrator ended the connection
        "57P02",  # another process of the server crashed
        "57P03",  # the server is starting or stopping
        "57P04",  # the database was dropped
        "57P05",  # the connection was idle for too long
        "58000",  # a system error on the server's machine
        "58030",  # an I/O error on the server's machine
    }
)


def time_limits(patience: float, *, serves: bool) -> dict[str, str]:
    """Return the time limits that the server enforces, as PostgreSQL settings.

    Args:
        patience: how long a statement waits for a lock, in seconds.
        serves: whether requests wait for the statements. Then statements and idle transactions are limited too.
    """
    limits = {"lock_timeout": f"{patience:.0f}s"}
    if serves:
        limits |= {
            "statement_timeout": f"{_SERVER_SECONDS}s",
            "idle_in_transaction_session_timeout": f"{_SERVER_SECONDS}s",
        }
    return limits


def connect_arguments(url: URL, patience: float) -> dict[str, Any]:
    """Return the arguments for a connection, without options that the URL sets.

    Args:
        url: of the database.
        patience: how long to wait for a new connection and for the acknowledgement of sent bytes, in seconds.
    """
    arguments = {
        "connect_timeout": round(patience),
        "keepalives": 1,
        "keepalives_idle": _KEEPALIVE_SECONDS,
        "keepalives_interval": _KEEPALIVE_SECONDS,
        "keepalives_count": _KEEPALIVES,
        "tcp_user_timeout": round(patience * 1000),
    }
    # UTF-8 can hold every text; the role or the environment might choose another encoding.
    return {name: value for name, value in arguments.items() if name not in url.query} | {"client_encoding": "utf8"}


def bound_connections(engine: Engine, bounds: Bounds, limits: Mapping[str, str], *, at_start: bool = True) -> None:
    """Give every connection of an engine its deadlines, and let the pool drop connections that cannot write.

    Args:
        engine: on PostgreSQL.
        bounds: how long one answer may take.
        limits: PostgreSQL settings.
        at_start: whether to set the limits when a connection starts; options in the URL then override them. Otherwise
            they are set in each transaction.
    """
    connector = Connector(bounds, {} if at_start and "options" in engine.url.query else limits, at_start=at_start)

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> BoundedConnection:
        return connector.connect(arguments, options)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        driver = connection.connection.driver_connection
        if isinstance(driver, BoundedConnection) and not driver.autocommit:
            with driver.cursor() as cursor:
                driver.limit_transaction(cursor)

    @event.listens_for(engine, "handle_error")
    def _drop(context: ExceptionContext) -> None:
        if is_useless(context.original_exception):
            # SQLAlchemy then replaces all connections of the pool, each at its next use.
            context.is_disconnect = True

    @event.listens_for(engine, "checkin")
    def _forget(driver: Any, record: ConnectionPoolEntry) -> None:
        # Made while an administrator allowed no writes, it would refuse them for ever, also to who uses it next.
        if isinstance(driver, BoundedConnection) and _writes_nothing(driver):
            record.invalidate(soft=True)


def _writes_nothing(driver: BoundedConnection) -> bool:
    """Return whether PostgreSQL (14 and newer) has said that the transactions of a connection are read-only."""
    return not driver.closed and driver.pgconn.parameter_status(b"default_transaction_read_only") == b"on"


def is_useless(error: BaseException | None) -> bool:
    """Return whether an error means that its connection cannot write any more, but a new connection may."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _USELESS
