"""A steady load of predictions on one address: what came of each request, and the waits of a window of time."""

import asyncio
import contextlib
import json
import threading
import time
from typing import NamedTuple
from urllib.parse import urlsplit


class Reply(NamedTuple):
    """The result of one request. `at` is the time of the reply on the monotonic clock; status 0 means no reply."""

    at: float
    seconds: float
    status: int
    answer: dict


class SteadyLoad:
    """Ask on so many connections, each again after a pause, in a thread of its own until the end of the block.

    Args:
        url: the address.
        requests: the bodies, which the connections send in turn.
        connections: how many.
        pause: between a reply and the next request of a connection, in seconds.
    """

    def __init__(self, url, requests, connections=20, pause=0.08):
        self.replies = []
        # The longest time by which this process was late itself: it is no time of the servers.
        self.lag = 0.0
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._bodies = [json.dumps(one).encode() for one in requests]
        self._connections, self._pause = connections, pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask_all()))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def acknowledged(self):
        """Return the replies with an answer."""
        return [one for one in self.replies if one.status == 200]

    def p99(self, begin, end):
        """Return the 99 % quantile of the seconds of the replies between two moments; None if there are few."""
        seconds = sorted(one.seconds for one in self.replies if begin <= one.at < end)
        return seconds[int(0.99 * len(seconds))] if len(seconds) >= 20 else None

    def recovered(self, since, allowed, window=2.0):
        """Return the seconds from a moment until the p99 of a window is allowed; None if that has not happened."""
        begin = since
        while begin + window <= time.monotonic():
            found = self.p99(begin, begin + window)
            statuses = {one.status for one in self.replies if begin <= one.at < begin + window}
            if found is not None and found <= allowed and statuses == {200}:
                return begin - since
            begin += 0.25
        return None

    async def _ask_all(self):
        await asyncio.gather(self._measure(), *(self._ask(n) for n in range(self._connections)))

    async def _measure(self):
        while not self._over.is_set():
            begun = time.monotonic()
            await asyncio.sleep(0.05)
            self.lag = max(self.lag, time.monotonic() - begun - 0.05)

    async def _ask(self, n):
        while not self._over.is_set():
            try:
                reader, writer = await asyncio.open_connection(self._host, self._port)
            except OSError:
                await asyncio.sleep(0.2)
                continue
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while not self._over.is_set():
                    body = self._bodies[n % len(self._bodies)]
                    n += 1
                    await self._one(reader, writer, body)
                    await asyncio.sleep(self._pause)
            writer.close()

    async def _one(self, reader, writer, body):
        begun, status, answer = time.monotonic(), 0, b""
        try:
            writer.write(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            answer = await reader.readexactly(length)
            status = int(head.split()[1])
        finally:
            at = time.monotonic()
            is_json = answer.startswith(b"{")
            self.replies.append(Reply(at, at - begun, status, json.loads(answer) if is_json else {}))
