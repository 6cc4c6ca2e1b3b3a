"""For the benchmark's own test: raw ASGI whose every answer costs so many turns of work, and fails from the nth on."""

import os
from hashlib import sha256
from itertools import count

TURNS = int(os.environ["BENCH_TURNS"])
FAILS_FROM = int(os.environ.get("BENCH_FAILS_FROM", "0"))
BLOCK = bytes(1000)
numbers = count(1)


async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    for _ in range(TURNS):
        sha256(BLOCK).digest()
    status = 500 if FAILS_FROM and next(numbers) >= FAILS_FROM else 200
    headers = [(b"content-type", b"application/json"), (b"content-length", b"23")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"predicted_class":"a"}'})
