"""TableDigest: the number of a table's rows and a hash of their values, which is equal on both engines."""

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Self

from msgspec import msgpack

from zap.db.moving.table_rows import Row

_BYTES = 32


@dataclass
class TableDigest:
    """The number of rows and the sum of the hashes of the rows.

    The order of the rows does not matter to a sum, and the digest of a table is the sum of the digests of its parts.

    Attributes:
        rows: the number of rows.
        total: the sum of their hashes, without its bits above 256.
    """

    rows: int = 0
    total: int = 0

    @property
    def shown(self) -> str:
        """Return the hash as hexadecimal digits."""
        return f"{self.total:0{2 * _BYTES}x}"

    def add(self, row: Row) -> None:
        """Add a row."""
        self.rows += 1
        hashed = int.from_bytes(blake2b(msgpack.encode(row), digest_size=_BYTES).digest())
        self.total = (self.total + hashed) % (1 << 8 * _BYTES)

    def copy(self) -> Self:
        """Return a digest of these rows, to which other rows are added."""
        return replace(self)
