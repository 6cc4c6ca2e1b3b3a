"""From before which moment requests were removed, and how many rows the running removals have removed so far.

Both are in the row of the follower, which is locked in each transaction that removes rows. So a process that is killed
loses no count.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from zap.db.monitoring.follower_marks import FOLLOWER, add_follower
from zap.db.stored_json import Damaged

_ONE = FOLLOWER.c.follower_id == 1


def read_removed_before(connection: Connection) -> datetime | None:
    """Return the midnight (UTC) from before which requests were removed; None if none were.

    Requests from before this moment are still there if they are needed, see `zap.db.monitoring.removable_requests`.
    """
    found: datetime | None = connection.scalar(select(FOLLOWER.c.removed_before).where(_ONE))
    return found


def lock_follower(connection: Connection) -> None:
    """Let no other process follow, or remove requests, until the transaction ends."""
    if connection.execute(update(FOLLOWER).where(_ONE).values(follower_id=FOLLOWER.c.follower_id)).rowcount == 0:
        add_follower(connection)


def note_removed(connection: Connection, removed: Mapping[str, int], before: datetime | None = None) -> None:
    """Note what was removed, in the transaction that removes it.

    Args:
        connection: a transaction that writes, and that has locked the row of the follower.
        removed: how many rows of each kind.
        before: the midnight (UTC) from before which requests are removed.
    """
    total = Counter(_removing(connection))
    total.update(removed)
    values: dict[str, Any] = {"removing": dict(total)}
    if before is not None:
        values["removed_before"] = max(before, read_removed_before(connection) or before)
    connection.execute(update(FOLLOWER).where(_ONE).values(values))


def end_removal(connection: Connection, kinds: Collection[str]) -> dict[str, int]:
    """Return how many rows of some kinds were removed since the last end, and forget it.

    Args:
        connection: a transaction that writes, and that has locked the row of the follower.
        kinds: the kinds of rows whose removal has come to its end.
    """
    total = _removing(connection)
    ended = {kind: total.pop(kind) for kind in kinds if kind in total}
    if ended:
        connection.execute(update(FOLLOWER).where(_ONE).values(removing=total or None))
    return ended


def is_removing(connection: Connection, kinds: Collection[str]) -> bool:
    """Return whether the removal of some kinds of rows has begun and has not come to its end."""
    return not _removing(connection).keys().isdisjoint(kinds)


def _removing(connection: Connection) -> dict[str, int]:
    stored = connection.scalar(select(FOLLOWER.c.removing).where(_ONE))
    return {} if stored is None or isinstance(stored, Damaged) else stored
