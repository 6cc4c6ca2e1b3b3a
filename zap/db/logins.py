"""The logins of browsers, for all server processes: begun with a key, ended by a person, or with the key."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, Table, delete, insert, select

from zap.db.engine import database_now, write_transaction
from zap.db.login_tables import Login

# How many logins are remembered: the logins that expire last.
_MOST_LOGINS = 10_000
_LOGINS: Table = Login.__table__  # type: ignore[attr-defined]


def begin_login(engine: Engine, login: str, key_id: str, lasts: timedelta) -> None:
    """Store that a login has begun. The rows of logins that have expired are removed.

    Args:
        engine: on the database.
        login: the digest of the login.
        key_id: the key that it stands for.
        lasts: after how long it ends by itself.
    """
    with write_transaction(engine) as connection:
        now = database_now(connection)
        connection.execute(delete(_LOGINS).where(_LOGINS.c.expires_at <= now))
        _forget_oldest(connection)
        connection.execute(insert(_LOGINS), {"login": login, "key_id": key_id, "expires_at": now + lasts})


def has_login(engine: Engine, login: str) -> bool:
    """Return whether a login has begun, and has not ended."""
    with engine.connect() as connection:
        this = (_LOGINS.c.login == login) & (_LOGINS.c.expires_at > database_now(connection))
        return connection.scalar(select(_LOGINS.c.login).where(this)) is not None


def end_login(engine: Engine, login: str) -> None:
    """End a login: a copy of its cookie is worth nothing."""
    with write_transaction(engine) as connection:
        connection.execute(delete(_LOGINS).where(_LOGINS.c.login == login))


def _forget_oldest(connection: Connection) -> None:
    """Remove the logins beyond those that are remembered."""
    oldest = select(_LOGINS.c.expires_at).order_by(_LOGINS.c.expires_at.desc()).offset(_MOST_LOGINS - 1).limit(1)
    bound: datetime | None = connection.scalar(oldest)
    if bound is not None:
        connection.execute(delete(_LOGINS).where(_LOGINS.c.expires_at <= bound))
