"""The tables of logins: which ones have ended, and from where wrong keys come. Only pages read and write them."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from zap.db.tables import Id, Stamp


class EndedLogin(SQLModel, table=True):
    """A login that was ended before its cookie expires. The row is removed some time after that.

    Attributes:
        login: the SHA-256 of the cookie, because the cookie itself would let anybody in who reads the table.
        expires_at: when the cookie expires.
    """

    __tablename__ = "ended_logins"

    login: str = Field(primary_key=True)
    expires_at: datetime = Field(sa_type=Stamp)


class WrongKey(SQLModel, table=True):
    """The wrong keys that came from one address in some minutes, which begin with the first one.

    Attributes:
        client: the address; of IPv6 the network, because a client has all addresses of its network.
        since: when the first one came, on the clock of the database.
        count: how many came.
    """

    __tablename__ = "wrong_keys"

    client: str = Field(primary_key=True)
    since: datetime = Field(sa_type=Stamp)
    count: int = Field(sa_type=Id)
