"""Test what surrounds every route: request ids, headers of replies, HEAD, OPTIONS, and unusual paths."""

import json
import signal
import socket
import time

import httpx
import pytest
from faults.clients import closed_after, connected, head, read_replies, server_on, whole
from structlog.testing import capture_logs

IDS = ("model_version", "prediction_id", "run_id", "session_id", "alarm_id", "trial_id", "user_id", "key_id")
WITHOUT_ID = dict.fromkeys(IDS, "1")


@pytest.fixture(scope="module")
def server(_trained_sqlite, tmp_path_factory):
    server = server_on(_trained_sqlite, tmp_path_factory.mktemp("exchange"))
    yield server.wait()
    server.close()


def operations(document):
    for path, methods in document["paths"].items():
        yield path.format(**WITHOUT_ID), {method.upper() for method in methods}


def test_a_reply_has_its_id(sqlite_client):
    given = sqlite_client.get("/health/live", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"]
    made = [sqlite_client.get("/nothing").headers["x-request-id"] for _ in range(2)]

    assert given == "mine-1"
    assert made[0] != made[1]
    assert len(made[0]) == 32


def test_no_cache_keeps_a_reply_and_no_browser_guesses_its_type(sqlite_client, good_request):
    replies = [
        sqlite_client.post("/predict", json=good_request),
        sqlite_client.post("/predict", json={}),
        *(
            sqlite_client.get(path)
            for path in ("/predictions/1", "/models", "/health/ready", "/openapi.json", "/nothing")
        ),
    ]

    for reply in replies:
        assert reply.headers.get_list("cache-control") == ["no-store"]
        assert reply.headers.get_list("x-content-type-options") == ["nosniff"]
    asset = sqlite_client.get("/docs/assets/swagger-ui.css")
    assert asset.headers.get_list("cache-control") == ["max-age=86400"]
    assert asset.headers["x-content-type-options"] == "nosniff"


def test_head_is_there_where_get_is(server):
    document = httpx.get(f"{server.url}/openapi.json").json()
    for path, methods in [*operations(document), ("/", {"GET"}), ("/docs", {"GET"}), ("/openapi.json", {"GET"})]:
        head_, got = (httpx.request(method, f"{server.url}{path}", timeout=20) for method in ("HEAD", "GET"))

        assert head_.content == b""
        assert head_.status_code == got.status_code, path
        assert (head_.status_code == 405) == ("GET" not in methods)
        for name in ("content-type", "location", "allow"):
            assert head_.headers.get(name) == got.headers.get(name)


def test_head_of_a_stream_ends(server):
    # No body was sent, so the connection can serve the next request.
    with connected(server.port) as (connection,):
        connection.sendall(head("/training-runs/1/events", method="HEAD"))
        reply = b""
        while b"\r\n\r\n" not in reply:
            reply += connection.recv(65536)
        assert reply.startswith(b"HTTP/1.1 200 ")
        assert reply.endswith(b"\r\n\r\n")
        connection.sendall(head("/health/live", method="GET"))
        assert read_replies(connection, 1)[0][0] == 200


def test_options_tell_the_methods_that_are_there(server):
    document = httpx.get(f"{server.url}/openapi.json").json()
    for path, methods in [*operations(document), ("/docs", {"GET"}), ("/docs/assets/swagger-ui.css", {"GET"})]:
        reply = httpx.request("OPTIONS", f"{server.url}{path}")
        refused = httpx.request("PATCH", f"{server.url}{path}")

        expected = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
        assert (reply.status_code, reply.content) == (204, b"")
        assert refused.status_code == 405
        for one in (reply, refused):
            assert set(one.headers["allow"].split(", ")) == expected, path


@pytest.mark.parametrize(
    "path", ["/models%2frollback", "/models%2F1%2Fpromote", "/%2fpredict", "/predict%2f", "/predict%2Fbatch"]
)
def test_an_encoded_slash_divides_nothing(server, path):
    with connected(server.port) as (connection,):
        connection.sendall(whole(path, b"{}"))
        ((status, body),) = read_replies(connection, 1)

    assert status == 404, body


@pytest.mark.parametrize("path", ["/docs/assets%2fswagger-ui.css", "/docs%2fopenapi.json", "/predictions%2f1"])
def test_an_encoded_slash_reads_nothing(server, path):
    with connected(server.port) as (connection,):
        connection.sendall(head(path, method="GET"))
        assert read_replies(connection, 1)[0][0] == 404


@pytest.mark.parametrize(
    "name",
    ["%00", "a%00.css", "%2e%2e%2f%2e%2e%2fapp.py", "..%5capp.py", "a" * 300, "a" * 5_000, "%ff%fe", "%0a", "a/" * 999],
)
@pytest.mark.parametrize("folder", ["/docs/assets/", "/docs/", "/models/", "/"])
def test_a_strange_path_leads_nowhere(server, folder, name):
    with connected(server.port) as (connection,):
        connection.sendall(head(folder + name, method="GET"))
        status, body = read_replies(connection, 1)[0]

    assert status == 404
    assert len(body) < 1_000


HEADERS = [
    "Content-Type",
    "Prefer",
    "Last-Event-ID",
    "X-Request-ID",
    "Origin",
    "X-API-Key",
    "Content-Encoding",
    "Accept",
    "Cookie",
]


@pytest.mark.parametrize(
    "value", ["(" * 60_000, "a;" * 30_000, 'a="b;' * 12_000, ", " * 30_000, " \t" * 30_000, "\\" * 60_000]
)
@pytest.mark.parametrize("name", HEADERS)
def test_a_header_of_many_letters_is_read_at_once(server, name, value):
    before = time.perf_counter()
    for path, method in (("/train-model", "POST"), ("/training-runs/1/events", "GET"), ("/predict", "POST")):
        with connected(server.port) as (connection,):
            announced = f"{name}: x{value}x" if name != "Content-Type" else f"{name}: application/json{value}"
            # No training begins: the body is none.
            connection.sendall(head(path, announced, "Content-Length: 1", "Connection: close", method=method) + b"x")
            received, _ = closed_after(connection)
        status = int(received.split(b" ")[1])
        assert 200 <= status < 500
        assert len(received) < 20_000
    assert time.perf_counter() - before < 5


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/predict", "application/json"),
        ("/predict/batch", "application/json"),
        ("/predict/batch", "text/csv"),
        ("/predict/batch", "application/x-ndjson"),
        ("/charging-sessions", "application/json"),
        ("/train-model", "application/json"),
        ("/models/rollback", "application/json"),
    ],
)
def test_a_client_that_leaves_in_its_body_is_no_error(server, path, kind):
    runs = httpx.get(f"{server.url}/training-runs").json()
    with connected(server.port) as (connection,):
        connection.sendall(
            head(path, f"Content-Type: {kind}", "Content-Length: 100", f"X-Request-ID: left{path}") + b'{"'
        )
        time.sleep(0.2)
    time.sleep(0.5)

    assert httpx.get(f"{server.url}/training-runs").json() == runs
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    # What `zap check` finds is about the machine.
    lines = [line for line in lines if "check" not in line]
    assert [line["event"] for line in lines if line["level"] in {"warning", "error"} or "exception" in line] == [
        "the version was trained on synthetic sessions"
    ]


