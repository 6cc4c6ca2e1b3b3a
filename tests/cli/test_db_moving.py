"""zap db copy, backup, restore and check, as people use them beside servers."""

import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import httpx

from zap.settings import Settings

URL = "--database-url"


def test_a_service_moves_to_postgresql_and_loses_no_answer(  # noqa: PLR0917
    serve, zap_command, trained_sqlite, empty_postgresql_url, good_request, tmp_path
):
    """Copy while a server answers, stop it, finish, and let a server on PostgreSQL go on with the next number."""
    server, target = serve(trained_sqlite).wait(), Settings(database_url=empty_postgresql_url)
    to = ("db", "copy", "--to", empty_postgresql_url)
    answers, over = [], threading.Event()

    def ask():
        with httpx.Client(base_url=server.url) as client:
            while not over.is_set():
                answers.append(client.post("/predict", json=good_request).raise_for_status().json())
                over.wait(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        first = zap_command(*to, "--json", settings=trained_sqlite)
        beside = zap_command("db", "backup", tmp_path / "backup.zap", "--json", settings=trained_sqlite)
        checked = zap_command("db", "check", settings=trained_sqlite)
    finally:
        over.set()
        asking.join()
    too_soon = zap_command(*to, "--finish", "--json", settings=trained_sqlite)
    restored = zap_command("db", "restore", tmp_path / "backup.zap", "--replace", settings=trained_sqlite)
    not_yet = zap_command("serve", settings=target)
    server.stop()
    last = zap_command(*to, "--finish", "--json", settings=trained_sqlite)
    moved = serve(trained_sqlite.model_copy(update={"database_url": empty_postgresql_url})).wait()
    after = httpx.post(f"{moved.url}/predict", json=good_request).raise_for_status().json()
    found = httpx.get(f"{moved.url}/predictions", params={"limit": 1000}).raise_for_status().json()

    assert (first.returncode, beside.returncode, checked.returncode, last.returncode) == (0, 0, 0, 0), last.stderr
    assert json.loads(first.stdout)["finished"] is False
    assert checked.stdout.endswith("nothing is broken\n")
    # Neither command takes a database away from a server, and no server takes an unfinished copy.
    for refused in (too_soon, restored):
        assert refused.returncode == 40
        assert "another program, such as a server, has the file open" in refused.stderr
    assert json.loads(too_soon.stdout)["type"] == "urn:zap:problem:database-in-use"
    assert not_yet.returncode != 0
    assert "is an unfinished copy of" in not_yet.stderr
    # Every answer is in the copy, and the next one has the next number.
    numbers = [answer["prediction_id"] for answer in answers]
    assert len(numbers) > 5
    assert set(numbers) <= {row["prediction_id"] for row in found["predictions"]}
    assert after["prediction_id"] > max(numbers)
    assert after["model_version"] == answers[0]["model_version"]
    assert {one["table"]: one["removed"] for one in json.loads(last.stdout)["tables"]}["predictions"] == 0


def test_a_copy_onto_a_full_disk_or_a_folder_ends_in_a_sentence(zap_command, tmp_path):
    old, new = tmp_path / "old.sqlite", tmp_path / "new.sqlite"
    zap_command("db", "upgrade", URL, f"sqlite:///{old}")
    with closing(sqlite3.connect(old)) as database, database:
        rows = ((f"driver {number}", "x" * 400) for number in range(9_000))
        database.executemany('INSERT INTO "Users" (user_id, user_type) VALUES (?, ?)', rows)
    limited = (
        "import resource, sys; from zap.cli import main; resource.setrlimit(resource.RLIMIT_FSIZE, (2**21, 2**21));"
        " sys.exit(main())"
    )
    command = (sys.executable, "-c", limited, "db", "copy", "--to", f"sqlite:///{new}", URL, f"sqlite:///{old}")

    full = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    folder = zap_command("db", "copy", "--to", f"sqlite:///{tmp_path}", URL, f"sqlite:///{old}")

    assert (full.returncode, folder.returncode) == (15, 15)
    for ended in (full, folder):
        assert ended.stderr.splitlines()[-1].startswith("Error: The database cannot be used: sqlite:///")
        assert "Traceback" not in ended.stderr
    # With room on the disk, the same command goes on.
    assert zap_command("db", "copy", "--to", f"sqlite:///{new}", "--finish", URL, f"sqlite:///{old}").returncode == 0


def test_tables_are_shown_and_endings_have_their_exit_codes(zap_command, tmp_path):
    old, new, backup = (tmp_path / name for name in ("old.sqlite", "new.sqlite", "backup.zap"))
    zap_command("db", "upgrade", URL, f"sqlite:///{old}")

    copied = zap_command("db", "copy", "--to", f"sqlite:///{new}", "--finish", URL, f"sqlite:///{old}")
    again = zap_command("db", "copy", "--to", f"sqlite:///{new}", URL, f"sqlite:///{old}")
    made = zap_command("db", "backup", backup, URL, f"sqlite:///{old}")
    there = zap_command("db", "backup", backup, URL, f"sqlite:///{old}")
    with closing(sqlite3.connect(old)) as database, database:
        database.execute("INSERT INTO Users VALUES ('ann', 'x' || char(0))")
    broken = zap_command("db", "check", URL, f"sqlite:///{old}")
    as_json = zap_command("db", "check", "--json", URL, f"sqlite:///{old}")
    for file in (old, new, backup):
        with closing(sqlite3.connect(file)) as database:
            # Incremental: the file returns free pages.
            assert database.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    backup.write_bytes(b"letter" * 1000)
    damaged = zap_command("db", "restore", backup, URL, f"sqlite:///{tmp_path / 'other.sqlite'}", "--json")

    assert "hash of both" in copied.stdout
    assert f"Start the servers with ZAP_DATABASE_URL=sqlite:///{new}" in copied.stdout
    # Also the audit is not overwritten, which says that this is a copy.
    assert (again.returncode, made.returncode) == (41, 0)
    assert "such as in audit" in again.stderr
    assert "2 rows of" in made.stdout
    assert (there.returncode, "--force replaces it" in there.stderr) == (2, True)
    assert broken.returncode == as_json.returncode == 42
    finding = "Users: user_type has the character U+0000: user_id ann has 'x\\x00'"
    assert f"broken: {finding}\n" in broken.stdout
    assert json.loads(as_json.stdout)["findings"] == [finding]
    assert (damaged.returncode, json.loads(damaged.stdout)["type"]) == (43, "urn:zap:problem:damaged-backup")
    assert "Traceback" not in damaged.stderr
