"""zap check: each finding with its id, its value and a hint. There is a test for each id."""

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from conftest import TESTS
from forked import COMMANDS
from keyed import make_key
from servers import Server
from sqlalchemy import make_url, text

from zap.checks import database, folders, machine
from zap.checks.access import look_at_access, look_at_keys
from zap.checks.all_checks import everything
from zap.checks.database import look_at_server
from zap.checks.finding import SEVERITIES
from zap.checks.folders import look_at_folders
from zap.checks.machine import look_at_machine
from zap.checks.neighbours import look_at_address, look_at_receiver
from zap.checks.variables import look_at_variables
from zap.db.engine import create_engine, write_transaction
from zap.db.erasure.ledger import Entry, add_entries, ledger_file, write_file
from zap.db.schema import upgrade
from zap.settings import Settings

KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
SECRET = "whsec_" + "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="
# A machine on which nothing is wrong with the defaults, except what the test changes.
FINE = {"timezone": "Europe/London", "training_memory": 2**28}


def ids(findings):
    return [finding.id for finding in findings]


def one(findings, name):
    """Return the finding with this id; it says what is wrong and what to do."""
    (found,) = (finding for finding in findings if finding.id == name)
    assert found.message
    assert found.hint
    return found


def check(*arguments, **environment):
    return COMMANDS.run(["check", *arguments], os.environ | environment)


@pytest.fixture
def settings(tmp_path):
    return Settings(database_url=f"sqlite:///{tmp_path / 'zap.sqlite'}", models_dir=tmp_path / "models", port=0, **FINE)


def changed(settings, **values):
    return Settings(**{**settings.model_dump(), **values})


def test_it_works(trained, tmp_path):
    # A trained database on each engine, its key, its zone, and an alarm receiver that listens.
    with socket.create_server(("127.0.0.1", 0)) as receiver:
        fine = trained.environment() | {
            "ZAP_API_KEY": KEY,
            "ZAP_TIMEZONE": "Europe/London",
            "ZAP_TRAINING_MEMORY": str(2**28),
            "ZAP_PORT": "0",
            "ZAP_ALARM_SECRET": SECRET,
            "ZAP_ALARM_URL": f"http://127.0.0.1:{receiver.getsockname()[1]}/",
        }
        if trained.url.drivername == "sqlite":
            Path(trained.url.database).chmod(0o600)
        done = check("--strict", **fine)
        assert (done.returncode, done.stdout, done.stderr) == (0, "nothing is wrong\n", "")
        assert json.loads(check("--json", **fine).stdout) == {"findings": [], "counts": {}}

        # A warning ends with 0, and with --strict with 55; an error always ends with 55.
        warned = check(**fine, ZAP_ALOWED_HOSTS="zap.example.com")
        assert warned.returncode == 0
        assert warned.stdout.startswith("warning  variable-unknown: ")
        assert "\n    write ZAP_ALLOWED_HOSTS\n" in warned.stdout
        assert check("--strict", **fine, ZAP_ALOWED_HOSTS="zap.example.com").returncode == 55
        failed = check("--json", **fine | {"ZAP_DATABASE_URL": "postgresql+psycopg://zap:word@127.0.0.1:1/zap"})
    assert failed.returncode == 55
    found = json.loads(failed.stdout)
    assert found["counts"] == {"error": 1}
    (finding,) = found["findings"]
    assert finding["id"] == "database-unavailable"
    assert finding["severity"] == "error"
    assert finding["setting"] == "ZAP_DATABASE_URL"
    assert "word" not in failed.stdout + failed.stderr


def test_every_id_has_a_test_and_is_in_the_manual():
    tests = Path(__file__).read_text(encoding="utf-8")
    manual = (TESTS.parent / "zap" / "manual" / "reference.md").read_text(encoding="utf-8")

    assert [name for name in SEVERITIES if f'"{name}"' not in tests] == []
    wanted = [f"| `{name}` | {severity} |" for name, severity in SEVERITIES.items()]
    assert [row for row in wanted if row not in manual] == []


def test_a_setting_that_is_not_usable_is_a_finding_as_others_are():
    done = check("--json", ZAP_PORT="many", ZAP_WORKERS="0")
    assert done.returncode == 55
    (found,) = json.loads(done.stdout)["findings"]
    assert found["id"] == "setting-unusable"
    assert "ZAP_PORT" in found["message"]
    assert "ZAP_WORKERS" in found["message"]

    # zap would serve without the key that somebody meant to set.
    missed = check("--json", ZAP_APIKEY=KEY)
    (found,) = json.loads(missed.stdout)["findings"]
    assert found["id"] == "setting-unusable"
    assert KEY not in missed.stdout + missed.stderr


