"""LongPasts: the histories of drivers with more sessions than a request may read, remembered in steps.

For such a driver the history is kept at several moments, with some hundreds of sessions between two moments. The
database computes a digest of the sessions between two moments, which shows whether they have changed. Only the sessions
after the last moment are read again. The first read yields the interpreter to other threads again and again.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Engine, LargeBinary, Select, String, Text, cast, func, literal, select, type_coerce
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.sql.elements import ColumnElement

from zap.db.history.history_rows import SESSIONS, raw_columns
from zap.errors import DatabaseUnavailable
from zap.ml.cells import PAST_COLUMNS, read_past_session
from zap.ml.driver_columns import PastSession
from zap.ml.user_history import UserHistory
from zap.threads import PATIENCE_SECONDS

# With more sessions the history of a driver is long.
LONG = 1000
# The sessions of a step. If a driver would have more than _MOST_STEPS steps, each step becomes twice as long.
STEP = 500
_MOST_STEPS = 64
# How many drivers are remembered. A step takes some ten kilobytes.
_MOST_DRIVERS = 32
# How long (seconds) Python code works before it sleeps for other threads, and how many times as long it then sleeps.
_PIECE_SECONDS, _REST = 0.001, 2
_ROWS_AT_ONCE = 100

Types = tuple[str, ...]


@dataclass(frozen=True)
class _Step:
    """A driver's history at a moment.

    Attributes:
        until: the start of the first session after the moment, in the form in which the database compares starts.
        second: this start in seconds on the wall clock.
        history: the history of all earlier sessions; it is never changed.
        digest: the digest of the rows between the previous step and this one.
    """

    until: str | datetime
    second: int
    history: UserHistory
    digest: bytes


@dataclass
class _LongPast:
    """The remembered steps of one driver, in order, with `size` sessions each."""

    types: Types
    steps: list[_Step] = field(default_factory=list)
    size: int = STEP


class _Pace:
    """Let a long computation sleep regularly, so that other threads get the interpreter.

    Args:
        goes_on: returns whether the computation should go on.
    """

    def __init__(self, goes_on: Callable[[], bool]) -> None:
        self._goes_on = goes_on
        self._begun = time.thread_time()

    def rest(self) -> None:
        """Sleep if the thread has worked for _PIECE_SECONDS.

        Raises:
            DatabaseUnavailable: the server is stopping.
        """
        worked = time.thread_time() - self._begun
        if worked < _PIECE_SECONDS:
            return
        if not self._goes_on():
            raise DatabaseUnavailable("the server is stopping; send the request again")
        time.sleep(_REST * worked)
        self._begun = time.thread_time()


class LongPasts:
    """Read and remember the long histories of drivers, one at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sqlite = engine.dialect.name == "sqlite"
        self._pasts: OrderedDict[str, _LongPast] = OrderedDict()
        self._turn = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """End the read that is running."""
        self._closed = True

    def knows(self, user_id: str) -> bool:
        """Return whether this driver's history was long at its last read."""
        return user_id in self._pasts

    def forget_gone(self) -> None:
        """Forget the drivers who have no sessions any more.

        Raises:
            DatabaseUnavailable: a read takes too long.
        """
        if not self._pasts and not self._turn.locked():
            return
        if not self._turn.acquire(timeout=PATIENCE_SECONDS):
            raise DatabaseUnavailable("a long history is read, so erased drivers cannot be forgotten yet")
        try:
            with self._engine.connect() as connection:
                theirs = select(SESSIONS.c.user_id).where(SESSIONS.c.user_id.in_([*self._pasts])).distinct()
                there = set(map(str, connection.scalars(theirs)))
            for user_id in self._pasts.keys() - there:
                del self._pasts[user_id]
        finally:
            self._turn.release()

    def read(self, user_id: str, moments: Sequence[int], types: Types) -> tuple[UserHistory, dict[int, UserHistory]]:
        """Return the history of a driver with all sessions, and the history at each of these moments.

        Raises:
            DatabaseUnavailable: reads before this one take too long, or the server is stopping.
        """
        if not self._turn.acquire(timeout=PATIENCE_SECONDS):
            raise DatabaseUnavailable("earlier reads of long histories take too long; send the request again later")
        try:
            pace = _Pace(lambda: not self._closed)
            with self._snapshot() as connection:
                past = self._pasts.get(user_id)
                if past is None or past.types != types:
                    past = _LongPast(types)
                self._keep_what_holds(connection, user_id, past)
                whole = self._walk(connection, user_id, past, pace)
                known = self._known(connection, user_id, past, sorted(set(moments)), whole, pace)
            self._pasts[user_id] = past
            self._pasts.move_to_end(user_id)
            while len(self._pasts) > _MOST_DRIVERS:
                self._pasts.popitem(last=False)
            return whole, known
        finally:
            self._turn.release()

    def _snapshot(self) -> Connection:
        """Return a connection whose queries all see one snapshot."""
        connection = self._engine.connect()
        return connection if self._sqlite else connection.execution_options(isolation_level="REPEATABLE READ")

    def _keep_what_holds(self, connection: Connection, user_id: str, past: _LongPast) -> None:
        """Forget the first step whose rows have changed, and all steps after it."""
        before = None
        for place, step in enumerate(past.steps):
            if self._digest(connection, user_id, before, step.until) != step.digest:
                del past.steps[place:]
                return
            before = step.until

    def _walk(self, connection: Connection, user_id: str, past: _LongPast, pace: _Pace) -> UserHistory:
        """Read the sessions after the last step, remember further steps, and return the whole history."""
        history, begin = _last(past.steps, past.types)
        new: list[tuple[str | datetime, int, UserHistory]] = []
        since = history.sessions
        for start, _, in_order, session in self._sessions(connection, user_id, past.types, begin, None, pace):
            newest = history.newest
            if not in_order or (newest is not None and session.start < newest):
                # The database sorts these starts in another order: texts in several forms, or fractions of a second.
                past.steps.clear()
                return self._sorted(connection, user_id, past.types, pace)
            if history.sessions - since >= past.size and newest is not None and session.start > newest:
                new.append((start, session.start, history.copy()))
                since = history.sessions
            history.observe(session)
        for until, second, known in new:
            past.steps.append(_Step(until, second, known, self._digest(connection, user_id, begin, until)))
            begin = until
        while len(past.steps) > _MOST_STEPS:
            self._thin_out(connection, user_id, past)
        return history

    def _thin_out(self, connection: Connection, user_id: str, past: _LongPast) -> None:
        """Make each step twice as long."""
        past.size *= 2
        kept, before = past.steps[1::2], None
        for place, step in enumerate(kept):
            digest = self._digest(connection, user_id, before, step.until)
            kept[place] = _Step(step.until, step.second, step.history, digest)
            before = step.until
        past.steps[:] = kept

    def _known(  # noqa: PLR0913, PLR0917
        self,
        connection: Connection,
        user_id: str,
        past: _LongPast,
        moments: Sequence[int],
        whole: UserHistory,
        pace: _Pace,
    ) -> dict[int, UserHistory]:
        """Return the history at each moment, from the step before it and the few sessions in between."""
        found = {at: whole for at in moments if whole.newest is None or whole.newest < at}
        early = [at for at in moments if at not in found]
        if early and not past.steps:
            sessions = self._in_order(connection, user_id, past.types, pace)
            return found | at_moments(sessions, early, UserHistory(len(past.types)))
        ends = [step.second for step in past.steps]
        for place in range(len(ends) + 1):
            low = ends[place - 1] if place else None
            high = ends[place] if place < len(ends) else None
            some = [at for at in early if (low is None or at >= low) and (high is None or at < high)]
            if some:
                history, begin = _last(past.steps[:place], past.types)
                end = past.steps[place].until if high is not None else None
                rows = self._sessions(connection, user_id, past.types, begin, end, pace)
                found |= at_moments((session for *_, session in rows), some, history)
        return found

    def _sorted(self, connection: Connection, user_id: str, types: Types, pace: _Pace) -> UserHistory:
        """Return the whole history of a driver whose sessions the database cannot sort."""
        history = UserHistory(len(types))
        for session in self._in_order(connection, user_id, types, pace):
            history.observe(session)
            pace.rest()
        return history

    def _in_order(self, connection: Connection, user_id: str, types: Types, pace: _Pace) -> list[PastSession]:
        rows = self._sessions(connection, user_id, types, None, None, pace)
        found = sorted(
            ((session.start, session_id, session) for _, session_id, _, session in rows), key=lambda one: one[:2]
        )
        return [session for _, _, session in found]

    def _sessions(  # noqa: PLR0913, PLR0917
        self,
        connection: Connection,
        user_id: str,
        types: Types,
        begin: str | datetime | None,
        end: str | datetime | None,
        pace: _Pace,
    ) -> Iterator[tuple[str | datetime, Any, bool, PastSession]]:
        """Yield the usable sessions that start from `begin` on and before `end`.

        Yields:
            The start as the database compares it, the session's id, whether the session comes after the previous one in
            the order of a training, and the session.
        """
        columns = raw_columns(connection, SESSIONS, PAST_COLUMNS)
        rows = self._between(select(self._start, SESSIONS.c.session_id, *columns), user_id, begin, end)
        rows = rows.order_by(self._start, SESSIONS.c.session_id)
        last: tuple[int, Any] | None = None
        with closing(connection.execute(rows, execution_options={"stream_results": True})) as found:
            for start, session_id, *values in chain.from_iterable(found.partitions(_ROWS_AT_ONCE)):
                session = read_past_session(dict(zip(PAST_COLUMNS, values, strict=True)), types)
                if session is not None:
                    key = (session.start, session_id)
                    yield start, session_id, last is None or key > last, session
                    last = key
                pace.rest()

    def _digest(self, connection: Connection, user_id: str, begin: str | datetime | None, end: str | datetime) -> bytes:
        """Return a digest of the columns read, of the rows that start from `begin` on and before `end`."""
        columns = [SESSIONS.c.session_id, *raw_columns(connection, SESSIONS, PAST_COLUMNS)]
        if not self._sqlite:
            whole_row = cast(func.row(*columns), Text)
            rows = func.string_agg(whole_row, aggregate_order_by(literal("\n"), SESSIONS.c.session_id))
            whole = func.encode(func.sha256(func.convert_to(rows, "UTF8")), "hex")
            return str(connection.scalar(self._between(select(whole), user_id, begin, end))).encode()
        row: ColumnElement[Any] = literal("")
        for column in columns:
            row = row.op("||")("|").op("||")(func.quote(column))
        ordered = self._between(select(row.label("row")), user_id, begin, end)
        some = ordered.order_by(self._start, SESSIONS.c.session_id).subquery()
        found = connection.scalar(select(cast(func.group_concat(some.c.row, "\n"), LargeBinary)))
        return hashlib.blake2b(found or b"", digest_size=16).digest()

    @property
    def _start(self) -> ColumnElement[Any]:
        """Return the column of starts as the database compares it: on SQLite as a text of any form."""
        column = SESSIONS.c.charging_start_time
        return type_coerce(column, String) if self._sqlite else column

    def _between(
        self, rows: Select[Any], user_id: str, begin: str | datetime | None, end: str | datetime | None
    ) -> Select[Any]:
        rows = rows.where(SESSIONS.c.user_id == user_id)
        if begin is not None:
            rows = rows.where(self._start >= begin)
        return rows if end is None else rows.where(self._start < end)


def at_moments(sessions: Iterable[PastSession], moments: Iterable[int], history: UserHistory) -> dict[int, UserHistory]:
    """Return a driver's history at each of these moments, from one walk through the sessions.

    Args:
        sessions: the sessions in order of their start.
        moments: seconds on the wall clock, in any order.
        history: the history before these sessions. It is changed.
    """
    pasts = {}
    following = iter(sessions)
    session = next(following, None)
    known = history.copy()
    for at in sorted(moments):
        while session is not None and session.start < at:
            history.observe(session)
            session = next(following, None)
        if known.sessions < history.sessions:
            known = history.copy()
        pasts[at] = known
    return pasts


def _last(steps: Sequence[_Step], types: Types) -> tuple[UserHistory, str | datetime | None]:
    """Return a copy of the history at the last step, and its end. Without steps return an empty history and None."""
    return (steps[-1].history.copy(), steps[-1].until) if steps else (UserHistory(len(types)), None)
