"""The watch of a server process for erasures: after one, the process forgets what it remembers of drivers."""

from sqlalchemy import Engine

from zap.db.erasure.ledger import ledger_size
from zap.db.history.driver_histories import DriverHistories


class ErasureWatch:
    """Let one process forget the drivers that other processes erase.

    Args:
        engine: on a database at head.
        histories: what the process remembers of drivers.
    """

    def __init__(self, engine: Engine, histories: DriverHistories) -> None:
        self._engine, self._histories = engine, histories
        self._seen: tuple[int, int] | None = None

    def look(self) -> None:
        """Forget the drivers if there was an erasure since the last look. Look once before the first request."""
        with self._engine.connect() as connection:
            size = ledger_size(connection)
        if size != self._seen:
            self._histories.forget_erased()
            self._seen = size
