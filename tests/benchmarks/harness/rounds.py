"""Alternating rounds, medians, and ratios with their spread."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, TypeVar

Measured = TypeVar("Measured")


def alternate(
    contenders: Mapping[str, Callable[[], Measured]], rounds: int, told: Callable[[str], Any] = lambda _: None
) -> dict[str, list[Measured]]:
    """Measure each contender once a round, every other round in reverse order: what drifts hits all alike."""
    found: dict[str, list[Measured]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in list(contenders) if number % 2 == 0 else reversed(contenders):
            told(f"round {number + 1} of {rounds}: {name}")
            found[name].append(contenders[name]())
    return found


@dataclass(frozen=True)
class Ratio:
    """Two contenders compared within each round.

    Attributes:
        each: the ratio of every round.
    """

    each: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.each)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest round."""
        return min(self.each), max(self.each)

    @property
    def interval(self) -> tuple[float, float]:
        """The narrowest pair of rounds that holds the true median with at least 95 %, whatever its distribution.

        Of fewer than nine rounds that is the spread (with five rounds it holds it with 94 %).
        """
        n, left_out = len(self.each), 0
        while 2 * sum(comb(n, i) for i in range(left_out + 2)) <= 0.05 * 2**n:
            left_out += 1
        ordered = sorted(self.each)
        return ordered[left_out], ordered[n - 1 - left_out]

    def as_dict(self) -> dict[str, Any]:
        return {"median": self.median, "lowest": self.spread[0], "highest": self.spread[1], "rounds": list(self.each)}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Ours over theirs, round by round."""
    return Ratio(tuple(one / other for one, other in zip(ours, theirs, strict=True)))
