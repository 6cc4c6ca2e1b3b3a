"""The access log: one event for each request, without anything that a client has written into its address."""

from time import perf_counter_ns

import structlog
from litestar.types import HTTPScope, Send

from zap.controllers.guard import sent_key
from zap.controllers.observers import Observation, route_of
from zap.monitoring.own_metrics import METHODS, OTHER
from zap.server.access import key_of
from zap.server.keys import Key, Keys

log = structlog.get_logger(__name__)


class Logged(Observation):
    """Log a request when its reply has ended, with the template of its route: a path may have the id of a driver."""

    def __init__(self, scope: HTTPScope, send: Send) -> None:
        super().__init__(send)
        self._client = scope["client"]
        self._began_at = perf_counter_ns()

    def ended(self, scope: HTTPScope, method: str) -> None:
        key = key_of(scope) or _key_of_prediction(scope)
        log.info(
            "request",
            method=method if method in METHODS else OTHER,
            route=route_of(scope),
            status=self.status,
            ms=round((perf_counter_ns() - self._began_at) / 1e6, 3),
            bytes=self.n_bytes,
            client=self._client[0] if self._client else None,
            **({} if key is None else {"key": key.name}),
        )


def _key_of_prediction(scope: HTTPScope) -> Key | None:
    """Return the key of a request to a route that is told no key, because that takes time; None if it has none."""
    sent = sent_key(dict(scope["headers"]))
    keys: Keys = scope["litestar_app"].state.api_keys
    return keys.named(sent) if sent is not None and keys.is_closed else None
