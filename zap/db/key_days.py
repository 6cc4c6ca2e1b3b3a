"""The count of the rows of batches that came with each key today (UTC), for all server processes together."""

from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Engine, Table, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from zap.db.engine import database_now, write_transaction
from zap.db.key_tables import KeyDay

_DAYS: Table = KeyDay.__table__  # type: ignore[attr-defined]


class Counted(NamedTuple):
    """The result of counting rows.

    Attributes:
        is_taken: whether the rows fit below the limit, and were counted.
        day: the day on which they were counted.
        left: how many rows the key may still send on this day.
        seconds: until the end of the day.
    """

    is_taken: bool
    day: str
    left: int
    seconds: float


def take_rows(engine: Engine, key_id: str, rows: int, limit: int) -> Counted:
    """Count rows of a key, if they fit below its limit. The counts of earlier days are removed."""
    dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
    # A power cut may undo the newest counts: a limit need not be that exact.
    with write_transaction(engine, durable=False) as connection:
        now = database_now(connection)
        day, end = _day(now), now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        connection.execute(delete(_DAYS).where(_DAYS.c.day < day))
        row = {"key_id": key_id, "day": day, "batch_rows": 0}
        connection.execute(dialect.insert(_DAYS).on_conflict_do_nothing(), row)
        this = (_DAYS.c.key_id == key_id) & (_DAYS.c.day == day)
        fits = update(_DAYS).where(this, _DAYS.c.batch_rows + rows <= limit)
        is_taken = connection.execute(fits.values(batch_rows=_DAYS.c.batch_rows + rows)).rowcount == 1
        counted: int = connection.execute(select(_DAYS.c.batch_rows).where(this)).scalar_one()
        return Counted(is_taken, day, max(0, limit - counted), (end - now).total_seconds())


def give_rows_back(engine: Engine, key_id: str, rows: int, day: str) -> None:
    """Take back the count of rows that were not answered."""
    with write_transaction(engine, durable=False) as connection:
        this = (_DAYS.c.key_id == key_id) & (_DAYS.c.day == day)
        connection.execute(update(_DAYS).where(this).values(batch_rows=_DAYS.c.batch_rows - rows))


def _day(now: datetime) -> str:
    return now.date().isoformat()
