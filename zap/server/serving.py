"""The HTTP server of one process, and the server processes of `zap serve --workers`."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module

import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.config import STARTUP_FAILURE

from zap.logs import configure_logs, logging_config
from zap.monitoring.metric_rows import MetricRows
from zap.server.address import announce, bind, bind_metrics
from zap.server.connections import BoundedProtocol, raise_descriptors
from zap.server.metrics import Metrics
from zap.server.systemd import ALIVE, READY, STOPPING, tell_systemd, watchdog_seconds
from zap.server.worker import FORKS
from zap.server.workers import run_workers
from zap.settings import Settings, read_settings

# How long running requests may take after a server is told to stop.
_LAST_REQUESTS_SECONDS = 5


def run_server(settings: Settings) -> None:
    """Serve until this process is told to stop, and tell the operator when it listens.

    The process ends with 0 if it was told to stop, and with uvicorn's exit code if it cannot start.

    Raises:
        CannotServe: the port is taken, or the host is not an address of this machine.
    """
    configure_logs(settings)
    raise_descriptors()
    if settings.workers == 1:
        _serve_alone(settings)
        return
    listening = [bind(settings), *bind_metrics(settings)]
    if FORKS:
        # Replace this process, so that the workers are forks of a process that has used nothing yet. It reads the
        # settings from the environment.
        for one in listening:
            one.set_inheritable(True)
        program = [sys.executable, "-m", "zap.server.serving", *(str(one.fileno()) for one in listening)]
        os.execv(sys.executable, program)  # noqa: S606 - the same program, no shell
    _run_workers(settings, listening)


def _serve_alone(settings: Settings) -> None:
    server = _Server(settings)
    # Uvicorn sends itself the signal once more after its end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.run([bind(settings), *bind_metrics(settings)] if settings.metrics_port is not None else None)
    except KeyboardInterrupt:
        return
    if not server.started:
        sys.exit(STARTUP_FAILURE)


class _Server(uvicorn.Server):
    """A server that tells the operator when it listens, and systemd as long as its event loop runs."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(_config(settings))
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            announce(self._settings, self.servers[0].sockets[0].getsockname()[1])
            tell_systemd(READY)
            if (pause := watchdog_seconds()) is not None:
                _give_signs(asyncio.get_running_loop(), pause)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        tell_systemd(STOPPING)
        await super().shutdown(sockets)


def _give_signs(loop: asyncio.AbstractEventLoop, pause: float) -> None:
    """Tell systemd now, and again after each pause (seconds), that the event loop runs."""
    tell_systemd(ALIVE)
    loop.call_later(pause, _give_signs, loop, pause)


def _run_workers(settings: Settings, listening: list[socket.socket]) -> None:
    def listens() -> None:
        announce(settings, listening[0].getsockname()[1])
        tell_systemd(READY)

    # The workers share the memory of their metrics, which outlives a worker.
    serve = partial(_serve, MetricRows(settings.workers, forks=FORKS), listening[1:])
    sys.exit(run_workers(serve, listening[0], settings.workers, listens))


def _serve(rows: MetricRows, of_metrics: list[socket.socket], listening: socket.socket, place: int) -> None:
    """Serve on a listening socket, and on a socket for the metrics if there is one, in a worker process."""
    server = uvicorn.Server(_config(read_settings(), partial(_app, rows, place)))
    server.run([listening, *of_metrics])
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def _app(rows: MetricRows, place: int) -> ASGI3Application:
    app: ASGI3Application = import_module("zap.app").create_app(metrics=Metrics(rows, place))
    return app


def _config(settings: Settings, app: Callable[[], ASGI3Application] | str = "zap.app:create_app") -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=True,
        host=settings.host,
        port=settings.port,
        log_config=logging_config(settings),
        http=BoundedProtocol,
        # zap has no WebSocket.
        ws="none",
        access_log=False,
        server_header=False,
        # `proxy.py` reads these headers, only from the proxies of ZAP_TRUSTED_PROXIES.
        proxy_headers=False,
        timeout_graceful_shutdown=_LAST_REQUESTS_SECONDS,
    )


def _main() -> None:
    try:
        # Import the app before the first fork, so that the workers need not import it.
        import_module("zap.app")
        settings = read_settings()
        configure_logs(settings)
        _run_workers(settings, [socket.socket(fileno=int(one)) for one in sys.argv[1:]])
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    _main()
