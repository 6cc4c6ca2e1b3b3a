"""The keys and logins of a restored backup: what has ended since the backup does not come back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Table, delete, func, inspect, select, update

from zap.db.api_keys import in_use, noted_key
from zap.db.audit import note
from zap.db.engine import database_now, write_transaction
from zap.db.key_tables import ApiKey
from zap.db.login_tables import Login

_KEYS: Table = ApiKey.__table__  # type: ignore[attr-defined]
_LOGINS: Table = Login.__table__  # type: ignore[attr-defined]
_MOST_NAMED = 20


class KnownEnd(NamedTuple):
    """What a database says about the end of a key.

    Attributes:
        revoked: whether somebody has ended it, or its end cannot be read.
        expires_at: when it ends by itself; None: never.
        replaced_by: the key_id of the key that a rotation has made instead.
    """

    revoked: bool
    expires_at: datetime | None
    replaced_by: str | None


def read_ends(connection: Connection) -> dict[str, KnownEnd]:
    """Return what a database says about its keys, by key_id; nothing if it is older than the keys."""
    if not inspect(connection).has_table(_KEYS.name):
        return {}
    # A moment that cannot be read counts as an end that has come.
    is_revoked, expires = _KEYS.c.revoked_at.is_not(None), _KEYS.c.expires_at.is_not(None)
    asked = select(_KEYS.c.key_id, is_revoked, expires, _KEYS.c.expires_at, _KEYS.c.replaced_by)
    return {
        str(key_id): KnownEnd(bool(revoked or (expires and until is None)), until, replaced_by)
        for key_id, revoked, expires, until, replaced_by in connection.execute(asked)
    }


def end_again(engine: Engine, ends: Mapping[str, KnownEnd]) -> list[str]:
    """End the keys of a restored database that the replaced database says have ended, and all logins.

    Args:
        engine: on the restored database, at head.
        ends: the result of `read_ends` on the replaced database; nothing if it could not be read.

    Returns:
        notes for people: which keys stay ended, and which are valid again though nothing is known about them.
    """
    ended, unknown = [], []
    with write_transaction(engine) as connection:
        now = database_now(connection)
        listed = select(_KEYS).where(in_use(now)).order_by(_KEYS.c.name, _KEYS.c.key_id)
        keys = [dict(row) for row in connection.execute(listed).mappings()]
        connection.execute(delete(_LOGINS))
        for key in keys:
            known = ends.get(key["key_id"])
            if known is None:
                unknown.append(key)
            elif changed := _changed(key, known, now):
                connection.execute(update(_KEYS).where(_KEYS.c.key_id == key["key_id"]).values(changed))
                ended.append((key, changed))
        has_keys = bool(connection.scalar(select(func.count()).select_from(_KEYS)))
        for key, changed in ended:
            note(connection, "key.revoke", f"key {key['key_id']}", before=noted_key(key), after=changed)
    notes = []
    if ended:
        notes.append(f"{_named([key for key, _ in ended])}: ended after the backup was made, and ended again")
    if unknown:
        notes.append(
            f"{_named(unknown)}: valid again, because the database that was replaced says nothing about"
            f" {'it' if len(unknown) == 1 else 'them'}. Revoke what was revoked after the backup was made"
        )
    if ends and not has_keys:
        notes.append(
            "the backup has no keys, so without ZAP_API_KEY every route is open to everybody: make a key first"
        )
    return notes


def _changed(key: Mapping[str, Any], known: KnownEnd, now: datetime) -> dict[str, Any]:
    """Return the new values of a key that ends, or has ended, sooner than its row says; nothing if it does not."""
    if known.revoked:
        return {"revoked_at": now}
    if known.expires_at is None or (key["expires_at"] is not None and key["expires_at"] <= known.expires_at):
        return {}
    return {"expires_at": known.expires_at, "replaced_by": known.replaced_by}


def _named(keys: list[dict[str, Any]]) -> str:
    names = [f"{key['name']} ({key['key_id']})" for key in keys[:_MOST_NAMED]]
    more = f" and {len(keys) - _MOST_NAMED:,} more" if len(keys) > _MOST_NAMED else ""
    return f"key{'s' * (len(keys) != 1)} {', '.join(names)}{more}"
