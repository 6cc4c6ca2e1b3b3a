"""What zap says about a database that cannot be used: the reason once, and an advice that fits it."""

import sqlite3

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from zap.db import schema
from zap.db.engine import create_engine
from zap.db.schema import check_at_head, upgrade
from zap.db.unusable import unusable
from zap.errors import DatabaseUnavailable


def told(url):
    """Return what is said about a database that cannot be used."""
    engine = create_engine(url, patience=2)
    with pytest.raises(DatabaseUnavailable) as caught:
        check_at_head(engine)
    engine.dispose()
    assert "cannot be used" not in caught.value.message
    assert caught.value.message.count(make_url(url).render_as_string(hide_password=True)) == 1
    return caught.value.message


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid"])
def test_a_server_that_is_not_there(host):
    said = told(f"postgresql+psycopg://zap:s3cret@{host}/zap")

    assert said.endswith("Check that the server runs, and the host and the port in ZAP_DATABASE_URL")
    assert "lock" not in said


def test_a_database_that_the_server_does_not_have(empty_postgresql_url):
    url = make_url(empty_postgresql_url).set(database="no_such_database")

    assert told(url.render_as_string(hide_password=False)).endswith(
        "Create this database, or correct its name in ZAP_DATABASE_URL"
    )


def test_a_user_that_the_server_does_not_know(empty_postgresql_url):
    url = make_url(empty_postgresql_url).set(username="no_such_user")

    assert "Check the user and the password" in told(url.render_as_string(hide_password=False))


def test_a_folder(tmp_path):
    assert "may read and write the file" in told(f"sqlite:///{tmp_path}")


def test_a_file_that_is_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(schema, "_SQLITE_PATIENCE_SECONDS", 0.1)
    holder = sqlite3.connect(tmp_path / "zap.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")

    with pytest.raises(DatabaseUnavailable, match=r"database is locked\. Another program keeps it locked: end"):
        upgrade(f"sqlite:///{tmp_path / 'zap.sqlite'}")
    holder.close()


def test_a_reason_without_an_advice_stays_a_sentence():
    error = OperationalError("SELECT 1", None, sqlite3.OperationalError("something rare"))

    assert unusable(make_url("sqlite:///x.sqlite"), error).message == "sqlite:///x.sqlite: something rare"
