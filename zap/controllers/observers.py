"""Observers of requests, which a setting turns on: each sees the messages of a reply, and the end of its request."""

from collections.abc import Callable, Sequence
from typing import cast

from litestar.types import HTTPScope, Message, Send

from zap.errors import ClientLeft


class Observation:
    """What an observer sees of one request. It is called as `send`, with every message that is sent to the client.

    Args:
        send: sends a message on.

    Attributes:
        status: the HTTP status of the reply. A request without a reply has the status of a client that has left.
        n_bytes: how many bytes of the body have been sent.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = ClientLeft.status_code
        self.n_bytes = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
        elif message["type"] == "http.response.body":
            self.n_bytes += len(message.get("body", b""))
        await self._send(message)

    def ended(self, scope: HTTPScope, method: str) -> None:
        """Note the end of the request.

        Args:
            scope: the request, with its route if it has one.
            method: its method, as the client has sent it.
        """
        raise NotImplementedError


# Begins the observation of a request.
Observer = Callable[[HTTPScope, Send], Observation]


def observed(observers: Sequence[Observer], scope: HTTPScope, send: Send) -> tuple[Send, Sequence[Observation]]:
    """Begin to observe a request. Return what its messages are sent through, and its observations."""
    observations = []
    for observer in observers:
        send = one = observer(scope, send)
        observations.append(one)
    return send, observations


def end_observations(observations: Sequence[Observation], scope: HTTPScope, method: str) -> None:
    """Tell all observers that a request has ended."""
    for one in observations:
        one.ended(scope, method)


def route_of(scope: HTTPScope) -> str | None:
    """Return the template of the route of a request, which has no value of a client; None without a route."""
    return cast("str | None", scope.get("path_template"))
