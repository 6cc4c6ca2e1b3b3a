"""The files for an operator in zap/deploy: the unit of systemd, and what is in the image of a container.

A real systemd and a real image need more than a test has. So the unit is checked by systemd's own tools, and zap runs
here under the restrictions that the two files ask for.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import httpx
import pytest
from conftest import absent
from servers import until

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "zap" / "deploy"
UNIT = (DEPLOY / "zap.service").read_text()
CONTAINERFILE = re.sub(r"\\\n\s*", "", (DEPLOY / "Containerfile").read_text())
# prctl's PR_SET_MDWE and PR_MDWE_REFUSE_EXEC_GAIN, as MemoryDenyWriteExecute=yes.
DENY = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) and sys.exit(77);"
    " os.execv(sys.argv[1], sys.argv[1:])"
)
NO_SUCH_LIMIT = 77
NUMBER = "10001"


def packages(file):
    """Return the pinned packages of a lock file, each with its hashes."""
    parts = re.split(r"^(?=\S)", file.read_text(), flags=re.MULTILINE)
    lines = [[line.strip(" \\") for line in part.splitlines()] for part in parts if part]
    return {name: set(hashes) for name, *hashes in lines}


def test_the_packages_of_the_image_are_the_tested_ones_and_all_that_zap_needs():
    image, tested = packages(DEPLOY / "requirements.lock"), packages(ROOT / "requirements.lock")
    assert image
    assert [one for one in image if image[one] != tested.get(one)] == []

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["excel"], *extras["otel"]]
    names = {re.split(r"[=;\[ ]", one)[0] for one in image}
    assert [one for one in needed if re.split(r"[<>=;\[ ]", one)[0].lower() not in names] == []
    # What only developers need is not in it.
    assert names & {"pytest", "mypy", "playwright", "ruff"} == set()


@pytest.fixture
def systemd_analyze():
    return shutil.which("systemd-analyze") or absent("systemd-analyze")


def test_systemd_understands_the_unit_and_finds_little_to_attack(systemd_analyze, tmp_path):
    unit = tmp_path / "zap.service"
    unit.write_text(UNIT.replace("/opt/zap/bin/zap", "/bin/true"))
    done = subprocess.run([systemd_analyze, "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    # 0 is nothing, and 100 is all; systemd itself calls up to 20 safe.
    safe = [systemd_analyze, "security", "--offline=true", "--threshold=20", unit]
    done = subprocess.run(safe, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:]
    # A mistyped line would only be ignored.
    unit.write_text(UNIT.replace("ProtectSystem=strict", "ProtectSytem=strict"))
    done = subprocess.run([systemd_analyze, "verify", unit], capture_output=True, text=True, check=False)
    assert "ProtectSytem" in done.stderr


def test_the_times_of_the_files_are_longer_than_those_of_zap():
    from zap.server.stopping import END_SECONDS  # noqa: PLC0415
    from zap.server.worker_process import STOP_SECONDS  # noqa: PLC0415

    allowed = int(re.search(r"TimeoutStopSec=(\d+)", UNIT)[1])
    assert allowed > max(END_SECONDS, STOP_SECONDS)
    assert f"--stop-timeout {allowed}" in CONTAINERFILE
    assert f"--stop-timeout {allowed}" in (ROOT / "zap" / "manual" / "container.md").read_text()


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="systemd is only on Linux")
def test_zap_trains_without_memory_that_is_written_and_run(trained_sqlite):
    assert "MemoryDenyWriteExecute=yes" in UNIT
    environment = os.environ | trained_sqlite.environment() | {"PYTHONPATH": str(ROOT)}
    train = [sys.executable, "-c", DENY, sys.executable, "-m", "zap", "train"]
    done = subprocess.run(train, env=environment, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode == NO_SUCH_LIMIT:
        pytest.skip("the kernel is older than 6.3")
    assert done.returncode == 0, done.stderr
    # The limit holds: no program under it gets such memory.
    forbidden = [sys.executable, "-c", "import mmap; mmap.mmap(-1, 4096, prot=7)"]
    refused = subprocess.run([*train[:3], *forbidden], capture_output=True, text=True, check=False)
    assert "PermissionError" in refused.stderr


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root can make a root that is read-only")
def test_zap_serves_as_the_first_process_with_a_root_that_is_read_only_and_a_number_as_its_user(trained_sqlite):
    assert f"USER {NUMBER}:{NUMBER}" in CONTAINERFILE
    assert 'ENTRYPOINT ["zap"]' in CONTAINERFILE
    assert "STOPSIGNAL SIGTERM" in CONTAINERFILE
    health = json.loads(re.search(r"HEALTHCHECK .*CMD (\[.*\])", CONTAINERFILE)[1])
    given = dict(one.split("=", 1) for one in re.search(r"^ENV (.*)$", CONTAINERFILE, re.MULTILINE)[1].split())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as volume:
        (Path(volume) / "data").mkdir()
        shutil.copy(trained_sqlite.url.database, Path(volume) / "data" / "charge_database_alt.sqlite")
        # The Python of the tests may be in a folder that only root may enter, so the user keeps the right to search.
        for path in (Path(volume), *Path(volume).rglob("*")):
            shutil.chown(path, int(NUMBER), int(NUMBER))
        mounts = (
            "mount --make-rprivate / && mount --bind $VOLUME $VOLUME && mount -o remount,bind,ro / && cd $VOLUME"
            " && exec setpriv --reuid $USER_NUMBER --regid $USER_NUMBER --clear-groups --no-new-privs"
            " --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search"
            " --bounding-set=-all,+dac_read_search $PYTHON -m zap serve"
        )
        bare = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "VOLUME": volume,
            "USER_NUMBER": NUMBER,
            "PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT),
            "ZAP_PORT": str(port),
            **{name: value for name, value in given.items() if name != "PATH"},
        }
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", mounts]
        with subprocess.Popen(command, env=bare, cwd="/", stderr=subprocess.PIPE, text=True) as process:
            try:
                until(lambda: process.poll() is not None or _is_live(port), seconds=90)
                (server,) = _children(process.pid)
                status = Path(f"/proc/{server}/status").read_text()
                assert re.search(rf"^Uid:\t{NUMBER}\t", status, re.MULTILINE)
                assert re.search(r"^NSpid:\t\d+\t1$", status, re.MULTILINE)
                assert httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
                # The command of the image's health check, and the same when nobody answers.
                asked = [sys.executable, *health[1:]]
                assert subprocess.run(asked, env=bare, check=False).returncode == 0
                other = bare | {"ZAP_PORT": "1"}
                assert subprocess.run(asked, env=other, stderr=subprocess.DEVNULL, check=False).returncode != 0

                begun = time.monotonic()
                os.kill(server, signal.SIGTERM)
                assert process.wait(30) == 0
                assert time.monotonic() - begun < 10
            finally:
                process.kill()
                written = process.stderr.read()
    assert "Traceback" not in written
    assert "models/production_model.joblib" in written


def _is_live(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/live").status_code == 200
    except httpx.TransportError:
        return False


def _children(pid):
    of_threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for some in of_threads for child in some.read_text().split()]
