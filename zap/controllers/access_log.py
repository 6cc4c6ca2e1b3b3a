"""The access log: one event for each request, without anything that a client has written into its address."""

from time import perf_counter_ns

import structlog
from litestar.types import HTTPScope, Send

from zap.actor import ACTOR, ZAP
from zap.controllers.observers import Observation, route_of
from zap.monitoring.own_metrics import METHODS, OTHER

log = structlog.get_logger(__name__)


class Logged(Observation):
    """Log a request when its reply has ended, with the template of its route: a path may have the id of a driver."""

    def __init__(self, scope: HTTPScope, send: Send) -> None:
        super().__init__(send)
        self._client = scope["client"]
        self._began_at = perf_counter_ns()

    def ended(self, scope: HTTPScope, method: str) -> None:
        actor = ACTOR.get()
        log.info(
            "request",
            method=method if method in METHODS else OTHER,
            route=route_of(scope),
            status=self.status,
            ms=round((perf_counter_ns() - self._began_at) / 1e6, 3),
            bytes=self.n_bytes,
            client=self._client[0] if self._client else None,
            **({} if actor is ZAP else {"key": actor.name}),
        )
