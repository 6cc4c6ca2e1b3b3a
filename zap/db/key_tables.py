"""The tables of keys: the keys, and how many rows of batches came with each key in a day."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from zap.db import shapes
from zap.db.stored_json import StoredJson
from zap.db.tables import Id, Stamp


class ApiKey(SQLModel, table=True):
    """A key. The row stays when the key is revoked, so that a record of a change still says whose key it was.

    Attributes:
        key_id: the part of the key that is no secret.
        name: who or what uses the key.
        digest: the SHA-256 of the whole key in hexadecimal digits. The key itself is stored nowhere.
        scopes: what the key may do, a list of `zap.scopes.SCOPES`.
        created_at: when it was made.
        created_by: who made it.
        expires_at: when it ends by itself; None: never.
        revoked_at: when somebody ended it.
        replaced_by: the key_id of the key that a rotation has made instead.
        requests_per_second: the most requests a second in each server process.
        batch_rows_per_day: the most rows of batches a day (UTC) in all servers together.
        last_used_at: when it was last used, to the minute.
    """

    __tablename__ = "api_keys"

    key_id: str = Field(primary_key=True)
    name: str
    digest: str
    scopes: list[str] = Field(sa_type=StoredJson(shapes.KEY_SCOPES))
    created_at: datetime = Field(sa_type=Stamp)
    created_by: str
    expires_at: datetime | None = Field(default=None, sa_type=Stamp)
    revoked_at: datetime | None = Field(default=None, sa_type=Stamp)
    replaced_by: str | None = None
    requests_per_second: float | None = None
    batch_rows_per_day: int | None = Field(default=None, sa_type=Id)
    last_used_at: datetime | None = Field(default=None, sa_type=Stamp)


class KeyDay(SQLModel, table=True):
    """How many rows of batches were sent with a key on a day. Rows of earlier days are removed.

    Attributes:
        key_id: the key.
        day: the day (UTC), as `2026-03-02`.
        batch_rows: how many rows were sent.
    """

    __tablename__ = "key_days"

    key_id: str = Field(primary_key=True)
    day: str = Field(primary_key=True)
    batch_rows: int = Field(sa_type=Id)
