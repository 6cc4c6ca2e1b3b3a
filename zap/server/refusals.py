"""Refusals: the counts of refused requests and reports of one process, until they are written."""

import threading
from collections import Counter
from collections.abc import Mapping
from datetime import date

from sqlalchemy import Engine

from zap.db.engine import write_transaction
from zap.db.monitoring.data_quality_days import apply, day_of
from zap.db.tables import utc_now
from zap.monitoring.data_quality import Found

# The newest days whose counts are kept while they cannot be written, as when the role of the database may not.
_MOST_DAYS = 7


class Refusals:
    """Count the refusals of this process in memory, and add them to the database now and then.

    An answered request costs nothing here. The counts have a bound: there are a few dozen fields and a dozen reasons
    for each day, and if they cannot be written, the counts of the newest days are kept. A process that is killed loses
    the counts of the last seconds.

    Args:
        engine: on the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, date], Counter[Found]] = {}

    def note(self, subject: str, counts: Mapping[Found, int]) -> None:
        """Count refusals of today (UTC). Any thread may call this.

        Args:
            subject: what was refused.
            counts: how often which field was refused for which reason.
        """
        if not counts:
            return
        key = subject, day_of(utc_now())
        with self._lock:
            self._add(key, counts)

    def write(self) -> None:
        """Add the counts to the database. Counts that cannot be written are kept for the next attempt.

        Raises:
            SQLAlchemyError, ZapError: the counts could not be written. If the connection broke during the commit, they
                may have been written, and are written a second time then.
        """
        with self._lock:
            counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            with write_transaction(self._engine) as connection:
                for (subject, day), found in sorted(counts.items()):
                    apply(connection, subject, {day: found})
        except BaseException:
            with self._lock:
                for key, found in counts.items():
                    self._add(key, found)
            raise

    def _add(self, key: tuple[str, date], counts: Mapping[Found, int]) -> None:
        """Add to the counts of a subject and a day. The lock must be held."""
        self._counts.setdefault(key, Counter()).update(counts)
        days = {day for _, day in self._counts}
        if len(days) > _MOST_DAYS:
            first = sorted(days)[-_MOST_DAYS]
            self._counts = {key: found for key, found in self._counts.items() if key[1] >= first}
