"""Rows of sessions without a session_id: which rows are one session, and which stored session a row is.

The key of such a row is its user, start and station. Without a user the key is not enough: two drivers may begin in one
minute at one site. So without a user only equal rows are one session, and rows that differ are different sessions.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import itemgetter

import numpy as np
import pandas as pd

from zap.db.history.history_rows import ROW_ID, Key, Row
from zap.ml.features import FACTS

SESSION_KEY = ("user_id", "charging_start_time", "charging_station_id")
# If a file has more different rows with one key, it does not tell sessions apart by their keys: for example, its times
# are dates, and its user is "guest". Then only equal rows are one session, as without a user. The number also bounds
# the comparisons for a row.
_MOST_ALIKE = 50

_key_of = itemgetter(*SESSION_KEY)
_FACTS = frozenset(FACTS)


def arranged(rows: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the rows in order of start, without equal rows; and for each row whether only an equal row is its session.

    Rows with one key follow each other.

    Args:
        rows: SESSION_KEY and any other columns.
    """
    rows = rows.sort_values(["charging_start_time", "user_id", "charging_station_id"], kind="stable")
    key = list(SESSION_KEY)
    alike = np.flatnonzero(rows.duplicated(key, keep=False).to_numpy())
    again = alike[rows.iloc[alike].duplicated().to_numpy()]
    if len(again):
        rows = rows[~np.isin(np.arange(len(rows)), again)]
        alike = np.flatnonzero(rows.duplicated(key, keep=False).to_numpy())
    exact = rows["user_id"].isna().to_numpy(copy=True)
    if len(alike):
        sizes = rows.iloc[alike].groupby(key, dropna=False)["charging_start_time"].transform("size")
        exact[alike] |= sizes.to_numpy() > _MOST_ALIKE
    return rows, exact


def chunks_of(rows: pd.DataFrame, exact: np.ndarray, size: int) -> Iterator[slice]:
    """Yield places of about `size` rows. Rows with one key that are compared with each other are in one chunk."""
    with_previous = rows.duplicated(list(SESSION_KEY)).to_numpy() & ~exact
    begin = 0
    while begin < len(rows):
        end = min(begin + size, len(rows))
        while end < len(rows) and with_previous[end]:
            end += 1
        yield slice(begin, end)
        begin = end


def match_rows(
    rows: Sequence[Row],
    exact: Sequence[bool],
    stored: tuple[Mapping[Key, Row], Mapping[Key, list[Row]]],
    compared: Collection[str],
    added: range,
) -> tuple[list[Row], list[Row | None]]:
    """Return the sessions in these rows, and for each session the stored row that it is, or None.

    Args:
        rows: rows with all columns, ordered as by `arranged`.
        exact: for each row, whether only an equal row is its session.
        stored: one stored row with each of these keys, and the other stored rows.
        compared: the columns that the file has, with SESSION_KEY. Other columns say nothing.
        added: the numbers of the sessions that this import has added.
    """
    sessions: list[Row] = []
    found: list[Row | None] = []
    identity = itemgetter(*compared)
    keys = [*map(_key_of, rows)]
    place = 0
    while place < len(rows):
        key, end = keys[place], place + 1
        while end < len(rows) and keys[end] == key:
            end += 1
        some, one = rows[place:end], stored[0].get(key)
        if not exact[place] and len(some) > 1:
            some = _merged(some, compared)
        sessions += some
        if one is None:
            found += [None] * len(some)
        elif key not in stored[1] and len(some) == 1 and (not exact[place] or identity(one) == identity(some[0])):
            found.append(one)
        else:
            theirs = [one, *stored[1].get(key, ())]
            found += _equal_of(some, theirs, compared, added) if exact[place] else _stored_of(some, theirs, compared)
        place = end
    return sessions, found


def _equal_of(rows: Sequence[Row], stored: Sequence[Row], compared: Collection[str], added: range) -> list[Row | None]:
    """Return for each of the rows with one key its equal stored row, or None.

    A stored row without any facts was stored by another program or by an older zap, unless this import has added it.
    The facts of such a row are not compared.
    """
    identity = itemgetter(*compared)
    known = {identity(one): one for one in stored}
    found = [known.get(identity(row)) for row in rows]
    if None in found and not _FACTS.isdisjoint(compared):
        of_session = itemgetter(*SESSION_KEY, *(name for name in compared if name not in _FACTS))
        bare = [one for one in stored if one[ROW_ID] not in added and all(one[name] is None for name in FACTS)]
        taken = {id(one) for one in found}
        free = {of_session(one): one for one in bare if id(one) not in taken}
        found = [free.pop(of_session(row), None) if one is None else one for row, one in zip(rows, found, strict=True)]
    return found


def _merged(rows: Sequence[Row], compared: Collection[str]) -> list[Row]:
    """Return one row for each session. Rows that contradict each other are different sessions."""
    merged: list[Row] = []
    for row in rows:
        one = next((one for one in merged if _agree(one, row, compared)), None)
        if one is None:
            merged.append(dict(row))
        else:
            one |= {name: value for name, value in row.items() if value is not None}
    return merged


def _stored_of(rows: Sequence[Row], stored: Sequence[Row], compared: Collection[str]) -> list[Row | None]:
    """Return for each of the rows with one key its stored row, or None if it is another session.

    If there is one row and one stored row, the row completes or corrects the stored row.
    """
    if len(rows) == len(stored) == 1:
        return list(stored)
    found = [next((one for one in stored if _says(one, row, compared)), None) for row in rows]
    free = [one for one in stored if not any(one is other for other in found)]
    for place, row in enumerate(rows):
        if found[place] is None:
            fits = next((number for number, one in enumerate(free) if _agree(one, row, compared)), None)
            found[place] = None if fits is None else free.pop(fits)
    return found


def _says(stored: Row, row: Row, compared: Collection[str]) -> bool:
    """Return whether a stored row has all values of a row."""
    return all(row[name] is None or row[name] == stored[name] for name in compared)


def _agree(one: Row, other: Row, compared: Collection[str]) -> bool:
    """Return whether two rows contradict each other in no column."""
    return all(one[name] is None or other[name] is None or one[name] == other[name] for name in compared)
