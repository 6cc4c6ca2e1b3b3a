"""PredictionLog: commit a request together with its prediction, before the reply is sent."""

import asyncio
import contextlib
import json
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import structlog
from sqlalchemy import Engine, delete, insert
from sqlmodel import col

from zap.db.engine import RawConnection, is_unavailable, write_transaction
from zap.db.log.log_rows import Entry, Logged
from zap.db.log.log_rows import insert_rows as _insert
from zap.db.tables import InferenceInput, Prediction, utc_now
from zap.errors import DatabaseReplaced, LogUnavailable, VersionReplaced
from zap.ml.inference import Answer
from zap.monitoring.answer_counts import AnswerCounter
from zap.monitoring.own_metrics import OwnMetrics
from zap.sentences import say
from zap.threads import PATIENCE_SECONDS

__all__ = ["Entry", "Logged", "PredictionLog", "check_writable"]

log = structlog.get_logger(__name__)

# The most rows that are committed together, unless a single batch has more.
_MOST_IN_A_GROUP = 500
# How many requests and batches may wait for their commit.
MOST_WAITING = 10_000
# How long (seconds) a request may wait while further requests arrive, so that they are committed together.
_GATHERING_SECONDS = 0.02
# How often the event loop looks for waiting requests whose deadline is over.
_LOOK_SECONDS = 0.1
# How much longer than PATIENCE_SECONDS a batch may take, for each of its rows.
_SECONDS_A_ROW = 0.001
_NOT_KNOWN = say("the request is not known to be committed, so it is not answered; send it again")


class _Arrived(NamedTuple):
    """A request or batch that has arrived.

    Attributes:
        rows: returns its rows.
        since: when its wait began, on the monotonic clock.
        future: set after the commit.
    """

    rows: Callable[[], Sequence[Entry]]
    since: float
    future: asyncio.Future[list[Logged]]


class _Waiting(NamedTuple):
    """Rows that wait for their commit, all or none.

    Attributes:
        rows: the rows of a request or batch.
        until: its deadline, on the monotonic clock.
        future: set after the commit; None if the calling thread commits the rows itself.
        since: when they were handed over to the writer, in nanoseconds of `perf_counter_ns`.
    """

    rows: Sequence[Entry]
    until: float
    future: asyncio.Future[list[Logged]] | None
    since: int = 0

    def is_over(self) -> bool:
        """Return whether the wait has ended, because the deadline is over or the client has disconnected."""
        return self.future is not None and self.future.done()


