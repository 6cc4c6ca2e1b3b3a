"""zap follow, from the shell: everything, anew, until it is told to stop, and after a kill at any moment."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest
from followed import follow, follower, log_answers, outcomes, row_of, session, statuses
from forked import COMMANDS
from histories import add_sessions
from servers import until
from sqlalchemy import text

from zap.cli.following import Turns
from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.log_portion import MOST_ANSWERS
from zap.settings import Settings


@pytest.fixture
def settings(database_url, tmp_path):
    return Settings(database_url=database_url, models_dir=tmp_path / "models", timezone="UTC")


@pytest.fixture
def engine(settings):
    engine = create_engine(settings.database_url)
    log_answers(engine, row_of(1), row_of(2, after=1))
    add_sessions(engine, session(7, 2))
    yield engine
    engine.dispose()


def started(settings, stderr=None):
    with Path(os.devnull).open("r+b", buffering=0) as nothing:
        streams = [nothing.fileno(), nothing.fileno(), stderr or nothing.fileno()]
        return COMMANDS.start(["follow"], os.environ | settings.environment(), streams)


def test_once_follows_everything_and_ends(zap_command, settings, engine):
    done = zap_command("follow", "--once", "--json", settings=settings)

    assert (done.returncode, json.loads(done.stdout)) == (0, {"rows": 2, "changed": 0}), done.stderr
    assert statuses(engine) == {1: ("superseded", 7), 2: ("matched", 7)}


def test_from_start_makes_all_rows_again(zap_command, settings, engine):
    follow(engine)
    before = outcomes(engine)
    with write_transaction(engine) as connection:
        connection.execute(text("UPDATE outcomes SET status = 'waiting'"))
    done = zap_command("follow", "--from-start", "--once", settings=settings)

    assert (done.returncode, done.stdout) == (0, "read 2 rows of the log; 0 outcomes changed\n"), done.stderr
    assert outcomes(engine) == before


def test_a_follower_that_runs_begins_anew(zap_command, settings, engine):
    other = follower(engine)
    other.look()
    done = zap_command("follow", "--from-start", "--once", settings=settings)

    assert (done.returncode, "another process follows; it begins with the first answer" in done.stderr) == (0, True)
    assert other.rows == 2
    # It notices with its next heartbeat.
    until(lambda: other.look() and other.rows == 4, 20)
    assert statuses(engine) == {1: ("superseded", 7), 2: ("matched", 7)}


def test_once_ends_with_31_if_another_process_follows(zap_command, settings, engine):
    other = follower(engine)
    other.look()

    done = zap_command("follow", "--once", settings=settings)

    assert (done.returncode, done.stdout) == (31, "")
    assert "Another process follows already: it does all that this command would do" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_goes_on_after_the_database_has_refused_a_look(settings, engine):
    reading, writing = os.pipe()
    process = started(settings, stderr=writing)
    os.close(writing)
    with open(reading) as lines:  # noqa: PTH123 - the number of an open file
        until(lambda: len(statuses(engine)) == 2, 20)
        with write_transaction(engine) as connection:
            connection.execute(text("ALTER TABLE outcomes RENAME TO outcomes_elsewhere"))
        log_answers(engine, row_of(3))
        said = next((line for line in lines if "tries again" in line), None)
        with write_transaction(engine) as connection:
            connection.execute(text("ALTER TABLE outcomes_elsewhere RENAME TO outcomes"))
        until(lambda: len(statuses(engine)) == 3, 20)
        process.terminate()
        assert (process.wait(20), said is None) == (0, False)


@pytest.mark.parametrize(
    ("database_url", "sign"), [("sqlite", signal.SIGINT), ("postgresql", signal.SIGTERM)], indirect=["database_url"]
)
def test_it_follows_until_it_is_told_to_stop_and_lets_another_process_follow(settings, engine, sign):
    process = started(settings)
    until(lambda: len(statuses(engine)) == 2)
    log_answers(engine, row_of(3))
    until(lambda: len(statuses(engine)) == 3)
    process.send_signal(sign)

    assert process.wait(20) == 0
    assert follower(engine).look()


def test_after_a_kill_at_any_moment_the_rows_are_those_of_an_undisturbed_run(settings, engine):
    numbers = range(3, 4 * MOST_ANSWERS[engine.dialect.name])
    rows = [row_of(number, f"u{number % 97}", number / 60, 400) for number in numbers]
    log_answers(engine, *rows)
    add_sessions(engine, *(session(number, number / 7, f"u{number % 97}") for number in range(8, 400)))
    counts = []
    for share in (0.1, 0.5):
        process = started(settings)
        until(lambda share=share: len(statuses(engine)) > share * len(rows))
        process.kill()
        process.wait(20)
        counts.append(len(statuses(engine)))
        with write_transaction(engine) as connection:
            connection.execute(text("UPDATE follower SET heartbeat_at = NULL"))
    follow(engine)
    disturbed = outcomes(engine)
    with write_transaction(engine) as connection:
        connection.execute(text("DELETE FROM outcomes"))
        connection.execute(text("DELETE FROM follower"))
    follow(engine)

    assert counts[0] < len(rows)
    assert len(disturbed) == len(rows) + 2
    assert outcomes(engine) == disturbed


def test_requests_go_first_while_servers_log_answers(engine, monkeypatch):
    paused = []
    told = threading.Event()
    monkeypatch.setattr(told, "wait", paused.append)
    turns = Turns(engine, told)
    turns.pause()
    assert paused == []

    log_answers(engine, row_of(3))
    turns.pause()
    turns.pause()

    assert len(paused) == 1
    assert 0 < paused[0] <= 3
