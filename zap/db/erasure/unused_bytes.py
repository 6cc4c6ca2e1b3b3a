"""A search for bytes in the unused parts of a SQLite file. It is a program of its own, and imports nothing of zap.

A process that has a SQLite file open must not open the file in another way: when it closes the file again, the system
drops the locks of SQLite, and then another process may remove the WAL. So `zap.db.erasure.remains` runs this program,
which prints how often the bytes on its standard input are in the unused parts of the file that it is given.

The format of the file: https://www.sqlite.org/fileformat.html
"""

import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PORTION = 16 * 2**20
# The kind of a page, its first free block, the number of its cells, and where their content begins.
_HEADER = struct.Struct(">BHHH")
# The kinds of pages of tables and indexes, each with the size of its header.
_HEADERS = {2: 12, 5: 12, 10: 8, 13: 8}
# The first page begins with the header of the file.
_FILE_HEADER = 100
_LARGEST_PAGE = 65_536
_BLOCK, _TRUNK = struct.Struct(">HH"), struct.Struct(">II")


def count_unused(file: Path, wanted: bytes) -> int:
    """Return how often bytes are in free pages of a SQLite file, or in the free parts of its other pages.

    Args:
        file: the SQLite file. Its WAL is not read.
        wanted: the bytes.
    """
    with file.open("rb") as opened:
        header = opened.read(_FILE_HEADER)
        (size,) = struct.unpack_from(">H", header, 16)
        size = _LARGEST_PAGE if size == 1 else size
        free = set(_free_pages(opened, size, *struct.unpack_from(">I", header, 32)))
        opened.seek(0)
        found = number = 0
        while pages := opened.read(max(1, _PORTION // size) * size):
            for place in _places(pages, wanted):
                page = place // size
                at, one = place - page * size, pages[page * size : (page + 1) * size]
                found += number + page + 1 in free or _is_free(one, at, is_first=number + page == 0)
            number += len(pages) // size
    return found


def _places(pages: bytes, wanted: bytes) -> Iterator[int]:
    place = pages.find(wanted)
    while place >= 0:
        yield place
        place = pages.find(wanted, place + 1)


def _free_pages(opened: BinaryIO, size: int, trunk: int) -> Iterator[int]:
    """Yield the numbers of the free pages."""
    seen: set[int] = set()
    while trunk and trunk not in seen:
        seen.add(trunk)
        yield trunk
        opened.seek((trunk - 1) * size)
        page = opened.read(size)
        if len(page) < size:
            return
        trunk, leaves = _TRUNK.unpack_from(page)
        yield from struct.unpack_from(f">{min(leaves, size // 4 - 2)}I", page, _TRUNK.size)


def _is_free(page: bytes, at: int, *, is_first: bool) -> bool:
    """Return whether a byte of a page of a table or an index is used by no cell.

    A page of a long value is no such page: it begins with the number of the next one, whose first byte is 0.
    """
    begin = _FILE_HEADER if is_first else 0
    kind, block, cells, content = _HEADER.unpack_from(page, begin)
    if kind not in _HEADERS:
        return False
    if begin + _HEADERS[kind] + 2 * cells <= at < (content or _LARGEST_PAGE):
        return True
    last = 0
    # The free blocks are in order, so a damaged page does not let this go on for ever.
    while last < block <= len(page) - _BLOCK.size:
        following, length = _BLOCK.unpack_from(page, block)
        if block <= at < block + length:
            return True
        last, block = block, following
    return False


if __name__ == "__main__":
    print(count_unused(Path(sys.argv[1]), sys.stdin.buffer.read()))  # noqa: T201 - its result
