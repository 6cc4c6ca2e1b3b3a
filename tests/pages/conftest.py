"""Fixtures of the tests of pages."""

import re

import pytest
from conftest import client_of
from pydantic import SecretStr

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