def test_variables_without_effect(monkeypatch):
    monkeypatch.setenv("ZAP_TIMEZON", "Europe/London")
    monkeypatch.setenv("ZAP_PORT", "tcp://10.0.0.1:8000")

    findings = list(look_at_variables())

    assert one(findings, "variable-unknown").setting == "ZAP_TIMEZON"
    assert "enableServiceLinks: false" in one(findings, "service-link").hint
    assert len(findings) == 2


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({}, []),
        ({"host": "0.0.0.0"}, ["no-key"]),
        # A proxy leads others to the loopback address too.
        ({"allowed_hosts": "zap.example.com"}, ["no-key"]),
        ({"host": "0.0.0.0", "api_key": KEY}, ["key-unencrypted"]),
        ({"host": "0.0.0.0", "api_key": KEY, "trusted_proxies": "10.1.2.3", "allowed_hosts": "z.example"}, []),
        ({"api_key": "passpasspasspass"}, ["key-guessable"]),
        ({"api_key": "write-the-result-of-openssl-rand-hex-16"}, ["key-guessable"]),
        ({"allowed_hosts": "*"}, ["no-key", "any-host-name"]),
        ({"allowed_hosts": "*", "api_key": KEY}, []),
        ({"api_key": KEY, "trusted_proxies": "10.0.0.0/8"}, ["no-host-names"]),
        ({"api_key": KEY, "root_path": "/zap"}, ["no-host-names"]),
        ({"api_key": KEY, "trusted_proxies": "0.0.0.0/0, ::/0, fc00::/7", "allowed_hosts": "z.example"},
         ["proxies-too-wide", "proxies-too-wide"]),
        ({"cors_origins": "http://app.example.com, https://app.example.com, http://localhost:3000"},
         ["origin-unencrypted"]),
    ],
)  # fmt: skip
def test_access(settings, values, found):
    asked = changed(settings, **values)
    findings = [*look_at_keys(asked, is_closed=asked.api_key is not None), *look_at_access(asked)]

    assert ids(findings) == found
    assert KEY not in str(findings)
    assert "pass" not in str(findings)


def test_a_key_in_the_database_is_a_key(settings, engine):
    asked = changed(settings, host="0.0.0.0")
    assert ids(database.look_at_server(engine, asked)) == ["no-key"]
    make_key(engine, "predict")

    assert ids(database.look_at_server(engine, asked)) == ["key-unencrypted"]


def test_the_machine(settings, monkeypatch):
    assert ids(look_at_machine(settings)) == []

    # London has UTC in winter, and is another zone.
    for zone, found in (("UTC", ["time-zone-utc"]), ("Europe/London", []), ("Asia/Kolkata", [])):
        with monkeypatch.context() as patch:
            patch.setenv("TZ", zone)
            time.tzset()
            assert ids(look_at_machine(changed(settings, timezone=None))) == found
    time.tzset()
    assert one(look_at_machine(changed(settings, workers=64)), "too-many-workers").value == "64"
    huge = one(look_at_machine(changed(settings, training_memory=2**50)), "training-memory")
    assert huge.setting == "ZAP_TRAINING_MEMORY"
    assert one(look_at_machine(changed(settings, log_level="DEBUG")), "log-debug").value == "DEBUG"
    assert one(look_at_machine(changed(settings, connections=60_000)), "too-few-files").setting == "ZAP_CONNECTIONS"


@pytest.mark.parametrize("version", [1, 2])
def test_a_part_of_a_machine_that_a_container_has(settings, monkeypatch, tmp_path, version):
    # Files as the two versions of control groups have them. The limit is of a group above the process's own.
    own, groups = tmp_path / "cgroup", tmp_path / "groups"
    if version == 1:
        own.write_text("4:memory:/pod/zap\n3:cpu,cpuacct:/pod/zap\n0::/\n")
        files = {
            "memory/pod/memory.limit_in_bytes": "536870912\n", "memory/pod/zap/memory.limit_in_bytes": f"{2**63}\n",
            "cpu,cpuacct/pod/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/pod/cpu.cfs_period_us": "100000\n",
        }  # fmt: skip
    else:
        own.write_text("0::/pod/zap\n")
        files = {
            "pod/memory.max": "536870912\n", "pod/zap/memory.max": "max\n",
            "pod/cpu.max": "50000 100000\n", "pod/zap/cpu.max": "max 100000\n",
        }  # fmt: skip
    for name, content in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(content)
    monkeypatch.setattr(machine, "_OWN_GROUPS", own)
    monkeypatch.setattr(machine, "_GROUPS", groups)

    findings = list(look_at_machine(settings))

    assert "there are 512 MiB" in one(findings, "training-memory").message
    assert "zap has 0.5 cores" in one(findings, "too-many-workers").message


