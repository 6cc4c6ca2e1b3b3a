"""A read replica: a standby of PostgreSQL from which pages and lists are read."""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from zap.db.engine import bounds_of
from zap.db.unusable import reason_of
from zap.errors import InvalidSettings

log = structlog.get_logger(__name__)

# How long a read waits until the replica has everything that was committed before the read began, in seconds.
_WAIT_SECONDS = 0.5
_PAUSE_SECONDS = 0.01
# How long a server that did not answer, or a replica that is late, is not asked again.
_REST_SECONDS = 5.0
# What is committed is flushed. A commit that does not wait for the disk counts as soon as it is flushed.
_FLUSHED = text("SELECT pg_current_wal_flush_lsn()::text")
# Where the replay is, and how old its last transaction is. Both are NULL on a server that never was a standby.
_REPLAYED = text(
    "SELECT pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn() >= cast(:lsn AS pg_lsn), false),"
    " extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8"
)
# What a standby has in common with its primary.
_PLACE = text(
    "SELECT (SELECT system_identifier FROM pg_control_system()), oid FROM pg_database"
    " WHERE datname = current_database()"
)

_Result = TypeVar("_Result")


class ReadReplica:
    """Read from the replica if it has everything that was committed before, otherwise from the primary.

    So whoever has changed something sees the change, whichever machine answers. Any thread may call the methods.

    Args:
        primary: an engine on the primary.
        replica: an engine on the replica; None if there is none.
    """

    def __init__(self, primary: Engine, replica: Engine | None) -> None:
        self._primary, self._replica = primary, replica
        # Until when the servers are not asked, on the monotonic clock.
        self._replica_rests = self._primary_rests = 0.0
        self._why_not: str | None = None
        self._telling = threading.Lock()

    @property
    def status(self) -> str | None:
        """Return whether the replica is used: ok, or why not; None if there is no replica."""
        return None if self._replica is None else self._why_not or "ok"

    def read(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        """Return what `work` returns for the engine to read from, and for these arguments."""
        return self.read_with_age(work, *arguments)[0]

    def read_with_age(self, work: Callable[..., _Result], *arguments: Any) -> tuple[_Result, float | None]:
        """Return the result of `read`, and how old it is, in seconds; None if it is up to date.

        The result is old only if the primary does not answer.
        """
        engine, age = self._chosen()
        if engine is self._primary:
            return work(engine, *arguments), None
        try:
            return work(engine, *arguments), age
        except SQLAlchemyError as error:
            # It was stopped, or it ended the query because it had to replay a change of the rows that were read.
            if age is not None:
                raise
            self._rest(reason_of(error))
        return work(self._primary, *arguments), None

    def check(self) -> None:
        """Check the replica when a server starts. If it does not answer, the log has a warning.

        Raises:
            InvalidSettings: it is not a standby of the database.
        """
        if self._replica is None:
            return
        try:
            with self._replica.connect() as replica:
                place = tuple(replica.execute(_PLACE).one())
        except SQLAlchemyError as error:
            self._rest(reason_of(error))
            return
        with self._primary.connect() as primary:
            if tuple(primary.execute(_PLACE).one()) != place:
                raise InvalidSettings(
                    "ZAP_READ_DATABASE_URL leads to another database than ZAP_DATABASE_URL; name a standby that streams"
                    " from the server of ZAP_DATABASE_URL, with the same name of the database"
                )
        self._chosen()

    def hurry(self) -> None:
        """Let every wait for the replica end within a second, because the process ends."""
        if self._replica is not None:
            bounds_of(self._replica).hurry()

    def close(self) -> None:
        """Close the connections to the replica."""
        if self._replica is not None:
            self._replica.dispose()

    def _chosen(self) -> tuple[Engine, float | None]:
        """Return the engine to read from, and how old its rows are; None if they are up to date."""
        now = time.monotonic()
        if self._replica is None or now < self._replica_rests:
            return self._primary, None
        flushed = None
        if now >= self._primary_rests:
            try:
                with self._primary.connect() as primary:
                    flushed = primary.scalar(_FLUSHED)
            except SQLAlchemyError:
                self._primary_rests = time.monotonic() + _REST_SECONDS
        try:
            reason, age = self._state(self._replica, flushed)
        except SQLAlchemyError as error:
            reason, age = reason_of(error), None
        if reason is not None:
            self._rest(reason)
            return self._primary, None
        self._tell(None)
        return self._replica, age

    @staticmethod
    def _state(replica: Engine, flushed: str | None) -> tuple[str | None, float | None]:
        """Return why the replica cannot be read, and how old its rows are if the primary does not answer."""
        end = time.monotonic() + _WAIT_SECONDS
        while True:
            with replica.connect() as connection:
                is_standby, has_all, age = connection.execute(_REPLAYED, {"lsn": flushed}).one()
            if not is_standby:
                return "it is not a standby", None
            if flushed is None:
                return None, age or 0.0
            if has_all:
                return None, None
            if time.monotonic() >= end:
                return f"it is more than {_WAIT_SECONDS:g} s late; its last transaction is {age or 0:.0f} s old", None
            time.sleep(_PAUSE_SECONDS)

    def _rest(self, reason: str) -> None:
        self._replica_rests = time.monotonic() + _REST_SECONDS
        self._tell(reason)

    def _tell(self, why_not: str | None) -> None:
        """Log once that the replica is not used, and once that it is used again."""
        with self._telling:
            before, self._why_not = self._why_not, why_not
        if before is None and why_not is not None:
            log.warning("the read replica is not used; pages and lists are read from the primary", reason=why_not)
        elif before is not None and why_not is None:
            log.info("the read replica is used again")
