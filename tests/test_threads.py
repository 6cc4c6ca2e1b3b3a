"""Work in a pool of threads: within a deadline, or to its end; and turns."""

import asyncio
import threading
import time

import pytest
from structlog.testing import capture_logs

from zap.errors import DatabaseUnavailable, TooBusy
from zap.logs import REQUEST_ID
from zap.threads import Pool, Turns


@pytest.fixture
def pool():
    pool = Pool("tried", 1)
    yield pool
    pool.close()


def test_it_works(pool):
    async def story():
        REQUEST_ID.set("mine")
        names = await pool.run(lambda: (threading.current_thread().name, REQUEST_ID.get()))
        return names, await pool.run(divmod, 7, 2)

    assert asyncio.run(story()) == (("tried_0", "mine"), (3, 1))


def test_an_error_is_told_to_whoever_asked(pool):
    with pytest.raises(ZeroDivisionError):
        asyncio.run(pool.run(divmod, 7, 0))


def test_work_that_takes_too_long_is_not_waited_for_and_what_waits_behind_it_never_begins(pool):
    goes_on, begun = threading.Event(), []

    async def story():
        before = time.monotonic()
        for work in (goes_on.wait, lambda: begun.append(1)):
            with pytest.raises(DatabaseUnavailable, match="take too long"):
                await pool.run(work, until=time.monotonic() + 0.2)
        goes_on.set()
        assert time.monotonic() - before < 5
        # The thread is free again.
        return await pool.run(divmod, 7, 2)

    assert asyncio.run(story()) == (3, 1)
    assert begun == []


def test_what_is_too_late_to_begin_does_not(pool):
    async def story():
        with pytest.raises(DatabaseUnavailable):
            await pool.to_its_end(divmod, 7, 2, until=time.monotonic() - 1)

    asyncio.run(story())


def test_turns_come_in_order_and_a_wait_has_an_end():
    order = []

    async def story():
        turns = Turns(0.3, lambda: TooBusy("too long"))

        async def one(number, seconds):
            async with turns.taken():
                order.append(number)
                await asyncio.sleep(seconds)

        first = [asyncio.create_task(one(number, 0.01)) for number in range(5)]
        await asyncio.gather(*first)
        holder = asyncio.create_task(one(5, 2))
        await asyncio.sleep(0)
        with pytest.raises(TooBusy, match="too long"):
            await turns.take()
        holder.cancel()
        await asyncio.gather(holder, return_exceptions=True)
        # Whoever is cancelled gives its turn on.
        await one(6, 0)

    asyncio.run(story())
    assert order == list(range(7))


def test_work_is_seen_to_its_end(pool):
    ended = []

    async def story():
        return await pool.to_its_end(divmod, 7, 2, after=lambda task: ended.append(task.result()))

    assert asyncio.run(story()) == (3, 1)
    assert ended == [(3, 1)]


def test_its_error_is_told_to_whoever_waits(pool):
    ended = []

    async def story():
        await pool.to_its_end(divmod, 7, 0, after=lambda task: ended.append(type(task.exception())))

    with pytest.raises(ZeroDivisionError):
        asyncio.run(story())
    assert ended == [ZeroDivisionError]


@pytest.mark.parametrize("fails", [False, True])
def test_whoever_is_cancelled_is_so_at_once_and_the_thread_goes_on(pool, fails):
    goes_on, ended = threading.Event(), []

    def work():
        goes_on.wait(60)
        return 1 / 0 if fails else "done"

    async def story():
        over = asyncio.Event()
        waiting = asyncio.create_task(pool.to_its_end(work, after=lambda task: (ended.append(task), over.set())))
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        cancelled = time.monotonic() - begun
        assert ended == []
        goes_on.set()
        await asyncio.wait_for(over.wait(), 60)
        await asyncio.sleep(0)
        return cancelled

    with capture_logs() as logged:
        assert asyncio.run(story()) < 1

    assert (ended[0].exception() is not None) is fails
    assert [line["log_level"] for line in logged] == ["warning"] * fails
