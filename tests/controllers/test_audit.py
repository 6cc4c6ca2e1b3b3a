"""GET /audit: who changed what, by key, over HTTP; and what a server writes down by itself."""

from datetime import UTC, datetime, timedelta

import pytest
from conftest import client_of
from pydantic import SecretStr
from receivers import SECRET
from sqlalchemy import func, select, text

from zap.actor import ACTOR, Actor
from zap.db import audit_list
from zap.db.audit import note
from zap.db.audit_chain import verify
from zap.db.audit_tables import AuditRow
from zap.db.engine import create_engine, write_transaction
from zap.db.triggers import drop_triggers

KEY = "a key of the tests"


def add(engine, *names):
    for number, name in enumerate(names):
        present = ACTOR.set(Actor(name, "203.0.113.9"))
        with write_transaction(engine) as connection:
            action = ("version.promote", "version.rollback", "versions.x")[number % 3]
            note(connection, action, f"version {number}", before={"production": None}, after={"production": number})
        ACTOR.reset(present)


def ids(client, **parameters):
    reply = client.get("/audit", params=parameters)
    assert reply.status_code == 200, reply.text
    return [row["audit_id"] for row in reply.json()["audit"]]


def test_it_works(untrained_client, monkeypatch):
    client, engine = untrained_client, untrained_client.app.state.engine
    assert client.get("/audit").json() == {"audit": [], "next_before": None, "head": {"count": 0, "hash": "0" * 64}}
    add(engine, "ann", "bob", "ann", "ann", "bob")

    page = client.get("/audit", params={"limit": 2}).json()
    assert [row["audit_id"] for row in page["audit"]] == [5, 4]
    assert page["next_before"] == 4
    assert page["head"] == {"count": 5, "hash": page["audit"][0]["hash"]}
    first = page["audit"][1]
    assert (first["who"], first["origin"], first["action"]) == ("ann", "203.0.113.9", "version.promote")
    assert (first["before"], first["after"], first["unreadable"]) == ({"production": None}, {"production": 3}, [])
    assert ids(client, before=4, limit=2) == [3, 2]
    assert ids(client, who="bob") == [5, 2]
    # The kind of a subject, but not another kind that begins alike.
    assert ids(client, action="version") == [5, 4, 2, 1]
    assert ids(client, action="version.rollback") == [5, 2]
    assert ids(client, subject="version 2") == [3]
    now = datetime.now(UTC)
    assert ids(client, **{"from": (now - timedelta(hours=1)).isoformat(), "to": (now + timedelta(hours=1)).isoformat()})
    assert ids(client, **{"from": (now + timedelta(hours=1)).isoformat()}) == []
    assert client.get("/audit", params={"from": "2026-03-02", "to": "2026-03-01"}).status_code == 400
    # A page that ends early says where to go on.
    monkeypatch.setattr(audit_list, "WINDOW", 2)
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(AuditRow.__table__)) == 5
    short = audit_list.list_changes(engine, audit_list.WantedChanges(subject="version 0"), 5, seconds=-1)
    assert (short.rows, short.before) == ([], 4)
    assert ids(client, subject="version 0") == [1]


def test_damaged_rows_are_named_and_cost_no_error(untrained_client):
    engine = untrained_client.app.state.engine
    add(engine, "ann", "bob", "ann")
    with engine.begin() as connection:
        drop_triggers(connection)
        for number, value in ((1, "{"), (2, "[1]"), (3, '{"a": "\\ud800", "n": 1e999}')):
            connection.execute(
                text("UPDATE audit SET before = :value, after = NULL WHERE audit_id = :number"),
                {"value": value, "number": number},
            )
        if engine.dialect.name == "sqlite":
            connection.execute(text("UPDATE audit SET happened_at = 'x', who = x'ff', subject = 5 WHERE audit_id = 2"))
        connection.execute(text("DELETE FROM audit_head"))

    reply = untrained_client.get("/audit").json()
    assert [row["before"] for row in reply["audit"]] == [None] * 3
    assert all("before" in row["unreadable"] for row in reply["audit"])
    page = untrained_client.get("/pages/audit")
    assert page.status_code == 200
    assert "Another program has changed what zap stored" in page.text
    # Changes go on.
    add(engine, "ann")
    assert verify(engine).broken == 1


def test_it_needs_the_key_of_all_scopes(trained_sqlite):
    with client_of(trained_sqlite.model_copy(update={"api_key": SecretStr(KEY)})) as client:
        assert client.get("/audit").status_code == 401
        assert client.get("/audit", headers={"X-API-Key": KEY}).status_code == 200
        assert "newest hash" not in client.get("/pages/audit").text
        assert "newest hash" in client.get("/pages/audit", headers={"X-API-Key": KEY}).text


def settings_rows(url):
    engine = create_engine(url)
    rows = audit_list.list_changes(engine, audit_list.WantedChanges(action="alarms.settings"), 10).rows
    engine.dispose()
    return [(row["who"], row["before"], row["after"]) for row in reversed(rows)]


def test_other_settings_of_alarms_are_written_down_without_their_secrets(trained):
    """Each start with equal settings, and each further process, writes nothing."""
    first = {"alarm_url": "https://alarms.example.com/hook/hidden", "alarm_secret": SecretStr(SECRET)}
    other = {**first, "alarm_url": "https://alarms.example.com/hook/other"}
    for changed in ({}, first, first, other, {}):
        settings = trained.model_copy(update={"follow": False, **changed})
        with client_of(settings):
            pass

    rows = settings_rows(trained.database_url)
    address = "https://alarms.example.com"
    assert [(who, before["address"], after["address"]) for who, before, after in rows] == [
        ("zap", None, address),
        ("zap", address, address),
        ("zap", address, None),
    ]
    assert rows[0][2]["fingerprint"] != rows[1][2]["fingerprint"]
    assert "hidden" not in str(rows)
    assert SECRET not in str(rows)


@pytest.mark.usefixtures("new_processes")
def test_what_a_training_process_changes_is_done_by_who_started_it(trained_sqlite):
    keyed = trained_sqlite.model_copy(update={"follow": False, "api_key": SecretStr(KEY)})
    with client_of(keyed) as client:
        client.headers["X-API-Key"] = KEY
        assert client.post("/train-model", json={}).status_code == 200
        rows = client.get("/audit", params={"limit": 2}).json()["audit"]
    assert [(row["action"], row["who"], row["origin"]) for row in rows[:1]] == [
        ("training.finish", "ZAP_API_KEY", "testclient"),
    ]
    assert [row["who"] for row in rows] == ["ZAP_API_KEY"] * 2
