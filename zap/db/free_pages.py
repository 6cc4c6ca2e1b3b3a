"""The free pages of a SQLite file, and their return to the disk in small steps.

Removed rows leave free pages, which new rows use. In a file with `auto_vacuum=INCREMENTAL`, a step moves the last pages
of the file into free places, and the file becomes shorter when SQLite next copies its WAL into it.
"""

from typing import Any, NamedTuple

from sqlalchemy import Connection

# Set before a new file has its first page. In an existing file it only says what the next VACUUM makes.
NEW_FILE = "PRAGMA auto_vacuum=INCREMENTAL"
# A tenth of the file stays free for the requests of the next days. Pages would otherwise be moved every day in vain.
_SPARE = 0.1
_INCREMENTAL = 2


class FilePages(NamedTuple):
    """The pages of a SQLite file.

    Attributes:
        pages: how many there are.
        free: how many of them hold nothing.
        size: the bytes of a page.
        can_return: whether free pages can be returned without a VACUUM.
    """

    pages: int
    free: int
    size: int
    can_return: bool

    @property
    def too_many(self) -> int:
        """Return how many free pages are more than the file should have."""
        # As many as leave a tenth of the smaller file free.
        return max(0, int(self.free - (self.pages - self.free) * _SPARE / (1 - _SPARE)))


def file_pages(connection: Connection) -> FilePages:
    """Return the pages of the SQLite file that a connection reads."""
    pages, free, size, mode = (
        int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
        for name in ("page_count", "freelist_count", "page_size", "auto_vacuum")
    )
    return FilePages(pages, free, size, mode == _INCREMENTAL)


def return_pages(connection: Connection, most: int) -> None:
    """Return free pages at the end of the transaction.

    Args:
        connection: a transaction that writes.
        most: the most pages.
    """
    driver: Any = connection.connection.driver_connection
    # One by one, because Python's driver does only the first step of a statement that returns no columns.
    for _ in range(most):
        driver.execute("PRAGMA incremental_vacuum(1)").close()
