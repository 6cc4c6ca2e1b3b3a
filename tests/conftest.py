"""Fixtures of many tests: databases of each kind, trained databases, clients, servers and a browser."""

import asyncio
import fcntl
import gc
import os
import shutil
import signal
import sys
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import hypothesis
import psycopg
import pytest
from databases import (
    REVISIONS,
    RUN,
    connect,
    drop_shared,
    postgresql,
    postgresql_database,
    shared_database,
    shared_name,
)
from filelock import FileLock
from forked import COMMANDS, of_trainings
from httpx._transports import default as httpx_transports
from litestar.testing import TestClient
from routes import read_anew, read_once
from servers import Server
from sqlalchemy import func, select

from zap.app import create_app
from zap.db.engine import create_engine
from zap.db.history.history_store import upsert_history
from zap.db.schema import upgrade
from zap.db.tables import Prediction
from zap.flows.history_import import import_history
from zap.flows.training import run_training
from zap.formats.training_options import TrainingOptions
from zap.ml.features import FEATURES
from zap.ml.sample import sample_history
from zap.server import interpreter, training_process
from zap.settings import Settings

TESTS = Path(__file__).resolve().parent
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
# How many examples each test with examples of hypothesis tries; a test of slow examples tries a part of them.
EXAMPLES = int(os.environ.get("ZAP_TEST_HYPOTHESIS", "50"))
# In CI nothing that matters is skipped: what is missing fails.
NOTHING_IS_SKIPPED = bool(os.environ.get("ZAP_TEST_DEMAND_ALL"))

# Where the workers of this run wait for each other before the first test.
_LOCKS = Path(tempfile.gettempdir(), f"zap_test_{RUN}")

# The first of these files has a test as long as a whole file.
_LONGEST = (
    *("test_manual_examples.py", "cli/test_serve.py", "flows/test_training.py", "controllers/test_train_model.py"),
    *("cli/test_serve_load.py", "benchmarks/test_serving_benchmark.py", "flows/test_newer_code.py"),
    *("controllers/test_training_runs.py", "controllers/test_schemathesis.py", "cli/test_tune.py"),
    *("pages/test_every_button.py", "test_wheel.py"),
)


def pytest_configure():
    """Let Ctrl-C work in tests of Ctrl-C, and let no test fail because the machine is slow.

    A shell that starts the tests in the background lets them ignore Ctrl-C.
    """
    # As many examples as a commit needs: make test-long takes ten times as many.
    hypothesis.settings.register_profile("zap", deadline=None, max_examples=EXAMPLES)
    hypothesis.settings.load_profile("zap")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure():
    COMMANDS.close()
    if "PYTEST_XDIST_WORKER" not in os.environ:
        drop_shared()
        shutil.rmtree(_LOCKS, ignore_errors=True)


def pytest_collection_modifyitems(items):
    """Run the longest tests first. At the end they would run alone while other cores are idle."""
    place = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: place.get(item.path.relative_to(TESTS).as_posix(), len(place)))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Let one worker rewrite the asserts of a file of tests, and the others read what it wrote.

    In a new checkout that is half of the time before the first test, for each worker.
    """
    if isinstance(collector, pytest.Module) and "PYTEST_XDIST_WORKER" in os.environ and not _is_rewritten(collector):
        with _locked(collector):
            if not _is_rewritten(collector):
                return (yield)
    return (yield)


def _is_rewritten(module):
    return sys.dont_write_bytecode or any(module.path.parent.glob(f"__pycache__/{module.path.stem}.*-pytest-*.pyc"))


@contextmanager
def _locked(module):
    # Without the pauses of `FileLock`, which are as long as the work.
    _LOCKS.mkdir(exist_ok=True)
    with (_LOCKS / module.nodeid.replace("/", "-")).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def pytest_xdist_auto_num_workers():
    """Return one worker more than there are cores, because a third of the time of all tests is waiting."""
    return (os.cpu_count() or 1) + 1


def pytest_xdist_setupnodes():
    """Start PostgreSQL once for all workers, which get their environment from this process."""
    os.environ["ZAP_TEST_POSTGRESQL"] = postgresql()


@pytest.fixture(scope="session", autouse=True)
def _starts_without_a_collection():
    """Skip the garbage collection when an app starts. In a process with all libraries of the tests it takes 0.15 s."""

    class Quick:
        collect = staticmethod(lambda: 0)

        def __getattr__(self, name):
            return getattr(gc, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "gc", Quick())
        yield


@pytest.fixture(scope="session", autouse=True)
def _certificates_read_once():
    """Read the certificates of the system once. Each `httpx.get` would read them again, in 0.02 s of a core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx_transports, "create_ssl_context", cache(httpx_transports.create_ssl_context))
        yield


