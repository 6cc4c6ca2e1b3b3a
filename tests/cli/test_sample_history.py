"""zap sample-history beside real sessions: it asks before it mixes them, and its removal leaves the real ones."""

import json
import os
import pty
import subprocess
import sys
import time

import pytest
from histories import add_sessions, session_row
from sqlalchemy import func, select

from zap.db.engine import create_engine
from zap.db.history.history_rows import SESSION_FACTS, SESSIONS, USERS, VEHICLES
from zap.db.history.history_store import upsert_history
from zap.db.history.sample_rows import has_other_sessions, remove_sample
from zap.errors import NotConfirmed
from zap.ml.features import is_sample_user
from zap.ml.sample import sample_history
from zap.settings import Settings

SMALL = ("--drivers", "2", "--months", "1")


def counts(engine):
    with engine.connect() as connection:
        return [
            connection.scalar(select(func.count()).select_from(table))
            for table in (USERS, VEHICLES, SESSIONS, SESSION_FACTS)
        ]


def add_sample(engine, drivers=3):
    sample = sample_history(drivers=drivers, months=1)
    upsert_history(engine, sample.users, sample.vehicles, sample.sessions)
    return sample


@pytest.mark.parametrize(
    ("user_id", "is_sample"),
    [
        ("sample-42-00007", True),
        ("sample-0-12345", True),
        ("sample-customer", False),
        ("sample-42-7", False),
        ("sample-42-00007-b", False),
        ("Sample-42-00007", False),
        ("xsample-42-00007", False),
        ("42", False),
        (None, False),
    ],
)
def test_sessions_of_other_drivers_are_noticed(engine, user_id, is_sample):
    add_sample(engine)
    assert not has_other_sessions(engine)

    add_sessions(engine, session_row(user_id=user_id))

    assert has_other_sessions(engine) == (not is_sample)
    assert is_sample_user(user_id or "") == is_sample


def test_the_removal_takes_out_the_sample_and_nothing_else(engine, monkeypatch):
    # Several transactions, as for a large sample.
    monkeypatch.setattr("zap.db.history.sample_rows._SESSIONS_AT_A_TIME", 10)
    monkeypatch.setattr("zap.db.history.sample_rows.IN_ONE_QUESTION", 2)
    real = [session_row(user_id=user_id) for user_id in ("u1", "sample-customer", None)]
    add_sessions(engine, *real)
    before = counts(engine)
    sample = add_sample(engine)
    # A session of the app for a driver of the sample, and a real session with a vehicle of the sample.
    with engine.connect() as connection:
        vehicle = connection.scalar(select(func.min(VEHICLES.c.vehicle_id)))
    add_sessions(engine, session_row(user_id="sample-42-00001"), session_row(user_id="u2", vehicle_id=vehicle))
    steps = []

    removed = remove_sample(engine, lambda what, done, total, _=None: steps.append((what, done, total)))

    assert removed == (3, 2, len(sample.sessions) + 1)
    # Empty facts keep the lowest number of the sample, so that no other session gets it.
    assert counts(engine) == [before[0], before[1] + 1, before[2] + 1, before[3] + 1]
    assert steps == [("removing", 0, 3), ("removing", 2, 3), ("removing", 3, 3)]
    assert remove_sample(engine) == (0, 0, 0)


def test_without_a_terminal_it_refuses_and_names_the_option(zap_command, database_url, tmp_path):
    settings = Settings(database_url=database_url, models_dir=tmp_path)
    engine = create_engine(database_url)
    # Beside a sample only: nothing to ask.
    assert zap_command("sample-history", *SMALL, settings=settings).returncode == 0
    add_sessions(engine, session_row(user_id="real"))
    before = counts(engine)

    refused = zap_command("sample-history", *SMALL, "--seed", "7", settings=settings, text="y\n")

    assert refused.returncode == NotConfirmed.exit_code
    assert "--yes" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert counts(engine) == before
    assert zap_command("sample-history", *SMALL, "--seed", "7", "--yes", settings=settings).returncode == 0
    assert counts(engine)[0] == before[0] + 2
    removed = json.loads(zap_command("sample-history", "--remove", "--json", settings=settings).stdout)
    assert (removed["users"], removed["vehicles"]) == (4, 4)
    assert counts(engine)[:3] == [0, 0, 1]
    assert "there is no sample" in zap_command("sample-history", "--remove", settings=settings).stdout
    wrong = zap_command("sample-history", "--remove", "--seed", "42", settings=settings)
    assert (wrong.returncode, "leave out --seed" in wrong.stderr) == (2, True)
    engine.dispose()


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 34), (b"\x04", 34), (b"\x03", 130)])
def test_on_a_terminal_it_asks(sqlite_engine, answer, code):
    add_sessions(sqlite_engine, session_row(user_id="real"))
    ours, theirs = pty.openpty()
    url = sqlite_engine.url.render_as_string(hide_password=False)
    with subprocess.Popen(
        [sys.executable, "-m", "zap", "sample-history", *SMALL, "--json", "--database-url", url],
        env=os.environ, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, start_new_session=True,
        preexec_fn=take_terminal,  # noqa: PLW1509 - no thread of the test holds a lock here
    ) as child:  # fmt: skip
        os.close(theirs)
        shown = b""
        while b"[y/N]" not in shown:
            shown += os.read(ours, 1000)
        assert b"sessions that are not part of the sample" in shown
        os.write(ours, answer)
        # Python does not notice a Ctrl-C between the question and the read of the answer, so it is pressed again.
        while answer == b"\x03" and runs_on(child):
            os.write(ours, answer)
        out = child.stdout.read()
    os.close(ours)

    assert child.returncode == code
    if code == 0:
        assert json.loads(out)["users"] == 2
    elif code == NotConfirmed.exit_code:
        assert json.loads(out)["type"] == "urn:zap:problem:not-confirmed"
    else:
        assert out == b""
    assert counts(sqlite_engine)[0] == (2 if code == 0 else 0)


def runs_on(child):
    """Return whether a process still runs after a second."""
    try:
        child.wait(1)
    except subprocess.TimeoutExpired:
        return True
    return False


def take_terminal():
    """Make standard input the terminal of this process, so that Ctrl-C in it is a signal."""
    import fcntl  # noqa: PLC0415 - in the child
    import termios  # noqa: PLC0415

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_server_notices_the_removal(client, good_request):
    engine = client.app.state.engine
    asked = good_request | {"user_id": "sample-1-00003", "charging_start_time": "2030-01-01T10:00:00"}
    assert client.post("/predict", json=asked).json()["history_sessions"] > 0

    remove_sample(engine)

    end = time.monotonic() + 2
    while client.post("/predict", json=asked).json()["history_sessions"] > 0:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_removal_names_the_version_that_was_trained_on_the_sample(zap_command, trained_sqlite):
    removed = json.loads(zap_command("sample-history", "--remove", "--json", settings=trained_sqlite).stdout)

    assert removed["users"] == 40
    assert removed["warning"].startswith("Version 1 was trained on synthetic sessions")
    assert (
        "(zap import-history), then train (zap train). Until then, this version continues to serve."
        in removed["warning"]
    )
