"""The span of a request, for the observers of requests."""

from litestar.types import HTTPScope, Send

from zap.controllers.observers import Observation, Observer, route_of
from zap.monitoring.own_metrics import METHODS, OTHER
from zap.server.tracing import Tracing


class _Traced(Observation):
    def __init__(self, scope: HTTPScope, send: Send, tracing: Tracing) -> None:
        super().__init__(send)
        self._tracing = tracing
        self._span = tracing.begin(scope["headers"])

    def ended(self, scope: HTTPScope, method: str) -> None:
        known = method if method in METHODS else OTHER
        self._tracing.end(self._span, known, route_of(scope), self.status, scope["state"]["request_id"])


def traced(tracing: Tracing) -> Observer:
    """Return the observer that makes a span of each request."""
    return lambda scope, send: _Traced(scope, send, tracing)
