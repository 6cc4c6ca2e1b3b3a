"""The outbox: a message is claimed by one process at a time, in the order of its alarm, until it is delivered."""

from datetime import timedelta

import pytest
from receivers import Clock
from sqlalchemy import select

from zap.db.engine import write_transaction
from zap.db.monitoring.alarm_outbox import CLAIM_SECONDS, PAUSES, claim_message, note_delivered, note_failed
from zap.db.monitoring.alarms import raise_alarm, resolve_alarm
from zap.db.monitoring_tables import AlarmDelivery

DELIVERIES = AlarmDelivery.__table__


@pytest.fixture
def clock():
    return Clock()


def change(engine, *subjects, resolves=False):
    with write_transaction(engine) as connection:
        for subject in subjects:
            if resolves:
                resolve_alarm(connection, "harm", subject, posts=True)
            else:
                raise_alarm(connection, "harm", subject, "it is worse", None, posts=True)


def only_row(engine):
    with engine.connect() as connection:
        return connection.execute(select(DELIVERIES)).one()


def test_it_works(engine, clock):
    change(engine, "version 7")

    message = claim_message(engine, clock)
    assert (message.attempts, "alarm.raised" in message.body) == (1, True)
    # Nobody else posts it at the same time.
    assert claim_message(engine, clock) is None
    note_delivered(engine, message, clock)

    clock.wait(10**6)
    assert claim_message(engine, clock) is None
    row = only_row(engine)
    assert row.delivered_at is not None
    assert (row.attempts, row.given_up_at, row.last_error) == (1, None, None)


def test_a_message_whose_process_died_is_claimed_again(engine, clock):
    change(engine, "version 7")
    first = claim_message(engine, clock)

    clock.wait(CLAIM_SECONDS + 1)
    again = claim_message(engine, clock)

    assert (again.message_id, again.body, again.attempts) == (first.message_id, first.body, 2)


def test_the_pauses_grow_until_it_is_given_up(engine, clock):
    change(engine, "version 7")
    begun = clock.now
    for number, pause in enumerate(PAUSES, start=1):
        message = claim_message(engine, clock)
        assert message.attempts == number
        assert note_failed(engine, message, "no reply", clock=clock) == clock.now + timedelta(seconds=pause)
        clock.wait(pause - 1)
        assert claim_message(engine, clock) is None
        clock.wait(1)

    assert note_failed(engine, claim_message(engine, clock), "x" * 1000, clock=clock) is None
    assert timedelta(hours=75) < clock.now - begun < timedelta(hours=76)
    clock.wait(10**6)
    assert claim_message(engine, clock) is None
    row = only_row(engine)
    assert row.given_up_at is not None
    assert (row.attempts, row.last_error) == (len(PAUSES) + 1, "x" * 500)


def test_a_receiver_that_wants_no_more_gets_no_more(engine, clock):
    change(engine, "version 7")

    assert note_failed(engine, claim_message(engine, clock), "gone", final=True, clock=clock) is None
    assert only_row(engine).given_up_at is not None


def test_nobody_reads_that_an_alarm_was_raised_after_it_was_resolved(engine, clock):
    change(engine, "version 7", "version 8")
    change(engine, "version 7", resolves=True)

    first = claim_message(engine, clock)
    other = claim_message(engine, clock)
    assert "version 7" in first.body
    assert "version 8" in other.body
    # The end of the first alarm waits for its beginning.
    assert claim_message(engine, clock) is None
    note_failed(engine, first, "no reply", clock=clock)
    assert claim_message(engine, clock) is None
    clock.wait(PAUSES[0])
    note_delivered(engine, claim_message(engine, clock), clock)
    assert "alarm.resolved" in claim_message(engine, clock).body
