"""/alarms: the standing alarms, the resolved ones, and who has seen one."""

import shutil
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from conftest import client_of

from zap.controllers.alarm_replies import AlarmRecord, Alarms
from zap.db.engine import write_transaction
from zap.db.monitoring.alarms import raise_alarm, resolve_alarm
from zap.monitoring.alarm_kinds import KINDS
from zap.settings import Settings


def raised(client, subject="version 7", kind="harm"):
    with write_transaction(client.app.state.engine) as connection:
        change = raise_alarm(connection, kind, subject, "it is worse", {"drivers": 41}, posts=False)
    return change.alarm_id


def resolved(client, subject="version 7"):
    with write_transaction(client.app.state.engine) as connection:
        resolve_alarm(connection, "harm", subject, posts=False)


def listed(client, **parameters):
    reply = client.get("/alarms", params=parameters)
    assert reply.status_code == 200
    return msgspec.json.decode(reply.content, type=Alarms).alarms


def test_it_works(untrained_client):
    """Raise an alarm, acknowledge it, and resolve it."""
    client = untrained_client
    assert listed(client) == []
    number = raised(client)

    (alarm,) = listed(client)
    assert (alarm.alarm_id, alarm.kind, alarm.subject, alarm.until) == (number, "harm", "version 7", None)
    assert (alarm.message, alarm.evidence, alarm.advice) == ("it is worse", {"drivers": 41}, KINDS["harm"].advice)
    assert datetime.now(UTC) - alarm.since < timedelta(minutes=1)

    reply = client.post(f"/alarms/{number}/acknowledge", json={"who": "ann"})
    assert reply.status_code == 200
    seen = msgspec.json.decode(reply.content, type=AlarmRecord)
    assert (seen.acknowledged_by, seen.until) == ("ann", None)
    assert listed(client) == [seen]

    resolved(client)
    assert listed(client) == []
    (end,) = listed(client, all=True)
    assert end.since <= end.until
    assert end.acknowledged_by == "ann"
    assert client.post(f"/alarms/{number}/acknowledge", json={"who": "bob"}).json()["acknowledged_by"] == "bob"


def test_a_wrong_parameter_is_named_as_in_the_query(untrained_client):
    reply = untrained_client.get("/alarms", params={"all": "maybe"})

    assert reply.status_code == 400
    assert [error["pointer"] for error in reply.json()["errors"]] == ["#/all"]


@pytest.fixture(scope="module")
def client(_sqlite_at_head, tmp_path_factory):
    """Yield a client of one app for the next tests, with three alarms; the second alarm was resolved."""
    folder = tmp_path_factory.mktemp("alarms")
    file = shutil.copy(_sqlite_at_head, folder / "zap.sqlite")
    with client_of(Settings(database_url=f"sqlite:///{file}", models_dir=folder)) as client:
        for number in (1, 2, 3):
            raised(client, f"version {number}")
        resolved(client, "version 2")
        yield client


def test_alarms_come_page_by_page(client):
    page = listed(client, all="true", limit=2)
    rest = listed(client, all="true", before=page[-1].alarm_id)

    assert [one.subject for one in page + rest] == ["version 3", "version 2", "version 1"]
    assert [one.subject for one in listed(client, limit=5)] == ["version 3", "version 1"]
    assert [one.subject for one in listed(client, all="false")] == ["version 3", "version 1"]


@pytest.mark.parametrize("parameters", [{"all": "maybe"}, {"limit": 0}, {"limit": 1001}, {"before": "x"}])
def test_a_wrong_parameter_is_refused(client, parameters):
    reply = client.get("/alarms", params=parameters)

    assert reply.status_code == 400
    assert reply.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("number", [99, "1_0", 2**63])
def test_an_alarm_that_is_not_there_is_not_found(client, number):
    reply = client.post(f"/alarms/{number}/acknowledge", json={"who": "ann"})

    assert reply.status_code == 404
    assert reply.json()["detail"] == f"there is no alarm {number}"


@pytest.mark.parametrize(
    ("body", "content_type", "status", "said"),
    [
        (b"", "application/json", 422, "is required: who has seen the alarm"),
        (b"{}", "application/json", 422, "is required: who has seen the alarm"),
        (b'{"who": ""}', "application/json", 422, "is empty; write a name"),
        (b'{"who": " "}', "application/json", 422, "is empty; write a name"),
        (b'{"who": 1}', "application/json", 422, "must be a string, not a number"),
        (b'{"who": null}', "application/json", 422, "must be a string, not null"),
        (b'{"who": "a\\u0000"}', "application/json", 422, "holds a control character"),
        (b'{"who": "%s"}' % (b"x" * 501), "application/json", 422, "has 501 characters"),
        (b'{"who": "ann", "why": "x"}', "application/json", 422, ""),
        (b"[]", "application/json", 422, "send one JSON object"),
        (b"{", "application/json", 400, ""),
        (b"who=ann", "application/x-www-form-urlencoded", 415, ""),
        (b" " * 70_000, "application/json", 413, ""),
    ],
)
def test_a_body_is_read_strictly(client, body, content_type, status, said):
    reply = client.post("/alarms/1/acknowledge", content=body, headers={"Content-Type": content_type})

    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert said in reply.text
    assert listed(client)[-1].acknowledged_by is None


def test_an_alarm_of_a_newer_zap_is_shown_without_advice(client):
    number = raised(client, "x", kind="of_a_newer_zap")

    alarm = listed(client)[0]
    assert (alarm.alarm_id, alarm.advice) == (number, "")