@pytest.fixture(scope="session", autouse=True)
def _routes_read_once():
    """Read the functions behind the routes once. Each app would read them again, in 0.1 s of a core."""
    read_once()
    yield
    read_anew()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch, tmp_path):
    """Hide the developer's ZAP_* variables and .env from the tests."""
    for name in list(os.environ):
        if name.startswith("ZAP_") and not name.startswith("ZAP_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _forked_trainings(request, monkeypatch):
    """Fork the trainings of an app in this process: a new Python takes two seconds of a core to begin one.

    Tests that look for the process of a training, or look into it, take the fixture `new_processes`.
    """
    if "new_processes" not in request.fixturenames:
        monkeypatch.setattr(training_process, "subprocess", of_trainings(COMMANDS.connection))


@pytest.fixture
def new_processes():
    """Let each training of the app start in a new Python, as in a server."""


def absent(what: str) -> None:
    """Skip the test with a reason, or fail if nothing may be skipped."""
    (pytest.fail if NOTHING_IS_SKIPPED else pytest.skip)(f"{what} is not here")


@pytest.fixture(scope="session")
def chromium():
    """Return the path of the browser's program."""
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    return found[0] if found else absent("Chromium")


@pytest.fixture(scope="session")
def _browser(chromium):
    """Yield the browser of all tests of this process, and the event loop of Playwright, which does not look running."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only for the tests that need it

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
                  "--disable-sync", "--disable-component-update", "--no-first-run",
                  # The owner of a name lets it lead wherever they like.
                  "--host-resolver-rules=MAP *.example 127.0.0.1"],
        )  # fmt: skip
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield browser, loop
        asyncio._set_running_loop(loop)
        browser.close()


@pytest.fixture(scope="module")
def browser(_browser):
    """Yield the browser. In other modules its event loop would be in the way of tests that run a loop of their own."""
    browser, loop = _browser
    asyncio._set_running_loop(loop)
    yield browser
    asyncio._set_running_loop(None)


@pytest.fixture
def page(browser, server):
    """Open an empty page beside a real server, and note every problem of the page and every address that it asks."""
    context = browser.new_context(base_url=server.url)
    page = context.new_page()
    page.problems, page.asked = [], []
    page.on("console", lambda message: message.type in {"error", "warning"} and page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    yield page
    context.close()


@pytest.fixture(scope="session")
def postgresql_server():
    try:
        connect(postgresql()).close()
    except psycopg.OperationalError:
        absent("PostgreSQL")


@pytest.fixture
def empty_postgresql_url(postgresql_server):
    """Yield the URL of a new, empty PostgreSQL database."""
    with postgresql_database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request, tmp_path):
    """Return the URL of a database without tables, on each engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'zap.sqlite'}"
    return request.getfixturevalue("empty_postgresql_url")


# One database is upgraded once in a run. Each test works on its own copy.


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Return a function that returns a folder with a name. One worker of pytest-xdist fills it, the others wait."""
    base = tmp_path_factory.getbasetemp()

    def made(name, fill):
        folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                begun = tmp_path_factory.mktemp(name)
                fill(begun)
                begun.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def _sqlite_at_head(made_once):
    return made_once("head", lambda folder: upgrade(f"sqlite:///{folder / 'zap.sqlite'}")) / "zap.sqlite"


@pytest.fixture(scope="session")
def _postgresql_at_head(postgresql_server, made_once):
    made_once("head-postgresql", lambda _: upgrade(shared_database("head")))
    return shared_name("head")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """Yield the URL of a database at head, on each engine."""
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
    """Return the lines that an upgrade of an empty database reports."""
    return [f"upgraded to {revision}" for revision in REVISIONS]


@pytest.fixture
def at_head():
    """Return a function that upgrades a database to head and returns an engine on it."""
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
    """Yield an engine on SQLite, where times are texts that other tools may have written."""
    engine = create_engine(f"sqlite:///{shutil.copy(_sqlite_at_head, tmp_path / 'zap.sqlite')}")
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def zapapp_database():
    """Return the file of ZapApp's real database (read only)."""
    path = SHARED_DATA / "charge_database_alt.sqlite"
    return path if path.exists() else absent(path.name)


