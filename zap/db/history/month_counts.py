"""Count the sessions of the history by month, day and charger type, one month at a time through the index of starts."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Connection, String, func, select, type_coerce

from zap.db.history.history_rows import SESSIONS
from zap.db.history.session_days import starts_between
from zap.ml.cells import read_text

# The most months that are counted, newest first: 40 years.
MOST_MONTHS = 480
# The charger types of a month that are counted by name; the sessions of rarer ones are counted together.
MOST_TYPES = 40
OTHER_TYPES = ""
# How many texts that are no times are passed over in search of a month.
_MOST_PASSED = 2000
_AFTER_ALL = date.max
_MONTH, _DAY = len("2026-03"), len("2026-03-02")


@dataclass(frozen=True)
class MonthCounts:
    """The sessions that start in one month.

    Attributes:
        month: its first day.
        types: the number of sessions by charger type. OTHER_TYPES counts rare types together.
        without_type: the number of sessions without a type.
        days: the days with sessions.
        drivers: the number of drivers.
    """

    month: date
    types: dict[str, int]
    without_type: int
    days: frozenset[date]
    drivers: int

    @property
    def sessions(self) -> int:
        """Return the number of sessions."""
        return sum(self.types.values()) + self.without_type


def months_with_sessions(connection: Connection) -> Iterator[date]:
    """Yield the first day of each month in which sessions start, newest first, at most MOST_MONTHS.

    Each month is one search in the index. A text that names no month is passed over.
    """
    before: date | str = _AFTER_ALL
    found = 0
    for _ in range(MOST_MONTHS + _MOST_PASSED):
        newest = connection.scalar(select(func.max(_start(connection))).where(_before(connection, before)))
        if newest is None or found == MOST_MONTHS:
            return
        month = _read_day(f"{str(newest)[:_MONTH]}-01")
        if month is None:
            # All texts that begin like this one. Texts such as 31/12/2023 have few beginnings.
            before = str(newest)[:_MONTH]
            continue
        before = month
        found += 1
        yield before


def count_month(connection: Connection, month: date) -> MonthCounts:
    """Return the counts of a month, or of an empty month if no session starts in it.

    Args:
        connection: on a database at head.
        month: the first day.
    """
    inside = starts_between(connection, month, next_month(month))
    day: ColumnElement[Any] = func.substr(_start(connection), 1, _DAY)
    if connection.dialect.name != "sqlite":
        day = func.to_char(SESSIONS.c.charging_start_time, "YYYY-MM-DD")
    of_days = select(day, SESSIONS.c.charger_type, func.count()).where(inside).group_by(day, SESSIONS.c.charger_type)
    types: Counter[str] = Counter()
    days, without_type = set(), 0
    for text, stored, count in connection.execute(of_days):
        if (found := _read_day(str(text))) is None:
            continue
        days.add(found)
        if (name := read_text(stored)) is None:
            without_type += count
        else:
            types[name] += count
    drivers = connection.scalar(select(func.count(SESSIONS.c.user_id.distinct())).where(inside)) or 0
    return MonthCounts(month, _most_frequent(types), without_type, frozenset(days), drivers)


def count_all(connection: Connection) -> tuple[int, int]:
    """Return the number of sessions, also without a readable start, and the number of drivers."""
    sessions, drivers = select(func.count()).select_from(SESSIONS), select(SESSIONS.c.user_id).distinct().subquery()
    named = select(func.count()).select_from(drivers).where(drivers.c.user_id.is_not(None))
    return connection.scalar(sessions) or 0, connection.scalar(named) or 0


def next_month(month: date) -> date:
    """Return the first day of the month after a month."""
    if (month.year, month.month) == (date.max.year, date.max.month):
        return date.max
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def _most_frequent(types: Counter[str]) -> dict[str, int]:
    most = dict(types.most_common(MOST_TYPES))
    rest = types.total() - sum(most.values())
    return most | ({OTHER_TYPES: rest} if rest else {})


def _start(connection: Connection) -> ColumnElement[Any]:
    start: ColumnElement[Any] = SESSIONS.c.charging_start_time
    return type_coerce(start, String) if connection.dialect.name == "sqlite" else start


def _before(connection: Connection, before: date | str) -> ColumnElement[bool]:
    """Return the condition for starts before a day, or before a text of SQLite."""
    if isinstance(before, date):
        return starts_between(connection, date.min, before)
    return (_start(connection) >= date.min.isoformat()) & (_start(connection) < before)


def _read_day(start: str) -> date | None:
    """Return the day of a stored start; None for a text that is no time."""
    try:
        return date.fromisoformat(start[:_DAY])
    except ValueError:
        return None
