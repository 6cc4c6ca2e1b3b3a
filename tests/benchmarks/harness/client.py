"""The bundled client: reads what is asked as JSON on standard input, prints what it found as JSON.

It keeps connections busy for some `seconds`, or sends at a `rate` until it is interrupted. One Python process: of a
fast server it finds its own limit, not the server's.
"""

import asyncio
import contextlib
import json
import signal
import sys
import time

try:
    from uvloop import run as run_loop
except ImportError:
    from asyncio import run as run_loop


class Run:
    """All connections of one run, and what they found."""

    def __init__(self, asked):
        self.asked = asked
        self.requests = [_request(asked, body) for body in asked["bodies"]]
        self.sent = self.errors = 0
        self.latencies = []
        self.open = True
        self.ended = asyncio.Event()
        self.busy = self.connected = 0
        self.begin = self.last = time.perf_counter()

    def next_request(self):
        self.sent += 1
        return self.requests[self.sent % len(self.requests)]

    def stop(self):
        self.open = False
        self.look()

    def look(self):
        """It ends once what is on its way has come back, or no connection is left."""
        if (not self.open and not self.busy) or not self.connected:
            self.ended.set()


def _request(asked, body):
    more = "".join(f"{name}: {value}\r\n" for name, value in asked.get("headers", {}).items())
    head = (
        f"POST {asked['path']} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{more}"
        f"Content-Length: {len(body.encode())}\r\n\r\n"
    )
    return (head + body).encode()


class Connection(asyncio.Protocol):
    """One connection, with one request on its way at most."""

    def __init__(self, run, number):
        self.run = run
        self.buffer = b""
        self.since = None
        rate = run.asked.get("rate")
        # Each connection has its own share of the requests, evenly spread in time.
        self.every = run.asked["connections"] / rate if rate else None
        self.due = run.begin + (number / rate if rate else 0)

    def connection_made(self, transport):
        self.transport = transport
        self.run.connected += 1

    def send(self, since=None):
        if not self.run.open:
            return
        self.since = since or time.perf_counter()
        self.run.busy += 1
        self.transport.write(self.run.next_request())

    def go_on(self):
        """Send the next request: at once, or when it is due."""
        if self.every is None:
            self.send()
            return
        due, self.due = self.due, self.due + self.every
        wait = due - time.perf_counter()
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self.send)
        else:
            # It waited for this connection, as a driver would have.
            self.send(due)

    def data_received(self, data):
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        if not length:
            self.run.errors += 1
            self.transport.close()
        elif len(self.buffer) >= end + 4 + int(length):
            self.answered(head)

    def answered(self, head):
        now = time.perf_counter()
        self.buffer = b""
        self.run.busy -= 1
        self.run.last = now
        self.run.latencies.append(now - self.since)
        self.since = None
        self.run.errors += not head.startswith(b"http/1.1 2")
        self.go_on()
        self.run.look()

    def connection_lost(self, _error):
        self.run.connected -= 1
        if self.since is not None:
            self.run.busy -= 1
            self.run.errors += 1
        self.run.look()


async def press(asked):
    loop = asyncio.get_running_loop()
    run = Run(asked)
    loop.add_signal_handler(signal.SIGINT, run.stop)
    connections = []
    for number in range(asked["connections"]):
        with contextlib.suppress(OSError):
            _, connection = await loop.create_connection(
                lambda number=number: Connection(run, number), "127.0.0.1", asked["port"]
            )
            connections.append(connection)
    run.errors += asked["connections"] - len(connections)
    late = time.perf_counter() - run.begin
    run.begin = run.last = time.perf_counter()
    for connection in connections:
        connection.due += late
        connection.go_on()
    if "seconds" in asked:
        loop.call_later(asked["seconds"], run.stop)
    run.look()
    await run.ended.wait()
    return found(run)


def found(run):
    latencies = sorted(run.latencies) or [0.0]
    return {
        "requests_per_second": len(run.latencies) / max(run.last - run.begin, 1e-9),
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3,
        "requests": len(run.latencies),
        "errors": run.errors,
    }


def main():
    asked = json.load(sys.stdin)
    print(json.dumps(run_loop(press(asked))))


if __name__ == "__main__":
    main()
