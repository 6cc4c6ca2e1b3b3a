"""The sessions that may belong to answers: sessions that name them, and sessions of their drivers in their windows."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection

from zap.db.monitoring.given_rows import TEXT, TIME, among, fetched, given, is_sqlite, joined
from zap.ml.cells import read_text, read_wall_time
from zap.monitoring.matching import EARLY, Answer, Session

_NAMES = "session_predictions"
_SESSIONS = '"ChargingSessions"'


def sessions_for(connection: Connection, answers: Sequence[Answer], horizon: timedelta) -> list[Session]:
    """Return the sessions from which `zap.monitoring.matching.matched` finds the sessions of answers.

    Sessions without a charger type or without a start are left out. Further sessions may be included.
    """
    found = {one.session_id: one for one in _naming(connection, [answer.prediction_id for answer in answers])}
    windows = list(_windows(answers, horizon))
    if windows:
        found |= {one.session_id: one for one in _inside(connection, windows)}
    return list(found.values())


def _windows(answers: Iterable[Answer], horizon: timedelta) -> Iterator[tuple[str, datetime, datetime]]:
    """Yield for each driver whole days, from midnight to midnight, with all windows of the driver's answers.

    Whole days, because the text of a start in an old SQLite table may have other signs between day and time.
    """
    days: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for _, user_id, asked_at, _ in answers:
        if user_id is not None:
            days[user_id].append(((asked_at - EARLY).toordinal(), (asked_at + horizon).toordinal() + 1))
    for user_id, windows in days.items():
        windows.sort()
        first, last = windows[0]
        for low, high in windows[1:]:
            if low > last:
                yield user_id, _midnight(first), _midnight(last)
                first = low
            last = max(last, high)
        yield user_id, _midnight(first), _midnight(last)


_midnight = lru_cache(maxsize=1024)(datetime.fromordinal)


def _inside(connection: Connection, windows: Sequence[tuple[str, datetime, datetime]]) -> Iterator[Session]:
    """Yield the sessions of drivers in windows that do not overlap."""
    given_windows, parameters = given(connection, {"user_id": TEXT, "low": TIME, "high": TIME}, windows)
    inside = joined(
        connection,
        _SESSIONS,
        "s",
        "s.user_id = given.user_id AND s.charging_start_time >= given.low AND s.charging_start_time < given.high",
    )
    asked = (
        f"SELECT {_columns(connection)} FROM {given_windows} {inside}"  # noqa: S608
        f" LEFT JOIN {_NAMES} AS n ON n.session_id = s.session_id"
    )
    yield from _usable(fetched(connection, asked, parameters))


def _naming(connection: Connection, ids: Sequence[int]) -> Iterator[Session]:
    """Yield the sessions whose reports named one of these answers."""
    which, parameters = among(connection, "n.prediction_id", ids)
    asked = (
        f"SELECT {_columns(connection)} FROM {_NAMES} AS n"  # noqa: S608
        f" JOIN {_SESSIONS} AS s ON s.session_id = n.session_id WHERE {which}"
    )
    yield from _usable(fetched(connection, asked, parameters))


def _columns(connection: Connection) -> str:
    start = "s.charging_start_time"
    text = start if is_sqlite(connection) else f"to_char({start}, 'YYYY-MM-DD HH24:MI:SS')"
    return f"s.session_id, s.user_id, {text}, s.charger_type, n.prediction_id"


def _usable(rows: Iterable[Any]) -> Iterator[Session]:
    for session_id, user_id, text, charger_type, prediction_id in rows:
        start, name = read_wall_time(text), read_text(charger_type)
        if start is not None and name is not None:
            yield Session(session_id, None if user_id is None else str(user_id), start, name, prediction_id)
