"""The address and the port of a server: taken, checked before long work, and shown once the server listens."""

import errno
import socket
import sys
from typing import NamedTuple

from zap import __version__
from zap.errors import CannotServe
from zap.settings import Settings
from zap.standard_error import tell


def check_address(settings: Settings) -> None:
    """Check that a server could listen now, because an upgrade and a first training may come before it listens.

    Raises:
        CannotServe: a port is taken, or a host is not an address of this machine.
    """
    with bind(settings):
        for one in bind_metrics(settings):
            one.close()


def bind(settings: Settings) -> socket.socket:
    """Return a socket that is bound to the host and the port of the settings.

    Raises:
        CannotServe: the port is taken, or the host is not an address of this machine.
    """
    return _bound(settings.host, settings.port, _SERVER)


def bind_metrics(settings: Settings) -> list[socket.socket]:
    """Return a socket for the port of the metrics; none if there is no such port.

    Raises:
        CannotServe: the port is taken, it is the port of the server, or the host is not an address of this machine.
    """
    if settings.metrics_port is None:
        return []
    if settings.metrics_port == settings.port:
        # Linux lets two sockets that do not listen yet have one address, and the port tells what a request is for.
        raise CannotServe(
            f"zap cannot listen on port {settings.port} for requests and for metrics; choose another port with"
            f" {_METRICS.port}"
        )
    return [_bound(settings.metrics_host, settings.metrics_port, _METRICS)]


class _Named(NamedTuple):
    """How a message names the settings of an address."""

    host: str
    port: str


_SERVER = _Named("--host or ZAP_HOST", "--port or ZAP_PORT")
_METRICS = _Named("ZAP_METRICS_HOST", "ZAP_METRICS_PORT")


def _bound(host: str, port: int, named: _Named) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if sys.platform != "win32":
            # Connections of an earlier server must not keep the port taken.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except (OSError, UnicodeError) as error:
        bound.close()
        raise CannotServe(
            f"zap cannot listen on {host}, port {port}: {_reason(error)}; {_advice(error, named)}"
        ) from None
    return bound


def is_listening(bound: socket.socket) -> bool:
    """Return whether a process listens on this socket."""
    return bool(bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def announce(settings: Settings, port: int) -> None:
    """Tell the operator under which address the server answers.

    Args:
        settings: the host, and the path under which a proxy shows zap.
        port: the port on which the server listens; with the setting 0 the system has chosen it.
    """
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    tell(
        f"zap {__version__} on http://{host}:{port}, docs at {settings.root_path}/docs, the manual at"
        f" {settings.root_path}/manual"
    )


def _advice(error: Exception, named: _Named) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return f"end the program that uses the port, or choose another port with {named.port}"
    if number == errno.EACCES:
        return f"this user may not use this port: choose a port above 1023 with {named.port}"
    if number == errno.EADDRNOTAVAIL or isinstance(error, (socket.gaierror, UnicodeError)):
        return (
            f"the host is not an address of this machine: choose an address with {named.host}, such as 127.0.0.1,"
            " or 0.0.0.0 for all addresses of this machine"
        )
    return f"choose another address with {named.host}, or another port with {named.port}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
