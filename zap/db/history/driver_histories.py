"""DriverHistories: the histories of drivers for serving, bounded in memory and at most FRESH_SECONDS old.

Requests for one driver share one read. A read for a request has a bound: drivers with more sessions are read by
`long_pasts.py`, on a separate thread.
"""

import asyncio
import contextlib
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Engine, func, select

from zap.db.history.history_rows import SESSIONS, in_parts, raw_columns
from zap.db.history.long_pasts import LONG, LongPasts, at_moments
from zap.errors import DatabaseUnavailable
from zap.ml.cells import PAST_COLUMNS, read_id, read_past_session
from zap.ml.driver_columns import PastSession
from zap.ml.user_history import UserHistory, no_past
from zap.sentences import say
from zap.threads import Pool

# An older state is compared with the database before it is used.
FRESH_SECONDS = 1.0
# How many states are kept, at some 12 kilobytes each with three charger types. The state that was used longest ago is
# dropped first.
MOST_STATES = 20_000

# The charger types of a model version, in its order.
Types = tuple[str, ...]


@dataclass(frozen=True)
class _State:
    """The history of a driver at a moment.

    Attributes:
        digest: the digest of the rows from which it was computed.
        types: the charger types of the model version.
        history: the history; it is never changed, so that every thread may use it.
        checked_at: when the rows were last read, on the monotonic clock.
    """

    digest: bytes
    types: Types
    history: UserHistory
    checked_at: float


class _Flight:
    """One read of one driver, for all requests that arrive before it begins.

    Attributes:
        moments: the moments that the requests need, in seconds on the wall clock.
        until: when the last of these requests stops waiting, on the monotonic clock.
        found: the history at each moment.
    """

    def __init__(self) -> None:
        self.moments: set[int] = set()
        self.until = 0.0
        self.found: asyncio.Task[dict[int, UserHistory]]


