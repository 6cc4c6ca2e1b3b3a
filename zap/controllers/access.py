"""What happens around every request: its id, the API key, and the one line that a refusal leaves in the log."""

import random
import re
import secrets
from collections.abc import Iterable
from typing import Any

import structlog
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from zap.errors import Unauthorized

log = structlog.get_logger(__name__)

_USABLE_ID = re.compile(r"[\w.:-]{1,100}", re.ASCII)


def identify_requests(app: ASGIApp) -> ASGIApp:
    """Around the whole application: a request has an id, its own X-Request-ID or a new one.

    It stands in the log, in problems and in the reply. A refused request (4xx) is counted and leaves one line,
    without its values.
    """

    async def identified(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        sent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
        # It has to be unlike the others, not unguessable: the system's random bytes cost more than a whole prediction.
        request_id = sent if _USABLE_ID.fullmatch(sent) else f"{random.getrandbits(128):032x}"
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                if 400 <= message["status"] < 500:
                    _note_refusal(scope, message["status"])
            await send(message)

        # Every request is a task of its own, with a context that ends with it.
        structlog.contextvars.bind_contextvars(request_id=request_id)
        await app(scope, receive, send_with_id)

    return identified


def _note_refusal(scope: HTTPScope, status: int) -> None:
    state: State = scope["litestar_app"].state
    state.refused_requests += 1
    log.info(
        "refused",
        method=scope["method"],
        path=scope["path"][:200],
        status=status,
        refused_requests=state.refused_requests,
    )


async def require_api_key(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """Guard: with ZAP_API_KEY set, every POST and DELETE must carry it.

    Raises:
        Unauthorized: it does not.
    """
    if connection.scope.get("method") not in {"POST", "DELETE"}:
        return
    if not carries_key(connection.scope["headers"], connection.app.state.api_key):
        raise Unauthorized("send the key in the header X-API-Key")


def carries_key(headers: Iterable[tuple[bytes, bytes]], expected: str | None) -> bool:
    """Whether a request carries the key, or there is none."""
    if expected is None:
        return True
    given = next((value for name, value in headers if name == b"x-api-key"), b"")
    return secrets.compare_digest(given, expected.encode())
