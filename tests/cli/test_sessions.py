"""zap sessions remove, from the shell."""

import json

import pytest
from histories import add_sessions, session_row
from sqlalchemy import select

from zap.db.engine import create_engine
from zap.db.history.history_rows import SESSIONS
from zap.db.history.session_ids import number_texts


@pytest.fixture
def settings(trained_sqlite):
    """Settings of a database with three sessions: of a number, of a text, and of no id."""
    engine = create_engine(trained_sqlite.database_url)
    with engine.begin() as connection:
        numbers = number_texts(connection, ["tx-1"])
    add_sessions(engine, session_row(session_id=900_001), session_row(session_id=numbers["tx-1"]))
    engine.dispose()
    return trained_sqlite


def ids(settings):
    engine = create_engine(settings.database_url)
    with engine.connect() as connection:
        found = set(connection.scalars(select(SESSIONS.c.session_id)))
    engine.dispose()
    return found


def test_sessions_are_removed(zap_command, settings):
    before = ids(settings)
    oldest = min(before)

    done = zap_command("sessions", "remove", 900_001, oldest, settings=settings)
    assert (done.returncode, done.stdout) == (0, "removed 2 sessions from the history\n"), done.stderr
    assert ids(settings) == before - {900_001, oldest}

    again = zap_command("sessions", "remove", "--json", 900_001, "tx-2", -900_000, settings=settings)
    assert again.returncode == 20
    assert json.loads(again.stdout)["detail"] == "there is no session 900001, tx-2, -900000; nothing was removed"
    assert "Traceback" not in again.stderr


def test_the_json_has_the_ids(zap_command, settings):
    done = zap_command("sessions", "remove", "900001", "900001", "tx-1", "--json", settings=settings)

    assert (done.returncode, json.loads(done.stdout)) == (0, {"removed": [900_001, "tx-1"]}), done.stderr


def test_bytes_that_are_no_text_are_no_id(zap_command, settings):
    done = zap_command("sessions", "remove", "--json", "tx-\udcff", settings=settings)

    assert done.returncode == 20, done.stderr
    assert json.loads(done.stdout)["title"] == "Not found"
    assert "Traceback" not in done.stderr
