"""The audit: write down each change in the transaction of the change itself."""

import json
from collections.abc import Mapping
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, Table, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from zap.actor import ACTOR, Actor
from zap.db.audit_chain import EMPTY, HEAD_ID, LARGEST_NUMBER, Head, hash_of, stored_head
from zap.db.audit_tables import AuditHead, AuditRow
from zap.db.engine import after_commit, database_now, write_transaction

log = structlog.get_logger(__name__)

# The most characters of a name and of a JSON text. Longer ones are shortened.
_LONGEST_NAME = 300
_LONGEST_JSON = 8000
_AUDIT: Table = AuditRow.__table__  # type: ignore[attr-defined]
_HEAD: Table = AuditHead.__table__  # type: ignore[attr-defined]


def note(
    connection: Connection,
    action: str,
    subject: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Write down a change of the present actor, in the transaction of the change.

    Call it last in the transaction, because other changes wait from here on until the transaction ends.

    Args:
        connection: the transaction of the change.
        action: what is done: the kind of the subject, a dot, and a verb, such as `version.promote`.
        subject: on what, such as `version 5`.
        before: what was there before, without secrets.
        after: what is there now, without secrets.
    """
    who, origin = ACTOR.get()
    head = _locked_head(connection)
    usable = select(func.max(_AUDIT.c.audit_id)).where(_AUDIT.c.audit_id < LARGEST_NUMBER)
    last = connection.scalar(usable) or 0
    values = {
        # A damaged head must keep no change from happening: the row gets a free number, and the check finds the damage.
        "audit_id": max(head.rows, last, 0) + 1,
        "happened_at": database_now(connection),
        "who": _name(who),
        "origin": _name(origin),
        "action": _name(action),
        "subject": _name(subject),
        "before": _json(before),
        "after": _json(after),
        "previous_hash": head.hash,
    }
    hashed = hash_of(values)
    connection.execute(insert(_AUDIT), values | {"hash": hashed})
    moved = {"count": values["audit_id"], "hash": hashed}
    connection.execute(update(_HEAD).where(_HEAD.c.head_id == HEAD_ID).values(moved))
    told = {name: values[name] for name in ("audit_id", "action", "subject", "who", "origin")}
    after_commit(connection, lambda: log.info("a change was written down", **told, head=hashed))


def actor_of(connection: Connection, action: str, subject: str) -> Actor | None:
    """Return who did something last; None if nobody has."""
    same = (_AUDIT.c.action == action) & (_AUDIT.c.subject == subject)
    newest = select(_AUDIT.c.who, _AUDIT.c.origin).where(same).order_by(_AUDIT.c.audit_id.desc()).limit(1)
    found = connection.execute(newest).one_or_none()
    return None if found is None else Actor(str(found.who), str(found.origin))


def note_state(engine: Engine, action: str, subject: str, state: Mapping[str, Any]) -> bool:
    """Write down a state if the newest row of this action and subject has another state. Return whether it has.

    Nothing is written if nothing has changed, or if there is no such row and the state has no value.
    """
    with engine.connect() as connection:
        if _noted_state(connection, action, subject, state) == dict(state):
            return False
    with write_transaction(engine) as connection:
        # Of several processes that look at this moment, only one writes the row.
        _locked_head(connection)
        before = _noted_state(connection, action, subject, state)
        if before == dict(state):
            return False
        note(connection, action, subject, before=before, after=state)
    return True


def _noted_state(connection: Connection, action: str, subject: str, state: Mapping[str, Any]) -> dict[str, Any]:
    same = (_AUDIT.c.action == action) & (_AUDIT.c.subject == subject)
    newest = select(_AUDIT.c.after).where(same).order_by(_AUDIT.c.audit_id.desc()).limit(1)
    return read_json(connection.scalar(newest)) or dict.fromkeys(state)


def read_json(text: Any) -> dict[str, Any] | None:
    """Return the object that a text of the audit holds; None if it holds none, because somebody has damaged it."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _locked_head(connection: Connection) -> Head:
    """Return the head, and keep other transactions from adding rows until this transaction ends."""
    head = stored_head(connection, lock=True)
    if head is None:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        first = {"head_id": HEAD_ID, "count": EMPTY.rows, "hash": EMPTY.hash}
        # Another process may write the first row at this moment.
        connection.execute(dialect.insert(_HEAD).on_conflict_do_nothing(), first)
        head = stored_head(connection, lock=True)
    return head or EMPTY


def _name(text: str) -> str:
    """Return a text that both engines can store, and that is not too long."""
    short = text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 3]}..."
    return _storable(short)


def _json(value: Mapping[str, Any] | None) -> str | None:
    if value is None:
        return None
    text = _storable(json.dumps(value, ensure_ascii=False, default=str))
    if len(text) <= _LONGEST_JSON:
        return text
    return json.dumps({"characters": len(text), "begins": text[: _LONGEST_JSON // 2]}, ensure_ascii=False)


def _storable(text: str) -> str:
    # PostgreSQL stores no U+0000, and no engine stores half of a surrogate pair.
    return text.replace("\0", "\N{SYMBOL FOR NULL}").encode(errors="replace").decode()
