"""The address and the port of a server: taken, checked before long work, and shown once the server listens."""

import errno
import socket
import sys

from zap import __version__
from zap.errors import CannotServe
from zap.settings import Settings
from zap.standard_error import tell


def check_address(settings: Settings) -> None:
    """Check that a server could listen now, because an upgrade and a first training may come before it listens.

    Raises:
        CannotServe: the port is taken, or the host is not an address of this machine.
    """
    bind(settings).close()


def bind(settings: Settings) -> socket.socket:
    """Return a socket that is bound to the host and the port of the settings.

    Raises:
        CannotServe: the port is taken, or the host is not an address of this machine.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    try:
        if sys.platform != "win32":
            # Connections of an earlier server must not keep the port taken.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((settings.host, settings.port))
    except (OSError, UnicodeError) as error:
        bound.close()
        raise CannotServe(
            f"zap cannot listen on {settings.host}, port {settings.port}: {_reason(error)}; {_advice(error)}"
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


def _advice(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return "end the program that uses the port, or choose another port with --port or ZAP_PORT"
    if number == errno.EACCES:
        return "this user may not use this port: choose a port above 1023 with --port or ZAP_PORT"
    if number == errno.EADDRNOTAVAIL or isinstance(error, (socket.gaierror, UnicodeError)):
        return (
            "the host is not an address of this machine: choose an address with --host or ZAP_HOST, such as 127.0.0.1,"
            " or 0.0.0.0 for all addresses of this machine"
        )
    return "choose another address with --host or ZAP_HOST, or another port with --port or ZAP_PORT"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
