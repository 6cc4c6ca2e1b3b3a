"""zap serve under load: what was answered is in the database exactly once, also where the server is killed."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest
from sqlalchemy import text

from zap.db.engine import create_engine

CONNECTIONS = 64
# Imports once, then becomes one server after another: the killed ones need not be waited for.
SERVERS = """
import os, signal, socket, sys
import uvicorn
from zap.app import create_app
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    listening = socket.create_server(("127.0.0.1", 0))
    child = os.fork()
    if not child:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        uvicorn.Server(uvicorn.Config(create_app, factory=True, log_config=None)).run([listening])
        os._exit(0)
    print(child, listening.getsockname()[1], flush=True)
    listening.close()
"""


async def ask_on(port, body, answers, enough, begun):
    """Ask on one connection, again and again, until there are enough answers or the server is gone."""
    request = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    )
    request %= len(body), body
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            while len(answers) < enough:
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
                answer = json.loads(await reader.readexactly(length))
                assert head.startswith(b"http/1.1 200"), answer
                answers.append((answer["input_id"], answer["prediction_id"], answer["predicted_class"]))
                begun.set()


async def load(port, body, enough, connections=CONNECTIONS, at_last=None):
    answers, begun = [], asyncio.Event()
    asking = [asyncio.create_task(ask_on(port, body, answers, enough, begun)) for _ in range(connections)]
    if at_last:
        await asyncio.wait_for(begun.wait(), 60)
        await at_last(answers)
    await asyncio.gather(*asking)
    return answers


def logged(settings):
    """Every row of the log that is of a request, and how many of the two kinds stand without the other."""
    engine = create_engine(settings.database_url)
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT input_id, prediction_id, predicted_class FROM predictions WHERE source = 'inference'")
        ).all()
        inputs = connection.execute(text("SELECT input_id FROM inference_inputs")).scalars().all()
    engine.dispose()
    return [tuple(row) for row in rows], set(inputs) ^ {row.input_id for row in rows}


@pytest.mark.parametrize("enough", [5_000, pytest.param(20_000, marks=pytest.mark.long)])
def test_each_of_many_answers_is_logged_exactly_once(server, trained_sqlite, good_request, enough):
    answers = asyncio.run(load(server.port, json.dumps(good_request).encode(), enough))

    rows, alone = logged(trained_sqlite)
    assert len(answers) >= enough
    assert sorted(rows) == sorted(answers)
    assert alone == set()


@pytest.fixture
def servers(trained):
    environment = os.environ | trained.environment()
    with subprocess.Popen(
        [sys.executable, "-c", SERVERS], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        yield parent
        parent.stdin.close()


def test_no_answer_is_lost_where_the_server_is_killed(servers, trained, good_request):
    # The server is killed twenty times in all, each time in the middle of its work.
    body = json.dumps(good_request).encode()
    answers, kills = [], []

    async def kill(child, some):
        # So that each ends at another point of its work.
        await asyncio.sleep(0.01 * len(kills))
        kills.append(len(some))
        os.kill(child, signal.SIGKILL)

    for _ in range(10):
        servers.stdin.write("one more\n")
        servers.stdin.flush()
        child, port = map(int, servers.stdout.readline().split())
        some = asyncio.run(load(port, body, 10**9, 16, lambda answered, child=child: kill(child, answered)))
        answers += some

    rows, alone = logged(trained)
    assert min(kills) > 0
    assert set(answers) <= set(rows)
    assert len(set(answers)) == len(answers)
    assert len({row[1] for row in rows}) == len({row[0] for row in rows}) == len(rows)
    assert alone == set()
