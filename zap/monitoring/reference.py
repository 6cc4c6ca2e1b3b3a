"""The reference of a version: how the values of its training drivers were spread in an average week."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import numpy as np

from zap.ml.intervals import effective_drivers
from zap.monitoring.driver_sample import random_order
from zap.sentences import phrase, say

# The quantile bins of a number.
BINS = 5
# The values of a category that fewer drivers have share one bin with unknown values.
RARE = 0.05
# A missing value has this number instead of the number of a bin.
MISSING = 255
# With fewer effective drivers there is no reference.
FEWEST_DRIVERS = 50


@dataclass(frozen=True)
class FeatureReference:
    """How one feature was spread among the training drivers of an average week.

    Attributes:
        name: the name of the feature.
        edges: the upper ends of all bins of a number but the last bin; None for a category.
        values: the values of a category that have bins; the last bin holds all other values. None for a number.
        counts: for each bin, the effective number of drivers with such a value.
        missing: the effective number of drivers without a value, and with one.
        spread: how much the weeks differ from each other, as a variance: 0 if drivers alone explain the differences.
        missing_spread: the same for the share of missing values.
        weeks: the number of whole weeks in the training rows.
    """

    name: str
    edges: tuple[float, ...] | None
    values: tuple[str, ...] | None
    counts: tuple[float, ...]
    missing: tuple[float, float]
    spread: float
    missing_spread: float
    weeks: int

    def place(self, value: float | str | None) -> int:
        """Return the number of the bin of a value; MISSING for None and NaN."""
        if value is None or value != value:  # noqa: PLR0124 - NaN is not equal to itself
            return MISSING
        if self.edges is not None:
            return bisect_left(self.edges, float(value))
        return self._place_of_value.get(str(value), len(self.counts) - 1)

    @cached_property
    def _place_of_value(self) -> dict[str, int]:
        return {value: place for place, value in enumerate(self.values or ())}

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Return the bins in words, with `missing` at the end."""
        if self.edges is None:
            return (*(self.values or ()), phrase("other"), phrase("missing"))
        if not self.edges:
            return (phrase("any value"), phrase("missing"))
        ends = [f"{edge:.4g}" for edge in self.edges]
        between = (say("above {low} to {high}", low=low, high=high) for low, high in pairwise(ends))
        return (say("up to {end}", end=ends[0]), *between, say("above {end}", end=ends[-1]), phrase("missing"))

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Return the reference that `dataclasses.asdict` described."""
        tuples: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in plain.items()}
        return cls(**tuples)


@dataclass(frozen=True)
class Reference:
    """The reference of a version: one `FeatureReference` for each feature, in one order."""

    features: tuple[FeatureReference, ...]

    def to_plain(self) -> list[dict[str, Any]]:
        """Return the reference as JSON values."""
        return [asdict(feature) for feature in self.features]

    @classmethod
    def from_plain(cls, plain: Sequence[Mapping[str, Any]]) -> Self:
        """Return the reference that `to_plain` described."""
        return cls(tuple(FeatureReference.from_plain(one) for one in plain))


def reference_of(
    columns: Mapping[str, Sequence[Any] | np.ndarray], drivers: np.ndarray, weeks: np.ndarray
) -> Reference | None:
    """Return the reference of training rows; None if they have too few drivers or not one week.

    A driver counts once a week, with a random row of the week, because the detector counts the drivers of production in
    this way. If each driver counted once in all weeks, the detector would find drift without a change, because drivers
    who come often are in more weeks of production.

    Args:
        columns: for each feature n values, None or NaN where missing. A column with texts is a category.
        drivers: n codes of drivers.
        weeks: n numbers of weeks, on the same calendar as the detector. The rows are in the order of time.
    """
    rows = _counted_rows(drivers, weeks)
    counted = drivers[rows]
    if (effective := effective_drivers(counted)) < FEWEST_DRIVERS:
        return None
    codes = np.unique(weeks[rows], return_inverse=True)[1]
    return Reference(
        tuple(
            _feature(name, [values[row] for row in rows] if isinstance(values, list) else np.asarray(values)[rows],
                     codes, effective)
            for name, values in columns.items()
        )
    )  # fmt: skip


def _counted_rows(drivers: np.ndarray, weeks: np.ndarray) -> np.ndarray:
    """Return the positions of a random row of each driver in each whole week."""
    if not len(weeks):
        return np.empty(0, np.int64)
    _, driver = np.unique(drivers, return_inverse=True)
    shuffled = np.argsort(random_order(np.arange(len(weeks))))
    _, place = np.unique((weeks.astype(np.int64) * (driver.max() + 1) + driver)[shuffled], return_index=True)
    rows = shuffled[place]
    rows.sort()
    # The rows begin and end in the middle of a week.
    inner = (weeks[rows] > weeks.min()) & (weeks[rows] < weeks.max())
    return rows[inner] if inner.any() else rows


def _feature(name: str, values: Sequence[Any] | np.ndarray, codes: np.ndarray, effective: float) -> FeatureReference:
    """Return the reference of one feature.

    Args:
        name: the name of the feature.
        values: a value of each counted row.
        codes: the week of each counted row, from 0.
        effective: the effective number of drivers.
    """
    column = np.asarray(values, dtype=object if isinstance(values, list) else None)
    texts = [one for one in column if isinstance(one, str)] if column.dtype.kind in "OU" else []
    edges: tuple[float, ...] | None = None
    known: tuple[str, ...] | None = None
    if texts:
        names, rows = np.unique(texts, return_counts=True)
        known = tuple(str(one) for one, n in zip(names, rows, strict=True) if n >= RARE * len(texts))
    else:
        numbers = column.astype(np.float64)
        present = numbers[~np.isnan(numbers)]
        inner = np.quantile(present, np.arange(1, BINS) / BINS, method="lower") if len(present) else np.empty(0)
        # No value lies above the highest value, so it is no edge.
        edges = tuple(float(edge) for edge in np.unique(inner) if edge < present.max())
    bins = len(edges) + 1 if edges is not None else len(known or ()) + 1
    empty = FeatureReference(name, edges, known, (0.0,) * bins, (0.0, 0.0), 0.0, 0.0, int(codes.max()) + 1)
    return _counted(empty, places(empty, column), codes, effective)


def places(feature: FeatureReference, values: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return the number of the bin of each value, as `FeatureReference.place` does."""
    if feature.edges is None:
        return np.fromiter((feature.place(one) for one in values), np.int64, len(values))
    numbers = np.asarray(values, dtype=np.float64)
    found = np.searchsorted(np.asarray(feature.edges), numbers, side="left")
    return np.where(np.isnan(numbers), MISSING, found)


