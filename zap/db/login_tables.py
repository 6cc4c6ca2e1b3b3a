"""The tables of logins: which ones there are, and from where wrong keys come. Only pages read and write them."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from zap.db.tables import Id, Stamp


class Login(SQLModel, table=True):
    """The login of a browser. The row is removed when the login ends, or some time after it expires.

    Attributes:
        login: a digest of the cookie and of the key's digest, so that nobody who reads the table has a cookie, and a
            login ends with its key.
        key_id: the key that the login stands for.
        expires_at: when the login ends by itself.
    """

    __tablename__ = "logins"

    login: str = Field(primary_key=True)
    key_id: str
    expires_at: datetime = Field(sa_type=Stamp)


class EndedLogin(SQLModel, table=True):
    """A login of an older zap that was ended before its cookie expires. Since revision 0014 nothing uses the table.

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
