"""Steps of the tests of faults: many requests at once, with their times, and a disk that is filled."""

import asyncio
import os
import time

import httpx

# A request is answered within five seconds; a busy machine may need some more to say so.
IN_TIME = 5 + 2.5


def ask(url, request, many, path="/predict", timeout=60):
    """Send `many` requests at once, each on a connection of its own: their statuses, bodies and seconds."""

    async def one(client):
        begun = time.monotonic()
        reply = await client.post(f"{url}{path}", json=request)
        return reply.status_code, reply.json(), time.monotonic() - begun

    async def story():
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=timeout, limits=limits, verify=False) as client:
            return await asyncio.gather(*(one(client) for _ in range(many)))

    return asyncio.run(story())


def fill(folder):
    """Write until nothing fits any more; the file that takes the room."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (2**20, 4096, 1):
            try:
                while True:
                    file.write(os.urandom(size))
            except OSError:
                pass
    return ballast
