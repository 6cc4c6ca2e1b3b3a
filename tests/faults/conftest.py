"""Faults as fixtures: a database behind a proxy that stalls or behind a pooler, a disk that can be filled."""

import subprocess

import pytest
from conftest import absent
from faults.pgbouncer import PROGRAM, PgBouncer
from faults.stalling_proxy import StallingProxy
from sqlalchemy import make_url


@pytest.fixture
def proxy_to():
    """Puts a proxy in front of a host and a port."""
    proxies = []

    def put(host, port):
        proxies.append(StallingProxy(host, port))
        return proxies[-1]

    yield put
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def stalling_postgresql(trained_postgresql, proxy_to):
    """Settings of a trained PostgreSQL behind a proxy, and the proxy."""
    url = make_url(trained_postgresql.database_url)
    proxy = proxy_to(url.host, url.port or 5432)
    through = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
    return trained_postgresql.model_copy(update={"database_url": through}), proxy


@pytest.fixture
def pgbouncer():
    """Puts PgBouncer, in transaction mode, in front of a database; the URL through it."""
    if PROGRAM is None:
        absent("PgBouncer")
    poolers = []

    def put(database_url, **settings):
        url = make_url(database_url)
        poolers.append(PgBouncer(url, **settings))
        return url.set(host="127.0.0.1", port=poolers[-1].port).render_as_string(hide_password=False)

    yield put
    for pooler in poolers:
        pooler.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 16 MiB of its own; Linux and root only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
