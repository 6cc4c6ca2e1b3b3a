"""The logins that were ended, for all server processes: a copy of the cookie of such a login is worth nothing."""

from datetime import datetime, timedelta

from sqlalchemy import Engine, Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from zap.db.engine import database_now, write_transaction
from zap.db.login_tables import EndedLogin

# A login expires on the clock of a server process, which may be behind the clock of the database.
_KEPT = timedelta(days=1)
_ENDED: Table = EndedLogin.__table__  # type: ignore[attr-defined]


def end_login(engine: Engine, login: str, expires_at: datetime) -> None:
    """Store that a login has ended. The rows of logins that expired a day ago are removed.

    Args:
        engine: on the database.
        login: the SHA-256 of its cookie.
        expires_at: when its cookie expires (UTC).
    """
    dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
    with write_transaction(engine) as connection:
        connection.execute(delete(_ENDED).where(_ENDED.c.expires_at < database_now(connection) - _KEPT))
        row = {"login": login, "expires_at": expires_at}
        connection.execute(dialect.insert(_ENDED).on_conflict_do_nothing(), row)


def has_ended(engine: Engine, login: str) -> bool:
    """Return whether a login was ended.

    Args:
        engine: on the database.
        login: the SHA-256 of its cookie.
    """
    with engine.connect() as connection:
        return connection.scalar(select(_ENDED.c.login).where(_ENDED.c.login == login)) is not None
