"""One bad client: it loses its connection, the log has a line about it, and other clients notice nothing."""

import contextlib
import sys
import time

import httpx
import pytest
from faults.clients import (
    LIVE,
    closed_after,
    connected,
    greedily,
    head,
    is_closed,
    read_replies,
    resident,
    server_on,
    warnings,
    whole,
)
from servers import until

MB = 2**20


@pytest.fixture(scope="module")
def server(_trained_sqlite, tmp_path_factory):
    """A server with short deadlines."""
    folder = tmp_path_factory.mktemp("short")
    limits = {"keep_alive_seconds": 3, "head_seconds": 2, "body_seconds": 2, "stream_seconds": 4, "unread_seconds": 3}
    with contextlib.closing(server_on(_trained_sqlite, folder, **limits)) as server:
        yield server.wait()


@pytest.fixture(scope="module")
def small_server(_trained_sqlite, tmp_path_factory):
    """A server with few connections and little that may wait unread."""
    folder = tmp_path_factory.mktemp("small")
    with contextlib.closing(server_on(_trained_sqlite, folder, connections=20, unread_bytes=MB)) as server:
        yield server.wait()


@pytest.mark.parametrize("request_", [LIVE, b"GET / HTTP/1.1\r\n\r\n", whole("/train-model", b"{", "text/plain")])
def test_requests_whose_answers_nobody_reads_wait_outside_of_memory(server, good_request, request_):
    with connected(server.port, 3, room=4096) as greedy:
        before = resident(server.process.pid)
        for connection in greedy:
            greedily(connection, request_ * (25 * MB // len(request_)), seconds=1)
        more = resident(server.process.pid) - before

        assert more < 100 * MB
        assert httpx.post(f"{server.url}/predict", json=good_request).status_code == 200
        until(lambda: "disconnected a client that does not read its reply" in warnings(server))


def test_pipelined_requests_that_are_read_are_all_answered_in_order(server):
    bodies = [b'{"x": %d}' % n for n in range(2000)]
    requests = b"".join(LIVE + whole("/predict", body) for body in bodies)
    with connected(server.port) as (connection,):
        # As much as fits: the others once there is room again.
        sent = greedily(connection, requests, seconds=0.2)
        replies = []
        while sent < len(requests):
            replies += read_replies(connection, 10)
            sent += greedily(connection, requests[sent:], seconds=0.2)
        replies += read_replies(connection, 2 * len(bodies) - len(replies))

    assert [status for status, _ in replies] == [200, 422] * len(bodies)


def test_a_body_behind_pipelined_requests_is_read(server, good_request):
    request = httpx.Request("POST", server.url, json=good_request).content
    with connected(server.port) as (connection,):
        connection.sendall(LIVE * 200 + whole("/predict", request)[:-5])
        time.sleep(0.5)
        connection.sendall(request[-5:])

        assert [status for status, _ in read_replies(connection, 201)] == [200] * 201


def test_idle_connections_are_closed_those_that_are_used_are_not(server):
    with connected(server.port, 51) as (used, *idle):
        for connection in idle[25:]:
            connection.sendall(LIVE)
            read_replies(connection, 1)
        # A request a second for longer than that, all on one connection.
        for _ in range(5):
            used.sendall(LIVE)
            read_replies(used, 1)
            time.sleep(1)
        until(lambda: all(is_closed(connection) for connection in idle))
        assert not is_closed(used)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"POST /predict HTTP/1.1\r\nHost: z", "the headers must arrive"),
        (head("/predict", "Content-Type: application/json", "Content-Length: 100") + b"{", "no data of the body"),
        (head("/predict/batch", "Content-Type: text/csv", "Transfer-Encoding: chunked") + b"2\r\n", "no data of the"),
        (head("/train-model", "Content-Type: application/json", "Content-Length: 100"), "no data of the body"),
        (head("/charging-sessions", "Content-Type: application/json", "Content-Length: 9"), "no data of the body"),
    ],
)
def test_what_a_client_begins_and_does_not_send_is_refused(server, sent, said):
    with connected(server.port) as (connection,):
        connection.sendall(sent)

        reply, seconds = closed_after(connection)

    assert reply.startswith(b"HTTP/1.1 408 ")
    assert said in reply.decode()
    assert seconds > 1
    until(lambda: any("did not arrive in time" in what for what in warnings(server)))


