"""ZAP_OTEL: spans as a receiver of OTLP gets them, traces that go on, and nothing of OpenTelemetry without it."""

import gzip
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from conftest import client_of
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from servers import until
from structlog.testing import capture_logs

from zap.errors import InvalidSettings
from zap.server.tracing import Tracing

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

# Litestar imports the names of attributes by itself, where they are installed.
UNWANTED = (
    *("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.trace", "opentelemetry.context"),
    *("google.protobuf", "prometheus_client"),
)


@pytest.fixture
def receiver(monkeypatch):
    """Yield the spans that a receiver of OTLP over HTTP has got, each with the attributes of its service."""
    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = {one.key: one.value.string_value for one in resource.resource.attributes}
                spans.extend((span, service) for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield spans
        server.shutdown()


def test_a_prediction_is_a_trace(receiver, trained_sqlite, good_request):
    with client_of(trained_sqlite.model_copy(update={"otel": True})) as client:
        with capture_logs():
            reply = client.post("/predict", json=good_request | {"user_id": "driver-17"})
            assert reply.status_code == 200
        parent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        assert client.post("/predict", json=good_request, headers=parent).status_code == 200
        unwanted = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
        assert client.get("/health/live", headers=unwanted).status_code == 200
        assert client.get("/pages/drivers/driver-17?q=driver-17", headers={"traceparent": "nonsense"}).status_code
        assert client.post("/predict/batch", json={"inputs": [good_request] * 3}).status_code == 200
        assert client.post("/predict", json={}).status_code == 422
        until(lambda: len(receiver) == 4 + 4 + 1 + 2 + 1, 10)

    spans = [span for span, _ in receiver]
    assert {service["service.name"] for _, service in receiver} == {"zap"}
    traces = {}
    for span in spans:
        traces.setdefault(span.trace_id.hex(), []).append(span)
    assert len(traces) == 5
    first = next(some for some in traces.values() if len(some) == 4 and some[0].trace_id.hex() != TRACE)
    for some in (first, traces[TRACE]):
        by_name = {span.name: span for span in some}
        assert by_name.keys() == {"POST /predict", "read", "score", "commit"}
        request = by_name["POST /predict"]
        attributes = {one.key: one.value.string_value or one.value.int_value for one in request.attributes}
        assert (attributes["http.route"], attributes["http.response.status_code"]) == ("/predict", 200)
        times = [request.start_time_unix_nano]
        for name in ("read", "score", "commit"):
            assert by_name[name].parent_span_id == request.span_id
            times += [by_name[name].start_time_unix_nano, by_name[name].end_time_unix_nano]
        assert times == sorted(times)
    assert {span.parent_span_id.hex() for span in traces[TRACE] if span.name == "POST /predict"} == {PARENT}
    assert {one.value.string_value for one in next(iter(first)).attributes if one.key == "zap.request_id"} <= {
        reply.headers["x-request-id"], ""
    }  # fmt: skip
    assert "driver-17" not in str(receiver)


def test_log_lines_name_the_trace(receiver, trained_sqlite, capfd):
    with client_of(trained_sqlite.model_copy(update={"otel": True, "log_format": "json"})) as client:
        assert client.get("/nowhere", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"}).status_code == 404

    (line,) = (line for line in capfd.readouterr().err.splitlines() if '"refused"' in line)
    assert f'"trace_id": "{TRACE}"' in line


def test_a_receiver_that_is_not_there_does_not_hold_up_the_end(monkeypatch, trained_sqlite, good_request):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    with client_of(trained_sqlite.model_copy(update={"otel": True})) as client:
        for _ in range(5):
            assert client.post("/predict", json=good_request).status_code == 200
        begun = time.monotonic()
    assert time.monotonic() - begun < 8


def test_without_the_setting_nothing_of_it_is_imported(trained_sqlite):
    code = (
        "import sys, zap.app\n"
        f"zap.app.create_app(zap.app.Settings(database_url={trained_sqlite.database_url!r}))\n"
        f"print(*(name for name in sys.modules if name.startswith({UNWANTED})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_without_its_packages_zap_says_which_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)

    with pytest.raises(InvalidSettings, match=r"install zap\[otel\]"):
        Tracing()
