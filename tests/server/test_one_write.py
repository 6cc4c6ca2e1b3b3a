"""The head and the body of a reply leave together, whatever becomes of the connection."""

import asyncio

import pytest

from zap.server.one_write import OneWrite


class Recorded:
    """A transport that notes what is asked of it."""

    def __init__(self):
        self.asked = []

    def write(self, data):
        self.asked.append(data)

    def close(self):
        self.asked.append("closed")

    def abort(self):
        self.asked.append("aborted")

    def is_closing(self):
        return False

    def get_extra_info(self, _name):
        return None

    def get_write_buffer_size(self):
        return 7


@pytest.fixture
def run():
    """Runs a story with a transport in an event loop, and returns what was asked of the transport beneath."""

    def run_story(story):
        async def main():
            recorded = Recorded()
            await story(OneWrite(recorded, asyncio.get_running_loop()))
            await asyncio.sleep(0)
            return recorded.asked

        return asyncio.run(main())

    return run_story


def test_two_pieces_leave_in_one_write(run):
    async def story(one):
        one.write(b"head")
        assert one.get_write_buffer_size() == 11
        one.write(b"body")
        assert one.get_write_buffer_size() == 7

    assert run(story) == [b"headbody"]


def test_a_head_alone_leaves_in_the_next_turn(run):
    async def story(one):
        one.write(b"head")
        await asyncio.sleep(0)
        one.write(b"body, which is made later")

    assert run(story) == [b"head", b"body, which is made later"]


def test_an_empty_piece_is_nothing(run):
    async def story(one):
        one.write(b"")
        one.write(b"head")
        one.write(b"")

    assert run(story) == [b"head"]


def test_the_last_piece_leaves_before_the_connection_is_closed(run):
    async def story(one):
        one.write(b"head")
        one.close()

    assert run(story) == [b"head", "closed"]


def test_an_aborted_connection_sends_nothing_more(run):
    async def story(one):
        one.write(b"head")
        one.abort()

    assert run(story) == ["aborted"]


def test_three_replies_in_one_turn_keep_their_order(run):
    async def story(one):
        for piece in (b"1", b"a", b"2", b"b", b"3"):
            one.write(piece)

    assert run(story) == [b"1a", b"2b", b"3"]
