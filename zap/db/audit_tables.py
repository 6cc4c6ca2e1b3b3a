"""The tables of the audit: what was changed, by whom, as a chain of hashes, and the head of the chain."""

from datetime import datetime

from sqlalchemy import Index, Text
from sqlmodel import Field, SQLModel

from zap.db.tables import Id, Stamp


class AuditRow(SQLModel, table=True):
    """One change. Rows are only added, and the triggers of the table refuse everything else.

    Attributes:
        audit_id: 1, 2, 3 and so on, without gaps.
        who: the name of the key, or of the system user who typed a command.
        origin: where the change came from, such as the network address of the client.
        action: what was done, such as `version.promote`.
        subject: what was changed, such as `version 5`.
        before: what was there before, as JSON. It is a text, because its characters are in the hash.
        after: what is there now, as JSON.
        previous_hash: the hash of the row before.
        hash: of all these values, as `zap.db.audit_chain` computes it.
    """

    __tablename__ = "audit"
    __table_args__ = (Index(None, "action", "audit_id"),)

    audit_id: int = Field(primary_key=True, sa_type=Id, sa_column_kwargs={"autoincrement": False})
    happened_at: datetime = Field(sa_type=Stamp)
    who: str
    origin: str
    action: str
    subject: str
    before: str | None = Field(default=None, sa_type=Text)
    after: str | None = Field(default=None, sa_type=Text)
    previous_hash: str
    hash: str


class AuditHead(SQLModel, table=True):
    """The head of the chain, in one row: without it, nobody would see that the newest rows were removed.

    Attributes:
        head_id: 1.
        count: how many rows the audit has.
        hash: of the newest row.
    """

    __tablename__ = "audit_head"

    head_id: int = Field(primary_key=True, sa_type=Id, sa_column_kwargs={"autoincrement": False})
    count: int = Field(sa_type=Id)
    hash: str
