"""Servers that tests start, and the processes under them."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import pytest
from forked import COMMANDS


def until(condition, seconds=120):
    """Wait until a condition is true. Return its value; fail if it is not true in time."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def free_port():
    """Return the number of a port that nobody uses at this moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def workers_of(server):
    """Return the worker processes of a server, without processes of Python's own."""
    return [pid for pid in server.children() if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]


def kept_port():
    """Return a socket that keeps a port for servers that come and go: no other program gets the port meanwhile.

    Otherwise a client might ask a server of another test that got the port in a pause.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    return kept


def listens(port):
    """Return whether somebody listens on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def children(pid):
    """Return the processes that a process has started; each of its threads has some."""
    of_threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for some in of_threads for child in some.read_text().split()]


def is_training(pid):
    """Return whether a process is there and trains."""
    try:
        return b"--run-id" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def trainings(pid):
    """Return the trainings that a process has started."""
    return [child for child in children(pid) if is_training(child)]


class Server:
    """Run `zap serve`, or another module, in its own process on a real socket.

    The process is forked, unless it is to start `anew`, as users start it. The trainings that a forked server starts
    are forked beside it, unless they are to be its children, as the trainings of every server of users are.
    `port` is for a server in the place of an earlier one, `variables` are for its environment, and `inside` is a
    program that runs a server that starts anew, such as `ip netns exec`, with the address `host`.
    """

    def __init__(
        self, settings, *arguments, anew=False, child_trainings=False, module=(), port=None, variables=None,
        inside=(), host="127.0.0.1",
    ):  # fmt: skip
        self.port = port or free_port()
        self.url = f"http://{host}:{self.port}"
        self.lines = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - closed with the server
        environment = os.environ | settings.environment() | {"ZAP_PORT": str(self.port), "ZAP_LOG_FORMAT": "json"}
        environment |= ({"ZAP_HOST": host} if inside else {}) | (variables or {})
        if not anew and not module:
            lines = self.lines.fileno()
            with Path(os.devnull).open() as nothing:
                self.process = COMMANDS.start(
                    ["serve", *arguments],
                    environment,
                    (nothing.fileno(), lines, lines),
                    forks_trainings=not child_trainings,
                )
            return
        command = [*module, str(self.port)] if module else ["zap", "serve", *arguments]
        self.process = subprocess.Popen(
            [*inside, sys.executable, "-m", *command], env=environment, stderr=self.lines, stdout=self.lines
        )

    def wait(self, seconds=90):
        """Wait until the server is live. Fail with its log if it ends, or is not live in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                httpx.get(f"{self.url}/health/live").raise_for_status()
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                return self
        return pytest.fail(f"the server is not there:\n{self.log()}")

    def log(self):
        self.lines.seek(0)
        return self.lines.read()

    def children(self, pid=None):
        """Return the processes that the server, or one of its own processes, has started."""
        return children(pid or self.process.pid)

    def stop(self, sig=signal.SIGTERM, seconds=60):
        """Send a signal. Return the exit code, and the seconds until the end."""
        start = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(sig)
        code = self.process.wait(seconds)
        return code, time.monotonic() - start

    def close(self):
        try:
            # Asked, not killed: a killed parent would leave its workers behind.
            self.stop()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.lines.close()
