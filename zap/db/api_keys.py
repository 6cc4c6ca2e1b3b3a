"""The keys in the database: made, listed, rotated and revoked. A key itself is shown once, and stored nowhere."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Table, delete, exists, func, insert, or_, select, update

from zap.actor import ACTOR
from zap.db.audit import note
from zap.db.engine import database_now, write_transaction
from zap.db.key_tables import ApiKey
from zap.db.stored_json import readable
from zap.errors import KeyRefused, NotFound
from zap.formats.api_key import new_key
from zap.formats.key_options import KeyOptions
from zap.scopes import ADMIN
from zap.sentences import say

# The most keys that may be in use. Every server process holds them in memory, and looks at all of them twice a second.
MOST_KEYS = 1000
# How long the row of a key is kept after its end.
_KEPT = timedelta(days=400)
# An arbitrary number, which every zap on a PostgreSQL database must use.
_KEYS_LOCK_KEY = 0x7A61_7013
_KEYS: Table = ApiKey.__table__  # type: ignore[attr-defined]
# The columns that may be shown: all but the digest.
_SHOWN = [column for column in _KEYS.columns if column.name != "digest"]
# The columns that the audit has.
_IN_AUDIT = ("key_id", "name", "scopes", "expires_at", "requests_per_second", "batch_rows_per_day")
# What each server process has to know of a key. An end that cannot be read counts as an end that has come.
_USED = (
    *(_KEYS.c.key_id, _KEYS.c.name, _KEYS.c.digest, _KEYS.c.scopes, _KEYS.c.expires_at),
    _KEYS.c.expires_at.is_not(None).label("expires"),
    *(_KEYS.c.requests_per_second, _KEYS.c.batch_rows_per_day),
)


class MadeKey(NamedTuple):
    """A key that was just made, with the row that is stored about it."""

    key: str
    row: dict[str, Any]


def key_digest(key: bytes) -> str:
    """Return the digest under which a key is stored."""
    return hashlib.sha256(key).hexdigest()


def keys_in_use(connection: Connection) -> Sequence[Any]:
    """Return a row for each key that was not revoked, also for keys that have expired."""
    return connection.execute(select(*_USED).where(_KEYS.c.revoked_at.is_(None)).order_by(_KEYS.c.key_id)).all()


def has_keys(connection: Connection) -> bool:
    """Return whether there is a key, or was one: a server does not open to everybody when its last key ends."""
    return bool(connection.scalar(select(exists().select_from(_KEYS))))


def list_keys(engine: Engine, limit: int, *, ended: bool = False) -> list[dict[str, Any]]:
    """Return the newest keys, newest first, each with its `status`: active, replaced, expired or revoked.

    Args:
        engine: on the database.
        limit: the most keys to return.
        ended: whether to return keys that were revoked or have expired too.
    """
    with engine.connect() as connection:
        now = database_now(connection)
        listed = select(*_SHOWN).order_by(_KEYS.c.created_at.desc(), _KEYS.c.key_id).limit(limit)
        rows = connection.execute(listed if ended else listed.where(in_use(now))).mappings()
        return [_shown(row, now) for row in rows]


def read_key(engine: Engine, key_id: str) -> dict[str, Any]:
    """Return a key, also one that has ended, as `list_keys` does.

    Raises:
        NotFound: there is no such key.
    """
    with engine.connect() as connection:
        now = database_now(connection)
        row = connection.execute(select(*_SHOWN).where(_KEYS.c.key_id == key_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(say("no key has the id {key_id}", key_id=key_id[:50]))
    return _shown(row, now)


def create_key(engine: Engine, options: KeyOptions) -> MadeKey:
    """Make a key.

    Raises:
        KeyRefused: a key in use has the name, a key has it as its id, or there are too many keys.
    """
    with write_transaction(engine) as connection:
        now = _locked(connection)
        taken = _KEYS.c.replaced_by.is_(None) & (_KEYS.c.name == options.name)
        if connection.scalar(select(_KEYS.c.key_id).where(in_use(now), taken)) is not None:
            raise KeyRefused(say("a key has the name {name} already; rotate it, or revoke it first", name=options.name))
        if connection.scalar(select(_KEYS.c.key_id).where(_KEYS.c.key_id == options.name)) is not None:
            # `zap keys revoke` takes an id or a name, and would end both keys.
            raise KeyRefused(say("{name} is the id of a key, so it can be the name of none", name=options.name))
        _forget_old(connection, now)
        fields = {
            "name": options.name,
            "scopes": list(options.scopes),
            "expires_at": None if options.expires is None else now + options.expires,
            "requests_per_second": options.requests_per_second,
            "batch_rows_per_day": options.batch_rows_per_day,
        }
        made = _add(connection, fields, now)
        note(connection, "key.create", f"key {made.row['key_id']}", after=noted_key(made.row))
        return made


def rotate_key(engine: Engine, named: str, keep: timedelta) -> MadeKey:
    """Make a key that replaces an earlier one, and has its name, scopes, limits and length of life.

    Args:
        engine: on the database.
        named: the name or the key_id of the earlier key.
        keep: how long the earlier key lives on.

    Raises:
        NotFound: no key in use has this name or id.
        KeyRefused: the key was rotated already, or there are too many keys.
    """
    with write_transaction(engine) as connection:
        now = _locked(connection)
        found = _found(connection, named, now)
        old = next((one for one in found if one["replaced_by"] is None), None)
        if old is None:
            raise KeyRefused(say("the key {named} was rotated already; rotate the newest key of its name", named=named))
        expires_at = old["expires_at"]
        fields = {name: old[name] for name in ("name", "scopes", "requests_per_second", "batch_rows_per_day")}
        fields["expires_at"] = None if expires_at is None else now + (expires_at - old["created_at"])
        made = _add(connection, fields, now)
        until = now + keep if expires_at is None else min(expires_at, now + keep)
        ends = {"expires_at": until, "replaced_by": made.row["key_id"]}
        connection.execute(update(_KEYS).where(_KEYS.c.key_id == old["key_id"]).values(ends))
        note(
            connection,
            "key.rotate",
            f"key {old['key_id']}",
            before=noted_key(old),
            after=noted_key(made.row) | {"old_key_until": until},
        )
        return made


def revoke_keys(engine: Engine, named: str, *, keeps_admin: bool = False, by_id: bool = False) -> list[dict[str, Any]]:
    """End the keys in use with a name or a key_id, and return their rows. Servers accept them for two seconds at most.

    Args:
        engine: on the database.
        named: the name, which an old and a new key have after a rotation, or the key_id.
        keeps_admin: whether a key with the scope admin has to be left.
        by_id: whether `named` is a key_id, and no name.

    Raises:
        NotFound: no key in use has this name or id.
        KeyRefused: no key with the scope admin would be left.
    """
    with write_transaction(engine) as connection:
        now = _locked(connection)
        found = _found(connection, named, now, by_id=by_id)
        ids = [one["key_id"] for one in found]
        if keeps_admin and any(ADMIN in one["scopes"] for one in found) and not _has_admin(connection, now, ids):
            raise KeyRefused(
                say("no other key with the scope admin would be left; make one first, or use `zap keys revoke`")
            )
        revoked = update(_KEYS).where(_KEYS.c.key_id.in_(ids)).values(revoked_at=now)
        connection.execute(revoked)
        rows = connection.execute(select(*_SHOWN).where(_KEYS.c.key_id.in_(ids))).mappings().all()
        for one in found:
            note(connection, "key.revoke", f"key {one['key_id']}", before=noted_key(one), after={"revoked_at": now})
        return [_shown(row, now) for row in rows]


def remove_all_keys(engine: Engine) -> int:
    """Remove all keys, so that every route is open to everybody again. Return how many there were."""
    with write_transaction(engine) as connection:
        _locked(connection)
        removed = connection.execute(delete(_KEYS)).rowcount
        note(connection, "key.open", "all keys", before={"keys": removed}, after={"keys": 0})
        return removed


def note_use(engine: Engine, used: dict[str, datetime]) -> None:
    """Store when keys were last used, by their key_id. An earlier time than the stored one changes nothing."""
    with write_transaction(engine, durable=False) as connection:
        for key_id, moment in sorted(used.items()):
            before = or_(_KEYS.c.last_used_at.is_(None), _KEYS.c.last_used_at < moment)
            connection.execute(update(_KEYS).where(_KEYS.c.key_id == key_id, before).values(last_used_at=moment))


def _locked(connection: Connection) -> datetime:
    """Let no other transaction change keys until this one ends, and return the present time of the database."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_KEYS_LOCK_KEY)))
    return database_now(connection)


