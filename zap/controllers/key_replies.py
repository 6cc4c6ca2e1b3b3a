"""What the routes of keys reply."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct


class KeyRecord(Struct, omit_defaults=True):
    """A key, without the key itself."""

    key_id: Annotated[str, Meta(description="the part of the key that is no secret")]
    name: str
    scopes: Annotated[list[str] | None, Meta(description="what the key may do")]
    status: Annotated[
        Literal["active", "replaced", "expired", "revoked"],
        Meta(description="replaced: a rotation has made another key, and this one lives on until expires_at"),
    ]
    created_at: datetime | None
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    replaced_by: Annotated[str | None, Meta(description="the key_id of the key that a rotation has made")]
    requests_per_second: float | None
    batch_rows_per_day: int | None
    last_used_at: Annotated[datetime | None, Meta(description="to the minute")]
    unreadable: Annotated[
        list[str],
        Meta(description="stored parts that are null or left out, because another program has changed them"),
    ] = []


class KeyRecords(Struct):
    keys: Annotated[list[KeyRecord], Meta(description="newest first")]


class NewKeyRecord(KeyRecord, kw_only=True):
    """A new key. This reply is the only one that ever shows it."""

    key: Annotated[str, Meta(description="the key itself: zap does not store it")]


def key_record(row: dict[str, Any]) -> KeyRecord:
    """Return the reply about a row."""
    return msgspec.convert(row, KeyRecord)


def new_key_record(key: str, row: dict[str, Any]) -> NewKeyRecord:
    """Return the reply with a new key."""
    return msgspec.convert({**row, "key": key}, NewKeyRecord)
