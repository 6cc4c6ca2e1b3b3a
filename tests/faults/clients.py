"""Silent, slow and greedy clients on real sockets, for tests that ask what they do to others."""

import contextlib
import json
import shutil
import socket
import time
from pathlib import Path

from servers import Server

from zap.settings import Settings

LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


def server_on(trained, folder, **limits):
    """Start a server on a copy of a trained database (as `_trained_sqlite` gives it), for the tests of a module."""
    shutil.copy(trained / "zap.sqlite", folder / "zap.sqlite")
    shutil.copytree(trained / "models", folder / "models")
    url = f"sqlite:///{folder / 'zap.sqlite'}"
    return Server(Settings(database_url=url, models_dir=folder / "models", **limits))


@contextlib.contextmanager
def connected(port, n=1, *, room=None):
    """Open so many connections that send nothing of themselves.

    With `room` (bytes) the client's side holds no more than that unread: the server soon learns that nobody reads.
    """
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.socket()) for _ in range(n)]
        for connection in connections:
            if room is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
            connection.settimeout(60)
            connection.connect(("127.0.0.1", port))
        yield connections


def head(path, *headers, method="POST"):
    """The head of a request whose body the client does not send, or not yet."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode()


def whole(path, body, kind="application/json"):
    """A request with its body."""
    return head(path, f"Content-Type: {kind}", f"Content-Length: {len(body)}") + body


def greedily(connection, requests, seconds=5):
    """Send as long as the server takes anything, and read nothing; the bytes that it took."""
    sent, end = 0, time.monotonic() + seconds
    view = memoryview(requests)
    connection.setblocking(False)
    while sent < len(view) and time.monotonic() < end:
        try:
            sent += connection.send(view[sent : sent + 65536])
            end = time.monotonic() + seconds
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:
            break
    connection.settimeout(60)
    return sent


def read_replies(connection, n, seconds=60):
    """The status lines of so many replies with a Content-Length, in order."""
    received, found, end = b"", [], time.monotonic() + seconds
    while len(found) < n:
        start, separator, rest = received.partition(b"\r\n\r\n")
        if separator:
            length = int(start.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            if len(rest) >= length:
                found.append((int(start.split()[1]), rest[:length]))
                received = rest[length:]
                continue
        assert time.monotonic() < end
        piece = connection.recv(65536)
        assert piece, (found[-1:], received)
        received += piece
    return found


def closed_after(connection, seconds=60):
    """Return the bytes that a server sends until it closes the connection, and the seconds until then."""
    start, received = time.monotonic(), b""
    connection.settimeout(seconds)
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received, time.monotonic() - start


def is_closed(connection):
    """Return whether the server has closed the connection, without waiting."""
    connection.setblocking(False)
    try:
        return connection.recv(65536) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def resident(pid):
    """The bytes of memory that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def warnings(server):
    """Return the warnings in the log of a server, by their text."""
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return {line["event"]: line for line in lines if line.get("level") == "warning"}
