"""Connections to PostgreSQL with deadlines: no thread waits for ever for a server, or for a proxy in front of it."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.engine import URL, ExceptionContext

from zap.db.bounds import Bounds
from zap.errors import DatabaseUnavailable

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
# What zap asks about a new connection.
_ASKED_AT_START = "SELECT pg_backend_pid(), current_setting('server_encoding'), current_setting('synchronous_commit')"
# Settings without which zap cannot keep its promises, whatever the role or the database has: psycopg reads only ISO
# times. With synchronous_commit off, a crash of the server loses answered requests.
_NEEDED = {"datestyle": "ISO"}
_Result = TypeVar("_Result")


class BoundedConnection(psycopg.Connection[Any]):
    """A connection with a deadline, set by this process, for every wait for the server.

    The server's time limits and TCP's do not help against a proxy that accepts bytes but does not pass them on.
    """

    bounds = Bounds()
    # SET LOCAL statements at the start of each transaction, if the limits could not be set at the start.
    limits = ""

    def limit_transaction(self, cursor: psycopg.Cursor[Any]) -> None:
        """Set the limits in this transaction, if they could not be set when the connection started."""
        if self.limits:
            cursor.execute(self.limits)

    def wait(self, gen: PQGen[_Result], *arguments: Any, **options: Any) -> _Result:
        """Wait for the server.

        Raises:
            OperationalError: the server did not answer in time. The connection is closed.
        """
        return super().wait(self._bounded(gen), *arguments, **options)

    def _bounded(self, gen: PQGen[_Result]) -> PQGen[_Result]:
        until = self.bounds.until()
        try:
            asked = next(gen)
            while True:
                ready = yield asked
                # Checked only when no data has arrived for a while: a server that still sends is alive.
                if not ready and self.bounds.is_over(until):
                    self.pgconn.finish()
                    raise psycopg.OperationalError("the database did not answer in time; the connection was closed")
                asked = gen.send(ready)
        except StopIteration as end:
            result: _Result = end.value
            return result


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
    connector = _Connector(bounds, {} if at_start and "options" in engine.url.query else limits, at_start=at_start)

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


class _Connector:
    """Open connections, directly to the server or through a transaction pooler.

    Behind a pooler each transaction may use another connection of the server, so no state lasts: limits are set in each
    transaction, and statements are not prepared on the server.
    """

    def __init__(self, bounds: Bounds, limits: Mapping[str, str], *, at_start: bool) -> None:
        self._bounds = bounds
        self._limits = limits
        # Set to False when a pooler refuses settings at the start.
        self._at_start = at_start

    def connect(self, arguments: Sequence[Any], options: Mapping[str, Any]) -> BoundedConnection:
        """Return a connection.

        Raises:
            OperationalError: the server cannot be reached or refuses the connection.
            DatabaseUnavailable: the database is not in UTF-8.
        """
        connection = self._open(arguments, options)
        try:
            connection.bounds = self._bounds
            connection.autocommit = True
            found = connection.execute(_ASKED_AT_START).fetchone()
            pid, encoding, commits = found or (None, None, "on")
            _refuse_encoding(encoding, connection.info.dbname)
            needed = dict(_NEEDED, synchronous_commit="on" if commits == "off" else commits)
            # Behind a pooler the two process ids differ, because the pooler reports its own to the client.
            pooled = pid != connection.info.backend_pid
            if pooled:
                connection.prepare_threshold = None
            if pooled or not self._at_start:
                needed = {**self._limits, **needed}
                connection.limits = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in needed.items())
            else:
                connection.execute("; ".join(f"SET {name} = '{value}'" for name, value in needed.items()))
            connection.autocommit = False
        except BaseException:
            connection.close()
            raise
        return connection

    def _open(self, arguments: Sequence[Any], options: Mapping[str, Any]) -> BoundedConnection:
        if self._limits and self._at_start:
            at_start = " ".join(f"-c {name}={value}" for name, value in self._limits.items())
            try:
                return BoundedConnection.connect(*arguments, **options, options=at_start)
            except psycopg.OperationalError as error:
                # A part of PgBouncer's message.
                if "startup parameter" not in str(error):
                    raise
                self._at_start = False
        return BoundedConnection.connect(*arguments, **options)


def _refuse_encoding(encoding: str | None, name: str) -> None:
    if encoding != "UTF8":
        raise DatabaseUnavailable(
            f"the database {name} has the encoding {encoding}, which cannot hold every text of a request; zap needs"
            f" UTF8. Create a new database: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )


def is_useless(error: BaseException | None) -> bool:
    """Return whether an error means that its connection cannot write any more, but a new connection may."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _USELESS


def missing_rights(connection: Connection, read: Sequence[str], numbered: Mapping[str, str]) -> list[str]:
    """Return the rights that the role of a connection lacks, such as `INSERT into predictions`.

    Args:
        connection: a connection of the role.
        read: the tables that the role must be able to select from.
        numbered: the tables that the role must be able to insert into, each with its column with a sequence.
    """
    rights = text(
        "SELECT 'SELECT from ' || name FROM unnest(CAST(:read AS text[])) AS name"
        " WHERE NOT has_table_privilege(quote_ident(name), 'SELECT')"
        " UNION ALL SELECT 'INSERT into ' || name FROM unnest(CAST(:names AS text[])) AS name"
        " WHERE NOT has_any_column_privilege(quote_ident(name), 'INSERT')"
        " UNION ALL SELECT 'USAGE of ' || pg_get_serial_sequence(quote_ident(name), key)"
        " FROM unnest(CAST(:names AS text[]), CAST(:keys AS text[])) AS numbered (name, key)"
        " WHERE NOT has_sequence_privilege(pg_get_serial_sequence(quote_ident(name), key), 'USAGE, UPDATE')"
    )
    found = connection.scalars(rights, {"read": list(read), "names": list(numbered), "keys": list(numbered.values())})
    return list(found)
