"""Retention: remove old requests, and the predictions of old trainings, after the time that a setting says.

The follower does this beside its other work, and `zap predictions prune` at once. Each transaction is short, because
requests wait for it on SQLite. Daily sums stay.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection, Engine

from zap.db.audit import note
from zap.db.engine import background_transactions, write_transaction
from zap.db.free_pages import file_pages, return_pages
from zap.db.log.request_removal import OldRequests, may_remove, oldest_requests, remove_requests
from zap.db.log.training_log import removed_train_predictions, versions_to_prune
from zap.db.monitoring.removable_requests import Needs, Removable, read_needs, removable
from zap.db.monitoring.removals import end_removal, is_removing, note_removed, read_removed_before
from zap.flows.trial_answers import Between, Check, nothing
from zap.settings import Settings

log = structlog.get_logger(__name__)

# The most requests of one transaction. On SQLite, requests wait for it.
PORTION = {"sqlite": 200, "postgresql": 2_000}
# The free pages of a SQLite file that one transaction returns.
_PAGES = 100
# The most transactions of one look: meanwhile the follower does not follow.
_MOST_PORTIONS = 20
# The tables whose rows are removed together, and the name under which predictions of trainings are counted.
REQUESTS = ("trial_predictions", "outcomes", "predictions", "inference_inputs")
TRAIN_PREDICTIONS = "train_predictions"


class Portion(NamedTuple):
    """The result of one transaction: how many rows of each table it has removed, and how many requests it looked at."""

    removed: dict[str, int]
    looked_at: int


@dataclass
class Reached:
    """Remember the last request that a look has read, so that the next look goes on after it.

    Attributes:
        input_id: the last request that was looked at; 0 if the next look begins with the first one.
    """

    input_id: int = 0


class Retention:
    """Remove rows after the time that the settings say. One thread calls it, portion by portion.

    Args:
        engine: on the database.
        settings: how long rows are kept, the horizon of outcomes, and the drivers' time zone.
        check: called in each transaction; raises an error if this process may remove nothing now.
        between: called before each transaction; raises an error to end the work.
    """

    def __init__(self, engine: Engine, settings: Settings, check: Check, between: Between = nothing) -> None:
        self._engine, self._settings = engine, settings
        self._check, self._between = check, between
        # Rows that are removed again after a power cut need not wait for the disk.
        self._transaction = background_transactions(engine, durable=False)

    def requests(self, days: int, now: datetime, reached: Reached | None = None) -> Iterator[Portion]:
        """Remove the requests that were received more than some days ago, in portions.

        Requests of whole days (UTC) are removed, so that it is known which days the log still has. Requests whose
        answers are still needed stay for a later call, see `zap.db.monitoring.removable_requests`.

        Args:
            days: how many days a request is kept.
            now: the present moment (UTC).
            reached: where an earlier call has ended early; it is changed.
        """
        before = datetime.combine(now.astimezone(UTC).date() - timedelta(days=days), time(), UTC)
        reached = reached or Reached()
        most, after = PORTION[self._engine.dialect.name], reached.input_id
        needs: Needs | None = None
        while True:
            self._between()
            old, found, needs = self._next(after, before, most, now, needs)
            if not old.requests:
                break
            removed: dict[str, int] = {}
            if found.input_ids:
                with self._transaction() as connection:
                    self._check(connection)
                    removed = remove_requests(connection, found.input_ids, found.prediction_ids)
                    note_removed(connection, removed, before)
            after = reached.input_id = old.last or old.requests[-1].input_id
            yield Portion(removed, len(old.requests))
            if old.last is None or not found.are_more:
                break
        reached.input_id = 0
        self._end(REQUESTS, "requests")

    def train_predictions(self, keep_versions: int) -> Iterator[tuple[int, int]]:
        """Remove the predictions of trainings, except of the newest versions. Yield the version and the removed rows.

        The version in production, versions on trial, and the version of a running training keep theirs.
        """
        for version in versions_to_prune(self._engine, keep_versions):
            self._between()
            for some in removed_train_predictions(self._engine, version, self._check, _note_train_predictions):
                yield version, some
                self._between()
        self._end((TRAIN_PREDICTIONS,), "predictions of trainings")

    def free_pages(self) -> Iterator[int]:
        """Return the free pages of a SQLite file that are too many, in portions. Yield the pages of each portion.

        Nothing is done on PostgreSQL. The file of an older zap becomes smaller only by `zap db compact`.
        """
        if self._engine.dialect.name != "sqlite":
            return
        with self._engine.connect() as connection:
            found = file_pages(connection)
        left = found.too_many if found.can_return else 0
        while left > 0:
            some = min(left, _PAGES)
            self._between()
            with self._transaction() as connection:
                self._check(connection)
                return_pages(connection, some)
            left -= some
            yield some

    def _next(
        self, after: int, before: datetime, most: int, now: datetime, needs: Needs | None
    ) -> tuple[OldRequests, Removable, Needs | None]:
        """Return the next old requests, which of them may be removed, and what needs answers. The last is read once."""
        with self._engine.connect() as connection:
            old = oldest_requests(connection, after, before, most)
            if not old.requests:
                return old, Removable([], [], are_more=False), needs
            if needs is None:
                wall_now, horizon = self._settings.wall_time(now), self._settings.horizon
                needs = read_needs(connection, before, now, wall_now, horizon)
            return old, removable(connection, {one.input_id: one.received_at for one in old.requests}, needs), needs

    def _end(self, kinds: Collection[str], subject: str) -> None:
        """Write down how many rows were removed since the last end, also by processes that were killed."""
        with self._engine.connect() as connection:
            if not is_removing(connection, kinds):
                return
        with write_transaction(self._engine) as connection:
            self._check(connection)
            removed: dict[str, Any] = end_removal(connection, kinds)
            if not removed:
                # Another process has come to the end at the same time.
                return
            removed_before = read_removed_before(connection)
            if kinds == REQUESTS and removed_before is not None:
                removed["before"] = removed_before.date().isoformat()
            note(connection, "log.prune", subject, after=removed)
        log.info("old rows were removed", **removed)


def _note_train_predictions(connection: Connection, removed: int) -> None:
    note_removed(connection, {TRAIN_PREDICTIONS: removed})


def remove_by_settings(  # noqa: PLR0913, PLR0917
    engine: Engine, settings: Settings, check: Check, now: datetime, between: Between, reached: Reached | None = None
) -> bool:
    """Remove what the settings say, as much as a look of the follower may. Return whether more is left.

    Args:
        engine: on the database.
        settings: how long rows are kept.
        check: called in each transaction; raises an error if another process follows now.
        now: the present moment (UTC).
        between: called before each transaction; raises an error to end the work.
        reached: how far earlier looks have come; it is changed.
    """
    days, versions = settings.keep_requests_days, settings.keep_train_predictions_versions
    if days is None and versions is None:
        return False
    if not may_remove(engine):
        log.warning(
            "old rows cannot be removed: this role on PostgreSQL may not delete rows of inference_inputs and"
            " predictions; grant DELETE on both tables, or unset ZAP_KEEP_REQUESTS_DAYS and"
            " ZAP_KEEP_TRAIN_PREDICTIONS_VERSIONS"
        )
        return False
    retention = Retention(engine, settings, check, between)
    more = False
    if days is not None:
        more |= _some(retention.requests(days, now, reached))
    if versions is not None:
        more |= _some(retention.train_predictions(versions))
    return _some(retention.free_pages()) or more


def _some(portions: Iterator[object]) -> bool:
    """Take the portions of one look. Return whether there may be more."""
    return sum(1 for _, _ in zip(range(_MOST_PORTIONS), portions, strict=False)) == _MOST_PORTIONS
