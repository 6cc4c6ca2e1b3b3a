"""The outbox of alarms: messages that are to be posted to ZAP_ALARM_URL, and are kept until they are delivered.

A message is added in the transaction that changes its alarm. Before a process posts a message, it claims the message by
moving its next attempt into the future. So one process at a time posts a message, and if that process dies, another
attempt follows: a message arrives at least once.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, delete, exists, insert, select, update
from sqlalchemy.orm import aliased
from sqlmodel import col

from zap.db.engine import database_now, write_transaction
from zap.db.monitoring_tables import AlarmDelivery
from zap.monitoring.alarm_kinds import advice_for

# The pauses (seconds) after failed attempts, as Standard Webhooks suggests them. Then the message is given up.
PAUSES = (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
# How long a claim holds: longer than a post may take.
CLAIM_SECONDS = 60
_LONGEST_ERROR = 500
_TOLD = ("alarm_id", "kind", "subject", "since", "until", "message", "evidence")

_OPEN = col(AlarmDelivery.delivered_at).is_(None) & col(AlarmDelivery.given_up_at).is_(None)
Clock = Callable[[Connection], datetime]


class AlarmMessage(NamedTuple):
    """A claimed message. `attempts` counts the attempt that follows the claim."""

    delivery_id: int
    alarm_id: int
    message_id: str
    body: str
    attempts: int


def new_message_id() -> str:
    """Return a new `webhook-id`."""
    return f"msg_{uuid4().hex}"


def message_body(kind: str, moment: datetime, data: Mapping[str, Any]) -> str:
    """Return the JSON of a message, in the form of Standard Webhooks.

    Args:
        kind: the type of the message, such as `alarm.raised`.
        moment: when that happened (UTC).
        data: what happened.
    """
    return msgspec.json.encode({"type": kind, "timestamp": moment, "data": data}).decode()


def add_message(connection: Connection, kind: str, alarm: Mapping[str, Any]) -> None:
    """Add the message about a change of an alarm to the outbox, in the transaction of the change.

    Args:
        connection: the transaction.
        kind: `alarm.raised` or `alarm.resolved`.
        alarm: the columns of the alarm.
    """
    now = database_now(connection)
    told = {name: alarm[name] for name in _TOLD}
    body = message_body(kind, alarm["until"] or alarm["since"], {**told, "advice": advice_for(alarm["kind"])})
    row = {
        "alarm_id": alarm["alarm_id"],
        "message_id": new_message_id(),
        "body": body,
        "created_at": now,
        "attempts": 0,
        "next_attempt_at": now,
    }
    connection.execute(insert(AlarmDelivery), row)


def claim_message(engine: Engine, clock: Clock = database_now) -> AlarmMessage | None:
    """Claim the message that is due for the longest time; return None if none is due.

    The messages of one alarm keep their order: nobody should read that an alarm was raised after it was resolved.
    """
    with engine.connect() as connection:
        if connection.scalar(select(col(AlarmDelivery.delivery_id)).where(_is_due(clock(connection))).limit(1)) is None:
            # The usual case takes no lock.
            return None
    with write_transaction(engine) as connection:
        now = clock(connection)
        first = select(
            *(getattr(AlarmDelivery, name) for name in AlarmMessage._fields),
        ).where(_is_due(now))
        first = first.order_by(col(AlarmDelivery.next_attempt_at)).limit(1).with_for_update(skip_locked=True)
        row = connection.execute(first).one_or_none()
        if row is None:
            return None
        message = AlarmMessage(*row)._replace(attempts=row.attempts + 1)
        claim = {"attempts": message.attempts, "next_attempt_at": now + timedelta(seconds=CLAIM_SECONDS)}
        connection.execute(update(AlarmDelivery).where(_is(message)).values(claim))
    return message


def note_delivered(engine: Engine, message: AlarmMessage, clock: Clock = database_now) -> None:
    """Store that a message was delivered."""
    with write_transaction(engine) as connection:
        done = {"delivered_at": clock(connection), "last_error": None}
        connection.execute(update(AlarmDelivery).where(_is(message)).values(done))


def note_failed(
    engine: Engine, message: AlarmMessage, reason: str, *, final: bool = False, clock: Clock = database_now
) -> datetime | None:
    """Store that an attempt failed, and return when the next attempt follows; None if the message is given up.

    Args:
        engine: on the database.
        message: the message.
        reason: why the attempt failed.
        final: whether the receiver wants no further attempt.
        clock: returns the present time.
    """
    with write_transaction(engine) as connection:
        now = clock(connection)
        again = None
        if not final and message.attempts <= len(PAUSES):
            again = now + timedelta(seconds=PAUSES[message.attempts - 1])
        failed = {"last_error": reason[:_LONGEST_ERROR], "next_attempt_at": again or now}
        if again is None:
            failed["given_up_at"] = now
        connection.execute(update(AlarmDelivery).where(_is(message)).values(failed))
    return again


def remove_messages(connection: Connection, before: datetime) -> int:
    """Remove the messages that were delivered or given up before a moment (UTC), and return how many these are."""
    ended = (col(AlarmDelivery.delivered_at) < before) | (col(AlarmDelivery.given_up_at) < before)
    return connection.execute(delete(AlarmDelivery).where(ended)).rowcount


def _is(message: AlarmMessage) -> ColumnElement[bool]:
    return (col(AlarmDelivery.delivery_id) == message.delivery_id) & _OPEN


def _is_due(now: datetime) -> ColumnElement[bool]:
    earlier = aliased(AlarmDelivery)
    waits = exists().where(
        (col(earlier.alarm_id) == col(AlarmDelivery.alarm_id))
        & (col(earlier.delivery_id) < col(AlarmDelivery.delivery_id))
        & col(earlier.delivered_at).is_(None)
        & col(earlier.given_up_at).is_(None)
    )
    return _OPEN & (col(AlarmDelivery.next_attempt_at) <= now) & ~waits
