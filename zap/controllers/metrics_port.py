"""The port of the metrics: it answers GET /metrics without a key, and nothing else."""

from collections.abc import Mapping

from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from zap.controllers.host_names import LONGEST_HOST, host_check
from zap.controllers.metrics import scraped
from zap.settings import Settings

_PATH = "/metrics"
_NOT_THERE = b"this port has only GET /metrics\n"
_TWO_HOSTS = b"the header Host appears more than once; send it once\n"
_UNKNOWN_HOST = b"zap does not know this host name; if it is right, add it to ZAP_ALLOWED_HOSTS\n"


def with_metrics_port(app: ASGIApp, state: State, settings: Settings) -> ASGIApp:
    """Return the app wrapped so that requests to the port of the metrics get metrics, without a key.

    These requests are not counted, because nobody but the monitoring sends them.

    Args:
        app: the application, which answers all requests to the other port.
        state: the parts of this process.
        settings: ZAP_METRICS_PORT and ZAP_METRICS_HOST.
    """
    port = settings.metrics_port
    if port is None:
        return app
    # A page whose host name leads to this address could make a browser read the metrics.
    is_known = host_check(settings.host_names | {settings.metrics_host.lower()})

    async def ask(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or (scope["server"] or ("", 0))[1] != port:
            await app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host = headers.get(b"host")
        if sum(name == b"host" for name, _ in scope["headers"]) > 1:
            await _send(send, 400, _TWO_HOSTS)
        elif host is not None and (len(host) > LONGEST_HOST or not is_known(host)):
            await _send(send, 421, _UNKNOWN_HOST)
        elif scope["path"] != _PATH or scope["method"] not in {"GET", "HEAD"}:
            await _send(send, 404, _NOT_THERE)
        else:
            text, content_type = await scraped(state, headers.get(b"accept", b"").decode("latin-1"))
            await _send(send, 200, text, content_type, has_body=scope["method"] == "GET")

    return ask


async def _send(
    send: Send, status: int, text: bytes, content_type: str = "text/plain; charset=utf-8", *, has_body: bool = True
) -> None:
    headers: Mapping[str, str] = {
        "content-type": content_type,
        "content-length": str(len(text)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": text if has_body else b"", "more_body": False})
