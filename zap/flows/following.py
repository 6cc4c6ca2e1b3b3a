"""Following: keep up to date what follows from the log and the history, one look after another.

A look reads the changes of sessions and the new answers, and writes outcomes in short transactions. Each transaction
also writes how far the follower has come. So a follower that is killed leaves nothing half done, and the next one goes
on where it has ended.
"""

import math
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from sqlalchemy import Connection, Engine

from zap.db.history.session_changes import ChangedSession, changed_sessions, new_mark
from zap.db.monitoring.changed_answers import answers_of
from zap.db.monitoring.derived_rows import remove_outcomes, remove_sums
from zap.db.monitoring.follower_lease import FollowerLease
from zap.db.monitoring.follower_marks import BEGIN_ANEW, LeaseLost
from zap.db.monitoring.log_portion import (
    MOST_ANSWERS,
    MOST_IN_QUIET,
    MOST_ROWS,
    LoggedAnswer,
    WallTime,
    newest_id,
    next_portion,
)
from zap.db.monitoring.matches import match_new, rematch, rematch_around
from zap.db.monitoring.outcome_changes import first_changes, last_changes, later_changes
from zap.db.monitoring.outcome_rows import Outcome, insert_outcomes, outcomes_after, outcomes_of
from zap.db.monitoring.removals import read_removed_before
from zap.monitoring.matching import NO_DRIVER, WAITING, Answer, Match, kind_of
from zap.monitoring.outcome_change import OutcomeChange

# How often the changes of sessions are read while there are many answers to follow.
_SESSIONS_SECONDS = 1.0
# How often all answers may be matched again. If triggers are missing, any session may change at any time.
_ALL_SECONDS = 60.0
# How many changes of sessions are read at once.
_MOST_CHANGES = 500

# What is kept up to date in the transactions of the outcomes: sums of their changes, and counts of new requests.
KeepSums = Callable[[Connection, Sequence[OutcomeChange]], None]
# Counts are made before the transaction, and the result of a call adds them in it.
KeepCounts = Callable[[Connection, Sequence[LoggedAnswer]], Callable[[Connection], None]]
SUMS: tuple[KeepSums, ...] = ()
COUNTS: tuple[KeepCounts, ...] = ()


