"""A connection to PostgreSQL with a deadline for every wait, also behind a proxy."""

from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

from zap.db.bounds import Bounds

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
