"""Pages and lists from a standby that streams: what was committed is seen at once, and a standby may fail."""

import json
import shutil
import signal
from contextlib import closing

import httpx
import pytest
from conftest import GOOD_REQUEST, absent
from databases import connect
from own_postgresql import OwnPostgresql, is_installed
from servers import until
from sqlalchemy import create_engine
from trialled import add_copies

from zap.db.schema import upgrade
from zap.errors import InvalidSettings
from zap.flows.database_copy import CopyOptions, copy_database
from zap.settings import Settings, read_settings

PAGES = ("/", "/pages/predictions", "/pages/quality", "/pages/data", "/pages/models", "/pages/alarms")
SAYS_OLD = "This page is from a replica"
NOT_USED = "the read replica is not used; pages and lists are read from the primary"


@pytest.fixture(scope="module")
def servers(_trained_sqlite, tmp_path_factory):
    """A primary with a trained database of two versions, and its standby."""
    if not is_installed():
        absent("PostgreSQL's programs")
    folder = tmp_path_factory.mktemp("source")
    with closing(OwnPostgresql(wal_level="replica", max_wal_senders="4").make()) as primary:
        assert primary.start()
        upgrade(primary.url)
        # The copy is noted in the audit of its source, which other tests share.
        source = f"sqlite:///{shutil.copy(_trained_sqlite / 'zap.sqlite', folder)}"
        assert copy_database(source, primary.url, CopyOptions(finish=True, force=True, compare_all=True)).finished
        engine = create_engine(primary.url)
        add_copies(engine)
        engine.dispose()
        with closing(primary.standby()) as standby:
            assert standby.start()
            yield primary, standby


def status(server):
    return httpx.get(f"{server.url}/health/ready").json()["read_replica"]


def queries(postgresql):
    """Return how many transactions have read the predictions on a server."""
    with connect(postgresql.url, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        return connection.execute(
            "SELECT seq_scan + coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'predictions'"
        ).fetchone()[0]


@pytest.fixture
def server(serve, servers, tmp_path):
    primary, standby = servers
    settings = Settings(
        database_url=primary.url, read_database_url=standby.url, models_dir=tmp_path / "models", follow=False
    )
    return serve(settings).wait()


def newest(server):
    return httpx.get(f"{server.url}/predictions", params={"limit": 1}, timeout=30).json()["predictions"][0]


def predict(server):
    return httpx.post(f"{server.url}/predict", json=GOOD_REQUEST, timeout=30).json()["prediction_id"]


def warnings(server):
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == NOT_USED]


def test_a_replica_serves_reads_and_nobody_misses_a_change(server, servers):
    _, standby = servers
    before = queries(standby)
    for _ in range(20):
        number = predict(server)
        assert newest(server)["prediction_id"] == number
        assert httpx.get(f"{server.url}/predictions/{number}").status_code == 200
    for number in (2, 1):
        assert httpx.post(f"{server.url}/models/{number}/promote", json={}).status_code == 200
        models = httpx.get(f"{server.url}/models").json()["models"]
        assert [one["model_version"] for one in models if one["status"] == "production"] == [number]
    for path in PAGES:
        page = httpx.get(f"{server.url}{path}")
        assert page.status_code == 200, path
        assert SAYS_OLD not in page.text
    assert status(server) == "ok"
    # The rows came from the replica.
    until(lambda: queries(standby) >= before + 40, seconds=30)


def test_a_replica_that_is_late_or_gone_costs_no_reader_a_change(server, servers):
    _, standby = servers
    with connect(standby.url, autocommit=True) as connection:
        connection.execute("SELECT pg_wal_replay_pause()")
        for _ in range(3):
            number = predict(server)
            assert newest(server)["prediction_id"] == number
        assert "late" in status(server)
        connection.execute("SELECT pg_wal_replay_resume()")
    until(lambda: newest(server) and status(server) == "ok", seconds=30)

    standby.stop()
    for _ in range(3):
        number = predict(server)
        assert newest(server)["prediction_id"] == number
    assert httpx.get(server.url).status_code == 200
    assert status(server) not in {None, "ok"}
    assert standby.start()
    until(lambda: newest(server) and status(server) == "ok", seconds=30)
    # One warning for each time.
    assert len(warnings(server)) == 2


def test_without_the_primary_pages_come_from_the_replica_and_say_how_old_they_are(server, servers):
    primary, _ = servers
    number = predict(server)
    assert newest(server)["prediction_id"] == number
    primary.stop(signal.SIGQUIT)
    try:
        for path in PAGES:
            page = httpx.get(f"{server.url}{path}", timeout=30)
            assert page.status_code == 200, path
            assert SAYS_OLD in page.text
        assert newest(server)["prediction_id"] == number
        assert httpx.post(f"{server.url}/predict", json=GOOD_REQUEST, timeout=30).status_code == 503
    finally:
        assert primary.start()
    until(lambda: SAYS_OLD not in httpx.get(server.url, timeout=30).text, seconds=30)


def test_another_database_is_refused(zap_command, servers, empty_postgresql_url, tmp_path, monkeypatch):
    _, standby = servers
    settings = Settings(database_url=empty_postgresql_url, read_database_url=standby.url, models_dir=tmp_path)
    refused = zap_command("serve", "--port", "0", settings=settings)
    assert refused.returncode != 0
    assert "ZAP_READ_DATABASE_URL leads to another database than ZAP_DATABASE_URL" in refused.stderr

    monkeypatch.setenv("ZAP_READ_DATABASE_URL", standby.url)
    with pytest.raises(InvalidSettings, match="ZAP_READ_DATABASE_URL is for PostgreSQL, because SQLite has no standby"):
        read_settings()
