"""Alarms: at most one alarm of a kind and subject stands at a time, and each change is reported once."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col

from zap.db.audit import note
from zap.db.engine import database_now, write_transaction
from zap.db.monitoring.alarm_outbox import add_message
from zap.db.monitoring_tables import Alarm
from zap.db.stored_json import readable
from zap.errors import NotFound

log = structlog.get_logger(__name__)

_ALARMS = Alarm.__table__  # type: ignore[attr-defined]
_STANDS = col(Alarm.until).is_(None)


class AlarmChange(NamedTuple):
    """An alarm that was raised or resolved in a transaction. After the commit, its maker calls `log`."""

    alarm_id: int
    kind: str
    subject: str
    message: str
    raised: bool

    def log(self) -> None:
        """Write the one line about this change to the log."""
        said = {"alarm_id": self.alarm_id, "kind": self.kind, "subject": self.subject, "reason": self.message}
        if self.raised:
            log.warning("an alarm was raised", **said)
        else:
            log.info("an alarm was resolved", **said)


def raise_alarm(  # noqa: PLR0913 - each is a column of the alarm
    connection: Connection,
    kind: str,
    subject: str,
    message: str,
    evidence: Mapping[str, Any] | None,
    *,
    posts: bool,
    now: datetime | None = None,
) -> AlarmChange | None:
    """Raise an alarm, unless it stands already. The evidence of a standing alarm is replaced, without a message.

    Args:
        connection: a transaction that writes.
        kind: a kind of `zap.monitoring.alarm_kinds`.
        subject: what it is about, such as `version 7`; `` if the kind has only one subject.
        message: the sentence that people read.
        evidence: the figures, as JSON values.
        posts: whether ZAP_ALARM_URL is set, so that the change is posted.
        now: the moment (UTC); by default the present time of the database.

    Returns:
        The change, to log after the commit; None if the alarm stands already.
    """
    figures = None if evidence is None else dict(evidence)
    this = (col(Alarm.kind) == kind) & (col(Alarm.subject) == subject) & _STANDS
    standing = connection.execute(select(col(Alarm.alarm_id), col(Alarm.evidence)).where(this)).one_or_none()
    if standing is not None:
        if standing.evidence != figures:
            same = col(Alarm.alarm_id) == standing.alarm_id
            connection.execute(update(Alarm).where(same).values(evidence=figures))
        return None
    row = {
        "kind": kind,
        "subject": subject,
        "since": now or database_now(connection),
        "message": message,
        "evidence": figures,
    }
    # Another process may raise the alarm at this moment; then the unique index keeps this row out.
    adding = sqlite.insert(_ALARMS) if connection.dialect.name == "sqlite" else postgresql.insert(_ALARMS)
    once = adding.on_conflict_do_nothing(index_elements=[_ALARMS.c.kind, _ALARMS.c.subject], index_where=_STANDS)
    alarm_id = connection.scalar(once.values(row).returning(_ALARMS.c.alarm_id))
    if alarm_id is None:
        return None
    if posts:
        add_message(connection, "alarm.raised", {"alarm_id": alarm_id, "until": None, **row})
    return AlarmChange(alarm_id, kind, subject, message, raised=True)


def resolve_alarm(
    connection: Connection, kind: str, subject: str, *, posts: bool, now: datetime | None = None
) -> AlarmChange | None:
    """Resolve the standing alarm of a kind and subject.

    Args:
        connection: a transaction that writes.
        kind: the kind of the alarm.
        subject: its subject.
        posts: whether ZAP_ALARM_URL is set, so that the change is posted.
        now: the moment (UTC); by default the present time of the database.

    Returns:
        The change, to log after the commit; None if no such alarm stands.
    """
    this = (col(Alarm.kind) == kind) & (col(Alarm.subject) == subject) & _STANDS
    resolving = update(_ALARMS).where(this).values(until=now or database_now(connection)).returning(*_ALARMS.columns)
    row = connection.execute(resolving).mappings().one_or_none()
    if row is None:
        return None
    if posts:
        add_message(connection, "alarm.resolved", dict(row))
    return AlarmChange(row["alarm_id"], kind, subject, row["message"], raised=False)


def acknowledge_alarm(engine: Engine, alarm_id: int, who: str) -> dict[str, Any]:
    """Store who has seen an alarm, and return the alarm. A later call replaces the name of an earlier one.

    Raises:
        NotFound: there is no such alarm.
    """
    this = update(_ALARMS).where(_ALARMS.c.alarm_id == alarm_id).returning(*_ALARMS.columns)
    with write_transaction(engine) as connection:
        seen = this.values(acknowledged_by=who, acknowledged_at=database_now(connection))
        before = connection.scalar(select(_ALARMS.c.acknowledged_by).where(_ALARMS.c.alarm_id == alarm_id))
        row = connection.execute(seen).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no alarm {alarm_id}")
        names = [{"acknowledged_by": name} for name in (before, who)]
        note(connection, "alarm.acknowledge", f"alarm {alarm_id}", before=names[0], after=names[1])
    return readable(row)


def list_alarms(engine: Engine, limit: int, before: int | None = None, *, standing: bool) -> list[dict[str, Any]]:
    """Return the newest alarms, newest first.

    Args:
        engine: on the database.
        limit: the most alarms to return.
        before: return alarms with a smaller number.
        standing: whether to leave out the alarms that were resolved.
    """
    alarms = select(*_ALARMS.columns).order_by(_ALARMS.c.alarm_id.desc()).limit(limit)
    if before is not None:
        alarms = alarms.where(_ALARMS.c.alarm_id < before)
    if standing:
        alarms = alarms.where(_STANDS)
    with engine.connect() as connection:
        return [readable(row) for row in connection.execute(alarms).mappings()]


def standing_alarms(engine: Engine) -> dict[tuple[str, str], dict[str, Any] | None]:
    """Return the evidence of each standing alarm by its kind and subject."""
    standing = select(col(Alarm.kind), col(Alarm.subject), col(Alarm.evidence)).where(_STANDS)
    with engine.connect() as connection:
        return {(row.kind, row.subject): row.evidence for row in connection.execute(standing)}
