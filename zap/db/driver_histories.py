"""DriverHistories: what serving knows of each driver's past, bounded in memory and never older than it says."""

import asyncio
import contextvars
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Engine, select

from zap.db.engine import PATIENCE_SECONDS
from zap.db.history_rows import IN_ONE_QUESTION, SESSIONS, raw_columns
from zap.errors import DatabaseUnavailable
from zap.ml.cells import PAST_COLUMNS, read_id, read_past_session
from zap.ml.user_history import PastSession, UserHistory, nobody

# A state that is older is compared with the database before it is used.
FRESH_SECONDS = 1.0
# A state takes a few kilobytes. For the drivers who were asked about longest ago the next request reads the rows again.
MOST_STATES = 20_000

# The charger types of a model version, in its order.
Types = tuple[str, ...]
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class _State:
    """A driver's past as it was at a moment.

    Attributes:
        digest: of the rows that it was made from.
        types: the charger types of the version that asked.
        history: never changed once it is here, so that every thread may ask it.
        checked_at: when the rows were last read, on the monotonic clock.
    """

    digest: bytes
    types: Types
    history: UserHistory
    checked_at: float


class DriverHistories:
    """The pasts of the drivers in one process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._states: OrderedDict[str, _State] = OrderedDict()
        # Who is being read, and by which reading: what is forgotten meanwhile must not be remembered again.
        self._readings: dict[str, object] = {}
        self._lock = threading.Lock()
        # Threads of their own: a database that does not answer keeps nobody else waiting.
        self._readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="driver-histories")

    async def apart(self, ask: Callable[..., _Found], *arguments: Any) -> _Found:
        """Ask the database something in a thread, off the event loop.

        Raises:
            DatabaseUnavailable: those in front have waited for the database for too long.
        """
        accepted = time.monotonic()
        # What the log says of it belongs to the request.
        context = contextvars.copy_context()

        def in_time() -> _Found:
            if time.monotonic() - accepted > PATIENCE_SECONDS:
                raise DatabaseUnavailable("the questions in front of this one take too long")
            return context.run(ask, *arguments)

        return await asyncio.get_running_loop().run_in_executor(self._readers, in_time)

    def close(self) -> None:
        """Stop the threads, within PATIENCE_SECONDS."""
        self._readers.shutdown(wait=True, cancel_futures=True)

    def known(self, user_id: str | None, at: int, types: Types) -> UserHistory | None:
        """What `read` gives, from memory alone; None where the database has to be asked."""
        user_id = read_id(user_id)
        if user_id is None:
            return nobody(len(types))
        state = self._state(user_id, types)
        if state is None or time.monotonic() - state.checked_at > FRESH_SECONDS or not _is_before(state.history, at):
            return None
        return state.history

    def read(self, user_id: str | None, at: int, types: Types) -> UserHistory:
        """The past of a driver, having asked the database what has changed.

        Takes as long as that takes: not for an event loop.

        Args:
            user_id: the driver; None or one that the history does not have for a driver without a past.
            at: the moment, in seconds on the wall clock. Sessions that started then or later are not known.
            types: the charger types of the version that asks.

        Returns:
            A history that nobody may change.
        """
        return self.read_many([(user_id, at)], types)[0]

    def read_many(self, asked: Sequence[tuple[str | None, int]], types: Types) -> list[UserHistory]:
        """What `read` gives for each of many drivers and moments, with one question for hundreds of drivers."""
        histories = [nobody(len(types))] * len(asked)
        places: dict[str, list[int]] = {}
        for place, (name, _) in enumerate(asked):
            if (user_id := read_id(name)) is not None:
                places.setdefault(user_id, []).append(place)
        for user_ids in _chunks([*places], IN_ONE_QUESTION):
            asked_at, reading = time.monotonic(), object()
            with self._lock:
                self._readings |= dict.fromkeys(user_ids, reading)
            found: dict[str, _State] = {}
            try:
                rows = self._rows(user_ids)
                for user_id in user_ids:
                    found[user_id] = self._found(user_id, rows.get(user_id, []), types, asked_at)
            finally:
                for user_id in user_ids:
                    self._end_reading(user_id, reading, found.get(user_id))
            for user_id in user_ids:
                history = found[user_id].history
                moments = {asked[place][1] for place in places[user_id]}
                early = [at for at in moments if not _is_before(history, at)]
                pasts = _pasts(_sessions(rows[user_id], types), types, early) if early else {}
                for place in places[user_id]:
                    histories[place] = pasts.get(asked[place][1], history)
        return histories

    def forget(self, user_ids: Iterable[str]) -> None:
        """The rows of these drivers have changed."""
        with self._lock:
            for user_id in user_ids:
                self._readings.pop(user_id, None)
                self._states.pop(user_id, None)

    def _found(self, user_id: str, rows: list[tuple[object, ...]], types: Types, asked_at: float) -> _State:
        digest = hashlib.blake2b(repr(rows).encode(errors="surrogatepass"), digest_size=16).digest()
        state = self._state(user_id, types)
        history = state.history if state is not None and state.digest == digest else _replay(rows, types)
        return _State(digest, types, history, asked_at)

    def _end_reading(self, user_id: str, reading: object, found: _State | None) -> None:
        """Remember what was found, unless it was forgotten meanwhile or a later reading is under way."""
        with self._lock:
            if self._readings.get(user_id) is not reading:
                return
            del self._readings[user_id]
            if found is not None:
                self._states[user_id] = found
                self._states.move_to_end(user_id)
                if len(self._states) > MOST_STATES:
                    self._states.popitem(last=False)

    def _state(self, user_id: str, types: Types) -> _State | None:
        with self._lock:
            state = self._states.get(user_id)
            if state is None or state.types != types:
                return None
            self._states.move_to_end(user_id)
            return state

    def _rows(self, user_ids: Sequence[str]) -> dict[str, list[tuple[object, ...]]]:
        """The sessions of each driver as they are stored: session_id and PAST_COLUMNS, in no order."""
        rows: dict[str, list[tuple[object, ...]]] = {}
        with self._engine.connect() as connection:
            columns = raw_columns(connection, SESSIONS, ("session_id", *PAST_COLUMNS))
            theirs = SESSIONS.c.user_id.in_(user_ids) if len(user_ids) > 1 else SESSIONS.c.user_id == user_ids[0]
            for user_id, *row in connection.execute(select(SESSIONS.c.user_id, *columns).where(theirs)):
                rows.setdefault(str(user_id), []).append(tuple(row))
        return rows


def _chunks(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _sessions(rows: list[tuple[object, ...]], types: Types) -> list[PastSession]:
    """The sessions in these rows that can be used, in order of their start."""
    sessions = []
    for session_id, *values in rows:
        session = read_past_session(dict(zip(PAST_COLUMNS, values, strict=True)), types)
        if session is not None:
            sessions.append((session.start, session_id, session))
    return [session for _, _, session in sorted(sessions, key=lambda one: one[:2])]


def _replay(rows: list[tuple[object, ...]], types: Types) -> UserHistory:
    """The past of a driver with these rows."""
    history = UserHistory(len(types))
    for session in _sessions(rows, types):
        history.observe(session)
    return history


def _pasts(sessions: Sequence[PastSession], types: Types, moments: Iterable[int]) -> dict[int, UserHistory]:
    """What was known of a driver at each of these moments, from one walk through the sessions."""
    pasts = {}
    history = UserHistory(len(types))
    known = history.copy()
    for at in sorted(moments):
        while history.sessions < len(sessions) and sessions[history.sessions].start < at:
            history.observe(sessions[history.sessions])
        if known.sessions < history.sessions:
            known = history.copy()
        pasts[at] = known
    return pasts


def _is_before(history: UserHistory, at: int) -> bool:
    return history.newest is None or history.newest < at
