"""The whole body of a request, with a limit of its size."""

from time import perf_counter_ns

from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.types import Receive, Scope

from zap.errors import ClientLeft
from zap.sentences import say

# In the state of a request: when its whole body had arrived, in nanoseconds of `perf_counter_ns`.
BODY_READ_AT = "body_read_at"


async def read_body(scope: Scope, receive: Receive, most_bytes: int) -> bytes:
    """Return the whole body of a request. No more than `most_bytes` of it are ever held.

    Raises:
        RequestEntityTooLarge: the body has more bytes than `most_bytes`, or its Content-Length says so.
        ClientLeft: the connection ended before the whole body was received.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:19]) > most_bytes:
            raise RequestEntityTooLarge
    pieces = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientLeft(say("the connection ended before the whole body was received"))
        piece = message.get("body", b"")
        if len(pieces) + len(piece) > most_bytes:
            raise RequestEntityTooLarge
        if not message.get("more_body", False):
            # The speed of the client does not count in the time of an answer.
            scope["state"][BODY_READ_AT] = perf_counter_ns()
            return bytes(pieces + piece) if pieces else piece
        pieces += piece