class PredictionLog:
    """The log of one process. One writer thread commits all waiting rows in one transaction.

    With this thread the event loop never waits for a disk, and each request costs less when many arrive together.

    Args:
        engine: on the database.
        counter: counts the commits that the writer makes, and the time from the hand-over of a request or batch to its
            commit.
        check_serves: raises VersionReplaced if the answers of a version may not be sent. It is called after the commit,
            because the commit may have waited for the database while the version was rolled back.
        metrics: count the commits too, and the answers by version and class; None outside a server.
    """

    def __init__(
        self,
        engine: Engine,
        counter: AnswerCounter | None = None,
        check_serves: Callable[[int], object] = lambda _: None,
        metrics: OwnMetrics | None = None,
    ) -> None:
        self._engine = engine
        self._check_serves = check_serves
        self._counter = counter or AnswerCounter()
        self._metrics = metrics
        self._sqlite = engine.dialect.name == "sqlite"
        # The requests that are gathered for the writer, and the rows that are handed over to it; None ends the writer.
        self._arrived: list[_Arrived] = []
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._n_waiting = 0
        # The rows that were handed over, in order. Answered ones are removed when they reach the front.
        self._unanswered: deque[_Waiting] = deque()
        self._looking: asyncio.TimerHandle | None = None
        self._closed = False
        self._writer: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Return how many requests and batches wait for their commit."""
        return self._n_waiting

    async def record(
        self, text: str, received_at: datetime, answered: Callable[[], Answer], *, until: float | None = None
    ) -> tuple[Answer, Logged]:
        """Answer a request, and commit both in one transaction with other waiting rows, outside the event loop.

        Args:
            text: the request.
            received_at: when it was received.
            answered: returns the answer. The functions of requests that arrive together are called directly after each
                other, so that the trees stay in the processor's caches.
            until: when to stop waiting, on the monotonic clock. Default: after PATIENCE_SECONDS.

        Raises:
            LogUnavailable: the request could not be committed, or MOST_WAITING requests are waiting already.
            VersionReplaced: it was committed, and its version may have been rolled back meanwhile.
        """
        entry: Entry

        def rows() -> Sequence[Entry]:
            nonlocal entry
            entry = Entry(text, received_at, answered())
            return [entry]

        (logged,) = await self._committed(rows, until)
        return entry.answer, logged

    async def record_all(self, rows: Sequence[Entry]) -> list[Logged]:
        """Commit requests and their answers, all of them or none.

        Raises:
            LogUnavailable: they could not be committed, or MOST_WAITING requests are waiting already.
            VersionReplaced: they were committed, and their version may have been rolled back meanwhile.
        """
        return await self._committed(lambda: rows) if rows else []

    async def _committed(self, rows: Callable[[], Sequence[Entry]], until: float | None = None) -> list[Logged]:
        """Wait for the commit of rows. `rows` is called when they are handed over to the writer."""
        if self._closed:
            raise LogUnavailable(say("the server is stopping; send the request again"))
        if self._n_waiting >= MOST_WAITING:
            raise LogUnavailable(
                say(
                    "{n:,} requests already wait for the database; send this request later",
                    n=MOST_WAITING,
                )
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Logged]] = loop.create_future()
        self._n_waiting += 1
        if not self._arrived:
            loop.call_soon(self._hand_over_when_quiet, loop, 0)
        since = time.monotonic() if until is None else until - PATIENCE_SECONDS
        self._arrived.append(_Arrived(rows, since, future))
        return await future

    def write(self, text: str, received_at: datetime, answer: Answer) -> Logged:
        """Commit one request and its answer on the calling thread, in its own transaction.

        Raises:
            LogUnavailable: the request could not be committed.
        """
        (logged,) = self.write_all([Entry(text, received_at, answer)])
        return logged

    def write_all(self, rows: Sequence[Entry]) -> list[Logged]:
        """Commit requests and their answers on the calling thread, in one transaction, all or none.

        Raises:
            LogUnavailable: they could not be committed.
        """
        if not rows:
            return []
        connection = RawConnection(self._engine)
        try:
            (outcome,) = self._commit(connection, [_Waiting(rows, time.monotonic() + PATIENCE_SECONDS, None)])
        finally:
            connection.close()
        if isinstance(outcome, LogUnavailable):
            raise outcome
        return outcome

    def close(self) -> None:
        """Commit the accepted rows, then stop the writer. This takes at most two PATIENCE_SECONDS."""
        self._hand_over()
        self._closed = True
        self._waiting.put(None)
        if self._writer is not None:
            self._writer.join(2 * PATIENCE_SECONDS)
            if self._writer.is_alive():
                log.error("the log's writer hangs in the database; its uncommitted requests are not answered")
        if self._looking is not None:
            self._looking.cancel()

    def _hand_over_when_quiet(self, loop: asyncio.AbstractEventLoop, before: int) -> None:
        """Wake the writer when a turn of the event loop has brought no new request, or after _GATHERING_SECONDS.

        A commit of many rows costs little more than a commit of one, and the writer takes the interpreter from a busy
        event loop. So arriving requests are read first. A single request waits for one turn of the loop.
        """
        arrived = len(self._arrived)
        if before < arrived < _MOST_IN_A_GROUP and time.monotonic() - self._arrived[0].since < _GATHERING_SECONDS:
            loop.call_soon(self._hand_over_when_quiet, loop, arrived)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        arrived, self._arrived = self._arrived, []
        # All answers are computed before the first hand-over, because then the writer takes the interpreter.
        waiting = [one for one in map(self._with_rows, arrived) if one is not None]
        if not waiting:
            return
        if not self._writes():
            for one in waiting:
                self._n_waiting -= 1
                self._refuse(one, say("the server cannot start the log's thread; send the request again"))
            return
        self._unanswered.extend(waiting)
        if self._looking is None:
            self._look_again(waiting[0])
        for one in waiting:
            self._waiting.put(one)

    def _writes(self) -> bool:
        """Start the writer if it is not running. Return whether it runs."""
        if self._writer is None or not self._writer.is_alive():
            writer = threading.Thread(target=self._write_on, name="prediction-log", daemon=True)
            try:
                writer.start()
            except RuntimeError as error:
                log.error("the log's writer cannot be started", reason=str(error))
                return False
            self._writer = writer
        return True

    def _look_again(self, waiting: _Waiting) -> None:
        if waiting.future is not None:
            self._looking = waiting.future.get_loop().call_later(_LOOK_SECONDS, self._refuse_late)

    def _refuse_late(self) -> None:
        """Refuse requests whose deadline is over. The writer cannot do this, because it may hang in the database."""
        self._looking = None
        self._forget_answered()
        now = time.monotonic()
        for one in self._unanswered:
            if one.until <= now:
                self._refuse(one, say("the database takes too long: {not_known}", not_known=_NOT_KNOWN))
        if self._unanswered:
            self._look_again(self._unanswered[0])

    def _forget_answered(self) -> None:
        while self._unanswered and self._unanswered[0].is_over():
            self._unanswered.popleft()

    def _with_rows(self, arrived: _Arrived) -> _Waiting | None:
        if not arrived.future.done():
            try:
                rows = arrived.rows()
                until = arrived.since + PATIENCE_SECONDS + _SECONDS_A_ROW * len(rows)
                return _Waiting(rows, until, arrived.future, time.perf_counter_ns())
            except Exception as error:  # noqa: BLE001 - the error belongs to this request only
                arrived.future.set_exception(error)
        # A request whose client has disconnected gets no answer, so it is not logged.
        self._n_waiting -= 1
        return None

    def _write_on(self) -> None:
        connection = RawConnection(self._engine)
        for group in self._groups():
            try:
                outcomes = self._of_serving(group, self._commit(connection, group))
            except Exception:
                # Catch everything, because no request could be answered without the writer.
                log.exception("the log's writer failed")
                outcomes = [LogUnavailable(_NOT_KNOWN) for _ in group]
            committed_at = time.perf_counter_ns()
            self._answer(list(zip(group, outcomes, strict=True)))
            # Counted when the replies are on their way.
            self._count(group, outcomes, committed_at)
        connection.close()

    def _count(
        self, group: Sequence[_Waiting], outcomes: Sequence[list[Logged] | LogUnavailable], committed_at: int
    ) -> None:
        metrics = self._metrics
        for waiting, outcome in zip(group, outcomes, strict=True):
            if not isinstance(outcome, LogUnavailable):
                self._counter.answered(committed_at - waiting.since)
                if metrics is not None:
                    answers = [(row.answer.model_version, row.answer.predicted_class) for row in waiting.rows]
                    metrics.committed(committed_at - waiting.since, answers)

    def _of_serving(
        self, group: Sequence[_Waiting], outcomes: list[list[Logged] | LogUnavailable]
    ) -> list[list[Logged] | LogUnavailable]:
        """Return the outcomes, with a refusal for each answer whose version may have been rolled back meanwhile."""
        numbers = {row.answer.model_version for one in group for row in one.rows}
        gone: dict[int, VersionReplaced] = {}
        for number in numbers:
            try:
                self._check_serves(number)
            except VersionReplaced as error:
                gone[number] = error
        if not gone:
            return outcomes
        return [
            next((gone[row.answer.model_version] for row in one.rows if row.answer.model_version in gone), outcome)
            if isinstance(outcome, list)
            else outcome
            for one, outcome in zip(group, outcomes, strict=True)
        ]

    def _groups(self) -> Iterator[list[_Waiting]]:
        """Yield groups of waiting rows until the log is closed and all rows have been yielded."""
        group: list[_Waiting] = []
        rows = 0
        while True:
            if group and self._waiting.empty():
                yield group
                group, rows = [], 0
            waits = self._waiting.get()
            if group and (waits is None or rows + len(waits.rows) > _MOST_IN_A_GROUP):
                yield group
                group, rows = [], 0
            if waits is None:
                return
            group.append(waits)
            rows += len(waits.rows)

    def _answer(self, outcomes: list[tuple[_Waiting, list[Logged] | LogUnavailable]]) -> None:
        """Pass the outcomes to the waiting requests, with one wake-up of the event loop."""

        def tell() -> None:
            for waiting, outcome in outcomes:
                self._n_waiting -= 1
                if waiting.future is None or waiting.future.done():
                    # The client has disconnected, or its request was refused because the deadline is over.
                    continue
                if isinstance(outcome, LogUnavailable):
                    self._refuse_with(waiting.future, outcome)
                else:
                    waiting.future.set_result(outcome)
            self._forget_answered()

        future = outcomes[0][0].future
        # The loop may have been closed meanwhile; then no request waits.
        with contextlib.suppress(RuntimeError):
            if future is not None:
                future.get_loop().call_soon_threadsafe(tell)

    def _refuse(self, waiting: _Waiting, reason: str) -> None:
        if waiting.future is not None and not waiting.future.done():
            self._refuse_with(waiting.future, LogUnavailable(reason))

    def _refuse_with(self, future: asyncio.Future[list[Logged]], error: LogUnavailable) -> None:
        future.set_exception(error)
        # A commit of a version that was rolled back meanwhile has not failed.
        if self._metrics is not None and not isinstance(error, VersionReplaced):
            self._metrics.not_committed()

    def _commit(self, connection: RawConnection, group: Sequence[_Waiting]) -> list[list[Logged] | LogUnavailable]:
        """Commit all rows of a group together. If some rows cannot be stored, commit each request of the group alone.

        Requests whose wait has ended are not written, and their outcomes have no meaning.
        """
        logged: list[Logged] = []
        live: list[_Waiting] = []
        over = LogUnavailable(say("the request has ended, and nothing was written"))
        if all(one.is_over() for one in group):
            return [over for _ in group]
        try:
            with connection.transaction(max(one.until for one in group) - time.monotonic()) as cursor:
                # The deadline of some requests may have ended while the transaction waited to begin.
                live = [one for one in group if not one.is_over()]
                logged += _insert(cursor, [row for one in live for row in one.rows], sqlite=self._sqlite)
        except Exception as error:  # noqa: BLE001 - a driver may raise any error for a value that it cannot store
            # If all rows were inserted, the COMMIT failed and the rows may be stored: they are not written again.
            if logged or len(group) == 1 or is_unavailable(error):
                refused = LogUnavailable(error.message if isinstance(error, DatabaseReplaced) else _NOT_KNOWN)
                refused.__cause__ = error
                return [refused] * len(group)
        else:
            each = iter(logged)
            found = {id(one): [next(each) for _ in one.rows] for one in live}
            return [found.get(id(one), over) for one in group]
        outcomes: list[list[Logged] | LogUnavailable] = []
        for one in group:
            (outcome,) = self._commit(connection, [one])
            outcomes.append(outcome)
            if isinstance(outcome, LogUnavailable) and outcome.__cause__ and is_unavailable(outcome.__cause__):
                # The database has become unavailable: the other requests would each wait for it.
                return [*outcomes, *[outcome] * (len(group) - len(outcomes))]
        return outcomes


def check_writable(engine: Engine) -> None:
    """Check that the log accepts a request, by a commit that leaves no rows.

    On SQLite the rows are inserted and deleted in one transaction, which is committed: on a full disk rows can be
    inserted, and only the commit fails. On PostgreSQL they are rolled back to a savepoint before the commit, so that
    the role needs no right to delete rows.

    Raises:
        SQLAlchemyError, DatabaseReplaced: the log cannot be written to.
    """
    # The number is negative, because the ids of real rows are positive. It is random, because several checks may run.
    number = -random.randrange(1, 2**31)  # noqa: S311 - no secret
    now = utc_now()
    request = {"input_id": number, "request_timestamp": now, "input_data_json": json.dumps({"check": "x" * 500})}
    prediction = {"prediction_id": number, "input_id": number, "prediction_timestamp": now, "source": "inference"}
    prediction |= {"predicted_class": "check", "features": bytes(500)}
    with write_transaction(engine) as connection:
        taken_back = connection.begin_nested() if engine.dialect.name == "postgresql" else None
        connection.execute(insert(InferenceInput), request)
        connection.execute(insert(Prediction), prediction)
        if taken_back is not None:
            taken_back.rollback()
            return
        connection.execute(delete(Prediction).where(col(Prediction.prediction_id) == number))
        connection.execute(delete(InferenceInput).where(col(InferenceInput.input_id) == number))
