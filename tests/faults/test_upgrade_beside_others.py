"""An upgrade of PostgreSQL beside others: who commits goes on, and who is in the way is named."""

import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import psycopg
import pytest
from alembic import command
from databases import HEAD, config_for, connect
from faults.asking import ask
from servers import until

from zap.db import migration_locks
from zap.db.schema import upgrade
from zap.errors import UpgradeBlocked

INSERT = "INSERT INTO predictions (prediction_timestamp, source, predicted_class) VALUES (now(), 'inference', 'a')"
# A commit waits for at most one short attempt; a busy machine takes longer.
SOON = 1.5


@contextmanager
def committing(url, statement=INSERT):
    """Somebody who commits without a pause; how long each commit took."""
    seconds, errors, over = [], [], threading.Event()

    def commit():
        with connect(url) as connection:
            while not over.wait(0.01):
                begun = time.monotonic()
                try:
                    connection.execute(statement)
                    connection.commit()
                except psycopg.Error as error:
                    errors.append(error)
                    return
                seconds.append(time.monotonic() - begun)

    thread = threading.Thread(target=commit)
    thread.start()
    yield seconds
    over.set()
    thread.join()
    assert errors == []


@pytest.fixture
def patience(monkeypatch):
    """Sets how long upgrades wait for others."""
    return lambda seconds: monkeypatch.setattr(migration_locks, "_PATIENCE_SECONDS", seconds)


@pytest.fixture
def at(empty_postgresql_url):
    """Brings an empty database to a revision."""

    def to(revision):
        command.upgrade(config_for(empty_postgresql_url), revision)
        return empty_postgresql_url

    return to


def revision(url):
    with connect(url) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def indexes(url):
    with connect(url) as connection:
        found = connection.execute(
            "SELECT indexdef FROM pg_indexes JOIN pg_class ON relname = indexname JOIN pg_index ON indexrelid = oid"
            " WHERE tablename = 'predictions' AND indisvalid ORDER BY 1"
        )
        return [row[0] for row in found]


@pytest.mark.parametrize(
    ("start", "table", "stopped_at"),
    [("0001", "predictions", "0001"), ("0002", "training_runs", "0002"), ("0003", "predictions", "0003")],
)
def test_beside_somebody_who_reads_for_long_commits_go_on_and_the_reader_is_named(
    at, patience, start, table, stopped_at
):
    url = at(start)
    patience(4)
    with connect(url, application_name="slow report") as reader, committing(url) as seconds:
        reader.execute(f"SELECT count(*) FROM {table}").fetchone()
        pid = reader.info.backend_pid
        begun = time.monotonic()

        with pytest.raises(UpgradeBlocked, match=rf"pid {pid} \(slow report, user \w+, idle in transaction") as refused:
            upgrade(url)

        assert 3 < time.monotonic() - begun < 15
        assert f"pg_terminate_backend({pid})" in refused.value.message
    assert max(seconds) < SOON
    assert len(seconds) > 50
    assert revision(url) == stopped_at

    # Nobody reads any more, and what was begun is finished.
    upgrade(url)
    assert revision(url) == HEAD
    command.check(config_for(url))


def test_it_goes_on_as_soon_as_the_reader_has_gone(at, patience):
    url = at("0003")
    patience(30)
    with connect(url) as reader, committing(url) as seconds:
        reader.execute("SELECT count(*) FROM predictions").fetchone()
        upgrading = threading.Thread(target=upgrade, args=[url])
        upgrading.start()
        time.sleep(3)
        assert revision(url) == "0003"
        reader.rollback()
        upgrading.join(20)
        assert not upgrading.is_alive()
    assert revision(url) == HEAD
    assert max(seconds) < SOON
    assert len([one for one in indexes(url) if " WHERE " in one]) == 2


@pytest.mark.parametrize("to", ["0003", "0002"])
def test_the_way_back_lets_commits_through_too(at, patience, to):
    url = at("head")
    patience(3)
    with connect(url, application_name="slow report") as reader, committing(url) as seconds:
        reader.execute("SELECT count(*) FROM predictions").fetchone()
        with pytest.raises(UpgradeBlocked, match="slow report"):
            command.downgrade(config_for(url), to)
    assert max(seconds) < SOON
    command.downgrade(config_for(url), to)
    assert revision(url) == to


def test_an_index_takes_as_long_as_it_takes(at, patience):
    # While the index is built, rows are added, and no process gives up.
    url = at("0003")
    with connect(url) as connection:
        connection.execute(
            "INSERT INTO predictions (prediction_timestamp, source, predicted_class, model_version)"
            " SELECT now(), 'train', 'a', i % 10 FROM generate_series(1, 1500000) AS i"
        )
    patience(0.1)
    with committing(url) as seconds:
        upgrade(url)
    assert revision(url) == HEAD
    assert max(seconds) < SOON


STEPS = [
    "CREATE INDEX ix_predictions_model_version ON predictions (model_version) WHERE source = 'train'",
    "ALTER INDEX ix_predictions_input_id RENAME TO ix_predictions_input_id_before",
    "CREATE INDEX ix_predictions_input_id ON predictions (input_id) WHERE input_id IS NOT NULL",
    # As one is left whose making was interrupted.
    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_predictions_input_id'::regclass",
    "DROP INDEX ix_predictions_source_model_version",
]


@pytest.mark.parametrize("done", range(1, 1 + len(STEPS)))
def test_what_an_upgrade_was_killed_in_is_taken_up_again(at, done):
    url = at("head")
    head = indexes(url)
    command.downgrade(config_for(url), "0003")
    with connect(url) as connection:
        for step in STEPS[:done]:
            connection.execute(step)

    upgrade(url)

    assert indexes(url) == head


def test_two_upgrades_at_once_do_not_wait_for_each_other_for_ever(at):
    # The build of an index waits for open transactions, and must not wait for the second upgrade.
    url = at("0003")
    program = "import sys; from zap.db.schema import upgrade; upgrade(sys.argv[1])"
    pair = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(2)]
    assert [one.wait(60) for one in pair] == [0, 0]
    assert revision(url) == HEAD


def test_a_serving_zap_answers_while_the_database_is_upgraded_under_it(
    serve, trained_postgresql, good_request, patience
):
    # The database is downgraded and upgraded again, and a reader is in the way.
    url = trained_postgresql.database_url
    server = serve(trained_postgresql).wait()
    patience(30)
    replies, over = [], threading.Event()

    def request():
        while not over.is_set():
            replies.extend(ask(server.url, good_request, 2))

    asking = threading.Thread(target=request)
    asking.start()
    with connect(url) as reader:
        reader.execute("SELECT count(*) FROM predictions").fetchone()
        changing = threading.Thread(target=lambda: [command.downgrade(config_for(url), "0003"), upgrade(url)])
        changing.start()
        time.sleep(3)
        reader.rollback()
        changing.join(60)
        assert not changing.is_alive()
    until(lambda: len(replies) > 50)
    over.set()
    asking.join()
    assert {status for status, _, _ in replies} == {200}
    assert max(seconds for _, _, seconds in replies) < 2 * SOON
