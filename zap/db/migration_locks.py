"""Upgrades of a PostgreSQL database in use: one at a time, in short attempts, so that other clients wait little."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from zap.db.migration_engine import ATTEMPT_MILLISECONDS, migration_engine
from zap.db.upgrade_blockers import LOOK_SECONDS, Blockers

# An arbitrary number, which every zap on a PostgreSQL database must use.
_UPGRADE_LOCK_KEY = 0x7A61_7003
# The pause between two attempts, in which other clients go on.
_PAUSE_SECONDS = 1.0
# How long an upgrade waits for locks in all: in several attempts, or in one step that blocks no other client.
_PATIENCE_SECONDS = 60.0
# The error codes of a lock timeout and of a deadlock: another attempt may succeed.
_TRY_AGAIN = frozenset({"55P03", "40P01"})
_CANCELLED = "57014"


def run_beside_others(url: str, migrate: Callable[[Connection], None]) -> None:
    """Run migrations that commit step by step, and try again until they get the locks that they need.

    Args:
        url: of a PostgreSQL database.
        migrate: called with a connection, once for each attempt. It skips the steps that are already done.

    Raises:
        UpgradeBlocked: another connection kept a lock for too long. The message names the connection.
    """
    name = f"zap upgrade {secrets.token_hex(4)}"
    engine = migration_engine(url, name)
    # The blockers' connection is the last one: a pooler may allow only two, and an upgrade works without that look.
    with _one_at_a_time(engine), engine.connect() as connection, Blockers(url, name, _PATIENCE_SECONDS) as blockers:
        attempts = max(1, round(_PATIENCE_SECONDS / (_PAUSE_SECONDS + ATTEMPT_MILLISECONDS / 1000)))
        while True:
            attempts -= 1
            try:
                migrate(connection)
            except DBAPIError as error:
                connection.rollback()
                state = getattr(error.orig, "sqlstate", None)
                if blockers.given_up and state == _CANCELLED:
                    raise blockers.refusal() from error
                if state not in _TRY_AGAIN:
                    raise
                if attempts <= 0:
                    raise blockers.refusal() from error
            else:
                return
            time.sleep(_PAUSE_SECONDS)


@contextmanager
def _one_at_a_time(engine: Engine) -> Iterator[None]:
    """Keep other upgrades of the database out for the length of a block, by an idle transaction with a lock.

    A session lock would be lost behind a pooler. CREATE INDEX CONCURRENTLY waits for transactions that hold a snapshot.
    So an upgrade in line polls instead of waiting inside a statement, and the statement has no parameters, because with
    parameters the idle transaction would keep its snapshot.
    """
    with engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        while not connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({_UPGRADE_LOCK_KEY})").scalar():
            connection.rollback()
            time.sleep(LOOK_SECONDS)
        yield
