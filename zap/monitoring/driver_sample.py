"""A sample of the drivers of a week, of bounded size: every driver has the same chance to be in it."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Self

# So many drivers are enough for every verdict. A week with more drivers is sampled.
MOST_DRIVERS = 16_384
_BITS = 64


def driver_hash(driver: str) -> int:
    """Return a number below 2^64 for a driver.

    Args:
        driver: the id of the driver.
    """
    return int.from_bytes(hashlib.blake2b(driver.encode(), digest_size=8).digest())


class DriverSample:
    """The first row of each driver in a week, for a fair sample of at most MOST_DRIVERS drivers.

    The first drivers of a week would be no fair sample, because Monday's drivers are not Sunday's drivers. Therefore
    the sample holds the drivers with low hashes: when it is full, the limit is halved (Gibbons, Distinct Sampling,
    VLDB 2001).
    """

    def __init__(self, week: int, most: int = MOST_DRIVERS) -> None:
        self.week = week
        self.rows: dict[int, bytes] = {}
        self._most = most
        self._limit = 1 << _BITS

    def wants(self, driver: str) -> int | None:
        """Return the hash of a driver whose row is to be added; None if the driver is in it, or not sampled.

        Args:
            driver: the id of the driver.
        """
        number = driver_hash(driver)
        return None if number >= self._limit or number in self.rows else number

    def add(self, number: int, row: Iterable[int]) -> None:
        """Add the row of a driver, and halve the sample if it is full.

        Args:
            number: what `wants` returned.
            row: small numbers, each below 256.
        """
        self.rows[number] = bytes(row)
        while len(self.rows) > self._most:
            self._limit >>= 1
            self.rows = {number: row for number, row in self.rows.items() if number < self._limit}

    def to_plain(self) -> dict[str, Any]:
        """Return the sample as JSON values."""
        rows = {f"{number:016x}": row.hex() for number, row in self.rows.items()}
        return {"week": self.week, "limit": f"{self._limit:x}", "most": self._most, "rows": rows}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Return the sample that `to_plain` described."""
        sample = cls(plain["week"], plain["most"])
        sample._limit = int(plain["limit"], 16)
        sample.rows = {int(number, 16): bytes.fromhex(row) for number, row in plain["rows"].items()}
        return sample
