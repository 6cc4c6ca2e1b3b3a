"""A sample of the drivers of a week, of bounded size: every driver has the same chance to be in it."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np

# So many drivers are enough for every verdict. A week with more drivers is sampled.
MOST_DRIVERS = 16_384
_BITS = 64
# The constants of SplitMix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014).
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def driver_hash(driver: str) -> int:
    """Return a number below 2^64 for a driver.

    Args:
        driver: the id of the driver.
    """
    return int.from_bytes(hashlib.blake2b(driver.encode(), digest_size=8).digest())


def random_order(numbers: np.ndarray) -> np.ndarray:
    """Return a random number (uint64) for each number, always the same one: the output of SplitMix64.

    Args:
        numbers: the numbers of rows, 0 or more.
    """
    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(_STEP)
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    ordered: np.ndarray = mixed ^ (mixed >> np.uint64(31))
    return ordered


class DriverSample:
    """A random row of each driver in a week, for a fair sample of at most MOST_DRIVERS drivers.

    The first row of a driver in a week would depend on how often the driver asks: it comes late in the week if the
    driver asks seldom. The first drivers of a week would be no fair sample either, because the drivers of a Monday
    differ from the drivers of a Sunday. Therefore the sample holds the drivers with low hashes: when it is full, the
    limit is halved (Gibbons, Distinct Sampling, VLDB 2001).
    """

    def __init__(self, week: int, most: int = MOST_DRIVERS) -> None:
        self.week = week
        self.rows: dict[int, bytes] = {}
        self._orders: dict[int, int] = {}
        self._most = most
        self._limit = 1 << _BITS

    def wants(self, driver: str, order: int) -> int | None:
        """Return the hash of a driver whose row is to be added; None if another row or no row is kept.

        Args:
            driver: the id of the driver.
            order: the random number of the row. The row with the lowest number is kept.
        """
        number = driver_hash(driver)
        return None if number >= self._limit or self._orders.get(number, order + 1) <= order else number

    def add(self, number: int, order: int, row: Iterable[int]) -> None:
        """Keep the row of a driver, and halve the sample if it is full.

        Args:
            number: what `wants` returned.
            order: the random number of the row.
            row: small numbers, each below 256.
        """
        self.rows[number], self._orders[number] = bytes(row), order
        while len(self.rows) > self._most:
            self._limit >>= 1
            self.rows = {number: row for number, row in self.rows.items() if number < self._limit}
            self._orders = {number: self._orders[number] for number in self.rows}

    def to_plain(self) -> dict[str, Any]:
        """Return the sample as JSON values."""
        rows = {f"{number:016x}": f"{self._orders[number]:016x}{row.hex()}" for number, row in self.rows.items()}
        return {"week": self.week, "limit": f"{self._limit:x}", "most": self._most, "rows": rows}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Return the sample that `to_plain` described."""
        sample = cls(plain["week"], plain["most"])
        sample._limit = int(plain["limit"], 16)
        for number, row in plain["rows"].items():
            sample.rows[int(number, 16)], sample._orders[int(number, 16)] = bytes.fromhex(row[16:]), int(row[:16], 16)
        return sample
