"""The chain of the audit: the hash of a row, and the check of all rows against the head."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Table, select

from zap.db.audit_tables import AuditHead, AuditRow
from zap.progress import Progress, no_progress

# The hash before the first row.
NO_HASH = "0" * 64
HEAD_ID = 1
# The largest number that zap gives to a row. A larger one is damage, and there are free numbers above every other one.
LARGEST_NUMBER = 2**62
# The number of rows of a head that holds no such number.
UNREADABLE = -1
# How many rows are in memory at once: a row may have some KiB.
_PORTION = 1000
_AUDIT: Table = AuditRow.__table__  # type: ignore[attr-defined]
_HEAD: Table = AuditHead.__table__  # type: ignore[attr-defined]
_HASHED = ("audit_id", "happened_at", "who", "origin", "action", "subject", "before", "after", "previous_hash")


class Head(NamedTuple):
    """The head of the chain.

    Attributes:
        rows: how many rows the audit has; UNREADABLE if another program has stored no such number.
        hash: of the newest row.
    """

    rows: int
    hash: str


EMPTY = Head(0, NO_HASH)


class Verified(NamedTuple):
    """The result of a check of the chain.

    Attributes:
        head: the newest row that was read; with a broken row, the row before it.
        broken: the number of the first broken row; None if the chain is whole.
        why: what is wrong there; None if nothing is wrong.
        known_at: the row that has the hash that was looked for; 0 for the start of the chain, None if no row has it.
    """

    head: Head
    broken: int | None = None
    why: str | None = None
    known_at: int | None = None


def hash_of(row: Mapping[Any, Any]) -> str:
    """Return the hash of a row: SHA-256 of a JSON array with the values of the row and the hash of the row before."""
    values = [row[name] for name in _HASHED]
    if values[1] is not None:
        values[1] = values[1].isoformat(timespec="microseconds")
    # Another program may have stored bytes in a column of texts.
    form = json.dumps(values, ensure_ascii=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(form.encode()).hexdigest()


def stored_head(connection: Connection, *, lock: bool = False) -> Head | None:
    """Return the stored head of the chain; None if there is none, because nothing has happened yet.

    Args:
        connection: on the database.
        lock: whether no other transaction may add a row until this transaction ends. SQLite has one writer anyway.
    """
    asked = select(_HEAD.c.count.label("count_"), _HEAD.c.hash).where(_HEAD.c.head_id == HEAD_ID)
    found = connection.execute(asked.with_for_update() if lock else asked).one_or_none()
    if found is None:
        return None
    # SQLite lets another program store a value of any type.
    count = found.count_ if type(found.count_) is int and 0 <= found.count_ < LARGEST_NUMBER else UNREADABLE
    return Head(count, str(found.hash))


def verify(engine: Engine, known: str | None = None, progress: Progress = no_progress) -> Verified:
    """Check every row against its hash and against the row before, and the last row against the head.

    Rows are read in portions, each in a transaction of its own, so that servers go on writing and SQLite can empty its
    WAL. The last portion and the head are read in one snapshot.

    Args:
        engine: on the database.
        known: the hash of a row that somebody has written down; None if there is none.
        progress: called with "checking the audit" (in rows).
    """
    head, known_at, total = EMPTY, 0 if known == NO_HASH else None, 0
    options = {} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    portion = select(_AUDIT).order_by(_AUDIT.c.audit_id).limit(_PORTION)
    while True:
        with engine.connect().execution_options(**options) as connection:
            # Without a lower bound at first, because a row may have been inserted before the first one.
            asked = portion.where(_AUDIT.c.audit_id > head.rows) if head.rows else portion
            rows = connection.execute(asked).mappings().all()
            stored = stored_head(connection)
        for row in rows:
            if (why := _wrong(row, head)) is not None:
                return Verified(head, head.rows + 1, why, known_at)
            head = Head(row["audit_id"], row["hash"])
            known_at = head.rows if head.hash == known else known_at
        total = max(total, head.rows, stored.rows if stored else 0)
        progress("checking the audit", head.rows, total)
        if len(rows) < _PORTION:
            return Verified(head, *_wrong_end(head, stored), known_at)


def _wrong(row: Mapping[Any, Any], before: Head) -> str | None:
    """Return what is wrong with the row that follows another one; None if nothing is wrong."""
    number = before.rows + 1
    if row["audit_id"] < number:
        return f"row {row['audit_id']} was inserted before the first row"
    if row["audit_id"] > number:
        return _missing(number, row["audit_id"] - 1)
    if row["hash"] != hash_of(row):
        return f"row {number} was changed: its values do not give its hash"
    if row["previous_hash"] != before.hash:
        return f"row {number} does not follow the row before it: rows were exchanged, replaced or made anew"
    return None


def _wrong_end(head: Head, stored: Head | None) -> tuple[int | None, str | None]:
    """Return the first broken row and what is wrong, if the last row is not the stored head; None twice otherwise."""
    stored = stored or EMPTY
    if stored == head:
        return None, None
    if stored.rows == UNREADABLE:
        return head.rows, "the head of the chain does not say how many rows there are: another program has changed it"
    if stored.rows > head.rows:
        return head.rows + 1, f"{_missing(head.rows + 1, stored.rows)} at the end"
    if stored.rows < head.rows:
        return (
            stored.rows + 1,
            f"row {stored.rows + 1} comes after the head of the chain, which zap moves with each row",
        )
    return head.rows, f"row {head.rows} does not have the hash of the head of the chain: it was made anew"


def _missing(first: int, last: int) -> str:
    return f"row {first} is missing" if first == last else f"the rows {first} to {last} are missing"