@pytest.fixture(scope="session")
def dundee_file():
    """Return the file of real sessions at Dundee's public charge points (read only)."""
    path = SHARED_DATA / "dundee_2018_sessions.csv.gz"
    return path if path.exists() else absent(path.name)


# A third of the default rounds, with steps that are twice as large. Tests that are `long` train with the defaults.
FEWER_ROUNDS = {"n_estimators": 60, "learning_rate": 0.1}


@pytest.fixture(scope="session")
def trained_on_dundee_once(dundee_file, made_once):
    """Return settings of a SQLite database with the real sessions of Dundee and a version (read only)."""

    def settings_in(folder):
        return Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models")

    def fill(folder):
        settings = settings_in(folder)
        upgrade(settings.database_url)
        engine = create_engine(settings.database_url)
        import_history(engine, dundee_file, wall_time=settings.wall_time)
        run_training(engine, settings, options=TrainingOptions(hyper_parameters=FEWER_ROUNDS))
        engine.dispose()

    return settings_in(made_once("trained-on-dundee", fill))


@pytest.fixture
def import_cases():
    """Return the folder of small history files as people have them (read only)."""
    path = SHARED_DATA.with_name("cases") / "import"
    return path if path.exists() else absent(str(path))


# One small history is trained on once in a run. Each test works on its own copy.


def _train(url, models_dir):
    """Store a small synthetic history at `url`, and train a model that serves.

    It has fewer trees than by default, because the app of each test loads them.
    """
    upgrade(url)
    engine = create_engine(url)
    sample = sample_history(seed=1, drivers=40, months=4)
    upsert_history(engine, sample.users, sample.vehicles, sample.sessions)
    settings = Settings(database_url=url, models_dir=models_dir)
    run_training(engine, settings, options=TrainingOptions(hyper_parameters={"n_estimators": 60}))
    engine.dispose()


@pytest.fixture(scope="session")
def _trained_sqlite(made_once):
    """Return the folder of a trained database."""
    return made_once("trained", lambda folder: _train(f"sqlite:///{folder / 'zap.sqlite'}", folder / "models"))


@pytest.fixture(scope="session")
def _trained_postgresql(postgresql_server, made_once):
    """Return the name of a trained database, and the folder with its models."""
    folder = made_once("trained-postgresql", lambda folder: _train(shared_database("trained"), folder / "models"))
    return shared_name("trained"), folder


@pytest.fixture
def trained_sqlite(_trained_sqlite, tmp_path):
    """Return settings of a SQLite database with a model in production."""
    shutil.copy(_trained_sqlite / "zap.sqlite", tmp_path / "zap.sqlite")
    shutil.copytree(_trained_sqlite / "models", tmp_path / "models")
    return Settings(database_url=f"sqlite:///{tmp_path / 'zap.sqlite'}", models_dir=tmp_path / "models")


@pytest.fixture
def trained_postgresql(_trained_postgresql, tmp_path):
    """Yield settings of a PostgreSQL database with a model in production."""
    template, folder = _trained_postgresql
    shutil.copytree(folder / "models", tmp_path / "models")
    with postgresql_database(template) as url:
        yield Settings(database_url=url, models_dir=tmp_path / "models")


@pytest.fixture(params=["sqlite", "postgresql"])
def trained(request):
    """Return settings of a database with a model in production, on each engine."""
    return request.getfixturevalue(f"trained_{request.param}")


def client_of(app, **options):
    """Return a client of an app, or of a new app with these settings. Its base URL has an address as its host."""
    # A training has ten seconds for its first sign of life, so the process that forks it is ready before.
    COMMANDS.connection()
    app = create_app(app) if isinstance(app, Settings) else app
    return TestClient(app, base_url="http://127.0.0.1:8000", **options)


