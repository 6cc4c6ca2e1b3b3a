"""The lease of the follower: one process over all workers and machines follows, as long as its heartbeat goes on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, select, text, update
from sqlalchemy.exc import IntegrityError

from zap.db.engine import background_transactions, database_now, write_transaction
from zap.db.history.session_changes import Mark
from zap.db.monitoring.follower_marks import FOLLOWER, LeaseLost, Marks, add_follower, move_marks, read_marks
from zap.db.process_name import new_process_name

# A process without a heartbeat for this time has lost the lease.
LAPSED = timedelta(seconds=10)
# How often a follower without anything to do writes a heartbeat.
_BEAT_SECONDS = 3.0
_MAY_FOLLOW = text(
    "SELECT bool_and(has_table_privilege(written, needed)) AND (SELECT bool_and(has_sequence_privilege("
    "pg_get_serial_sequence(name, key), 'USAGE, UPDATE')) FROM"
    " (VALUES ('alarms', 'alarm_id'), ('alarm_deliveries', 'delivery_id')) AS numbered (name, key))"
    " FROM unnest(ARRAY['INSERT', 'UPDATE', 'DELETE']) AS needed,"
    " unnest(ARRAY['follower', 'outcomes', 'quality_days', 'data_quality_days', 'monitor_states', 'alarms',"
    " 'alarm_deliveries', 'trials', 'trial_predictions']) AS written"
)


def may_follow(engine: Engine) -> bool:
    """Return whether the role of an engine has the rights to follow. A role that only predicts does not have them."""
    if engine.dialect.name == "sqlite":
        return True
    with engine.connect() as connection:
        return bool(connection.scalar(_MAY_FOLLOW))


class FollowerLease:
    """The right of one process to follow, and the marks of the follower. Only one thread may use it.

    Args:
        engine: on a database at head.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._holder = new_process_name()
        # All that these transactions write can be made again, from the marks that they write too.
        self._transaction = background_transactions(engine, durable=False)
        # The marks as they are stored, and as they are now; None if this process does not hold the lease.
        self._stored: Marks | None = None
        self._marks: Marks | None = None
        self._beat_at = 0.0

    @property
    def marks(self) -> Marks:
        """Return how far this process has come.

        Raises:
            LeaseLost: this process does not hold the lease.
        """
        if self._marks is None:
            raise LeaseLost
        return self._marks

    def take(self) -> bool:
        """Take the lease if no other process holds it. Return whether this process holds it now.

        If another process holds it, nothing is written.
        """
        if self._marks is None and self._is_taken():
            with self._engine.connect() as connection:
                self._stored = self._marks = read_marks(connection)
            self._beat_at = time.monotonic()
        return self._marks is not None

    @contextmanager
    def writing(self, **changes: Any) -> Iterator[Connection]:
        """Yield a transaction of the follower, which also writes the marks and a heartbeat.

        Args:
            changes: the marks that change.

        Raises:
            LeaseLost: this process may write nothing.
        """
        after, before = self.marks._replace(**changes), self._stored
        try:
            with self._transaction() as connection:
                move_marks(connection, self._holder, before or after, after)
                yield connection
        except BaseException:
            # It may not be known whether the transaction was committed. The next `take` reads the marks again.
            self._stored = self._marks = None
            raise
        self._stored = self._marks = after
        self._beat_at = time.monotonic()

    def check(self, connection: Connection) -> None:
        """Check in a transaction that this process holds the lease; no other process can take it meanwhile.

        Raises:
            LeaseLost: this process may write nothing.
        """
        stored = self._stored or self.marks
        move_marks(connection, self._holder, stored, stored)

    def note(self, mark: Mark) -> None:
        """Remember the mark of the sessions. The next transaction writes it."""
        self._marks = self.marks._replace(session_mark=mark)

    def beat(self) -> None:
        """Write a heartbeat if it is time for one.

        Raises:
            LeaseLost: this process does not hold the lease any more.
        """
        if time.monotonic() - self._beat_at >= _BEAT_SECONDS:
            with self.writing():
                pass

    def give_up(self) -> None:
        """Let another process follow at once, if this process has the lease."""
        self._stored = self._marks = None
        mine = FOLLOWER.c.holder == self._holder
        with self._engine.connect() as connection:
            if connection.scalar(select(FOLLOWER.c.follower_id).where(mine)) is None:
                return
        with write_transaction(self._engine) as connection:
            connection.execute(update(FOLLOWER).where(mine).values(holder=None, heartbeat_at=None))

    def _is_taken(self) -> bool:
        """Write the name of this process into the row of the follower if it may write. Return whether it did so."""
        with self._engine.connect() as connection:
            there = connection.scalar(select(FOLLOWER.c.follower_id)) is not None
            free = connection.scalar(select(FOLLOWER.c.follower_id).where(self._is_free(connection)))
        if there and free is None:
            return False
        try:
            with write_transaction(self._engine) as connection:
                if not there:
                    add_follower(connection)
                taking = update(FOLLOWER).where(self._is_free(connection))
                values = {"holder": self._holder, "heartbeat_at": database_now(connection)}
                return connection.execute(taking.values(values)).rowcount == 1
        except IntegrityError:
            # Another process has added the row at the same time.
            return False

    def _is_free(self, connection: Connection) -> ColumnElement[bool]:
        """Return the condition for a lease that this process may take.

        A heartbeat in the future means that the clock was set back since.
        """
        now, heartbeat = database_now(connection), FOLLOWER.c.heartbeat_at
        silent = heartbeat.is_(None) | (heartbeat < now - LAPSED) | (heartbeat > now + LAPSED)
        return FOLLOWER.c.holder.is_(None) | (FOLLOWER.c.holder == self._holder) | silent
