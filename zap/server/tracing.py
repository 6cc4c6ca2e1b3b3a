"""Traces with OpenTelemetry, if ZAP_OTEL is true: a span for each request, and spans of the parts of a prediction.

Nothing of OpenTelemetry is imported before. Its own environment variables OTEL_* say where spans are sent and how many.
"""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from time import time_ns
from typing import Any

import structlog

from zap import __version__
from zap.db.log.prediction_log import Entry, Logged, PredictionLog
from zap.errors import InvalidSettings
from zap.logs import TRACE_ID
from zap.ml.inference import Answer

log = structlog.get_logger(__name__)

# How long the end of a server waits for its last spans to be sent.
_LAST_SPANS_SECONDS = 2.0
_SERVER_ERROR = 500


class Tracing:
    """Make spans, and send them in a thread. Make one in each process, because a fork has no such thread.

    Raises:
        InvalidSettings: the packages of zap[otel] are not installed.
    """

    def __init__(self) -> None:
        try:
            from opentelemetry import context, trace  # noqa: PLC0415 - only if traces are wanted
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415
        except ImportError as error:
            raise InvalidSettings(
                f"ZAP_OTEL is true, but {error.name} is not installed; install zap[otel], or set ZAP_OTEL to false"
            ) from None
        own = {"service.version": __version__}
        if "OTEL_SERVICE_NAME" not in os.environ and "service.name" not in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        ):
            own["service.name"] = "zap"
        self._provider = TracerProvider(resource=Resource.create(own))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("zap", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._trace, self._context = trace, context

    def begin(self, headers: Iterable[tuple[bytes, bytes]]) -> Any:
        """Return the span of a request that begins now. It continues the trace of its `traceparent`.

        Later spans of the same task are inside it, and events of the log have the id of its trace.

        Args:
            headers: the headers of the request.
        """
        carrier = {
            name.decode(): value.decode("latin-1") for name, value in headers if name in {b"traceparent", b"tracestate"}
        }
        around = self._propagator.extract(carrier)
        span = self._tracer.start_span("request", around, self._trace.SpanKind.SERVER)
        self._context.attach(self._trace.set_span_in_context(span, around))
        TRACE_ID.set(f"{span.get_span_context().trace_id:032x}")
        return span

    def end(self, span: Any, method: str, route: str | None, status: int, request_id: str) -> None:
        """End the span of a request.

        Args:
            span: the span of `begin`.
            method: the method of the request.
            route: the template of its route; None without a route.
            status: the HTTP status.
            request_id: the id of the request.
        """
        if span.is_recording():
            span.update_name(f"{method} {route}" if route else method)
            span.set_attributes(
                {
                    "http.request.method": method,
                    "http.response.status_code": status,
                    "zap.request_id": request_id,
                    **({"http.route": route} if route else {}),
                }
            )
            if status >= _SERVER_ERROR:
                span.set_status(self._trace.StatusCode.ERROR)
        span.end()

    def inside(self, name: str, begin: int, end: int) -> None:
        """Add a span that has ended to the span of the present request.

        Args:
            name: the part of the work.
            begin: when it began, in nanoseconds since 1970.
            end: when it ended.
        """
        self._tracer.start_span(name, start_time=begin).end(end)

    def request_began(self) -> int | None:
        """Return when the present request began, in nanoseconds since 1970; None if its span is not sent."""
        span: Any = self._trace.get_current_span()
        return span.start_time if span.is_recording() else None

    def close(self) -> None:
        """Send the last spans, unless the receiver does not answer."""
        ending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(_LAST_SPANS_SECONDS)
        if ending.is_alive():
            log.warning("the last spans were not sent, because the receiver of OTEL_EXPORTER_OTLP_ENDPOINT is slow")


class TracedLog(PredictionLog):
    """The log of predictions, with spans: reading the request, computing its answer, and the commit."""

    def __init__(self, tracing: Tracing, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._tracing = tracing

    async def record(
        self, text: str, received_at: datetime, answered: Callable[[], Answer], *, until: float | None = None
    ) -> tuple[Answer, Logged]:
        began = self._tracing.request_began()
        if began is None:
            return await super().record(text, received_at, answered, until=until)
        scored: list[int] = []

        def timed() -> Answer:
            scored.append(time_ns())
            try:
                return answered()
            finally:
                scored.append(time_ns())

        self._tracing.inside("read", began, time_ns())
        try:
            return await super().record(text, received_at, timed, until=until)
        finally:
            if scored:
                self._tracing.inside("score", scored[0], scored[1])
                self._tracing.inside("commit", scored[1], time_ns())

    async def record_all(self, rows: Sequence[Entry]) -> list[Logged]:
        began = time_ns()
        try:
            return await super().record_all(rows)
        finally:
            if self._tracing.request_began() is not None:
                self._tracing.inside("commit", began, time_ns())
