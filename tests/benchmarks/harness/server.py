"""A server in a process of its own, on a free port, pinned; it is gone when the run is."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from harness.load import Target, on_cores

_PATIENCE_SECONDS = 90
_GRACE_SECONDS = 10


class NoServer(Exception):
    """A server that did not come up, with the end of what it said."""


@dataclass(frozen=True)
class Program:
    """What is served.

    Attributes:
        name: as in --only.
        title: in tables.
        command: {port} stands for the port.
        bodies: what it is asked, in turn.
        path: where.
        answers: the key that an answer must have.
        environment: beside that of this process.
        headers: of each request.
    """

    name: str
    title: str
    command: Sequence[str]
    bodies: Sequence[str]
    path: str = "/predict"
    answers: str = "predicted_class"
    environment: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class Server:
    """A program that runs; a context manager that gives it once it has answered a request rightly."""

    def __init__(self, program: Program, cores: Sequence[int], folder: Path) -> None:
        self.program = program
        self.port = _free_port()
        self._cores = cores
        self._log = folder / f"{program.name}-{self.port}.log"

    @property
    def target(self) -> Target:
        return Target(self.port, self.program.path, self.program.bodies, self.program.headers)

    def __enter__(self) -> Self:
        command = [part.replace("{port}", str(self.port)) for part in self.program.command]
        with self._log.open("w") as log:
            # A group of its own, so that Ctrl-C reaches this process alone, and whatever it starts ends with it.
            self.process = subprocess.Popen(
                on_cores(self._cores, command),
                env={**os.environ, **self.program.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Asked to stop, so that it can clean up; then killed with all that it started."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def cpu_seconds(self) -> float | None:
        """Used so far by its processes; None where the system does not tell."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                # After the name, which may hold anything: state, parent, group, ..., user and system time.
                fields = stat.read_text().rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:13])) * (int(fields[2]) == self.process.pid)
        return ticks / os.sysconf("SC_CLK_TCK") if ticks else None

    def ask(
        self, method: str, path: str, body: str | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """One request; the reply and its body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            every = {"Content-Type": "application/json", **self.program.headers, **(headers or {})}
            connection.request(method, path, body, every)
            reply = connection.getresponse()
            return reply, reply.read()

    def answer(self) -> dict[str, Any]:
        """What it says to its first body.

        Raises:
            NoServer: not what was asked for.
        """
        reply, text = self.ask("POST", self.program.path, self.program.bodies[0])
        found = json.loads(text) if reply.status == 200 else {}
        if self.program.answers not in found:
            raise NoServer(f"{self.program.title} answers {reply.status} {text[:300]!r}")
        return found

    def _wait(self) -> None:
        end = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.answer()
                return
            time.sleep(0.1)
        raise NoServer(f"{self.program.title} is not there; it said:\n{self._log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def uvicorn(app: str, folder: Path, python: str | Path = sys.executable) -> list[str]:
    """The command that serves an ASGI app as `zap serve` does: one process, uvloop, httptools, no access log."""
    return [
        str(python), "-m", "uvicorn", "--app-dir", str(folder), app, "--host", "127.0.0.1", "--port", "{port}",
        "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--no-server-header", "--no-proxy-headers",
        "--log-level", "warning",
    ]  # fmt: skip