def _counted(empty: FeatureReference, where: np.ndarray, codes: np.ndarray, effective: float) -> FeatureReference:
    """Return the reference with its counts and its spreads.

    Args:
        empty: the bins.
        where: the bin of each counted row, or MISSING.
        codes: the week of each counted row, from 0.
        effective: the effective number of drivers.
    """
    bins, present = len(empty.counts), where != MISSING
    week_counts = np.zeros((empty.weeks, bins))
    np.add.at(week_counts, (codes[present], where[present]), 1)
    # Column 0 counts the missing values, column 1 the others.
    week_missing = np.zeros((empty.weeks, 2))
    np.add.at(week_missing, (codes, present.astype(int)), 1)
    scale = effective / len(where)
    return FeatureReference(
        name=empty.name,
        edges=empty.edges,
        values=empty.values,
        counts=tuple(float(one) for one in week_counts.sum(axis=0) * scale),
        missing=tuple(float(one) for one in week_missing.sum(axis=0) * scale),  # type: ignore[arg-type]
        spread=spread_of(week_counts),
        missing_spread=spread_of(week_missing),
        weeks=empty.weeks,
    )


def spread_of(week_counts: np.ndarray) -> float:
    """Return how much the weeks differ from each other beyond what drivers explain, as a variance (0 or more).

    All drivers of a week have the same weather. If that moves the shares in one direction with the variance s, then
    Pearson's statistic of a week is (B-1) + N s on average, which gives s by moments (as DerSimonian and Laird,
    Meta-analysis in clinical trials, 1986). It is 0 if the statistic of all weeks is within two standard deviations
    of its expectation, because chance would cost power.

    Args:
        week_counts: drivers in each bin, of shape (weeks, bins).
    """
    totals = week_counts.sum(axis=1)
    weeks, bins = week_counts.shape
    if weeks < 2 or bins < 2 or (totals > 0).sum() < 2:
        return 0.0
    shares = (week_counts.sum(axis=0) + 0.5) / (totals.sum() + 0.5 * bins)
    used = totals > 0
    expected = totals[used, None] * shares
    pearson = ((week_counts[used] - expected) ** 2 / expected).sum()
    # The shares are estimated from the same weeks, which takes one week's worth of freedom.
    free = (used.sum() - 1) * (bins - 1)
    if pearson <= free + 2 * (2 * free) ** 0.5:
        return 0.0
    return float((pearson - free) / (totals.sum() * (1 - 1 / used.sum())))
