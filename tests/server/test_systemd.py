"""Test the messages of a server to systemd: it answers, it is alive, it stops."""

import os
import shutil
import signal
import socket

import httpx
import pytest
from servers import Server, until

from zap.server.systemd import READY, tell_systemd, watchdog_seconds
from zap.settings import Settings


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """Return the socket of systemd; it wants a sign of life every second."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "1000000")
        yield listening


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.usefixtures("_sqlite_at_head")
def test_a_server_tells_that_it_answers_that_it_is_alive_and_that_it_stops(systemd, request, tmp_path, workers):
    shutil.copy(request.getfixturevalue("_sqlite_at_head"), tmp_path / "zap.sqlite")
    server = Server(Settings(database_url=f"sqlite:///{tmp_path / 'zap.sqlite'}", workers=workers))
    try:
        # The process that watches two workers is alive before they answer.
        until(lambda: systemd.recv(100) == b"READY=1")
        assert httpx.get(f"{server.url}/health/live").status_code == 200
        assert [systemd.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3

        # A process that hangs gives no sign; systemd would kill it.
        os.kill(server.process.pid, signal.SIGSTOP)
        systemd.settimeout(2)
        with pytest.raises(TimeoutError):
            until(lambda: systemd.recv(100) != b"WATCHDOG=1", seconds=20)
        os.kill(server.process.pid, signal.SIGCONT)

        systemd.settimeout(30)
        assert systemd.recv(100) == b"WATCHDOG=1"
        code, _ = server.stop()
        assert code == 0
        until(lambda: systemd.recv(100) == b"STOPPING=1")
    finally:
        server.close()


def test_without_systemd_nothing_is_told_and_nothing_fails(monkeypatch, tmp_path):
    for address in ("", "relative", str(tmp_path / "nobody"), "@nobody"):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        tell_systemd(READY)


def test_an_abstract_socket_is_told_too(monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0zap-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@zap-{os.getpid()}")
        tell_systemd(READY)
        listening.settimeout(10)

        assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("allowed", "pid", "pause"),
    [(None, None, None), ("3000000", None, 1.0), ("3000000", "1", None), ("soon", None, None)],
)
def test_a_sign_of_life_comes_three_times_in_the_time_that_systemd_allows_this_process(
    monkeypatch, allowed, pid, pause
):
    for name, value in (("WATCHDOG_USEC", allowed), ("WATCHDOG_PID", pid)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)

    assert watchdog_seconds() == pause
