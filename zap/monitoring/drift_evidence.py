"""The evidence of a week for a change: an e-value, and the size of the change.

The e-value compares two predictions of the counts n_b (each driver once, B bins, a = 1/2):

    e = DM(n; a, ..., a) / DM(n; m_1 + a, ..., m_B + a)
    DM(n; a_1, ..., a_B) = Gamma(A) / Gamma(N + A) * prod Gamma(n_b + a_b) / Gamma(a_b),  A = sum a_b

where m_b are the reference's counts: the Bayes factor of "other shares" against "the reference's shares, which are
known from m drivers only". If the shares are what the reference lets one expect (a Dirichlet distribution with m_b + a;
for quantile bins this is about the law of the order statistics), then E[e] = 1, however large N and however small m is.
With shares p_b that are taken as known, prod p_b^n_b in the denominator, E[e] grows with N / m.
"""

from collections.abc import Sequence
from math import lgamma, log

import numpy as np

from zap.ml.intervals import effective_drivers
from zap.monitoring.drift_state import Week
from zap.monitoring.reference import FeatureReference

# Half a count in each bin: Jeffreys' prior.
_HALF = 0.5


def effective_scale(weeks: Sequence[Week]) -> float:
    """Return how many effective drivers one row of these weeks stands for: (sum n)^2 / sum n^2 / sum n.

    Args:
        weeks: the weeks that are judged together.
    """
    if len(weeks) == 1:
        return 1.0
    drivers = np.concatenate([np.asarray(week.drivers, dtype=np.uint64) for week in weeks])
    return effective_drivers(drivers) / len(drivers)


def log_evidence(feature: FeatureReference, weeks: Sequence[Week], scale: float = 1.0) -> float:
    """Return ln e of some weeks for a feature: of the share of missing values, and of the values that are there.

    The two e-values are multiplied: given how many values are missing, the expectation of the second is at most 1.

    Args:
        feature: the reference.
        weeks: the counts of the weeks.
        scale: how many effective drivers one row stands for.
    """
    *present, missing = (count * scale for count in pooled(feature, weeks))
    # How much the weeks of the reference vary, for the mean of so many weeks.
    n = len(weeks)
    of_missing = _log_e((missing, sum(present)), feature.missing, feature.missing_spread, n, feature.weeks)
    return of_missing + _log_e(present, feature.counts, feature.spread, n, feature.weeks)


def pooled(feature: FeatureReference, weeks: Sequence[Week]) -> list[int]:
    """Return the counts of a feature in all weeks together."""
    return [sum(column) for column in zip(*(week.counts[feature.name] for week in weeks), strict=True)]


def _log_e(counts: Sequence[float], reference: Sequence[float], spread: float, weeks: int, of: int) -> float:
    """Return ln e of counts, in the formula at the top of this module.

    Where the training weeks differ by themselves (spread s), N drivers of W weeks say no more than N / (1 + N s / W)
    drivers do; the same holds for the reference.

    Args:
        counts: the effective drivers in each bin.
        reference: the same for the reference.
        spread: how much the weeks differ.
        weeks: how many weeks the counts are from.
        of: how many weeks the reference is from.
    """
    scale = 1 / (1 + sum(counts) * spread / weeks)
    of_reference = 1 / (1 + sum(reference) * spread / of)
    scaled = [count * scale for count in counts]
    other = _log_predicted(scaled, [_HALF] * len(counts))
    return other - _log_predicted(scaled, [count * of_reference + _HALF for count in reference])


def _log_predicted(counts: Sequence[float], prior: Sequence[float]) -> float:
    """Return ln DM(n; a_1, ..., a_B), the probability of one order of n rows under a Dirichlet prior of the shares."""
    total = sum(prior)
    each = sum(lgamma(count + a) - lgamma(a) for count, a in zip(counts, prior, strict=True))
    return lgamma(total) - lgamma(sum(counts) + total) + each


def effect_of(feature: FeatureReference, counts: Sequence[int]) -> float:
    """Return the population stability index, sum (q - p) ln(q / p), less its expectation without a change.

    That expectation is about (1/n + 1/m)(B - 1), so that a fixed limit would mean nothing for few drivers.
    """
    reference = (*feature.counts, feature.missing[0])
    p, q = _smoothed(reference), _smoothed(counts)
    index = sum((new - old) * log(new / old) for old, new in zip(p, q, strict=True))
    # Bins that nobody is in add nothing by chance.
    bins = sum(1 for old, new in zip(reference, counts, strict=True) if old or new)
    return index - (1 / max(sum(counts), 1) + 1 / max(sum(reference), 1)) * (bins - 1)


def _smoothed(counts: Sequence[float]) -> list[float]:
    """Return shares, with half a count added to each bin."""
    total = sum(counts) + _HALF * len(counts)
    return [(count + _HALF) / total for count in counts]
