"""The limit of wrong keys at the login, for all server processes together."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, Table, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from zap.db.engine import database_now, write_transaction
from zap.db.login_tables import WrongKey

# The wrong keys that an address may send in this time, and how many addresses together may send before each of them may
# send only one.
WITHIN = timedelta(minutes=15)
MOST_OF_A_CLIENT, MOST_OF_ALL = 10, 100
# The addresses that are remembered: the ones whose first wrong key is the newest.
_MOST_CLIENTS = 1_000
_KEYS: Table = WrongKey.__table__  # type: ignore[attr-defined]


def seconds_to_wait(engine: Engine, client: str) -> int:
    """Return how many seconds an address has to wait before it may send a key; 0 if it need not wait.

    Args:
        engine: on the database.
        client: the address.
    """
    with engine.connect() as connection:
        now = database_now(connection)
        recent = _KEYS.c.since > now - WITHIN
        found = connection.execute(select(_KEYS.c.since, _KEYS.c.count).where(recent, _KEYS.c.client == client)).first()
        if found is None:
            return 0
        of_all = connection.scalar(select(func.sum(_KEYS.c.count)).where(recent)) or 0
    since, count = found
    most = 1 if of_all >= MOST_OF_ALL else MOST_OF_A_CLIENT
    return max(1, round((since + WITHIN - now).total_seconds())) if count >= most else 0


def note_wrong_key(engine: Engine, client: str) -> None:
    """Count a wrong key of an address."""
    with write_transaction(engine) as connection:
        now = database_now(connection)
        connection.execute(delete(_KEYS).where(_KEYS.c.since <= now - WITHIN))
        dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
        adding = dialect.insert(_KEYS)
        counted = adding.on_conflict_do_update(index_elements=[_KEYS.c.client], set_={"count": _KEYS.c.count + 1})
        connection.execute(counted, {"client": client, "since": now, "count": 1})
        _forget_oldest(connection)


def _forget_oldest(connection: Connection) -> None:
    """Remove the oldest addresses beyond those that are remembered."""
    oldest = select(_KEYS.c.since).order_by(_KEYS.c.since.desc()).offset(_MOST_CLIENTS).limit(1)
    bound: datetime | None = connection.scalar(oldest)
    if bound is not None:
        connection.execute(delete(_KEYS).where(_KEYS.c.since <= bound))
