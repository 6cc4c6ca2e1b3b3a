"""POST /predict/batch beside clients that announce batches and do not send them: it answers all others."""

import asyncio
import contextlib
import json
import time

import httpx
import pytest
from faults.clients import connected, head, resident, server_on

from zap.controllers import open_batches
from zap.controllers.open_batches import Batch, OpenBatches
from zap.errors import TooBusy

JSON, CSV, NDJSON = "application/json", "text/csv", "application/x-ndjson"
MB = 2**20


@pytest.fixture(scope="module")
def server(_trained_sqlite, tmp_path_factory):
    """A server that takes batches of a megabyte, and waits less long for a body than for a stream."""
    limits = {"batch_bytes": MB, "body_seconds": 3, "stream_seconds": 8}
    with contextlib.closing(server_on(_trained_sqlite, tmp_path_factory.mktemp("batches"), **limits)) as server:
        yield server.wait()


def ask(server, good_request, n=3):
    reply = httpx.post(f"{server.url}/predict/batch", json={"inputs": [good_request] * n}, timeout=60)
    return reply.status_code, reply.json().get("answered")


def stream(server, good_request):
    reply = httpx.post(
        f"{server.url}/predict/batch", content=json.dumps(good_request), headers={"Content-Type": NDJSON}, timeout=60
    )
    return reply.status_code, len(reply.text.splitlines())


@pytest.mark.parametrize("kind", [JSON, CSV, NDJSON])
@pytest.mark.parametrize("begun", [b"", b"{"])
def test_silent_clients_do_not_take_the_route_away(server, good_request, kind, begun):
    announced = head("/predict/batch", f"Content-Type: {kind}", "Content-Length: 1000000") + begun
    with connected(server.port, 40) as silent:
        for connection in silent:
            connection.sendall(announced)
        time.sleep(0.5)

        assert ask(server, good_request) == (200, 3)
        assert stream(server, good_request) == (200, 1)


def test_streams_that_pause_do_not_take_the_route_away_and_go_on(server, good_request):
    line = json.dumps(good_request).encode() + b"\n"
    announced = head("/predict/batch", f"Content-Type: {NDJSON}", f"Content-Length: {2 * len(line)}")
    with connected(server.port, 20) as streams:
        for connection in streams:
            connection.sendall(announced + line)
        # Longer than a body may be silent: a stream that is answered is none.
        time.sleep(4.5)
        assert ask(server, good_request) == (200, 3)
        for connection in streams:
            connection.sendall(line)
        for connection in streams:
            received = b""
            while not received.endswith(b"0\r\n\r\n"):
                received += connection.recv(65536)
            assert received.count(b"predicted_class") == 2


def test_a_stream_that_says_nothing_for_too_long_is_told_where_it_ended(server, good_request):
    line = json.dumps(good_request).encode() + b"\n"
    with connected(server.port) as (connection,):
        connection.sendall(head("/predict/batch", f"Content-Type: {NDJSON}", "Content-Length: 100000") + line)
        received = b""
        while b"too-slow" not in received:
            piece = connection.recv(65536)
            assert piece, received
            received += piece

    assert received.count(b"predicted_class") == 1
    assert b'"line":2' in received
    assert b'"status":408' in received


def test_bodies_that_are_not_sent_to_their_end_are_bounded_in_all(server, good_request):
    # A batch whose client has stopped sending is given up when a new batch needs its memory. Without this bound,
    # these 200 bodies make the process grow by 284 MB instead of 92 MB.
    announced = head("/predict/batch", f"Content-Type: {JSON}", f"Content-Length: {MB}")
    before = resident(server.process.pid)
    with connected(server.port, 200) as greedy:
        for connection in greedy:
            connection.sendall(announced + b" " * (MB - 1))
        time.sleep(0.5)

        assert resident(server.process.pid) - before < 200 * MB
        assert ask(server, good_request) == (200, 3)
        reply = greedy[0].recv(65536)
        assert reply.startswith(b"HTTP/1.1 503 ")
        assert b"needed its memory" in reply


# Without a server.


class Pieces:
    def __init__(self, *sizes):
        self.messages = asyncio.Queue()
        for size in sizes:
            self.messages.put_nowait({"type": "http.request", "body": b"x" * size, "more_body": True})

    async def receive(self):
        return await self.messages.get()


def test_the_longest_silent_is_given_up_first():
    async def scenario():
        batches = OpenBatches()
        first, second = Pieces(60), Pieces(30)
        one, other = Batch(batches, first.receive, 100), Batch(batches, second.receive, 100)
        await one.receive()
        await other.receive()
        waiting = [asyncio.create_task(batch.receive()) for batch in (one, other)]
        await asyncio.sleep(0)
        third = Batch(batches, Pieces(60).receive, 100)
        await third.receive()
        with pytest.raises(TooBusy, match="needed its memory"):
            await waiting[0]
        assert [batch.held for batch in (one, other, third)] == [0, 30, 60]
        assert not waiting[1].done()
        waiting[1].cancel()
        # Nobody else is silent.
        with pytest.raises(TooBusy, match="already hold"):
            await Batch(batches, Pieces(50).receive, 100).receive()
        for batch in (one, other, third):
            batches.forget(batch)
        # There is room for a batch that takes all of it.
        await Batch(batches, Pieces(100).receive, 100).receive()

    asyncio.run(scenario())


def test_a_group_waits_for_a_place_a_whole_batch_does_not(monkeypatch):
    monkeypatch.setattr(open_batches, "_MOST_OPEN", 1)
    monkeypatch.setattr(open_batches, "_PATIENCE_SECONDS", 30)

    async def scenario():
        batches = OpenBatches()
        batch = Batch(batches, Pieces().receive, 100)
        order = []

        async def group(name):
            async with Batch(batches, Pieces().receive, 100).answered(group=True):
                order.append(name)
                await asyncio.sleep(0)

        async with batch.answered(group=False):
            groups = [asyncio.create_task(group(name)) for name in "abc"]
            await asyncio.sleep(0)
            with pytest.raises(TooBusy, match="open already"):
                batches.check_for_a_place()
            # One that leaves takes no place with it.
            groups[0].cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*groups, return_exceptions=True)
        assert order == ["b", "c"]
        batches.check_for_a_place()

    asyncio.run(scenario())
