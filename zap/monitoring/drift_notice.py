"""A notice of drift, and the sentence that people read."""

from collections.abc import Sequence
from dataclasses import dataclass

from zap.monitoring.reference import FeatureReference
from zap.sentences import say


@dataclass(frozen=True)
class Shift:
    """How one feature has changed.

    Attributes:
        feature: the name of the feature.
        effect: the population stability index of the newest week, less what chance alone gives.
        reference: the share of the drivers in each bin, in the training rows.
        found: the share of the drivers in each bin, in the newest week.
        drivers: how many drivers were counted in the newest week.
        week_to_week: how many times more the training weeks vary than drivers explain; 1 if they do not.
    """

    feature: str
    effect: float
    reference: dict[str, float]
    found: dict[str, float]
    drivers: int
    week_to_week: float

    def in_words(self) -> str:
        """Return a sentence with the largest change of a share."""
        label = max(self.found, key=lambda label: abs(self.found[label] - self.reference[label]))
        return say(
            "{feature:s}: {label} had {before:.0%} of the drivers in training, and has {now:.0%} of {drivers:,} drivers"
            " in the newest week",
            feature=self.feature,
            label=label,
            before=self.reference[label],
            now=self.found[label],
            drivers=self.drivers,
        )


@dataclass(frozen=True)
class Notice:
    """A change of one or more features that is no chance.

    Attributes:
        week: the number of the week that ended.
        shifts: the features that changed, the largest effect first.
        evidence: M, which reached the threshold.
    """

    week: int
    shifts: tuple[Shift, ...]
    evidence: float

    def in_words(self) -> str:
        """Return what changed, and what it may mean."""
        changed = "; ".join(shift.in_words() for shift in self.shifts)
        return say(
            "The requests are not like the training rows. {changed}. A season does this too, and it is nobody's fault:"
            " whether the answers are worse is told by the quality, not by this notice.",
            changed=changed,
        )


def shift_of(feature: FeatureReference, counts: Sequence[int], effect: float) -> Shift:
    """Return how a feature has changed."""
    reference, found = (
        {label: one / max(sum(each), 1) for label, one in zip(feature.labels, each, strict=True)}
        for each in ((*feature.counts, feature.missing[0]), counts)
    )
    week_to_week = 1 + sum(counts) * max(feature.spread, feature.missing_spread)
    return Shift(feature.name, effect, reference, found, sum(counts), week_to_week)
