"""Alarms: one stands at a time, each change is told once, also if several processes raise and resolve at once."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from zap.db.engine import write_transaction
from zap.db.monitoring.alarms import (
    acknowledge_alarm,
    list_alarms,
    raise_alarm,
    resolve_alarm,
    standing_alarms,
)
from zap.db.monitoring_tables import Alarm, AlarmDelivery
from zap.errors import NotFound
from zap.monitoring.alarm_kinds import KINDS

MESSAGE = "The version is worse than its test promised."


def raised(engine, subject="version 7", evidence=None, *, posts=True, now=None):
    with write_transaction(engine) as connection:
        return raise_alarm(connection, "harm", subject, MESSAGE, evidence, posts=posts, now=now)


def resolved(engine, subject="version 7", *, posts=True, now=None):
    with write_transaction(engine) as connection:
        return resolve_alarm(connection, "harm", subject, posts=posts, now=now)


def rows(engine, table):
    with engine.connect() as connection:
        key = next(iter(table.__table__.primary_key))
        return [dict(row) for row in connection.execute(select(table.__table__).order_by(key)).mappings()]


def test_it_works(engine):
    """Raise an alarm, raise it again, acknowledge it, and resolve it twice."""
    change = raised(engine, evidence={"drivers": 41})
    assert raised(engine, evidence={"drivers": 42}) is None
    (standing,) = list_alarms(engine, 10, standing=True)
    assert (standing["kind"], standing["subject"], standing["message"]) == ("harm", "version 7", MESSAGE)
    # The evidence is the newest, and nobody is told about it.
    assert standing_alarms(engine) == {("harm", "version 7"): {"drivers": 42}}
    assert len(rows(engine, AlarmDelivery)) == 1

    seen = acknowledge_alarm(engine, change.alarm_id, "ann")
    assert (seen["acknowledged_by"], seen["until"]) == ("ann", None)
    assert datetime.now(UTC) - seen["acknowledged_at"] < timedelta(minutes=1)

    end = resolved(engine)
    assert (end.alarm_id, end.raised, end.message) == (change.alarm_id, False, MESSAGE)
    assert resolved(engine) is None
    assert standing_alarms(engine) == {}
    assert list_alarms(engine, 10, standing=True) == []
    (whole,) = list_alarms(engine, 10, standing=False)
    assert whole["since"] <= whole["until"]
    assert whole["acknowledged_by"] == "ann"


def test_each_change_has_a_message_with_all_that_a_receiver_needs(engine):
    raised(engine, evidence={"drivers": 41})
    resolved(engine)

    first, last = rows(engine, AlarmDelivery)
    told = [json.loads(one["body"]) for one in (first, last)]
    assert [one["type"] for one in told] == ["alarm.raised", "alarm.resolved"]
    for one in told:
        assert one["data"] | {"until": None} == told[0]["data"]
        assert datetime.fromisoformat(one["timestamp"]).utcoffset() == timedelta(0)
    data = told[0]["data"]
    assert data.keys() == {"alarm_id", "kind", "subject", "since", "until", "message", "evidence", "advice"}
    assert (data["evidence"], data["advice"]) == ({"drivers": 41}, KINDS["harm"].advice)
    assert told[1]["timestamp"] == told[1]["data"]["until"]
    assert first["message_id"] != last["message_id"]
    assert (first["attempts"], first["delivered_at"], first["alarm_id"]) == (0, None, told[0]["data"]["alarm_id"])


def test_without_a_receiver_nothing_is_put_into_the_outbox(engine):
    assert raised(engine, posts=False)
    assert resolved(engine, posts=False)

    assert rows(engine, AlarmDelivery) == []
    assert len(rows(engine, Alarm)) == 1


def test_an_alarm_that_comes_back_is_a_new_one(engine):
    first, again = raised(engine), (resolved(engine), raised(engine))[1]
    other = raised(engine, "version 8")

    assert len({first.alarm_id, again.alarm_id, other.alarm_id}) == 3
    assert set(standing_alarms(engine)) == {("harm", "version 7"), ("harm", "version 8")}


def test_an_alarm_that_is_rolled_back_is_told_to_nobody(engine):
    with pytest.raises(RuntimeError), write_transaction(engine) as connection:  # noqa: PT012
        assert raise_alarm(connection, "harm", "version 7", MESSAGE, None, posts=True)
        raise RuntimeError

    assert (rows(engine, Alarm), rows(engine, AlarmDelivery)) == ([], [])


def test_a_replay_has_the_times_of_its_own_clock(engine):
    then = datetime(2018, 3, 1, 12, tzinfo=UTC)
    raised(engine, now=then)
    resolved(engine, now=then + timedelta(hours=1))

    (alarm,) = rows(engine, Alarm)
    assert (alarm["since"], alarm["until"]) == (then, then + timedelta(hours=1))
    # Messages are due on the real clock.
    assert all(datetime.now(UTC) - one["next_attempt_at"] < timedelta(minutes=1) for one in rows(engine, AlarmDelivery))


def test_a_change_is_one_line_of_the_log(sqlite_engine):
    change = raised(sqlite_engine)
    with capture_logs() as lines:
        change.log()
        resolved(sqlite_engine).log()

    said = {"alarm_id": 1, "kind": "harm", "subject": "version 7", "reason": MESSAGE}
    assert lines == [
        {"event": "an alarm was raised", "log_level": "warning", **said},
        {"event": "an alarm was resolved", "log_level": "info", **said},
    ]


def test_only_an_alarm_that_is_there_can_be_acknowledged(engine):
    with pytest.raises(NotFound, match="there is no alarm 7"):
        acknowledge_alarm(engine, 7, "ann")


def test_alarms_come_page_by_page(engine):
    numbers = [raised(engine, f"version {number}").alarm_id for number in range(5)]
    resolved(engine, "version 3")

    page = list_alarms(engine, 2, standing=False)
    rest = list_alarms(engine, 9, before=page[-1]["alarm_id"], standing=False)
    assert [one["alarm_id"] for one in page + rest] == numbers[::-1]
    assert [one["subject"] for one in list_alarms(engine, 2, standing=True)] == ["version 4", "version 2"]


# Raise and resolve as fast as possible, and print which changes were made.
BUSY = """
import sys
from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.alarms import raise_alarm, resolve_alarm

engine = create_engine(sys.argv[1])
engine.connect().close()
print("ready", flush=True)
sys.stdin.readline()
changes = []
for number in range(40):
    with write_transaction(engine) as connection:
        if number % 2:
            changes.append(resolve_alarm(connection, "harm", "", posts=True))
        else:
            changes.append(raise_alarm(connection, "harm", "", "it is worse", {"number": number}, posts=True))
print(*("raised" if change.raised else "resolved" for change in changes if change))
engine.dispose()
"""


def test_two_processes_at_once_raise_and_resolve_each_alarm_once(engine, database_url):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([sys.executable, "-c", BUSY, database_url], **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    made = [change for process in both for change in process.communicate(timeout=60)[0].split()]

    assert [process.returncode for process in both] == [0, 0]
    alarms, told = rows(engine, Alarm), [json.loads(one["body"])["type"] for one in rows(engine, AlarmDelivery)]
    assert len(alarms) == made.count("raised") > 5
    assert sum(one["until"] is not None for one in alarms) == made.count("resolved") >= len(alarms) - 1
    # Each alarm was raised after the end of the one before.
    assert told == (["alarm.raised", "alarm.resolved"] * len(alarms))[: len(told)]
    assert len(told) == len(made)
