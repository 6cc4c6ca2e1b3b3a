"""A watch looks again and again, survives what it meets, and leaves nothing behind."""

import asyncio
import threading

import pytest
from sqlalchemy.exc import OperationalError

from zap.server.watch import watch


async def stopped(watching):
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


def test_it_looks_again_and_again_whatever_a_look_meets():
    looks = []
    enough = threading.Event()

    def look():
        looks.append(threading.current_thread())
        if len(looks) == 5:
            enough.set()
        raise (OperationalError("", {}, Exception()), ValueError())[len(looks) % 2]

    async def story():
        watching = asyncio.create_task(watch(look, 0.001))
        await asyncio.to_thread(enough.wait, 20)
        await stopped(watching)

    asyncio.run(asyncio.wait_for(story(), 20))

    assert len(looks) >= 5
    assert threading.main_thread() not in looks


def test_when_it_ends_no_look_is_under_way():
    # The engine is disposed after the watch. A connection that came back later would stay open.
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def look():
        begun.set()
        go_on.wait(20)
        over.set()

    async def story():
        watching = asyncio.create_task(watch(look, 0.001))
        await asyncio.to_thread(begun.wait, 20)
        asyncio.get_running_loop().call_later(0.2, go_on.set)
        await stopped(watching)
        assert over.is_set()

    asyncio.run(asyncio.wait_for(story(), 20))