class DriverHistories:
    """Read and remember the histories of drivers, for one process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._states: OrderedDict[str, _State] = OrderedDict()
        # The newest read of each driver that is being read: `forget` removes it, so that its result is not kept.
        self._readings: dict[str, object] = {}
        self._lock = threading.Lock()
        # Separate threads: a database that does not answer must not delay other work.
        self.threads = Pool("driver-histories", 4)
        # One separate thread for long histories, which must not occupy the other threads.
        self._long_reader = Pool("long-pasts", 1)
        self._long = LongPasts(engine)
        # For each driver and types, the next read and the running read. Only the event loop uses these.
        self._waiting: dict[tuple[str, Types], _Flight] = {}
        self._flying: dict[tuple[str, Types], _Flight] = {}

    async def past(self, user_id: str | None, at: int, types: Types, until: float) -> UserHistory:
        """Return the history of a driver at a moment, from memory or from a read in a thread.

        Call this on the event loop. Requests for one driver share one read.

        Args:
            user_id: as in `read`.
            at: as in `read`.
            types: as in `read`.
            until: when the request stops waiting, on the monotonic clock.

        Raises:
            DatabaseUnavailable: the database, or reads before this one, take too long. The read goes on.
        """
        known, driver = self.known(user_id, at, types), read_id(user_id)
        if known is not None or driver is None:
            return known or no_past(len(types))
        flight = self._waiting.get((driver, types))
        if flight is None:
            flight = self._waiting[driver, types] = _Flight()
            flight.found = asyncio.create_task(self._fly(driver, types, flight))
            # Retrieve the error of the read, so that asyncio does not report it if no request waits any more.
            flight.found.add_done_callback(lambda done: done.cancelled() or done.exception())
        flight.moments.add(at)
        flight.until = max(flight.until, until)
        done, _ = await asyncio.wait([flight.found], timeout=max(0.0, until - time.monotonic()))
        if not done:
            raise DatabaseUnavailable(say("the driver's past could not be read in time; send the request again later"))
        return flight.found.result()[at]

    async def _fly(self, user_id: str, types: Types, flight: _Flight) -> dict[int, UserHistory]:
        """Read a driver after the running read has ended, for all requests that arrive until then."""
        key = user_id, types
        if before := self._flying.get(key):
            await asyncio.wait([before.found])
        self._flying[key] = flight
        del self._waiting[key]
        try:
            found = {at: known for at in flight.moments if (known := self.known(user_id, at, types)) is not None}
            asked = [(user_id, at) for at in flight.moments - found.keys()]
            if asked:
                read = await self._read_apart(asked, types, flight.until)
                found |= {at: history for (_, at), history in zip(asked, read, strict=True)}
            return found
        finally:
            del self._flying[key]

    async def _read_apart(self, asked: Sequence[tuple[str, int]], types: Types, until: float) -> list[UserHistory]:
        """Read one driver in a thread: a thread for short histories, or else the thread for long ones."""
        if not self._long.knows(asked[0][0]):
            with contextlib.suppress(_IsLong):
                return await self.threads.run(partial(self.read_many, asked, types, long=False), until=until)
        # Without a deadline: each request has its own deadline, and later requests use the result.
        return await self._long_reader.to_its_end(self.read_many, asked, types, until=until)

    def close(self) -> None:
        """Stop the threads, after the work that runs now."""
        self._long.close()
        self.threads.close()
        self._long_reader.close()

    def known(self, user_id: str | None, at: int, types: Types) -> UserHistory | None:
        """Return the history of a driver at a moment from memory; None if the database has to be read."""
        user_id = read_id(user_id)
        if user_id is None:
            return no_past(len(types))
        state = self._state(user_id, types)
        if state is None or time.monotonic() - state.checked_at > FRESH_SECONDS or not _is_before(state.history, at):
            return None
        return state.history

    def read(self, user_id: str | None, at: int, types: Types) -> UserHistory:
        """Return the history of a driver at a moment, after a read of the database.

        This blocks, so the event loop must not call it.

        Args:
            user_id: the driver. None or an unknown driver gives an empty history.
            at: the moment, in seconds on the wall clock. Sessions that start then or later are left out.
            types: the charger types of the model version.

        Returns:
            A history that must not be changed.
        """
        return self.read_many([(user_id, at)], types)[0]

    def read_many(
        self, asked: Sequence[tuple[str | None, int]], types: Types, *, long: bool = True
    ) -> list[UserHistory]:
        """Return the histories for many drivers and moments, with one query for hundreds of drivers.

        Args:
            asked: the drivers and the moments.
            types: the charger types of the model version.
            long: whether long histories may be read, which takes seconds.

        Raises:
            _IsLong: a history is long, and `long` is False.
        """
        histories = [no_past(len(types))] * len(asked)
        places: dict[str, list[int]] = {}
        for place, (name, _) in enumerate(asked):
            if (user_id := read_id(name)) is not None:
                places.setdefault(user_id, []).append(place)
        for user_ids in in_parts([*places]):
            moments = {user_id: {asked[place][1] for place in places[user_id]} for user_id in user_ids}
            for user_id, pasts in self._read_some(moments, types, long=long):
                for place in places[user_id]:
                    histories[place] = pasts[asked[place][1]]
        return histories

    def _read_some(
        self, moments: Mapping[str, set[int]], types: Types, *, long: bool
    ) -> Iterator[tuple[str, dict[int, UserHistory]]]:
        """Yield for each driver the histories at these moments, and remember the states."""
        user_ids = [*moments]
        asked_at, reading = time.monotonic(), object()
        with self._lock:
            self._readings |= dict.fromkeys(user_ids, reading)
        found: dict[str, _State] = {}
        try:
            rows = self._rows(user_ids)
            for user_id, early in moments.items():
                theirs = rows.get(user_id, [])
                if theirs is None:
                    if not long:
                        raise _IsLong
                    history, pasts = self._long.read(user_id, [*early], types)
                    found[user_id] = _State(b"", types, history, asked_at)
                else:
                    found[user_id] = state = self._found(user_id, theirs, types, asked_at)
                    pasts = dict.fromkeys(early, state.history)
                    if before := [at for at in early if not _is_before(state.history, at)]:
                        pasts |= at_moments(_sessions(theirs, types), before, UserHistory(len(types)))
                yield user_id, pasts
        finally:
            for user_id in user_ids:
                self._end_reading(user_id, reading, found.get(user_id))

    def forget(self, user_ids: Iterable[str]) -> None:
        """Forget the states of drivers whose rows have changed."""
        with self._lock:
            for user_id in user_ids:
                self._readings.pop(user_id, None)
                self._states.pop(user_id, None)

    def forget_erased(self) -> None:
        """Forget a driver who was erased. Only a keyed hash says who it was, so all short histories are forgotten.

        Raises:
            DatabaseUnavailable: a read of a long history takes too long.
        """
        with self._lock:
            self._readings.clear()
            self._states.clear()
        self._long.forget_gone()

    def _found(self, user_id: str, rows: list[tuple[object, ...]], types: Types, asked_at: float) -> _State:
        digest = hashlib.blake2b(repr(rows).encode(errors="surrogatepass"), digest_size=16).digest()
        state = self._state(user_id, types)
        history = state.history if state is not None and state.digest == digest else _replay(rows, types)
        return _State(digest, types, history, asked_at)

    def _end_reading(self, user_id: str, reading: object, found: _State | None) -> None:
        """Remember the result of a read, unless the driver was forgotten meanwhile or a later read is running."""
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

    def _rows(self, user_ids: Sequence[str]) -> dict[str, list[tuple[object, ...]] | None]:
        """Return the stored sessions of each driver, unordered: session_id and PAST_COLUMNS.

        For a driver with more than LONG sessions, return None instead of the sessions.
        """
        rows: dict[str, list[tuple[object, ...]] | None] = {}
        with self._engine.connect() as connection:
            columns = raw_columns(connection, SESSIONS, ("session_id", *PAST_COLUMNS))
            asked = select(SESSIONS.c.user_id, *columns)
            if len(user_ids) == 1:
                asked = asked.where(SESSIONS.c.user_id == user_ids[0]).limit(LONG + 1)
            else:
                theirs = SESSIONS.c.user_id.in_(user_ids)
                counted = select(SESSIONS.c.user_id).where(theirs).group_by(SESSIONS.c.user_id)
                long = connection.scalars(counted.having(func.count() > LONG)).all()
                rows |= dict.fromkeys(map(str, long))
                asked = asked.where(SESSIONS.c.user_id.in_([one for one in user_ids if one not in rows]))
            for user_id, *row in connection.execute(asked):
                some = rows.setdefault(str(user_id), [])
                if some is not None:
                    some.append(tuple(row))
        return {user_id: some if some is None or len(some) <= LONG else None for user_id, some in rows.items()}


class _IsLong(Exception):
    """A history is too long for the threads that read short ones."""


def _sessions(rows: list[tuple[object, ...]], types: Types) -> list[PastSession]:
    """Return the usable sessions in these rows, in order of their start."""
    sessions = []
    for session_id, *values in rows:
        session = read_past_session(dict(zip(PAST_COLUMNS, values, strict=True)), types)
        if session is not None:
            sessions.append((session.start, session_id, session))
    return [session for _, _, session in sorted(sessions, key=lambda one: one[:2])]


def _replay(rows: list[tuple[object, ...]], types: Types) -> UserHistory:
    """Return the history of a driver with these rows."""
    history = UserHistory(len(types))
    for session in _sessions(rows, types):
        history.observe(session)
    return history


def _is_before(history: UserHistory, at: int) -> bool:
    return history.newest is None or history.newest < at
