"""The connections that block an upgrade of a PostgreSQL database: find them, and cancel a step that waits too long."""

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Self

import psycopg
from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from zap.db.migration_engine import migration_engine
from zap.errors import UpgradeBlocked

# The pause between two looks, and how long the end of an upgrade waits for the last look.
LOOK_SECONDS = 0.2
_JOIN_SECONDS = 2.0
_BLOCKED = text(
    "SELECT pid, pg_blocking_pids(pid) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = :name AND state = 'active' AND cardinality(pg_blocking_pids(pid)) > 0"
)
_WHO = text(
    "SELECT pid, usename, coalesce(nullif(application_name, ''), 'no name') AS name,"
    " coalesce(state, 'unknown') AS state, extract(epoch FROM clock_timestamp() - xact_start)::int AS seconds"
    " FROM pg_stat_activity WHERE pid = ANY(:pids) ORDER BY xact_start"
)


class Blockers:
    """Find the connections that block an upgrade, and cancel a step that waits for too long.

    Args:
        url: of the database.
        name: the name of the upgrade's connections.
        patience: how long a step may wait for a lock, in seconds.

    Attributes:
        given_up: whether a step was cancelled because it waited for too long.
    """

    def __init__(self, url: str, name: str, patience: float) -> None:
        self._engine = migration_engine(url, "zap upgrade: find blockers").execution_options(
            isolation_level="AUTOCOMMIT"
        )
        self._name = name
        self._patience = patience
        self._who: list[str] = []
        self._pids: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="upgrade-blockers", daemon=True)
        self.given_up = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        # With a timeout, because the thread may wait for a silent server or for a full pooler.
        self._thread.join(_JOIN_SECONDS)

    def refusal(self) -> UpgradeBlocked:
        """Return the error of an upgrade that did not get its locks."""
        who = "; ".join(self._who) or "a transaction that could not be identified"
        end = f" with SELECT pg_terminate_backend({self._pids[0]})" if self._pids else ""
        return UpgradeBlocked(
            f"another connection keeps a lock on a table that the upgrade changes, or has an old transaction: {who}."
            f" The upgrade tried for {self._patience:.0f} seconds; the database is intact, and servers go on serving"
            f" it. Wait until that transaction ends, or end it{end}; then upgrade again."
        )

    def _look_on(self) -> None:
        # If these queries fail, the upgrade goes on, and its error names no blockers.
        with contextlib.suppress(SQLAlchemyError, psycopg.Error), self._engine.connect() as connection:
            blocked_since: float | None = None
            while not self._over.wait(LOOK_SECONDS):
                found = connection.execute(_BLOCKED, {"name": self._name}).all()
                if not found:
                    blocked_since = None
                    continue
                self._note(connection, sorted({pid for row in found for pid in row[1]}))
                blocked_since = blocked_since or time.monotonic()
                if time.monotonic() - blocked_since > self._patience:
                    self.given_up = True
                    for pid, _ in found:
                        connection.execute(select(func.pg_cancel_backend(pid)))

    def _note(self, connection: Connection, pids: Sequence[int]) -> None:
        rows = connection.execute(_WHO, {"pids": list(pids)}).all()
        if not rows:
            return
        self._pids = [row.pid for row in rows]
        self._who = [
            f"pid {row.pid} ({row.name}, user {row.usename}, {row.state}"
            + (f", for {row.seconds} s)" if row.seconds is not None else ")")
            for row in rows
        ]
