"""Tell systemd that this server answers, that it is still alive, and that it stops (`Type=notify`).

systemd gives a socket in NOTIFY_SOCKET, and in WATCHDOG_USEC the longest time (microseconds) without a sign of life.
Without systemd nothing is told.
"""

import os
import socket
from contextlib import suppress

READY = "READY=1"
ALIVE = "WATCHDOG=1"
STOPPING = "STOPPING=1"
# How many signs of life come in the longest time without one that systemd allows.
_SIGNS = 3


def tell_systemd(state: str) -> None:
    """Send a state to systemd, if it has started this process. It never ends or stops the server."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in {"/", "@"}:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_systemd:
        to_systemd.setblocking(False)
        # The name of an abstract socket begins with NUL, for which the variable has an @.
        to_systemd.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


def watchdog_seconds() -> float | None:
    """Return the pause between two signs of life; None if systemd does not wait for them from this process."""
    allowed = os.environ.get("WATCHDOG_USEC", "")
    if not allowed.isdecimal() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(allowed) / 1_000_000 / _SIGNS
