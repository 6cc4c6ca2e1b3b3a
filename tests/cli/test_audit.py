"""The commands `audit list` and `audit verify`."""

import json

from sqlalchemy import text

from zap.actor import user_of_system
from zap.db.audit import note
from zap.db.audit_chain import NO_HASH
from zap.db.engine import write_transaction
from zap.db.triggers import drop_triggers


def add(engine, *changes):
    with write_transaction(engine) as connection:
        for action, subject in changes:
            note(connection, action, subject, before={"old": 1}, after={"new": "ü [bold]"})


def test_it_lists_and_verifies_and_names_the_first_broken_row(engine, database_url, zap_command):
    where = ("--database-url", database_url)
    empty = zap_command("audit", "list", *where)
    assert (empty.returncode, empty.stdout) == (0, "no changes\n")
    assert f"newest hash: {NO_HASH}" in zap_command("audit", "verify", *where).stdout
    add(engine, ("version.promote", "version 1"), ("version.rollback", "version 2"), ("key.create", "key 1"))

    listed = zap_command("audit", "list", "--action", "version", "--limit", "1", *where, "--json")
    page = json.loads(listed.stdout)
    assert [(row["audit_id"], row["action"]) for row in page["audit"]] == [(2, "version.rollback")]
    assert (page["next_before"], page["head"]["count"]) == (2, 3)
    shown = zap_command("audit", "list", "--subject", "key 1", "--who", "zap", *where).stdout
    assert "key.create" in shown
    assert "new ü [bold]" in shown.replace("\n", " ")
    assert zap_command("audit", "list", "--from", "2031-01-01", *where).stdout == "no changes\n"
    assert zap_command("audit", "list", "--from", "2031-01-01", "--to", "2030-01-01", *where).returncode == 2

    whole = json.loads(zap_command("audit", "verify", *where, "--json").stdout)
    assert whole == {"whole": True, "rows": 3, "hash": page["head"]["hash"], "head_at": None}
    known = page["audit"][0]["hash"]
    found = zap_command("audit", "verify", "--head", known.upper(), *where)
    assert "is the hash of row 2" in found.stdout
    unknown = zap_command("audit", "verify", "--head", "f" * 64, *where)
    assert (unknown.returncode, "no row has the hash" in unknown.stderr) == (44, True)

    with engine.begin() as connection:
        drop_triggers(connection)
        connection.execute(text("UPDATE audit SET who = 'nobody' WHERE audit_id = 2"))
    broken = zap_command("audit", "verify", *where, "--json")
    assert broken.returncode == 44
    problem = json.loads(broken.stdout)
    assert (problem["type"], problem["row"], problem["rows"]) == ("urn:zap:problem:audit-broken", 2, 1)
    assert "row 2 was changed" in problem["detail"]
    assert "Traceback" not in broken.stderr
    # The check of the whole database finds it too, and names the missing triggers.
    checked = zap_command("db", "check", *where)
    assert checked.returncode == 42
    assert "broken: audit: row 2 was changed" in checked.stdout


def test_a_command_is_done_by_the_user_of_the_system(database_url, zap_command, tmp_path):
    where = ("--database-url", database_url)
    zap_command("sample-history", "--drivers", "3", "--months", "1", *where)
    assert zap_command("db", "backup", tmp_path / "backup.zap", *where).returncode == 0

    rows = json.loads(zap_command("audit", "list", *where, "--json").stdout)["audit"]

    assert [(row["action"], row["subject"]) for row in rows] == [
        ("database.backup", "file backup.zap"),
        ("history.import", "sample history"),
    ]
    assert {(row["who"], row["origin"]) for row in rows} == {user_of_system()}