@pytest.mark.parametrize("sent", [b"POST /predict HTTP/1.1\r\nHost: z", head("/predict", "Content-Length: 10000")])
def test_a_byte_now_and_then_is_not_enough(server, sent):
    with connected(server.port) as (connection,):
        connection.sendall(sent)
        start = time.monotonic()
        while not is_closed(connection):
            assert time.monotonic() < start + 60
            connection.send(b"x")
            time.sleep(0.3)


@pytest.mark.parametrize(
    "endless",
    [
        (b"GET /health/live HTTP/1.1\r\n", b"x: y\r\n"),
        (b"GET /", b"a" * 1000),
        (b"GET /health/live HTTP/1.1\r\nx: ", b"a" * 1000),
        (
            head("/predict", "Content-Type: application/json", "Transfer-Encoding: chunked") + b"1\r\n{\r\n1;",
            b"a" * 1000,
        ),
        (
            head("/predict", "Content-Type: application/json", "Transfer-Encoding: chunked") + b"1\r\n{\r\n0\r\n",
            b"x: y\r\n",
        ),
    ],
)
def test_a_head_without_end_is_refused(server, endless):
    begin, more = endless
    with connected(server.port) as (connection,):
        before = resident(server.process.pid)
        connection.sendall(begin)
        sent = greedily(connection, more * (30 * MB // len(more)), seconds=1)

        assert sent < 20 * MB
        assert resident(server.process.pid) - before < 30 * MB
        assert is_closed(connection) or closed_after(connection)
    until(lambda: "request headers were too large" in warnings(server))


def test_a_reply_that_nobody_reads_is_not_kept(server, good_request):
    asset = head("/docs/assets/swagger-ui-bundle.js", method="GET")
    with connected(server.port, 20, room=4096) as silent:
        for connection in silent:
            connection.sendall(asset * 10)
        until(lambda: "disconnected a client that does not read its reply" in warnings(server))
        until(lambda: httpx.post(f"{server.url}/predict", json=good_request).status_code == 200)


def test_what_waits_unread_is_bounded_in_all(small_server):
    with connected(small_server.port, 15, room=4096) as silent:
        for connection in silent:
            greedily(connection, LIVE * (MB // len(LIVE)), seconds=0.05)
        until(lambda: any("ZAP_UNREAD_BYTES" in what for what in warnings(small_server)))
        assert httpx.get(f"{small_server.url}/health/live").status_code == 200


def test_connections_beyond_the_bound_take_the_place_of_idle_ones(small_server, good_request):
    with connected(small_server.port, 60) as idle:
        until(lambda: sum(is_closed(connection) for connection in idle) >= 40)

        assert httpx.post(f"{small_server.url}/predict", json=good_request).status_code == 200
        assert not is_closed(idle[-1])
    until(lambda: any("an idle connection was closed" in what for what in warnings(small_server)))


def test_where_none_is_idle_a_connection_is_refused(small_server):
    streams = head("/predict/batch", "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked")
    with connected(small_server.port, 20) as busy:
        for connection in busy:
            connection.sendall(streams)
        time.sleep(1)
        refused = httpx.get(f"{small_server.url}/health/live")

        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "1"
    until(lambda: any("was refused" in what for what in warnings(small_server)))
    until(lambda: httpx.get(f"{small_server.url}/health/live").status_code == 200)


def test_fewer_descriptors_than_clients_are_no_outage(serve, trained_sqlite, good_request, monkeypatch, tmp_path):
    limited = tmp_path / "python"
    limited.write_text(f'#!/bin/sh\nulimit -n 300\nexec {sys.executable} "$@"\n')
    limited.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(limited))
    server = serve(trained_sqlite, anew=True).wait()
    with connected(server.port, 400):
        for _ in range(5):
            assert httpx.post(f"{server.url}/predict", json=good_request, timeout=30).status_code == 200
    until(lambda: any("an idle connection was closed" in what for what in warnings(server)))


def test_a_storm_of_refusals_is_counted_in_few_lines(small_server):
    for _ in range(20):
        with connected(small_server.port, 40):
            pass
    time.sleep(2)

    assert small_server.log().count("an idle connection was closed") <= 3
