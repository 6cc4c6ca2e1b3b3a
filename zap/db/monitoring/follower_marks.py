"""The marks of the follower: how far it has read the log, and which changes of sessions it has seen."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, func, insert, select, update

from zap.db.engine import database_now
from zap.db.history.session_changes import Mark, mark_as_json, read_mark
from zap.db.monitoring.missing_ids import MissingIds
from zap.db.monitoring_tables import Follower
from zap.db.stored_json import whole

FOLLOWER: Table = Follower.__table__  # type: ignore[attr-defined]
# The `prediction_id` of a follower that has to begin anew: it removes all that it has derived, and then begins at 0.
BEGIN_ANEW = -1
# The table has one row, with this number.
_ONE = FOLLOWER.c.follower_id == 1
# How long a transaction of the follower may be idle on PostgreSQL before the server ends it.
_IDLE_SECONDS = 5


class LeaseLost(Exception):
    """Another process follows now, or the follower has to begin anew. Nothing of the transaction was written."""


class Marks(NamedTuple):
    """How far the follower has come; the fields are columns of `follower`."""

    prediction_id: int
    missing: tuple[MissingIds, ...]
    session_mark: Mark | None
    rematched_until: int | None


def add_follower(connection: Connection) -> None:
    """Add the row of the follower. Another process must not have added it."""
    connection.execute(insert(FOLLOWER), {"follower_id": 1, "prediction_id": 0})


def read_marks(connection: Connection) -> Marks:
    """Return the marks as they are stored.

    Raises:
        DamagedRow: they cannot be read.
    """
    columns = (FOLLOWER.c.prediction_id, FOLLOWER.c.missing, FOLLOWER.c.session_mark, FOLLOWER.c.rematched_until)
    row = connection.execute(select(*columns).where(_ONE)).one()
    marks = "the marks of the follower"
    ranges, session_mark = whole(row.missing, marks) or (), whole(row.session_mark, marks)
    missing = tuple(MissingIds(first, last, datetime.fromisoformat(since)) for first, last, since in ranges)
    return Marks(row.prediction_id, missing, read_mark(session_mark), row.rematched_until)


def move_marks(connection: Connection, holder: str, before: Marks, after: Marks) -> None:
    """Write the marks and the heartbeat. Each transaction of the follower calls this first.

    Until the transaction ends, no other process can take the lease.

    Args:
        connection: a transaction that writes.
        holder: the process that follows.
        before: the marks as this process has read or written them last.
        after: the new marks.

    Raises:
        LeaseLost: the process may write nothing.
    """
    if connection.dialect.name == "postgresql":
        # If the machine of the follower dies, TCP would wait for hours.
        timeout = ("idle_in_transaction_session_timeout", f"{_IDLE_SECONDS}s", True)
        connection.execute(select(func.set_config(*timeout)))
    mine = _ONE & (FOLLOWER.c.holder == holder) & (FOLLOWER.c.prediction_id == before.prediction_id)
    values = {"heartbeat_at": database_now(connection), **_changed(before, after)}
    if connection.execute(update(FOLLOWER).where(mine).values(values)).rowcount != 1:
        raise LeaseLost


def begin_anew(connection: Connection) -> None:
    """Let the process that follows, now or later, remove all derived rows and begin with the first answer."""
    values = {"prediction_id": BEGIN_ANEW, "missing": None, "session_mark": None, "rematched_until": None}
    connection.execute(update(FOLLOWER).where(_ONE).values(values))


def _changed(before: Marks, after: Marks) -> dict[str, Any]:
    """Return the values to write, without marks that have not changed."""
    values: dict[str, Any] = {}
    if after.prediction_id != before.prediction_id:
        values["prediction_id"] = after.prediction_id
    if after.missing != before.missing:
        values["missing"] = _as_json(after.missing) or None
    if after.session_mark != before.session_mark:
        values["session_mark"] = mark_as_json(after.session_mark)
    if after.rematched_until != before.rematched_until:
        values["rematched_until"] = after.rematched_until
    return values


def _as_json(missing: Iterable[MissingIds]) -> list[Any]:
    return [(one.first, one.last, one.since.isoformat()) for one in missing]
