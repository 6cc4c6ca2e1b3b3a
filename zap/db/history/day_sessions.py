"""DaySessions: the sessions that start on one day, in so little memory that a server can keep a million sessions."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from zap.db.history.session_days import quick_texts, sessions_between
from zap.ml.cells import code_of_type, read_number, read_text
from zap.ml.driver_columns import DAY
from zap.ml.features import MEASURED
from zap.ml.population_now import Started, started
from zap.ml.wall_times import read_wall_times

# The charger types of a model version, in its order.
Types = tuple[str, ...]

_DURATION = next(feature for feature in MEASURED if feature.name == "charging_duration_hours")
_MINUTE = 60
# date.fromordinal counts days from another day than numpy.
_EPOCH = date(1970, 1, 1).toordinal()
_LAST_DAY = date.max.toordinal() - _EPOCH
# Rows that are read together. More rows at once would take more memory and as much time.
_ROWS_AT_ONCE = 2000


class DaySessions(NamedTuple):
    """The usable sessions that start on one day. Each session takes eight bytes.

    Attributes:
        day: the day, in days since 1970-01-01.
        names: names of charger types.
        starts: uint16, minutes since the beginning of the day, because `PopulationNow` counts by minute.
        ends: uint16, minutes since the beginning of the day. They fit, because no session counts as open for more than
            a day.
        codes: int32, the places of the charger types in `names`.
    """

    day: int
    names: tuple[str, ...]
    starts: np.ndarray
    ends: np.ndarray
    codes: np.ndarray

    def of_types(self, types: Types) -> Started:
        """Return the sessions of these types, with the places of the types as codes."""
        codes = np.array([code_of_type(name, types) for name in self.names], dtype=np.int64)[self.codes]
        known = codes >= 0
        starts, ends = (
            self.day * DAY + minutes[known].astype(np.int64) * _MINUTE for minutes in (self.starts, self.ends)
        )
        return Started(starts, ends, codes[known])


def day_of(day: date) -> int:
    """Return the days from 1970-01-01 to a day."""
    return day.toordinal() - _EPOCH


def read_days(connection: Connection, days: Iterable[int]) -> dict[int, DaySessions]:
    """Return the usable sessions that start on each of these days, in order of the days.

    A session is usable if cleaning would keep it: it has a charger type and a start.

    Args:
        connection: on a database at head.
        days: days since 1970-01-01.
    """
    found: dict[int, DaySessions] = {}
    for first, last in _runs(days):
        try:
            with quick_texts(connection):
                found |= _read_run(connection, first, last)
        except OperationalError:
            if connection.dialect.name != "sqlite":
                raise
            # Some text is perhaps not UTF-8. The second read raises any other error again.
            found |= _read_run(connection, first, last)
    return found


def _read_run(connection: Connection, first: int, last: int) -> dict[int, DaySessions]:
    """Return the sessions of consecutive days, from the day `first` to the day before `last`."""
    rows = sessions_between(connection, _date(first), _date(last))
    # The place in `names` of each stored text of a charger type; -1 for a text that means a missing type.
    places: dict[object, int] = {}
    names: dict[str, int] = {}
    parts = [(np.zeros(0, np.int32), np.zeros(0, np.uint16), np.zeros(0, np.uint16), np.zeros(0, np.int32))]
    while portion := list(islice(rows, _ROWS_AT_ONCE)):
        used, *others = zip(*portion, strict=True)
        for text in set(used) - places.keys():
            name = read_text(text)
            places[text] = -1 if name is None else names.setdefault(name, len(names))
        parts.append(_compact(np.array([places[text] for text in used], dtype=np.int32), *others))
    of_day, starts, ends, codes = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(of_day, kind="stable")
    edges = np.searchsorted(of_day[order], np.arange(first, last + 1)).tolist()
    known = tuple(names)
    return {
        day: DaySessions(day, known, *(column[order[begin:end]] for column in (starts, ends, codes)))
        for day, (begin, end) in zip(range(first, last), pairwise(edges), strict=True)
    }


def _compact(
    codes: np.ndarray, began: Sequence[Any], stopped: Sequence[Any], hours: Sequence[Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return for the usable rows the day of the start, and the columns `starts`, `ends` and `codes` of DaySessions."""
    start, end = read_wall_times(began), read_wall_times(stopped)
    # An end before its start counts as missing, as in a training.
    end[end < start] = np.datetime64("NaT")
    sessions = started(start, end, _DURATION.masked(_numbers(hours)), np.where(np.isnat(start), -1, codes))
    days = sessions.starts // DAY
    begins = days * DAY
    return (
        days.astype(np.int32),
        ((sessions.starts - begins) // _MINUTE).astype(np.uint16),
        ((sessions.ends - begins) // _MINUTE).astype(np.uint16),
        sessions.codes.astype(np.int32),
    )


def _numbers(cells: Sequence[Any]) -> np.ndarray:
    if {*map(type, cells)} <= {float, type(None)}:
        return np.array(cells, dtype=np.float64)
    return np.array([read_number(cell) for cell in cells], dtype=np.float64)


def _runs(days: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the first day and the day after the last day of each run of consecutive days."""
    every = np.unique(np.fromiter(days, dtype=np.int64))
    if len(every):
        for run in np.split(every, np.flatnonzero(np.diff(every) > 1) + 1):
            yield int(run[0]), int(run[-1]) + 1


def _date(day: int) -> date:
    """Return the date of a day since 1970-01-01, within the dates that Python has."""
    return date.fromordinal(min(max(day, 1 - _EPOCH), _LAST_DAY) + _EPOCH)