def test_folders_and_files(settings, monkeypatch, tmp_path):
    assert ids(look_at_folders(settings)) == []

    assert ids(look_at_folders(changed(settings, sqlite_synchronous="NORMAL"))) == ["synchronous-normal"]
    file = tmp_path / "zap.sqlite"
    file.touch(0o644)
    found = one(look_at_folders(settings), "database-readable")
    assert "all users" in found.message
    file.chmod(0o600)
    (tmp_path / "models").mkdir()
    (tmp_path / "models").chmod(0o777)
    assert ids(look_at_folders(settings)) == ["models-folder-open"]
    (tmp_path / "a file").touch()
    assert ids(look_at_folders(changed(settings, models_dir=tmp_path / "a file"))) == ["models-folder"]

    class Full:
        total, free = 10 * 2**30, 2**20

    monkeypatch.setattr(folders.shutil, "disk_usage", lambda _: Full)
    (tmp_path / "models").chmod(0o700)
    # The database and the models are on one disk.
    assert ids(look_at_folders(settings)) == ["disk-nearly-full"]


@pytest.mark.parametrize(
    ("kind", "found"),
    [("ext4", []), ("nfs4", ["network-file-system"]), ("tmpfs", ["folder-not-kept"]), ("overlay", ["folder-not-kept"])],
)
def test_the_file_system_of_the_database(settings, monkeypatch, tmp_path, kind, found):
    # A folder with a space, as the kernel writes it; another mount below it, and one whose name only begins alike.
    folder = tmp_path / "my data"
    (folder / "inner").mkdir(parents=True)
    place = str(tmp_path).replace(" ", "\\040")
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw,relatime shared:1 - xfs /dev/root rw\n"
        f"2 1 0:9 / {place}/my\\040data rw - {kind} server:/data rw\n"
        f"3 1 0:9 / {place}/my\\040data/inner rw - squashfs none rw\n"
        f"4 1 0:9 / {place}/my\\040d rw - squashfs none rw\n"
    )
    monkeypatch.setattr(folders, "_MOUNTS", mounts)

    asked = changed(settings, database_url=f"sqlite:///{folder / 'not yet' / 'zap.sqlite'}")

    assert ids(look_at_folders(asked)) == found


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no memory of Linux")
def test_a_real_file_system_in_memory(settings):
    kept = changed(settings, database_url="sqlite:////dev/shm/zap-check/zap.sqlite")

    assert "folder-not-kept" in ids(look_at_folders(kept))


def test_the_address(settings):
    assert ids(look_at_address(settings)) == []
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = one(look_at_address(changed(settings, port=other.getsockname()[1])), "address-unusable")
    assert "in use" in taken.message
    assert taken.hint.startswith("end the program that uses the port")
    assert ids(look_at_address(changed(settings, host="10.9.9.9"))) == ["address-unusable"]


def test_the_port_of_the_metrics(settings):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        taken = one(look_at_address(changed(settings, metrics_port=port)), "address-unusable")
    assert (taken.setting, taken.value) == ("ZAP_METRICS_HOST, ZAP_METRICS_PORT", f"127.0.0.1, port {port}")
    assert "metrics-open" not in ids(look_at_access(changed(settings, metrics_port=port)))
    # Without a port, the host means nothing.
    assert "metrics-open" not in ids(look_at_access(changed(settings, metrics_host="0.0.0.0")))
    reached = changed(settings, metrics_port=port, metrics_host="0.0.0.0")
    assert one(look_at_access(reached), "metrics-open").severity == "note"


def test_settings_of_retention_that_do_less_than_they_seem(settings, database_url):
    asked = changed(settings, database_url=database_url, keep_requests_days=30)
    assert not {"nothing-removed", "file-keeps-size"} & set(ids(everything(asked)))
    alone = one(everything(changed(asked, follow=False)), "nothing-removed")
    assert (alone.setting, alone.value) == ("ZAP_KEEP_REQUESTS_DAYS", "30")
    assert "nothing-removed" not in ids(everything(changed(settings, database_url=database_url, follow=False)))


