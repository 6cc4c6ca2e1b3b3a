"""PostgreSQL behind a pooler that gives each transaction another connection of the server."""

import subprocess
import sys
import time

import httpx
import psycopg
import pytest
from alembic import command
from databases import config_for, connect
from faults.asking import ask
from servers import until
from sqlalchemy import text

from zap.db import migration_locks
from zap.db.engine import RawConnection, create_engine, write_transaction
from zap.db.runs.training_runs import claim_run
from zap.db.schema import check_at_head, upgrade
from zap.errors import UpgradeBlocked

LIMITS = "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
# As poolers are set up for clients that insist on options, which they then do not get.
MODES = pytest.mark.parametrize("settings", [{}, {"ignore_startup_parameters": "options"}], ids=["refuses", "ignores"])


@MODES
def test_an_upgrade_and_serving_work_through_it(serve, trained_postgresql, pgbouncer, good_request, settings):
    through = trained_postgresql.model_copy(
        update={"database_url": pgbouncer(trained_postgresql.database_url, **settings)}
    )
    upgrade(through.database_url)
    server = serve(through).wait()

    # More than enough for statements to be prepared, on all connections.
    for _ in range(10):
        replies = ask(server.url, good_request, 30)
        replies += ask(server.url, good_request | {"user_id": "sample-1-00003"}, 5)
        assert {status for status, _, _ in replies} == {200}
    ids = [body["prediction_id"] for _, body, _ in replies]
    assert len(set(ids)) == len(ids)
    assert httpx.get(f"{server.url}/predictions/{ids[0]}").json()["prediction_id"] == ids[0]
    batch = httpx.post(f"{server.url}/predict/batch", json={"inputs": [good_request] * 2000}, timeout=60)
    assert batch.json()["answered"] == 2000
    ready = httpx.get(f"{server.url}/health/ready")
    assert ready.status_code == 200, ready.text
    quick = {"promote": "always", "hyper_parameters": {"n_estimators": 10}}
    trained = httpx.post(f"{server.url}/train-model", json=quick, timeout=120)
    assert trained.status_code == 200, trained.text
    assert httpx.post(f"{server.url}/models/rollback").status_code == 200
    until(lambda: ask(server.url, good_request, 1)[0][0] == 200)
    assert "prepared statement" not in server.log()


def test_a_new_database_is_made_through_it_and_two_upgrades_keep_each_other_out(
    empty_postgresql_url, pgbouncer, upgraded
):
    url = pgbouncer(empty_postgresql_url)
    program = "import sys; from zap.db.schema import upgrade; upgrade(sys.argv[1], print)"
    command = [sys.executable, "-c", program, url]
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(one.communicate(timeout=60)[0] for one in pair)
    assert said == ["", "".join(f"{line}\n" for line in upgraded)]
    engine = create_engine(url)
    assert check_at_head(engine) is None
    engine.dispose()


def test_a_pooler_that_gives_a_connection_to_each_client_for_as_long_as_it_is_there(empty_postgresql_url, pgbouncer):
    # The pooler has two connections, so the upgrade has none left to find blocking processes.
    url = pgbouncer(empty_postgresql_url, pool_mode="session")
    engine = create_engine(url)
    upgrade(url)
    assert check_at_head(engine) is None
    engine.dispose()


@MODES
def test_each_transaction_has_its_limits_and_nobody_elses_keeps_them(empty_postgresql_url, pgbouncer, settings):
    upgrade(empty_postgresql_url)
    engine = create_engine(pgbouncer(empty_postgresql_url, **settings, default_pool_size=1), patience=3, serves=True)
    driver = RawConnection(engine)

    for _ in range(3):
        with write_transaction(engine) as connection:
            assert tuple(connection.execute(text(LIMITS)).one()) == ("3s", "30s")
        with driver.transaction() as cursor:
            cursor.execute(LIMITS)
            assert cursor.fetchone() == ("3s", "30s")

    through = engine.url
    with psycopg.connect(host=through.host, port=through.port, user=through.username, dbname=through.database) as other:
        assert other.execute(LIMITS).fetchone() == ("0", "0")
    driver.close()
    engine.dispose()


def test_a_lock_is_given_up_in_time_behind_it(empty_postgresql_url, pgbouncer):
    upgrade(empty_postgresql_url)
    engine = create_engine(pgbouncer(empty_postgresql_url), patience=1)
    holder = create_engine(empty_postgresql_url)
    with holder.begin() as connection:
        connection.execute(text("LOCK TABLE training_runs"))
        begun = time.monotonic()
        with pytest.raises(Exception, match="lock timeout"):
            claim_run(engine, "train", {})
        assert time.monotonic() - begun < 5
    for one in (engine, holder):
        one.dispose()


def test_whoever_is_in_the_way_of_an_upgrade_is_named_behind_it(empty_postgresql_url, pgbouncer, monkeypatch):
    monkeypatch.setattr(migration_locks, "_PATIENCE_SECONDS", 3)
    url = pgbouncer(empty_postgresql_url, default_pool_size=8)
    # Before the newest indexes of predictions.
    command.upgrade(config_for(url), "0003")
    engine = create_engine(empty_postgresql_url)
    with connect(empty_postgresql_url, application_name="slow report") as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM predictions")
        with pytest.raises(UpgradeBlocked, match=f"pid {reader.info.backend_pid} .slow report"):
            upgrade(url)
    upgrade(url)
    assert check_at_head(engine) is None
    engine.dispose()


def test_connections_that_know_the_server_itself_still_prepare_their_statements(empty_postgresql_url):
    engine = create_engine(empty_postgresql_url)
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert (driver.limits, driver.prepare_threshold) == ("", 5)
    engine.dispose()


def test_a_pooler_without_room_for_an_upgrade_is_told_in_a_sentence(empty_postgresql_url, pgbouncer, zap_command):
    # The user sees a message instead of a traceback, and the upgrade ends in time.
    url = pgbouncer(empty_postgresql_url, default_pool_size=1, query_wait_timeout=2)

    done = zap_command("db", "upgrade", "--database-url", url)

    assert done.returncode == 15
    assert "query_wait_timeout" in done.stderr
    assert "Traceback" not in done.stderr