def test_a_refused_request_leaves_one_line(sqlite_client):
    with capture_logs() as logs:
        sqlite_client.post("/predict", json={}, headers={"Host": "evil.example"})

    assert [(one["event"], one["status"], one["path"]) for one in logs] == [("refused", 421, "/predict")]


@pytest.mark.parametrize(
    ("path", "kind"), [("/predict", "application/json"), ("/predict/batch", "application/x-ndjson")]
)
def test_a_client_that_only_ends_its_sending_is_answered(server, good_request, path, kind):
    # `nc -N` and socat close only their sending side. The request is complete, so it is logged, and the client
    # reads the answer.
    body = json.dumps(good_request).encode()
    for requests in (1, 20 if path == "/predict" else 1):
        with connected(server.port) as (connection,):
            connection.sendall(whole(path, body, kind) * requests)
            connection.shutdown(socket.SHUT_WR)
            received, seconds = closed_after(connection)

        assert received.count(b"predicted_class") == requests
        # The connection is closed once the last request is answered.
        assert seconds < 10


def test_requests_whose_answers_nobody_reads_leave_no_traceback(server):
    requests = whole("/models/rollback", b"x") + head("/openapi.json", method="GET")
    for _ in range(20):
        with connected(server.port, room=4096) as (connection,):
            connection.sendall(requests * 20)
            time.sleep(0.02)
    time.sleep(0.5)

    assert "Traceback" not in server.log()


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/charging-sessions"])
def test_a_request_that_is_half_here_when_the_server_stops_is_told_so(serve, trained_sqlite, path):
    server = serve(trained_sqlite).wait()
    with connected(server.port) as (connection,):
        connection.sendall(head(path, "Content-Type: application/json", "Content-Length: 100") + b'{"')
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        received, _ = closed_after(connection)

    assert received.startswith(b"HTTP/1.1 503 ")
    assert b"urn:zap:problem:server-stopping" in received
    assert server.process.wait(30) in {0, 143, -signal.SIGTERM}
    assert "Traceback" not in server.log()


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("Host", "evil.example", "localhost"),
        ("Origin", "http://evil.example", "http://localhost"),
        ("Sec-Fetch-Site", "cross-site", "same-origin"),
        ("X-API-Key", "one", "two"),
        ("Content-Encoding", "gzip", "identity"),
    ],
)
def test_a_header_that_decides_who_may_ask_is_sent_once(server, name, first, second):
    # A proxy in front of zap might read the other one of two such headers.
    sent = head("/predict", f"{name}: {first}", f"{name}: {second}", "Content-Length: 0")
    with connected(server.port) as (connection,):
        connection.sendall(sent)
        status, body = read_replies(connection, 1)[0]

    assert status == 400
    assert f"the header {name.lower()} appears more than once".encode() in body
