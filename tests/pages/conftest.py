"""Fixtures of the tests of pages."""

import re
import shutil
from types import SimpleNamespace

import pytest
from conftest import client_of
from pydantic import SecretStr
from servers import Server
from sqlalchemy import func, select
from sqlmodel import col
from used import use

from zap.db.engine import create_engine
from zap.db.tables import Prediction
from zap.settings import Settings

KEY = "correct horse battery"


def token_of(page):
    """Return the token in the forms of a page."""
    return re.search(r'name="token" value="([0-9a-f]+)"', page.text)[1]


@pytest.fixture
def guarded(trained_sqlite):
    """Yield a client of an app with an API key, which has not logged in."""
    settings = trained_sqlite.model_copy(update={"api_key": SecretStr(KEY), "follow": False})
    with client_of(settings) as client:
        yield client


@pytest.fixture
def log_in():
    """Return a function that logs a client in as a browser does, and returns the reply to the form."""

    def log_in(client, key=KEY, after="/"):
        page = client.get("/pages/login", params={"next": after})
        form = {"token": token_of(page), "key": key, "next": after}
        return client.post("/pages/login", data=form, follow_redirects=False)

    return log_in


@pytest.fixture(scope="session")
def _used(_trained_sqlite, made_once):
    """Return the folder of a database in use."""

    def fill(folder):
        shutil.copytree(_trained_sqlite, folder, dirs_exist_ok=True)
        engine = create_engine(f"sqlite:///{folder / 'zap.sqlite'}")
        use(engine)
        engine.dispose()

    return made_once("used", fill)


@pytest.fixture(scope="module")
def used_server(_used, tmp_path_factory):
    """Yield the address and the database of a server on a database in use, and the number of its newest answer."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(_used, folder, dirs_exist_ok=True)
    settings = Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models", follow=False)
    engine = create_engine(settings.database_url)
    with engine.connect() as connection:
        answer = connection.scalar(select(func.max(col(Prediction.prediction_id))))
    server = Server(settings).wait()
    yield SimpleNamespace(url=server.url, engine=engine, answer=answer)
    server.close()
    engine.dispose()


@pytest.fixture(scope="module")
def empty_server(_sqlite_at_head, tmp_path_factory):
    """Yield a server on an empty database."""
    folder = tmp_path_factory.mktemp("empty")
    shutil.copy(_sqlite_at_head, folder / "zap.sqlite")
    server = Server(
        Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models", follow=False)
    )
    yield server.wait()
    server.close()
