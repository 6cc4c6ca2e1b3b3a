"""Opening of connections to PostgreSQL, directly or through a transaction pooler."""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from zap.db.bounded_connection import BoundedConnection
from zap.db.bounds import Bounds
from zap.errors import DatabaseUnavailable

# What zap asks about a new connection.
_ASKED_AT_START = "SELECT pg_backend_pid(), current_setting('server_encoding'), current_setting('synchronous_commit')"
# Settings without which zap cannot keep its promises, whatever the role or the database has: psycopg reads only ISO
# times. With synchronous_commit off, a crash of the server loses answered requests.
_NEEDED = {"datestyle": "ISO"}


class Connector:
    """Open connections, directly to the server or through a transaction pooler.

    Behind a pooler each transaction may use another connection of the server, so no state lasts: limits are set in each
    transaction, and statements are not prepared on the server.

    Args:
        bounds: how long one answer may take.
        limits: PostgreSQL settings.
        at_start: whether to set the limits when a connection starts, and not in each transaction.
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
