"""A look at the keys for requests that come when the last look is old, because the database does not answer.

Such a request waits for the database anyway. Without this look, a key that was revoked meanwhile could be accepted when
the database is back.
"""

import asyncio
import time
from collections.abc import Callable

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.errors import DatabaseUnavailable, ZapError
from zap.server.keys import Key, Keys
from zap.threads import PATIENCE_SECONDS, Pool

log = structlog.get_logger(__name__)


class KeyLooks:
    """Find keys for the event loop of one process. All requests that wait share one look.

    Args:
        keys: the keys.
        engine: on the database.
    """

    def __init__(self, keys: Keys, engine: Engine) -> None:
        self._keys, self._engine = keys, engine
        # A thread of its own: all others may wait for the database.
        self._thread = Pool("keys", 1)
        self._looking: asyncio.Task[bool] | None = None

    async def found(self, find: Callable[[], Key | None]) -> Key | None:
        """Return what `find` returns, after a look at the database if the last one is old.

        Args:
            find: a method of Keys with its argument.

        Raises:
            DatabaseUnavailable: the key was right, and the database does not say whether it still is.
        """
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return find()
            except DatabaseUnavailable:
                if not await self._looked(until):
                    raise

    def close(self) -> None:
        """Stop the thread after its current look."""
        self._thread.close()

    async def _looked(self, until: float) -> bool:
        """Wait for a look. Return whether it has succeeded in time."""
        looking = self._looking
        if looking is None or looking.done():
            looking = self._looking = asyncio.create_task(self._look(until))
        done, _ = await asyncio.wait([looking], timeout=max(0.0, until - time.monotonic()))
        return bool(done) and looking.result()

    async def _look(self, until: float) -> bool:
        try:
            await self._thread.run(self._keys.look, self._engine, until=until)
        except (SQLAlchemyError, ZapError) as error:
            log.warning("the keys could not be looked up for a request", error=type(error).__name__)
            return False
        return True
