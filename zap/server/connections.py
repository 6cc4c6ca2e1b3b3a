"""The limits of a server process's connections: their number, their time, and their unread bytes.

uvicorn closes only connections that are idle between two requests. Here a client that sends nothing, sends slowly, or
reads nothing is disconnected, and other clients do not notice. All deadlines are checked once a second, so that a
request needs no timer.
"""

import asyncio
import json
import weakref
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.server import ServerState

from zap.server.http_protocol import HttpProtocol
from zap.server.one_write import OneWrite
from zap.settings import Settings, read_settings

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
# A repeated event is logged once in this time, with its number.
_LOG_SECONDS = 10.0
# The most bytes of a request's headers, and of all other data outside a body.
_LARGEST_HEAD = 65_536
# A body that is slower than this (bytes a second) is given up after ZAP_BODY_SECONDS.
_SLOWEST_BODY = 500
# Received bytes are parsed in pieces, the first of this size, so that few pipelined requests are held at a time.
_FIRST_PIECE, _LARGEST_PIECE = 1024, 65_536
# How much memory (bytes) a pipelined request takes while it waits.
_WAITING_BYTES = 5000
# How long no idle connection is searched for after a search that found none.
_NO_ROOM_SECONDS = 0.1
# File descriptors that are kept for files, databases and processes.
_OTHER_DESCRIPTORS = 128