@pytest.mark.usefixtures("_sqlite_at_head")
def test_a_file_of_an_older_zap_cannot_become_smaller(settings, request):
    shutil.copy(request.getfixturevalue("_sqlite_at_head"), settings.url.database)
    with contextlib.closing(sqlite3.connect(settings.url.database)) as connection:
        connection.executescript("PRAGMA auto_vacuum = NONE; VACUUM")

    found = one(everything(changed(settings, keep_train_predictions_versions=3)), "file-keeps-size")

    assert "zap db compact" in found.hint
    assert "file-keeps-size" not in ids(everything(settings))


def test_a_read_database_that_is_no_standby_or_does_not_answer(settings, empty_postgresql_url):
    upgrade(empty_postgresql_url)
    url = make_url(empty_postgresql_url)
    asked = changed(settings, database_url=empty_postgresql_url, read_database_url=empty_postgresql_url)

    # The primary itself, another database of its server, and a port on which nobody listens.
    unused = one(everything(asked), "read-database-unused")
    other = url.set(database="postgres").render_as_string(hide_password=False)
    wrong = one(everything(changed(asked, read_database_url=other)), "read-database-wrong")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    away = url.set(password="hidden", port=port).render_as_string(hide_password=False)
    silent = one(everything(changed(asked, read_database_url=away)), "read-database-unused")

    assert "it is not a standby" in unused.message
    assert wrong.severity == "error"
    assert "name a standby" in wrong.hint
    assert silent.severity == "warning"
    assert "hidden" not in str(silent)


def test_the_receiver_of_alarms(settings):
    assert ids(look_at_receiver(settings)) == ["no-alarm-url"]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        asked = changed(settings, alarm_secret=SECRET, alarm_url=f"http://127.0.0.1:{port}/a?token=hidden")
        assert ids(look_at_receiver(asked)) == []
    # Nobody listens any more, and the address may have a secret.
    found = one(look_at_receiver(asked), "alarm-receiver")
    assert "hidden" not in str(found)


