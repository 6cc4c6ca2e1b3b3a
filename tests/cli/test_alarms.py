"""zap alarms: the table and its exit code, who has seen an alarm, and a test message to a real receiver."""

import json
import os
from datetime import datetime, timedelta

import pytest
from receivers import SECRET, Receiver

from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.alarms import raise_alarm, resolve_alarm
from zap.monitoring.alarm_kinds import KINDS
from zap.settings import Settings


@pytest.fixture
def settings(database_url, tmp_path):
    return Settings(database_url=database_url, models_dir=tmp_path / "models")


def change(settings, subject, *, resolves=False):
    engine = create_engine(settings.database_url)
    with write_transaction(engine) as connection:
        if resolves:
            resolve_alarm(connection, "harm", subject, posts=False)
        else:
            raise_alarm(connection, "harm", subject, "it is [red]worse", {"drivers": 41}, posts=False)
    engine.dispose()


def test_it_works(zap_command, settings, monkeypatch):
    """Ask without an alarm, with one, and after its end."""
    monkeypatch.setenv("COLUMNS", "200")
    quiet = zap_command("alarms", settings=settings)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "no alarms\n", "")

    change(settings, "version 7")
    stands = zap_command("alarms", settings=settings)
    assert stands.returncode == 30
    for shown in ("harm: version 7", "it is [red]worse", "stands", f"harm: {KINDS['harm'].advice}"):
        assert shown in stands.stdout
    assert stands.stderr == "Error: An alarm stands: 1 alarm stands\n"

    seen = zap_command("alarms", "acknowledge", 1, "--who", "ann", settings=settings)
    assert (seen.returncode, seen.stdout) == (0, "ann has seen alarm 1\n")
    assert "ann" in zap_command("alarms", settings=settings).stdout

    change(settings, "version 7", resolves=True)
    assert zap_command("alarms", settings=settings).returncode == 0
    every = zap_command("alarms", "--all", settings=settings)
    assert (every.returncode, "harm: version 7" in every.stdout, "stands" in every.stdout) == (0, True, False)


def test_with_json_standard_output_is_one_document(zap_command, settings):
    change(settings, "version 7")
    change(settings, "version 7", resolves=True)
    change(settings, "version 8")

    stands, listed = (zap_command("alarms", *rest, "--json", settings=settings) for rest in ((), ("list", "--all")))

    assert (stands.returncode, listed.returncode) == (30, 30)
    (alarm,) = json.loads(stands.stdout)["alarms"]
    assert alarm["subject"] == "version 8"
    assert alarm["evidence"] == {"drivers": 41}
    assert alarm["advice"] == KINDS["harm"].advice
    assert datetime.fromisoformat(alarm["since"]).utcoffset() == timedelta(0)
    assert [one["until"] is None for one in json.loads(listed.stdout)["alarms"]] == [True, False]
    limited = zap_command("alarms", "--all", "--limit", 1, "--json", settings=settings)
    assert len(json.loads(limited.stdout)["alarms"]) == 1


def test_who_has_seen_it_is_read_strictly(zap_command, settings):
    change(settings, "version 7")
    unknown = zap_command("alarms", "acknowledge", 9, "--who", "ann", "--json", settings=settings)
    assert (unknown.returncode, json.loads(unknown.stdout)["detail"]) == (20, "there is no alarm 9")
    assert zap_command("alarms", "acknowledge", 1, settings=settings).returncode == 2
    empty = zap_command("alarms", "acknowledge", 1, "--who", "", settings=settings)
    assert empty.returncode == 2
    assert "is empty; write a name" in empty.stderr
    assert json.loads(zap_command("alarms", "--json", settings=settings).stdout)["alarms"][0]["acknowledged_by"] is None


@pytest.fixture
def receiver(monkeypatch):
    receiver = Receiver()
    monkeypatch.setitem(os.environ, "ZAP_ALARM_URL", receiver.url)
    monkeypatch.setitem(os.environ, "ZAP_ALARM_SECRET", SECRET)
    yield receiver
    receiver.close()


def test_a_test_message_is_posted_and_the_reply_is_shown(zap_command, receiver):
    done = zap_command("alarms", "test")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"http://127.0.0.1:{receiver.port} accepted the message: 204, after ")
    as_json = json.loads(zap_command("alarms", "test", "--json").stdout)
    assert (as_json["status"], as_json["http_status"]) == ("success", 204)

    assert [one["type"] for one in receiver.got] == ["alarm.test"] * 2
    assert receiver.got[0]["data"] == {"message": "This is a test: nothing is wrong."}
    assert receiver.got[0]["id"] != receiver.got[1]["id"]


def test_a_receiver_that_does_not_accept_the_message_is_told(zap_command, receiver):
    receiver.answers = [403, 301]
    refused = zap_command("alarms", "test", "--json")
    assert refused.returncode == 32
    assert json.loads(refused.stdout)["type"] == "urn:zap:problem:alarm-not-delivered"
    assert f"the receiver answered 403 (http://127.0.0.1:{receiver.port})" in refused.stderr
    assert "team=1" not in refused.stderr
    assert "zap follows no redirects" in zap_command("alarms", "test").stderr


def test_without_a_receiver_the_variable_is_named(zap_command):
    done = zap_command("alarms", "test")

    assert done.returncode == 2
    assert "ZAP_ALARM_URL is not set" in done.stderr
