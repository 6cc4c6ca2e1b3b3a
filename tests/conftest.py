"""What the tests share: a real database of each kind, upgraded by the migrations."""

import os
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url

from zap.db.engine import create_engine
from zap.db.schema import upgrade

POSTGRESQL = os.environ.get("ZAP_TEST_POSTGRESQL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
# In CI nothing that matters is skipped: what is missing fails.
NOTHING_IS_SKIPPED = bool(os.environ.get("ZAP_TEST_DEMAND_ALL"))


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
        host=url.host, port=url.port, user=url.username, password=url.password, dbname=url.database,
        autocommit=True, connect_timeout=3,
    )


@pytest.fixture(scope="session")
def postgresql_server():
    try:
        _admin().close()
    except psycopg.OperationalError:
        absent("PostgreSQL")


@pytest.fixture
def empty_postgresql_url(postgresql_server):
    """A new, empty PostgreSQL database."""
    name = f"zap_test_{uuid4().hex}"
    with _admin() as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    yield make_url(POSTGRESQL).set(database=name).render_as_string(hide_password=False)
    with _admin() as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request, tmp_path):
    """Where a database may be made, on each engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'zap.sqlite'}"
    return request.getfixturevalue("empty_postgresql_url")


@pytest.fixture
def database_url(empty_database_url):
    """A database at head, on each engine."""
    upgrade(empty_database_url)
    return empty_database_url


@pytest.fixture
def engine(database_url):
    engine = create_engine(database_url)
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