def _alone(settings):
    """Return settings without a follower, which would write beside a test that changes the database."""
    return settings.model_copy(update={"follow": False})


@pytest.fixture
def client(trained):
    """Yield a client of the real app on a trained database, on each engine."""
    with client_of(_alone(trained), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def sqlite_client(trained_sqlite):
    """Yield a client of the real app on a trained SQLite database, for tests that do not depend on the engine."""
    with client_of(_alone(trained_sqlite), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def _shared_client(_trained_sqlite, tmp_path_factory):
    folder = shutil.copytree(_trained_sqlite, tmp_path_factory.mktemp("shared"), dirs_exist_ok=True)
    settings = Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models", follow=False)
    with client_of(settings, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def shared_client(_shared_client):
    """Return a client as `sqlite_client`, whose app the tests of a file share: for requests that change nothing.

    To make an app and to end it takes 0.2 s of a core.
    """
    _shared_client.cookies.clear()
    return _shared_client


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def _shared_clients(request, tmp_path_factory):
    if request.param == "sqlite":
        yield request.getfixturevalue("_shared_client")
        return
    template, trained = request.getfixturevalue("_trained_postgresql")
    models = shutil.copytree(trained / "models", tmp_path_factory.mktemp("shared") / "models")
    with postgresql_database(template) as url:
        settings = Settings(database_url=url, models_dir=models, follow=False)
        with client_of(settings, raise_server_exceptions=False) as client:
            yield client


@pytest.fixture
def shared_clients(_shared_clients):
    """Return a client as `client`, whose app the tests of a file share on each engine (see `shared_client`)."""
    _shared_clients.cookies.clear()
    return _shared_clients


@pytest.fixture
def untrained_client(database_url, tmp_path):
    """Yield a client of the real app on a database without history or model, on each engine."""
    settings = Settings(database_url=database_url, models_dir=tmp_path / "models", follow=False)
    with client_of(settings, raise_server_exceptions=False) as client:
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
    """Return a function that makes the database refuse the COMMIT of every log row, after `after` more rows."""

    def refuse(engine, after=0):
        with engine.begin() as connection:
            last = connection.scalar(select(func.max(Prediction.__table__.c.prediction_id))) or 0
            for statement in (*_REFUSAL, *_REFUSE[engine.dialect.name]):
                connection.exec_driver_sql(statement.format(last + after))

    return refuse


# With a start, because a request without one starts now: two answers to it, an hour apart, may differ. It is later than
# all sessions of the tests, so that all of them are known.
GOOD_REQUEST = {feature.name: feature.example for feature in FEATURES if not feature.context} | {
    "charging_start_time": "2030-01-07T18:30:00"
}


@pytest.fixture
def good_request():
    return dict(GOOD_REQUEST)


def counted(app, table):
    """Return the number of rows of a table in an app's database. Reading all rows would take longer than a request."""
    with app.state.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(table))


@pytest.fixture
def rows():
    """Return a function that reads all rows of a table in an app's database, as dicts in order of their key."""

    def read(app, table):
        with app.state.engine.connect() as connection:
            key = next(iter(table.__table__.primary_key))
            return [dict(row) for row in connection.execute(select(table.__table__).order_by(key)).mappings()]

    return read


@pytest.fixture
def serve():
    """Yield a function that starts servers, and end the servers that a test leaves running."""
    servers = []

    def start(settings, *arguments, **options):
        servers.append(Server(settings, *arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def server(serve, trained_sqlite):
    """Return a running server on a trained SQLite database."""
    return serve(trained_sqlite).wait()


@pytest.fixture
def zap_command():
    """Return a function that runs `zap` in its own process, as a user would."""

    def run(*arguments, settings=None, text=None):
        environment = os.environ | (settings.environment() if settings else {})
        return COMMANDS.run([*map(str, arguments)], environment, text)

    return run


@pytest.fixture
def empty_settings(empty_database_url, tmp_path):
    """Return settings of a database without tables, on each engine."""
    return Settings(database_url=empty_database_url, models_dir=tmp_path / "models")
