"""The wrapper of every request and its reply: request id, HEAD, reply headers, and the log line of a refusal."""

import asyncio
import json
import random
import re
from collections.abc import Mapping, Sequence
from time import perf_counter_ns
from typing import Any
from urllib.parse import unquote

import structlog
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from zap.controllers.observers import Observer, end_observations, observed
from zap.controllers.problems import MEDIA_TYPE as PROBLEM_JSON
from zap.controllers.reply_headers import complete_headers
from zap.errors import ClientLeft, ServerStopping
from zap.logs import REQUEST_ID
from zap.monitoring.answer_counts import BATCH, OTHER, PREDICT, TRAINING, AnswerCounter
from zap.monitoring.own_metrics import OwnMetrics
from zap.server.bodies import BODY_READ_AT

log = structlog.get_logger(__name__)

# The routes that are counted by themselves. A training may take hours, so it is not counted with the other routes.
SUBJECTS_OF_PATHS: dict[Any, str] = {"/predict": PREDICT, "/predict/batch": BATCH, "/train-model": TRAINING}

_USABLE_ID = re.compile(rb"[\w.:-]{1,100}")


def exchanged(
    app: ASGIApp, counters: Mapping[str, AnswerCounter], metrics: OwnMetrics, observers: Sequence[Observer] = ()
) -> ASGIApp:
    """Return the app wrapped in the work that every request needs, also a request without a route.

    Litestar's own middleware does not see requests without a route, so this wraps the whole application. A request has
    an id, either its X-Request-ID or a new one, which the log, problems and the reply carry. A refused request (4xx)
    is counted and logged in one line, without its values. HEAD is answered like GET without the body. An encoded slash
    (%2F) does not separate parts of a path. Replies are not cached unless their headers allow it.

    Args:
        app: the application.
        counters: count each reply and the time until it begins, by subject.
        metrics: count the same by route, method and status, and the requests that have not ended.
        observers: what else sees each request and its reply.
    """
    by_path = {path: counters[subject] for path, subject in SUBJECTS_OF_PATHS.items()}
    others = counters[OTHER]

    async def exchange(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        began_at = perf_counter_ns()
        state = scope.setdefault("state", {})
        request_id = state["request_id"] = _request_id(scope)
        method = scope["method"]
        # No reset is needed: every request is its own task, and its context ends with the task.
        REQUEST_ID.set(request_id)
        send, observations = observed(observers, scope, send)
        if method == "HEAD":
            # A copy: uvicorn keeps its own scope, which has to keep the method that the client sent.
            scope, send = _as_get(scope, send)
        if b"%2" in (raw_path := scope.get("raw_path") or b""):
            scope["path"] = _with_encoded_slashes(raw_path) or scope["path"]

        begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                complete_headers(message, request_id, method, scope)
                status = message["status"]
                took = perf_counter_ns() - state.get(BODY_READ_AT, began_at)
                template = scope.get("path_template")
                by_path.get(template, others).replied(status, took)
                metrics.replied(method, template, status, took)
                if 400 <= status < ClientLeft.status_code:
                    _note_refusal(scope, method, status)
            await send(message)

        metrics.began()
        try:
            await app(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            # The server stops, and this request has had its last seconds.
            if begun or not scope["litestar_app"].state.stopping.is_set():
                raise
            await _refuse_at_the_end(request_id, send_with_headers)
        finally:
            metrics.ended()
            end_observations(observations, scope, method)

    return exchange


async def _refuse_at_the_end(request_id: str, send: Send) -> None:
    problem = {**ServerStopping("the server is stopping; send the request again").problem(), "request_id": request_id}
    headers = [(b"content-type", PROBLEM_JSON.encode()), (b"retry-after", b"1"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": ServerStopping.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(problem).encode(), "more_body": False})


def _request_id(scope: HTTPScope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _USABLE_ID.fullmatch(value):
            return value.decode()
    # The id has to be unique, not unguessable: random bytes from the system take longer than a whole prediction.
    return f"{random.getrandbits(128):032x}"


def _as_get(scope: HTTPScope, send: Send) -> tuple[HTTPScope, Send]:
    """Return the scope of the GET request for a HEAD request, and a `send` that drops the body.

    The reply ends before its body, so a stream is not waited for.
    """
    ended = False

    async def send_without_body(message: Message) -> None:
        nonlocal ended
        if ended:
            return
        await send(message)
        if message["type"] == "http.response.start":
            ended = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return {**scope, "method": "GET"}, send_without_body


def _with_encoded_slashes(raw_path: bytes) -> str | None:
    """Return the path decoded except for its encoded slashes (%2F); None if it has no encoded slash."""
    pieces = [unquote(piece) for piece in raw_path.partition(b"?")[0].decode("ascii", "replace").split("/")]
    if not any("/" in piece for piece in pieces):
        return None
    return "/".join(piece.replace("/", "%2F") for piece in pieces)


def _note_refusal(scope: HTTPScope, method: str, status: int) -> None:
    state: State = scope["litestar_app"].state
    state.refused_requests += 1
    log.info(
        "refused",
        method=method,
        path=scope["path"][:200],
        status=status,
        refused_requests=state.refused_requests,
    )