def test_databases_that_are_not_ready(settings, database_url):
    ready = changed(settings, database_url=database_url)
    assert one(everything(ready), "no-model").severity == "warning"

    engine = create_engine(database_url)
    with write_transaction(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    behind = list(everything(ready))
    with write_transaction(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'zzzz'"))
    newer = list(everything(ready))
    with write_transaction(engine) as connection:
        connection.execute(text('ALTER TABLE "Vehicles" DROP COLUMN vehicle_model'))
    # What the first check of an engine found is remembered for this engine only.
    ahead = list(everything(ready))
    engine.dispose()

    assert one(behind, "database-behind").severity == "warning"
    assert one(newer, "database-differs").severity == "warning"
    assert "no-model" in ids(newer)
    assert one(ahead, "database-ahead").severity == "error"
    assert "no-model" not in ids(ahead)
    other = f"{settings.url.database}.other"
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE theirs (x INTEGER)")
        connection.commit()
    before = Path(other).read_bytes()
    assert "database-behind" in ids(everything(changed(settings, database_url=f"sqlite:///{other}")))
    assert Path(other).read_bytes() == before
    absent = make_url(settings.database_url).set(database=f"{settings.url.database}.absent")
    assert "database-new" in ids(everything(changed(settings, database_url=str(absent))))


def test_a_ledger_that_is_newer_than_the_database_beside_it(settings):
    upgrade(settings.database_url)
    file = ledger_file(settings.database_url)
    entry = Entry(datetime(2026, 3, 2, tzinfo=UTC), "ann", "0" * 64, "1" * 16, {"Users": 1}, [])
    write_file(file, [entry])
    found = one(everything(settings), "erased-are-back")
    assert "names 1 erasures" in found.message
    assert "zap drivers erase-again" in found.hint
    engine = create_engine(settings.database_url)
    with write_transaction(engine) as connection:
        add_entries(connection, [entry])
    assert "erased-are-back" not in ids(look_at_server(engine, settings))
    file.write_text("no ledger")
    assert "line 1 is no erasure" in one(look_at_server(engine, settings), "erased-are-back").message
    engine.dispose()


def test_a_role_without_rights_and_a_server_that_is_read_only(settings, empty_postgresql_url):
    upgrade(empty_postgresql_url)
    url = make_url(empty_postgresql_url)
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    role = f"check_{os.getpid()}"
    with psycopg.connect(plain, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN")
        try:
            owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
            asked = changed(settings, database_url=url.set(username=role).render_as_string(hide_password=False))
            assert "INSERT into inference_inputs" in one(everything(asked), "database-rights").message
            owner.execute(f"ALTER DATABASE {url.database} SET default_transaction_read_only = on")
            read_only = changed(settings, database_url=empty_postgresql_url)
            assert one(everything(read_only), "database-not-writable").severity == "error"
        finally:
            owner.execute(f"ALTER DATABASE {url.database} RESET default_transaction_read_only")
            owner.execute(f"DROP OWNED BY {role}")
            owner.execute(f"DROP ROLE {role}")


def test_a_server_of_postgresql_with_another_clock_few_connections_and_no_encryption(
    settings, empty_postgresql_url, monkeypatch
):
    upgrade(empty_postgresql_url)
    engine = create_engine(empty_postgresql_url)
    asked = changed(settings, database_url=empty_postgresql_url, workers=1)
    assert ids(database.look_at_server(engine, asked)) == []

    real = database.database_now
    with monkeypatch.context() as patch:
        patch.setattr(database, "database_now", lambda connection: real(connection) - timedelta(seconds=61))
        patch.setattr(database, "is_this_machine", lambda _: False)
        findings = list(database.look_at_server(engine, changed(asked, workers=64)))
    engine.dispose()

    # The time of the query itself does not count as a difference.
    assert 60 < float(one(findings, "database-clock").value.split()[0]) <= 61
    assert "up to 960 connections" in one(findings, "database-connections").message
    assert one(findings, "database-unencrypted").severity == "warning"
    local = ("/run/postgresql", "127.0.0.1", "127.1.1.1", "localhost", "::1", "")
    assert all(database.is_this_machine(host) for host in local)
    assert not database.is_this_machine("db.example.com")


def test_a_model_that_cannot_be_loaded(settings, trained_sqlite):
    engine = create_engine(trained_sqlite.database_url)
    with write_transaction(engine) as connection:
        connection.execute(text("UPDATE model_versions SET artefact = 'broken'"))
    engine.dispose()

    asked = changed(settings, database_url=trained_sqlite.database_url)

    assert one(everything(asked), "model-unusable").severity == "error"


def test_a_machine_without_the_library_of_openmp(settings, tmp_path):
    # As a small image of a container is: the import of LightGBM ends like this there.
    (tmp_path / "lightgbm.py").write_text("raise OSError('libgomp.so.1: cannot open shared object file')\n")
    done = subprocess.run(
        [sys.executable, "-m", "zap", "check", "--json"],
        env=os.environ | settings.environment() | {"PYTHONPATH": f"{tmp_path}:{TESTS.parent}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 55
    (found,) = (one for one in json.loads(done.stdout)["findings"] if one["id"] == "lightgbm-missing")
    assert "libgomp1" in found["hint"]


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["serve", "--port", "0", "--workers", "2"], ["train"]])
def test_a_command_that_needs_the_library_says_so_without_a_traceback(settings, tmp_path, command):
    (tmp_path / "lightgbm.py").write_text("raise OSError('libgomp.so.1: cannot open shared object file')\n")
    done = subprocess.run(
        [sys.executable, "-m", "zap", *command],
        env=os.environ | settings.environment() | {"PYTHONPATH": f"{tmp_path}:{TESTS.parent}"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip

    assert done.returncode == 56
    assert "libgomp.so.1: cannot open shared object file; on Debian and Ubuntu: apt-get install libgomp1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("_sqlite_at_head")
def test_a_server_tells_its_findings_at_its_start_and_is_no_error_for_a_second_look(settings, request):
    shutil.copy(request.getfixturevalue("_sqlite_at_head"), settings.url.database)
    asked = changed(settings, sqlite_synchronous="NORMAL", allowed_hosts="*")
    with contextlib.closing(Server(asked)) as server:
        server.wait()
        lines = [json.loads(line) for line in server.log().splitlines()]
        again = list(look_at_address(changed(asked, port=server.port)))

    told = {line["check"]: line for line in lines if "check" in line}
    assert {"synchronous-normal", "no-key", "any-host-name"} <= told.keys()
    assert all(line["level"] == "warning" for line in told.values())
    # Notes are for zap check.
    assert "no-alarm-url" not in told
    assert one(again, "already-serving").severity == "note"