class Following:
    """Follow the log and the history as long as no other process does. Only one thread may use it.

    Args:
        engine: on a database at head.
        wall_time: converts a moment to the drivers' wall time.
        horizon: how long after the moment asked about a session may start.
        sums: called in each transaction with the changes of outcomes.
        counts: called before each transaction with the answers that are followed for the first time.

    Attributes:
        lease: the lease, for transactions of other work that only the process that follows may do.
        rows: how many rows of the log this process has read.
        changed: how often the outcome of an answer has changed after its first transaction.
    """

    def __init__(
        self,
        engine: Engine,
        wall_time: WallTime,
        horizon: timedelta,
        sums: Sequence[KeepSums] = SUMS,
        counts: Sequence[KeepCounts] = COUNTS,
    ) -> None:
        self._engine = engine
        self._wall_time = wall_time
        self._horizon = horizon
        self._sums = sums
        self._counts = counts
        self.lease = FollowerLease(engine)
        self._sessions_at = self._all_at = -math.inf
        self._most_answers = MOST_ANSWERS[engine.dialect.name]
        # Whether the portion before had only predictions of trainings.
        self._only_trainings = False
        self._newest: int | None = None
        self._removed_until = 0
        self._stop: Callable[[], bool] = lambda: False
        self.rows = self.changed = 0

    def look(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Follow all that there is to follow. Return whether this process follows; if not, another process does.

        Args:
            stop: whether to end early; the next look goes on.
        """
        self._stop, self._sessions_at = stop, -math.inf
        while self.lease.take():
            try:
                while self._step() and not stop():
                    pass
                self.lease.beat()
            except LeaseLost:
                # Another process has the lease now, or this process has to begin anew.
                continue
            return True
        return False

    def check(self, connection: Connection) -> None:
        """Check in a transaction of another part of the follower that this process follows.

        Raises:
            LeaseLost: this process may write nothing.
        """
        self.lease.check(connection)

    def close(self) -> None:
        """Let another process follow at once."""
        self.lease.give_up()

    def _step(self) -> bool:
        """Read each source once, and write what follows. Return whether there may be more."""
        if self.lease.marks.prediction_id == BEGIN_ANEW:
            return self._remove_derived()
        if time.monotonic() - self._sessions_at >= _SESSIONS_SECONDS:
            self._sessions_at = time.monotonic()
            self._follow_sessions()
        more = self._follow_log()
        return self._rematch_all() or more

    def _remove_derived(self) -> bool:
        """Remove some derived rows. After the last ones, begin with the first answer."""
        with self.lease.writing() as connection:
            remove_sums(connection)
            if read_removed_before(connection) is not None:
                some = outcomes_after(connection, self._removed_until, self._most_answers)
                self._keep(connection, list(last_changes(connection, some)))
            last = remove_outcomes(connection, self._removed_until, self._most_answers)
        self._removed_until = last or 0
        if last is None:
            with self.lease.writing(prediction_id=0):
                pass
        return True

    def _follow_sessions(self) -> None:
        """Match again the answers of changed sessions; all answers if any session may have changed."""
        before, last = self.lease.marks.session_mark, 0
        with self._engine.connect() as connection:
            mark, known = new_mark(connection, before)
        if before is None and self.lease.marks.prediction_id == 0:
            # Nothing is followed yet, so nothing can have changed.
            self.lease.note(mark)
            return
        while before is not None and known and mark != before:
            with self._engine.connect() as connection:
                changes = changed_sessions(connection, before, last, _MOST_CHANGES)
            if self._stop():
                return
            if not changes:
                break
            known, last = all(one.session_id is not None for one in changes), changes[-1].change_id
            self._rematch_of(changes)
        if before is not None and known:
            self.lease.note(mark)
        elif self.lease.marks.rematched_until is None and time.monotonic() - self._all_at >= _ALL_SECONDS:
            self._all_at = time.monotonic()
            with self.lease.writing(session_mark=mark, rematched_until=0):
                pass

    def _rematch_of(self, changes: Sequence[ChangedSession]) -> None:
        """Match again the answers that changes of sessions may concern."""
        last = 0
        while not self._stop():
            with self._engine.connect() as connection:
                ids = answers_of(connection, changes, self._horizon, last, self._most_answers)
            if not ids:
                return
            last = ids[-1]
            with self.lease.writing() as connection:
                self._rematch(connection, ids)

    def _follow_log(self) -> bool:
        """Follow the next answers of the log. Return whether there were any rows."""
        marks = self.lease.marks
        with self._engine.connect() as connection:
            most = self._most_now(connection)
            most_rows = MOST_ROWS if self._only_trainings else most
            answers, after, rows = next_portion(connection, marks, self._wall_time, most_rows, most)
            self._only_trainings = not answers
            if after == marks:
                return False
            # Before the transaction, because requests wait for it on SQLite.
            new = match_new(connection, [self._outcome(one) for one in answers], self._horizon)
            counts = [count(connection, answers) for count in self._counts]
        with self.lease.writing(prediction_id=after.prediction_id, missing=after.missing) as connection:
            insert_outcomes(connection, new.outcomes)
            numbers = {one.prediction_id for one in answers}
            moved = rematch_around(connection, new, self._horizon)
            final = {one.after.answer.prediction_id: one.after for one in moved}
            outcomes = [final.get(one.answer.prediction_id, one) for one in new.outcomes]
            earlier = [one for one in moved if one.after.answer.prediction_id not in numbers]
            self._keep(connection, [*first_changes(answers, outcomes), *later_changes(connection, earlier)])
            for keep in counts:
                keep(connection)
        self.rows += rows
        self.changed += len(earlier)
        return rows > 0

    def _most_now(self, connection: Connection) -> int:
        """Return the most answers of the next portion: many if nobody has logged anything since the last portion."""
        before, self._newest = self._newest, newest_id(connection)
        return MOST_IN_QUIET if self._newest == before else self._most_answers

    def _rematch_all(self) -> bool:
        """Match the next answers again if all of them have to be. Return whether there were any."""
        until = self.lease.marks.rematched_until
        if until is None:
            return False
        with self._engine.connect() as connection:
            ids = [one.answer.prediction_id for one in outcomes_after(connection, until, self._most_answers)]
        with self.lease.writing(rematched_until=ids[-1] if ids else None) as connection:
            self._rematch(connection, ids)
        return bool(ids)

    def _rematch(self, connection: Connection, ids: Sequence[int]) -> None:
        moved = rematch(connection, outcomes_of(connection, ids), self._horizon)
        self._keep(connection, list(later_changes(connection, moved)))
        self.changed += len(moved)

    def _keep(self, connection: Connection, changes: Sequence[OutcomeChange]) -> None:
        """Pass changes of outcomes on to what is kept up to date in the same transaction."""
        for keep in self._sums if changes else ():
            keep(connection, changes)

    def _outcome(self, logged: LoggedAnswer) -> Outcome:
        """Return the outcome of an answer before its sessions are known."""
        kind = kind_of(logged.asked_at, logged.requested_at, self._horizon)
        answer = Answer(logged.prediction_id, logged.user_id, logged.asked_at, kind)
        return Outcome(answer, logged.model_version, Match(NO_DRIVER if logged.user_id is None else WAITING))
