"""The table of erasures, the ledger: which drivers were erased, as keyed hashes of their ids. Rows are only added."""

from datetime import datetime
from typing import Any

from sqlmodel import Field, SQLModel

from zap.db import shapes
from zap.db.stored_json import StoredJson
from zap.db.tables import Id, Stamp


class Erasure(SQLModel, table=True):
    """One erasure of a driver. It holds no id, but whoever has the key can find the driver in an older backup again.

    Attributes:
        who: who has erased the driver.
        driver_hash: HMAC-SHA256 of the id with the key of erasures. Ids can be guessed, so a hash without a key would
            say who was erased.
        key_id: which key it was, as `zap.db.erasure.erasure_key` names it.
        counts: how many rows were removed or changed in each table.
        versions: the model versions that may have learned from the driver.
    """

    __tablename__ = "erasures"
    __table_args__ = {"sqlite_autoincrement": True}

    erasure_id: int = Field(default=None, primary_key=True, sa_type=Id)
    erased_at: datetime = Field(sa_type=Stamp)
    who: str | None = None
    driver_hash: str = Field(index=True)
    key_id: str
    counts: dict[str, Any] = Field(sa_type=StoredJson(shapes.COUNTS))
    versions: list[Any] | None = Field(default=None, sa_type=StoredJson(shapes.LIST))
