"""The engine for migrations of a PostgreSQL database in use: it waits for a lock only shortly."""

import sqlalchemy
from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from zap.db.bounds import Bounds
from zap.db.postgresql import bound_connections, connect_arguments

# How long to wait for a new connection.
_CONNECT_SECONDS = 10
# How long an attempt waits for a lock. Other clients that need the table wait behind it, and go on in the pause.
ATTEMPT_MILLISECONDS = 300
# Settings of the role or the database must not end an upgrade. If the machine of an upgrade dies, the server notices
# within half a minute.
_TRANSACTION = {
    "lock_timeout": f"{ATTEMPT_MILLISECONDS}ms",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
}


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
