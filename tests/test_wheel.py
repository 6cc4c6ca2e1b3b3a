"""The wheel: what is in it, and that it runs when it is installed: anywhere, for anybody, without the checkout."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

import httpx
import pytest
from servers import until

from zap.pages.manual_pages import PAGES

ROOT = Path(__file__).resolve().parents[1]
# A user who owns nothing (nobody).
NOBODY = 65534


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    copied = folder / "zap"
    copied.mkdir()
    for name in ("zap", "migrations", "pyproject.toml", "README.md", "alembic.ini"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, copied / name)
    build = "from hatchling.build import build_wheel; build_wheel('../dist')"
    subprocess.run([sys.executable, "-c", build], cwd=copied, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def open_folder():
    """A folder that every user may enter, as the folders of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def is_open(path):
    """Return whether every user may reach a file or folder."""
    real = Path(path).resolve()
    return all(one.stat().st_mode & 0o001 for one in (real.parent, *real.parent.parents))


@pytest.fixture(scope="module")
def python():
    """A Python that every user may run, if there is one; that of the tests may be private."""
    system = shutil.which("python3", path="/usr/bin")
    shown = "import sys; print(*sys.version_info[:2])"
    ours = f"{sys.version_info.major} {sys.version_info.minor}"
    if not is_open(sys.executable) and system is not None:
        theirs = subprocess.run([system, "-c", shown], capture_output=True, text=True, check=False).stdout.strip()
        return system if theirs == ours else sys.executable
    return sys.executable


@pytest.fixture(scope="module")
def installed(wheel, open_folder, python):
    """The programs of an environment with the wheel. It takes the other packages from the environment of the tests."""
    venv = open_folder / "venv"
    subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", venv / "bin" / "python"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True)
    return venv / "bin"


def run(program, *arguments, folder, **environment):
    """Run a program as nobody, if that user may, with an environment that has no HOME."""
    changes_user = os.getuid() == 0 and is_open(program) and is_open(sysconfig.get_path("purelib"))
    as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if changes_user else {}
    environment = {"PATH": f"{Path(program).parent}:/usr/bin:/bin", "LANG": "C.UTF-8"} | environment
    return subprocess.Popen(
        [program, *arguments], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **as_nobody,
    )  # fmt: skip


def finished(*arguments, seconds=120, **options):
    with run(*arguments, **options) as process:
        out, err = process.communicate(timeout=seconds)
        assert process.returncode == 0, out + err
        return out


def test_it_holds_what_zap_needs_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "zap").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    migrations = {f"zap/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "migrations").rglob("*.py")}
    wanted = ours | migrations | {"zap/migrations/script.py.mako", "zap/alembic.ini"}
    # The code of zap, with its manual, templates, catalogues, static files and files for an operator.
    assert {f"zap/manual/{name}.md" for name in PAGES} <= wanted
    assert {f"zap/deploy/{name}" for name in ("Containerfile", "zap.service", "requirements.lock")} <= wanted
    assert wanted - names == set()
    others = {name for name in names - wanted if not name.startswith("zap-0")}
    assert others == set()


def test_it_runs_in_any_folder_for_a_user_who_has_no_home_and_cannot_write_the_package(
    installed, open_folder, trained_sqlite
):
    # Spaces, no ASCII, and characters that mean something in a URL or in an .ini file.
    folder = open_folder / "мої дані %s & co"
    (folder / "data").mkdir(parents=True)
    shutil.copy(trained_sqlite.url.database, folder / "data" / "charge_database_alt.sqlite")
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, *((NOBODY, NOBODY) if os.getuid() == 0 else (os.getuid(), os.getgid())))
    zap = installed / "zap"

    assert finished(zap, "--version", folder=folder).startswith("zap, version")
    new = f"sqlite:///{folder / 'new' / 'zap.sqlite'}"
    finished(zap, "sample-history", "--drivers", "15", "--months", "3", folder=folder, ZAP_DATABASE_URL=new)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with run(zap, "serve", "--workers", "2", "--port", str(port), folder=folder) as server:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                until(lambda: server.poll() is not None or _answers(client))
                question = {
                    "charging_start_time": "2025-01-06T18:30:00",
                    "state_of_charge_start": 30.5,
                    "distance_driven_km": 120,
                    "temperature_c": 15,
                    "battery_capacity_kwh": 65,
                    "vehicle_age_years": 5,
                    "user_type": "Commuter",
                }
                answer = client.post("/predict", json=question)
                assert answer.status_code == 200
                assert answer.json()["predicted_class"]
                for page in ("/", "/manual/start", "/docs", "/docs/openapi.json"):
                    assert client.get(page).status_code == 200, page
        finally:
            server.terminate()
            out, err = server.communicate(timeout=60)
        assert server.returncode == 0, out + err
    assert sorted(path.name for path in folder.iterdir()) == ["data", "models", "new"]
    # The migrations of the package, with Alembic's own command line.
    shown = finished(
        *(
            installed / "python",
            "-m",
            "alembic",
            "-c",
            next(installed.parent.glob("lib/*/site-packages/zap/alembic.ini")),
        ),
        *("current",),
        folder=folder,
    )
    assert "(head)" in shown
    # In a folder that nobody may write, with the data elsewhere.
    closed = open_folder / "closed"
    closed.mkdir()
    database = f"sqlite:///{folder / 'data' / 'charge_database_alt.sqlite'}"
    listed = finished(zap, "models", "list", "--json", folder=closed, ZAP_DATABASE_URL=database)
    assert '"model_version": 1' in listed
    assert list(closed.iterdir()) == []


def _answers(client):
    with contextlib.suppress(httpx.TransportError):
        return client.get("/health/live").status_code == 200
    return False


@pytest.mark.long
def test_it_installs_with_its_pinned_packages_into_an_empty_environment(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [tmp_path / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    lock = ROOT / "zap" / "deploy" / "requirements.lock"
    subprocess.run([*pip, "--require-hashes", "--requirement", lock], check=True)
    # All dependencies are there: pip has nothing to add.
    subprocess.run([*pip, "--no-index", f"{wheel}[excel]"], check=True)
    (tmp_path / "empty").mkdir()
    for command in (["sample-history", "--drivers", "15", "--months", "3"], ["train"], ["check"]):
        subprocess.run(
            [tmp_path / "venv" / "bin" / "zap", *command],
            cwd=tmp_path / "empty",
            check=True,
            env={"PATH": "/usr/bin:/bin"},
        )
