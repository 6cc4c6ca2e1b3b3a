"""What the tests share: a real database of each kind, upgraded by the migrations."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest
from litestar.testing import TestClient
from sqlalchemy import func, make_url, select

from zap.app import create_app
from zap.db.engine import create_engine
from zap.db.history_store import upsert_history
from zap.db.schema import upgrade
from zap.db.tables import Prediction
from zap.ml.sample import sample_history
from zap.settings import Settings
from zap.training_run import run_training

POSTGRESQL = os.environ.get("ZAP_TEST_POSTGRESQL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
# In CI nothing that matters is skipped: what is missing fails.
NOTHING_IS_SKIPPED = bool(os.environ.get("ZAP_TEST_DEMAND_ALL"))


_LONGEST = {"test_serve.py", "test_serve_load.py", "test_serving_benchmark.py", "test_training_run.py"}


def pytest_collection_modifyitems(items):
    """The longest first: at the end they would run alone while the other cores have nothing to do."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


def pytest_xdist_auto_num_workers():
    """One more than there are cores: a third of the time of all tests is waiting."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch, tmp_path):
    """Neither ZAP_* variables nor a .env of the developer reach a test."""
    for name in list(os.environ):
        if name.startswith("ZAP_") and not name.startswith("ZAP_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def absent(what: str) -> None:
    """Skip with a reason, or fail where nothing may be skipped."""
    (pytest.fail if NOTHING_IS_SKIPPED else pytest.skip)(f"{what} is not here")


def _admin() -> psycopg.Connection:
    url = make_url(POSTGRESQL)
    return psycopg.connect(
        host=url.host,
        port=url.port,
        user=url.username,
        password=url.password,
        dbname=url.database,
        autocommit=True,
        connect_timeout=3,
    )


@pytest.fixture(scope="session")
def chromium():
    """The browser's program."""
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    return found[0] if found else absent("Chromium")


@pytest.fixture(scope="session")
def postgresql_server():
    try:
        _admin().close()
    except psycopg.OperationalError:
        absent("PostgreSQL")


@contextmanager
def postgresql_database(template="template1"):
    """The URL of a new PostgreSQL database, a copy of another one by its name."""
    name = f"zap_test_{uuid4().hex}"
    with _admin() as admin:
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield make_url(POSTGRESQL).set(database=name).render_as_string(hide_password=False)
    with _admin() as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def empty_postgresql_url(postgresql_server):
    """A new, empty PostgreSQL database."""
    with postgresql_database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request, tmp_path):
    """Where a database may be made, on each engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'zap.sqlite'}"
    return request.getfixturevalue("empty_postgresql_url")


# One database is upgraded once a session; every test works on a copy of its own.


@pytest.fixture(scope="session")
def _sqlite_at_head(tmp_path_factory):
    file = tmp_path_factory.mktemp("head") / "zap.sqlite"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def _postgresql_at_head(postgresql_server):
    with postgresql_database() as url:
        upgrade(url)
        yield make_url(url).database


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """A database at head, on each engine."""
    if request.param == "sqlite":
        file = shutil.copy(request.getfixturevalue("_sqlite_at_head"), tmp_path / "zap.sqlite")
        yield f"sqlite:///{file}"
        return
    with postgresql_database(request.getfixturevalue("_postgresql_at_head")) as url:
        yield url


@pytest.fixture
def engine(database_url):
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def upgraded():
    """What an upgrade of an empty database says, line by line."""
    return ["upgraded to 0001", "upgraded to 0002", "upgraded to 0003", "upgraded to 0004"]


@pytest.fixture
def at_head():
    """Brings a database to head and gives an engine on it."""
    engines = []

    def engine_on(url):
        upgrade(url)
        engines.append(create_engine(url))
        return engines[-1]

    yield engine_on
    for engine in engines:
        engine.dispose()


@pytest.fixture
def sqlite_engine(_sqlite_at_head, tmp_path):
    """On SQLite, where times are texts, and other tools may have written any."""
    engine = create_engine(f"sqlite:///{shutil.copy(_sqlite_at_head, tmp_path / 'zap.sqlite')}")
    yield engine
    engine.dispose()


@pytest.fixture
def zapapp_database():
    """The real database of ZapApp (read only)."""
    path = SHARED_DATA / "charge_database_alt.sqlite"
    if not path.exists():
        absent(str(path.name))
    return path


@pytest.fixture
def dundee_file():
    """Real sessions at Dundee's public charge points (read only)."""
    path = SHARED_DATA / "dundee_2018_sessions.csv.gz"
    if not path.exists():
        absent(str(path.name))
    return path


# One small history, trained on once a session; every test works on a copy of its own.


def _train(url, models_dir):
    """A small synthetic history and a model in production, at `url`."""
    upgrade(url)
    engine = create_engine(url)
    sample = sample_history(seed=1, drivers=40, months=4)
    upsert_history(engine, sample.users, sample.vehicles, sample.sessions)
    report = run_training(engine, Settings(database_url=url, models_dir=models_dir), lambda *_: None)
    engine.dispose()
    return report


