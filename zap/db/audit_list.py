"""Pages of the audit, newest first."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Engine, Table, func, or_, select

from zap.db.audit_chain import EMPTY, Head, stored_head
from zap.db.audit_tables import AuditRow
from zap.formats.values import LARGEST_ID

# How many rows one query looks through, and how long (seconds) one page may look for its rows.
WINDOW = 5_000
PAGE_SECONDS = 1.0
_AUDIT: Table = AuditRow.__table__  # type: ignore[attr-defined]
_ID = _AUDIT.c.audit_id
_TEXTS = ("who", "origin", "action", "subject", "previous_hash", "hash")
# What reading and sending a damaged text may raise.
_DAMAGED = (msgspec.MsgspecError, ArithmeticError, TypeError, ValueError, RecursionError)


@dataclass(frozen=True)
class WantedChanges:
    """The filters of a list of the audit. None stands for all rows.

    Attributes:
        since: the first moment, in UTC.
        until: the moment at which the range ends; it is not in the range.
        who: who made the change.
        action: what was done, such as `version.promote`, or the kind of its subject, such as `version`.
        subject: on what, such as `version 5`.
    """

    since: datetime | None = None
    until: datetime | None = None
    who: str | None = None
    action: str | None = None
    subject: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions for the rows."""
        equal = {"who": self.who, "subject": self.subject}
        found = [_AUDIT.c[name] == value for name, value in equal.items() if value is not None]
        if self.action is not None:
            of_kind = _AUDIT.c.action.startswith(f"{self.action}.", autoescape=True)
            found.append(or_(_AUDIT.c.action == self.action, of_kind))
        if self.since is not None:
            found.append(_AUDIT.c.happened_at >= self.since)
        if self.until is not None:
            found.append(_AUDIT.c.happened_at < self.until)
        return found


@dataclass(frozen=True)
class AuditPage:
    """Some rows of the audit, newest first.

    Attributes:
        rows: the rows. `before` and `after` are objects or None, and `unreadable` has the names of what somebody has
            damaged.
        before: the `before` of the next page; None if there are no more rows.
        head: the number and the hash of the newest row.
    """

    rows: list[dict[str, Any]]
    before: int | None
    head: Head


def list_changes(
    engine: Engine, wanted: WantedChanges, limit: int, before: int = LARGEST_ID, seconds: float = PAGE_SECONDS
) -> AuditPage:
    """Return a page of the audit, newest first.

    A page ends when its time is over, also with fewer rows than `limit`, or none. Its `before` says where to go on.

    Args:
        engine: on the database.
        wanted: which rows.
        limit: the most rows of the page.
        before: return rows with smaller numbers.
        seconds: how long to look for rows if only a few of many rows are wanted.
    """
    end = time.monotonic() + seconds
    rows: list[dict[str, Any]] = []
    with engine.connect() as connection:
        head = stored_head(connection) or EMPTY
        head = head._replace(rows=max(head.rows, 0))
        top = before
        while True:
            newest = connection.scalar(select(func.max(_ID)).where(top > _ID))
            if newest is None:
                return AuditPage(rows, None, head)
            top = newest - WINDOW + 1
            these = select(_AUDIT).where(_ID.between(top, newest), *wanted.conditions())
            found = connection.execute(these.order_by(_ID.desc()).limit(limit - len(rows))).mappings()
            rows += [_listed(row) for row in found]
            if len(rows) == limit:
                return AuditPage(rows, rows[-1]["audit_id"], head)
            if time.monotonic() > end:
                return AuditPage(rows, top, head)


def _listed(row: Mapping[Any, Any]) -> dict[str, Any]:
    read: dict[str, Any] = {"audit_id": row["audit_id"], "happened_at": row["happened_at"]}
    unreadable = ["happened_at"] if row["happened_at"] is None else []
    # SQLite lets another program store a value of any type.
    read |= {name: str(row[name]) for name in _TEXTS}
    for name in ("before", "after"):
        read[name] = None if row[name] is None else _object(row[name])
        unreadable += [name] if row[name] is not None and read[name] is None else []
    return {**read, "unreadable": unreadable}


def _object(text: Any) -> dict[str, Any] | None:
    """Return the object that a text holds; None if it holds none, or one that cannot be sent."""
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
        msgspec.json.encode(found)
    except _DAMAGED:
        return None
    return found
