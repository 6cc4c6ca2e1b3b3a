"""The HTTP server of one process, and the server processes of `zap serve --workers`."""

import os
import socket
import sys
from contextlib import suppress
from importlib import import_module

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from zap.logs import configure_logs, logging_config
from zap.server.connections import BoundedProtocol, raise_descriptors
from zap.server.worker import FORKS
from zap.server.workers import run_workers
from zap.settings import Settings, read_settings

# How long running requests may take after a server is told to stop.
_LAST_REQUESTS_SECONDS = 5


def run_server(settings: Settings) -> None:
    """Serve until this process is told to stop. It ends with uvicorn's exit codes."""
    configure_logs(settings)
    raise_descriptors()
    if settings.workers == 1:
        server = uvicorn.Server(_config(settings))
        with suppress(KeyboardInterrupt):
            server.run()
        if not server.started:
            sys.exit(STARTUP_FAILURE)
    elif FORKS:
        # Replace this process, so that the workers are forks of a process that has used nothing yet. It reads the
        # settings from the environment.
        os.execv(sys.executable, [sys.executable, "-m", "zap.server.serving"])  # noqa: S606 - the same program, no shell
    else:
        _run_workers(settings)


def _run_workers(settings: Settings) -> None:
    listening = _config(settings).bind_socket()
    sys.exit(run_workers(_serve, listening, settings.workers))


def _serve(listening: socket.socket) -> None:
    """Serve on a listening socket, in a worker process."""
    server = uvicorn.Server(_config(read_settings()))
    server.run([listening])
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def _config(settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        "zap.app:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        log_config=logging_config(settings),
        http=BoundedProtocol,
        # zap has no WebSocket.
        ws="none",
        access_log=False,
        server_header=False,
        # zap does not use the client's address that proxies report, and `proxy.py` reads the other headers.
        proxy_headers=False,
        timeout_graceful_shutdown=_LAST_REQUESTS_SECONDS,
    )


if __name__ == "__main__":
    # Import the app before the first fork, so that the workers need not import it.
    import_module("zap.app")

    _settings = read_settings()
    configure_logs(_settings)
    _run_workers(_settings)