@pytest.fixture(scope="session")
def _trained_sqlite(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    report = _train(f"sqlite:///{folder / 'zap.sqlite'}", folder / "models")
    return folder, report


@pytest.fixture(scope="session")
def _trained_postgresql(postgresql_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    with postgresql_database() as url:
        report = _train(url, folder / "models")
        yield make_url(url).database, folder, report


@pytest.fixture
def trained_sqlite(_trained_sqlite, tmp_path):
    """Settings of a SQLite database with a model in production."""
    folder, _ = _trained_sqlite
    shutil.copy(folder / "zap.sqlite", tmp_path / "zap.sqlite")
    shutil.copytree(folder / "models", tmp_path / "models")
    return Settings(database_url=f"sqlite:///{tmp_path / 'zap.sqlite'}", models_dir=tmp_path / "models")


@pytest.fixture
def trained_postgresql(_trained_postgresql, tmp_path):
    """Settings of a PostgreSQL database with a model in production."""
    template, folder, _ = _trained_postgresql
    shutil.copytree(folder / "models", tmp_path / "models")
    with postgresql_database(template) as url:
        yield Settings(database_url=url, models_dir=tmp_path / "models")


@pytest.fixture(params=["sqlite", "postgresql"])
def trained(request):
    """Settings of a database with a model in production, on each engine."""
    return request.getfixturevalue(f"trained_{request.param}")


@pytest.fixture
def client(trained):
    """The real app on a trained database, on each engine."""
    with TestClient(create_app(trained), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def sqlite_client(trained_sqlite):
    """The real app on a trained SQLite database, for what does not depend on the engine."""
    with TestClient(create_app(trained_sqlite), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def untrained_client(database_url, tmp_path):
    """The real app on a database without history or model, on each engine."""
    settings = Settings(database_url=database_url, models_dir=tmp_path / "models")
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


# A row that refers to nothing, which the database finds out at the COMMIT.
_REFUSAL = (
    "CREATE TABLE nowhere (id INTEGER PRIMARY KEY)",
    "CREATE TABLE refusal (id INTEGER REFERENCES nowhere (id) DEFERRABLE INITIALLY DEFERRED)",
)
_REFUSE = {
    "sqlite": (
        (
            "CREATE TRIGGER refuse AFTER INSERT ON predictions WHEN NEW.prediction_id > {} "
            "BEGIN INSERT INTO refusal VALUES (1); END"
        ),
    ),
    "postgresql": (
        (
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN INSERT INTO refusal VALUES (1); RETURN NULL; END $$"
        ),
        (
            "CREATE TRIGGER refuse AFTER INSERT ON predictions FOR EACH ROW WHEN (NEW.prediction_id > {}) "
            "EXECUTE FUNCTION refuse()"
        ),
    ),
}


@pytest.fixture
def refuse_commits():
    """From now on, and after so many rows more, the database takes every row of the log and refuses its COMMIT."""

    def refuse(engine, after=0):
        with engine.begin() as connection:
            last = connection.scalar(select(func.max(Prediction.__table__.c.prediction_id))) or 0
            for statement in (*_REFUSAL, *_REFUSE[engine.dialect.name]):
                connection.exec_driver_sql(statement.format(last + after))

    return refuse


GOOD_REQUEST = {
    "state_of_charge_start": 30.5,
    "distance_driven_km": 120.0,
    "temperature_c": 15.0,
    "battery_capacity_kwh": 64.0,
    "vehicle_age_years": 2.5,
    "user_type": "Commuter",
}


@pytest.fixture
def good_request():
    return dict(GOOD_REQUEST)


@pytest.fixture
def rows():
    """All rows of a table in the database of an app, as dicts, ordered by their key."""

    def read(app, table):
        with app.state.engine.connect() as connection:
            key = next(iter(table.__table__.primary_key))
            return [dict(row) for row in connection.execute(select(table.__table__).order_by(key)).mappings()]

    return read


class Server:
    """`zap serve` (or another module) in a process of its own, on a real socket."""

    def __init__(self, settings, *arguments, module=()):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.lines = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - closed with the server
        environment = os.environ | settings.environment() | {"ZAP_PORT": str(self.port), "ZAP_LOG_FORMAT": "json"}
        command = [*module, str(self.port)] if module else ["zap", "serve", *arguments]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command], env=environment, stderr=self.lines, stdout=self.lines
        )

    def wait(self, seconds=60):
        """Until it is live; fails with its log when it ends or never is."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                httpx.get(f"{self.url}/health/live").raise_for_status()
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                return self
        return pytest.fail(f"the server is not there:\n{self.log()}")

    def log(self):
        self.lines.seek(0)
        return self.lines.read()

    def children(self, pid=None):
        """The processes that this one has started, or one of its own; each thread has some."""
        of_threads = Path(f"/proc/{pid or self.process.pid}/task").glob("*/children")
        return [int(child) for some in of_threads for child in some.read_text().split()]

    def stop(self, sig=signal.SIGTERM, seconds=20):
        """The exit code after a signal, and the seconds that it took."""
        start = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(sig)
        code = self.process.wait(seconds)
        return code, time.monotonic() - start

    def close(self):
        try:
            # Asked, not killed: a killed parent would leave its workers behind.
            self.stop()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.lines.close()


@pytest.fixture
def serve():
    """Starts servers, and ends those that a test leaves running."""
    servers = []

    def start(settings, *arguments, **options):
        servers.append(Server(settings, *arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def server(serve, trained_sqlite):
    """A real server on a trained SQLite database."""
    return serve(trained_sqlite).wait()


@pytest.fixture
def zap_command():
    """Runs `zap` in a process of its own, as a user would."""

    def run(*arguments, settings=None, text=None):
        environment = os.environ | (settings.environment() if settings else {})
        return subprocess.run(
            [sys.executable, "-m", "zap", *map(str, arguments)],
            env=environment, input=text, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return run


@pytest.fixture
def empty_settings(empty_database_url, tmp_path):
    """Settings of a database that is yet to be made, on each engine."""
    return Settings(database_url=empty_database_url, models_dir=tmp_path / "models")