def in_use(now: datetime) -> Any:
    """Return the condition that a key has not ended at a moment."""
    return _KEYS.c.revoked_at.is_(None) & or_(_KEYS.c.expires_at.is_(None), _KEYS.c.expires_at > now)


def _found(connection: Connection, named: str, now: datetime, *, by_id: bool = False) -> list[dict[str, Any]]:
    this = _KEYS.c.key_id == named if by_id else or_(_KEYS.c.name == named, _KEYS.c.key_id == named)
    rows = connection.execute(select(*_SHOWN).where(in_use(now), this).order_by(_KEYS.c.key_id)).mappings()
    found = [dict(row) for row in rows]
    if not found:
        raise NotFound(say("no key in use has the name or the id {named}", named=named[:100]))
    return found


def _has_admin(connection: Connection, now: datetime, without: Sequence[str]) -> bool:
    lasting = in_use(now) & _KEYS.c.replaced_by.is_(None) & _KEYS.c.key_id.not_in(without)
    return any(ADMIN in scopes for scopes in connection.scalars(select(_KEYS.c.scopes).where(lasting)))


def _add(connection: Connection, fields: dict[str, Any], now: datetime) -> MadeKey:
    used = connection.scalar(select(func.count()).select_from(_KEYS).where(in_use(now))) or 0
    if used >= MOST_KEYS:
        raise KeyRefused(say("{most:,} keys are in use, and no more may be; revoke some first", most=MOST_KEYS))
    made = new_key()
    row = {
        "key_id": made.key_id,
        "digest": key_digest(made.key.encode()),
        "created_at": now,
        "created_by": ACTOR.get().name,
        **fields,
    }
    connection.execute(insert(_KEYS), row)
    stored = connection.execute(select(*_SHOWN).where(_KEYS.c.key_id == made.key_id)).mappings().one()
    return MadeKey(made.key, _shown(stored, now))


def _forget_old(connection: Connection, now: datetime) -> None:
    """Remove the rows of keys that ended long ago. Call this when a key is made: a row must be left."""
    connection.execute(delete(_KEYS).where(or_(_KEYS.c.revoked_at < now - _KEPT, _KEYS.c.expires_at < now - _KEPT)))


def noted_key(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the audit says about a key."""
    return {name: row[name] for name in _IN_AUDIT}


def _shown(row: Any, now: datetime) -> dict[str, Any]:
    shown = readable(row)
    status = "active" if shown["replaced_by"] is None else "replaced"
    if shown["expires_at"] is not None and shown["expires_at"] <= now:
        status = "expired"
    return {**shown, "status": "revoked" if shown["revoked_at"] is not None else status}