@dataclass(frozen=True)
class Limits:
    """The limits of one process, in numbers, seconds and bytes."""

    connections: int
    idle: float
    head: float
    body: float
    unread: float
    unread_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Return the limits of the settings, with no more connections than this process may have descriptors for."""
        descriptors = _descriptors()
        return cls(
            min(settings.connections, max(descriptors - _OTHER_DESCRIPTORS, descriptors // 2)),
            settings.keep_alive_seconds,
            settings.head_seconds,
            settings.body_seconds,
            settings.unread_seconds,
            settings.unread_bytes,
        )


class Connections:
    """Hold all connections of one process to their limits."""

    def __init__(self, state: ServerState, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.limits = limits
        self._state = state
        self._loop = loop
        self._counts: Counter[str] = Counter()
        self._logged_at: dict[str, float] = {}
        self._idle: list[BoundedProtocol] = []
        self._no_room_until = 0.0
        loop.call_later(_LOOK_SECONDS, self._look)

    def has_room(self, newest: "BoundedProtocol") -> bool:
        """Return whether the newest connection may stay. If there are too many, close the one idle for longest."""
        if len(self._state.connections) <= self.limits.connections:
            return True
        if not self._idle and self._loop.time() >= self._no_room_until:
            idle = [one for one in self._known() if one.is_idle and one is not newest]
            self._idle = sorted(idle, key=lambda one: one.last_moved, reverse=True)
        while self._idle:
            oldest = self._idle.pop()
            if oldest.is_idle:
                self.note("an idle connection was closed in favour of a new one")
                oldest.transport.abort()
                return True
        self._no_room_until = self._loop.time() + _NO_ROOM_SECONDS
        self.note("a connection was refused: ZAP_CONNECTIONS, or the descriptors of the process, are in use")
        return False

    def note(self, what: str) -> None:
        """Count an event. The first one is logged within a second, later ones every _LOG_SECONDS with their number."""
        self._counts[what] += 1

    def _look(self) -> None:
        now = self._loop.time()
        mine = self._known()
        unread = 0
        for one in mine:
            one.look(now)
            unread += one.unread_bytes
        if unread > self.limits.unread_bytes:
            for one in sorted(mine, key=lambda one: (one.last_moved, -one.unread_bytes)):
                if one.unread_bytes:
                    unread -= one.unread_bytes
                    self.note("disconnected a client that does not read: more than ZAP_UNREAD_BYTES are unread in all")
                    one.transport.abort()
                if unread <= self.limits.unread_bytes:
                    break
        for what, n in list(self._counts.items()):
            if now - self._logged_at.get(what, -_LOG_SECONDS) >= _LOG_SECONDS:
                log.warning(what, times=n, connections=len(mine), allowed=self.limits.connections)
                self._logged_at[what] = now
                del self._counts[what]
        self._loop.call_later(_LOOK_SECONDS, self._look)

    def _known(self) -> "list[BoundedProtocol]":
        return [one for one in self._state.connections if isinstance(one, BoundedProtocol)]


class _HeldFlow(FlowControl):
    """Flow control that does not resume reading while pipelined requests wait, even if uvicorn asks for it."""

    held = False

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()


class BoundedProtocol(HttpProtocol):
    """uvicorn's protocol with a limit for everything that a client may leave unfinished.

    Attributes:
        last_moved: when the client last sent or received data, on the loop's clock, to within a second.
        unread_bytes: how many bytes of replies and of waiting requests this connection holds in memory.
    """

    flow: _HeldFlow

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._all = _connections(self.server_state, self.loop)
        self._unparsed = memoryview(b"")
        self._outside_body = 0
        self._n_read = 0
        # Whether the client sends nothing more.
        self._ended = False
        # The state at the last check: what the client had to send, since when and from which byte on, and how many
        # bytes of the reply were unsent.
        self._awaited: str | None = None
        self._awaited_scope: Any = None
        self._awaited_since = 0.0
        self._n_read_before = self._n_read_then = 0
        self._unsent_before = 0
        self.last_moved = self.loop.time()
        self.unread_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = OneWrite(transport, self.loop)  # type: ignore[assignment] # all of a transport that is used
        self.flow = _HeldFlow(transport)
        if not self._all.has_room(self):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "there are too many connections; try again in a moment")

    def eof_received(self) -> bool:  # type: ignore[override] # uvicorn always closes
        """Keep the connection of a client that only ends its sending until its whole requests are answered.

        A client that follows a stream of events has gone away.
        """
        self._ended = True
        cycle = self.cycle
        if self.pipeline or self._unparsed:
            return True
        if not self._is_open or cycle.more_body:
            return False
        return not (cycle.response_started and cycle.scope["method"] == "GET")

    def data_received(self, data: bytes) -> None:
        self._n_read += len(data)
        if len(data) <= _FIRST_PIECE and not self._unparsed:
            self._parse(data)
        else:
            self._unparsed = memoryview(bytes(self._unparsed) + data if self._unparsed else data)
            self._parse_on()

    def on_response_complete(self) -> None:
        """Start the next pipelined request, or read on. No keep-alive timer is set: the check each second is enough."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        if self._unparsed and not self.pipeline:
            self._parse_on()
        if self._ended and not self.pipeline and not self._is_open:
            self.transport.close()
        elif not self.pipeline:
            self.flow.held = False
            self.flow.resume_reading()

    def _parse_on(self) -> None:
        """Parse the received bytes until a pipelined request waits. The rest is parsed after that one is answered."""
        size = _FIRST_PIECE
        while self._unparsed and not self.pipeline and not self.transport.is_closing():
            piece, self._unparsed = self._unparsed[:size], self._unparsed[size:]
            self._parse(bytes(piece))
            size = min(2 * size, _LARGEST_PIECE)

    def _parse(self, data: bytes) -> None:
        super().data_received(data)
        if self.pipeline:
            # Otherwise the running request, when it reads its body, would let uvicorn read more pipelined requests.
            self.flow.held = True
            self.flow.pause_reading()
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope and (not cycle.more_body or cycle.body):
            self._outside_body = 0
            return
        self._outside_body += len(data)
        if self._outside_body > _LARGEST_HEAD and not (cycle is not None and cycle.response_complete):
            self._all.note("request headers were too large")
            detail = f"the headers of a request may have {_LARGEST_HEAD:,} bytes; send fewer or shorter headers"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)

    @property
    def is_idle(self) -> bool:
        """Return whether no request has been received as a whole, so that closing the connection loses nothing."""
        return not self.transport.is_closing() and self._awaits() in {"request", "head"}

    def look(self, now: float) -> None:
        """End this connection if the client has taken too long.

        Args:
            now: the loop's clock.
        """
        unsent = self.transport.get_write_buffer_size()
        if self._n_read != self._n_read_before or unsent < self._unsent_before:
            self.last_moved = now
        self._n_read_before, self._unsent_before = self._n_read, unsent
        waiting = 0 if self.cycle is None else len(self.cycle.body) + _WAITING_BYTES * len(self.pipeline)
        self.unread_bytes = unsent + len(self._unparsed) + waiting
        if unsent:
            if now - self.last_moved >= self._all.limits.unread:
                self._all.note("disconnected a client that does not read its reply")
                self.transport.abort()
        elif not self.transport.is_closing():
            self._look_at_awaited(now)

    def _look_at_awaited(self, now: float) -> None:
        awaited, limits = self._awaits(), self._all.limits
        if awaited != self._awaited or self._awaited_scope is not self.scope:
            self._awaited, self._awaited_scope = awaited, self.scope
            self._awaited_since, self._n_read_then = now, self._n_read
            # The client was not silent while zap worked on the reply.
            self.last_moved = now
            return
        since = now - self._awaited_since
        if awaited == "request" and since >= limits.idle:
            self.transport.close()
        elif awaited == "head" and since >= limits.head:
            self._all.note("request headers did not arrive in time")
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the headers must arrive within {limits.head:g} seconds")
        elif awaited == "body" and (
            now - self.last_moved >= limits.body
            or (since >= limits.body and self._n_read - self._n_read_then < _SLOWEST_BODY * since)
        ):
            self._all.note("a request body did not arrive in time")
            detail = (
                f"no data of the body arrived for {limits.body:g} seconds, or less than {_SLOWEST_BODY} bytes a second"
            )
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, detail)
        elif awaited == "rest" and since >= limits.body:
            self.transport.abort()

    def _awaits(self) -> str | None:
        """Return what the client has to send next.

        Returns:
            "request", "head" (the rest of the headers), "body", or "rest" (the rest of a body whose request was
            refused). None if zap has to answer, or if the reply began before the end of the body: such a stream has
            its own limits (`line_groups.py`, `slow_client.py`).
        """
        # Before the first request both are None, although uvicorn's types exclude that.
        cycle: Any = self.cycle
        scope: Any = self.scope
        if self.pipeline or self._unparsed or (cycle is not None and cycle.scope is not self.scope and self._is_open):
            return None
        if not scope:
            return "request"
        if cycle is None or cycle.scope is not self.scope:
            return "head"
        if not cycle.more_body:
            return "request" if cycle.response_complete else None
        if cycle.response_complete:
            return "rest"
        return None if cycle.response_started or self.flow.read_paused else "body"

    @property
    def _is_open(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Send a problem if no reply has begun, and end the connection."""
        cycle = self.cycle
        if cycle is None or not cycle.response_started or cycle.response_complete:
            self.transport.write(_problem(status, detail))
        if cycle is not None and not cycle.response_complete:
            # The running request sees a disconnected client, and its reply is dropped.
            cycle.disconnected = True
            cycle.message_event.set()
        self.pipeline.clear()
        self._unparsed = memoryview(b"")
        self.transport.close()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self.cycle is not None and self.cycle.scope is self.scope:
            # uvicorn leaves this True for a request that was answered before its body ended; the connection is idle.
            self.cycle.more_body = False


def raise_descriptors() -> None:
    """Raise the limit of file descriptors, for this process and its children, to the most that the system allows."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


# More than any number of connections that one process can serve.
_MOST_DESCRIPTORS = 65_536


def _descriptors() -> int:
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return _MOST_DESCRIPTORS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def _connections(state: ServerState, loop: asyncio.AbstractEventLoop) -> Connections:
    known = _OF_SERVERS.get(state)
    if known is None:
        known = _OF_SERVERS[state] = Connections(state, Limits.of(read_settings()), loop)
    return known


_OF_SERVERS: "weakref.WeakKeyDictionary[ServerState, Connections]" = weakref.WeakKeyDictionary()


def _problem(status: HTTPStatus, detail: str) -> bytes:
    problem = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    body = json.dumps(problem).encode()
    retry = "Retry-After: 1\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\n{retry}Connection: close\r\n\r\n"
    )
    return head.encode() + body
