"""DriverHistories: what serving knows of each driver's past, bounded in memory and never older than it says."""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Engine, select

from zap.db.history_store import SESSIONS, raw_columns
from zap.ml.history import PAST_COLUMNS, read_id, read_past_session
from zap.ml.user_history import UserHistory

# A state that is older is compared with the database before it is used.
FRESH_SECONDS = 1.0
# A state takes a few kilobytes. For the drivers who were asked about longest ago the next request reads the rows again.
MOST_STATES = 20_000

# The charger types of a model version, in its order.
Types = tuple[str, ...]


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
        # What was forgotten while it was being read must not be remembered again.
        self._forgotten = 0
        self._lock = threading.Lock()

    def known(self, user_id: str | None, at: int, types: Types) -> UserHistory | None:
        """What `read` gives, from memory alone; None where the database has to be asked."""
        user_id = read_id(user_id)
        if user_id is None:
            return UserHistory(len(types))
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
        user_id = read_id(user_id)
        if user_id is None:
            return UserHistory(len(types))
        asked_at, forgotten = time.monotonic(), self._forgotten
        rows = self._rows(user_id)
        digest = hashlib.blake2b(repr(rows).encode(errors="surrogatepass"), digest_size=16).digest()
        state = self._state(user_id, types)
        history = state.history if state is not None and state.digest == digest else _replay(rows, types)
        with self._lock:
            if forgotten == self._forgotten:
                self._states[user_id] = _State(digest, types, history, asked_at)
                self._states.move_to_end(user_id)
                if len(self._states) > MOST_STATES:
                    self._states.popitem(last=False)
        return history if _is_before(history, at) else _replay(rows, types, before=at)

    def forget(self, user_ids: Iterable[str]) -> None:
        """The rows of these drivers have changed."""
        with self._lock:
            self._forgotten += 1
            for user_id in user_ids:
                self._states.pop(user_id, None)

    def _state(self, user_id: str, types: Types) -> _State | None:
        with self._lock:
            state = self._states.get(user_id)
            if state is None or state.types != types:
                return None
            self._states.move_to_end(user_id)
            return state

    def _rows(self, user_id: str) -> list[tuple[object, ...]]:
        """The driver's sessions as they are stored: session_id and PAST_COLUMNS, in no order."""
        with self._engine.connect() as connection:
            columns = raw_columns(connection, SESSIONS, ("session_id", *PAST_COLUMNS))
            return [tuple(row) for row in connection.execute(select(*columns).where(SESSIONS.c.user_id == user_id))]


def _replay(rows: list[tuple[object, ...]], types: Types, before: int | None = None) -> UserHistory:
    """The past of a driver with these rows, of those that started before a moment."""
    sessions = []
    for session_id, *values in rows:
        session = read_past_session(dict(zip(PAST_COLUMNS, values, strict=True)), types)
        if session is not None and (before is None or session.start < before):
            sessions.append((session.start, session_id, session))
    history = UserHistory(len(types))
    for _, _, session in sorted(sessions, key=lambda one: one[:2]):
        history.observe(session)
    return history


def _is_before(history: UserHistory, at: int) -> bool:
    return history.newest is None or history.newest < at
