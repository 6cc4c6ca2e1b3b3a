"""The commands `zap keys`, and what they leave in the database."""

import json
import re
from pathlib import Path

import pytest

from zap.db.engine import create_engine
from zap.formats.api_key import is_whole
from zap.server.keys import Keys
from zap.settings import Settings


@pytest.fixture
def settings(database_url, tmp_path):
    return Settings(database_url=database_url, models_dir=tmp_path / "models")


@pytest.fixture
def run(zap_command, settings):
    """Return a function that runs `zap keys` and returns what it prints; as JSON if asked for."""

    def run(*arguments, exit_code=0):
        done = zap_command("keys", *arguments, settings=settings)
        assert done.returncode == exit_code, done.stderr
        if "--json" in arguments:
            return json.loads(done.stdout)
        return done.stdout + done.stderr

    return run


def found(settings, key):
    engine = create_engine(settings.database_url)
    keys = Keys(None)
    keys.look(engine)
    engine.dispose()
    return keys.find(key.encode())


def test_the_whole_life_of_a_key(run, settings, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    said = run("create", "backend", "--scope", "predict", "--scope", "report", "--expires", "90d")
    key = re.search(r"^zap_\w+$", said, re.MULTILINE)[0]
    assert is_whole(key)
    assert "shows it only once" in said
    assert found(settings, key).scopes == {"predict", "report"}

    limits = ("--requests-per-second", "50", "--batch-rows-per-day", "1000")
    other = run("create", "reader", "--scope", "read", *limits, "--json")
    assert other["scopes"] == ["read"]
    assert (other["requests_per_second"], other["batch_rows_per_day"]) == (50, 1000)
    assert other["key"].split("_")[1] == other["key_id"]

    listed = run("list", "--json")["keys"]
    assert [one["name"] for one in listed] == ["reader", "backend"]
    assert listed[0]["created_by"] != "zap"
    assert "key" not in listed[0]
    assert "digest" not in listed[0]
    shown = run("list")
    assert key not in shown
    assert "predict, report" in shown

    new = run("rotate", "backend", "--keep", "24h", "--json")
    assert (new["name"], new["scopes"]) == ("backend", ["predict", "report"])
    assert found(settings, key) is not None
    assert found(settings, new["key"]) is not None
    assert "was rotated already" in run("rotate", key.split("_")[1], exit_code=50)
    assert "is revoked" in run("revoke", new["key_id"])
    assert found(settings, new["key"]) is None
    assert found(settings, key)
    run("revoke", "backend")
    assert found(settings, key) is None
    statuses = {one["key_id"]: one["status"] for one in run("list", "--all", "--json")["keys"]}
    assert statuses == {
        key.split("_")[1]: "revoked",
        new["key_id"]: "revoked",
        other["key_id"]: "active",
    }
    assert "no key in use" in run("revoke", "backend", exit_code=20)

    assert "--yes" in run("open", exit_code=34)
    assert run("open", "--yes", "--json")["removed"] == 3
    assert "no keys" in run("list")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("backend",), "--scope"),
        (("backend", "--scope", "root"), "'root' is not one of"),
        (("backend", "--scope", "read", "--expires", "1y"), "--expires is '1y'; write 1 to 999 days"),
        ((" ", "--scope", "read"), "NAME must be a name"),
        # It would look like the name of zap itself.
        (("z\u200bap", "--scope", "read"), "without invisible ones"),
        (("a\u202eb", "--scope", "read"), "without invisible ones"),
        (("zap", "--scope", "read"), "which zap itself uses"),
        (("backend", "--scope", "read", "--requests-per-second", "0"), "--requests-per-second is 0"),
    ],
)
def test_a_wrong_option_is_named(run, arguments, says):
    assert says in run("create", *arguments, exit_code=2)


def test_the_files_of_the_database_show_no_key(zap_command, trained_sqlite, tmp_path):
    """A thief of the database has no key, and nothing that a request or a login accepts in its place."""
    made = [
        json.loads(zap_command("keys", "create", name, "--scope", "admin", "--json", settings=trained_sqlite).stdout)
        for name in ("one", "two")
    ]
    again = json.loads(zap_command("keys", "rotate", "two", "--json", settings=trained_sqlite).stdout)
    zap_command("keys", "revoke", "one", settings=trained_sqlite)
    folder = Path(trained_sqlite.url.database).parent
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())

    for one in (*made, again):
        assert one["key_id"].encode() in content
        secret = one["key"].split("_")[2]
        for part in (one["key"], secret, secret[:10], secret[10:20]):
            assert part.encode() not in content
