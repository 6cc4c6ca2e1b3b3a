"""The daily limit of a key for rows of batches, applied to one request."""

import math

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.db.key_days import Counted, give_rows_back, take_rows
from zap.errors import LimitReached, ZapError
from zap.sentences import say
from zap.server.keys import Key

log = structlog.get_logger(__name__)

_DAY_SECONDS = 86_400


class BatchRows:
    """Count the rows of one request. The methods ask the database, so call them in a thread.

    Args:
        engine: on the database.
        key: the key of the request; None if it carries none. Without a limit of the key nothing is counted.
    """

    def __init__(self, engine: Engine, key: Key | None) -> None:
        self._engine, self._key = engine, key
        self._limit = None if key is None else key.batch_rows_per_day
        self._taken: tuple[int, str] | None = None

    def take(self, rows: int) -> None:
        """Count rows before they are answered. Rows that are answered a second time are counted once.

        Raises:
            LimitReached: the key may not send this number of rows today.
        """
        if self._key is None or self._limit is None or self._taken is not None:
            return
        counted = take_rows(self._engine, self._key.key_id, rows, self._limit)
        if not counted.is_taken:
            raise LimitReached(
                say(
                    "the key may send {limit:,} rows of batches a day (UTC), and {left:,} are left;"
                    " this batch has {rows:,}",
                    limit=self._limit,
                    left=counted.left,
                    rows=rows,
                ),
                self._headers(counted),
            )
        self._taken = rows, counted.day

    def keep(self) -> None:
        """Let the rows that were counted last count for good, because they are answered."""
        self._taken = None

    def give_back(self) -> None:
        """Take back the rows that were counted last, because they were not answered."""
        taken, self._taken = self._taken, None
        if taken is None or self._key is None:
            return
        rows, day = taken
        try:
            give_rows_back(self._engine, self._key.key_id, rows, day)
        except (SQLAlchemyError, ZapError) as error:
            # The client gets another error: the one because of which the rows were not answered.
            log.warning("rows that were not answered still count for their key", rows=rows, error=type(error).__name__)

    def _headers(self, counted: Counted) -> dict[str, str]:
        wait = max(1, math.ceil(counted.seconds))
        return {
            "Retry-After": str(wait),
            "RateLimit-Policy": f'"batch-rows";q={self._limit};w={_DAY_SECONDS}',
            "RateLimit": f'"batch-rows";r={counted.left};t={wait}',
        }
