"""Transactions of monitors, with the alarms about a version that they raise and resolve."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine

from zap.db.engine import write_transaction
from zap.db.monitoring.alarms import AlarmChange, raise_alarm, resolve_alarm
from zap.db.monitoring.monitor_states import Kind
from zap.sentences import say
from zap.settings import Settings

# Called in each transaction that writes; raises an error if another process follows now.
Check = Callable[[Connection], object]
# Called between two portions of work, so that others have their turns; raises an error to end the work.
Between = Callable[[], object]


class MonitorChanges:
    """One transaction of a monitor.

    Args:
        connection: a transaction that writes.
        posts: whether ZAP_ALARM_URL is set, so that changes of alarms are posted.
    """

    def __init__(self, connection: Connection, *, posts: bool) -> None:
        self.connection = connection
        self._posts = posts
        self._alarms: list[AlarmChange | None] = []

    def raise_alarm(self, kind: Kind, version: int, message: str, evidence: Mapping[str, Any]) -> None:
        """Raise an alarm about a version, unless it stands already."""
        change = raise_alarm(self.connection, kind, subject_of(version), message, evidence, posts=self._posts)
        self._alarms.append(change)

    def resolve_alarm(self, kind: str, subject: str) -> None:
        """Resolve the standing alarm of a kind and subject, if there is one."""
        self._alarms.append(resolve_alarm(self.connection, kind, subject, posts=self._posts))

    def log(self) -> None:
        """Log the changes of alarms. Call this after the commit."""
        for change in self._alarms:
            if change is not None:
                change.log()


@contextmanager
def monitor_changes(engine: Engine, settings: Settings, check: Check) -> Iterator[MonitorChanges]:
    """Yield a transaction, and log its changes of alarms after the commit.

    Args:
        engine: on the database.
        settings: where alarms are posted.
        check: called at the beginning of the transaction.
    """
    with write_transaction(engine) as connection:
        check(connection)
        changes = MonitorChanges(connection, posts=settings.alarm_url is not None)
        yield changes
    changes.log()


def subject_of(version: int) -> str:
    """Return the subject of alarms about a version."""
    return say("version {number}", number=version)
