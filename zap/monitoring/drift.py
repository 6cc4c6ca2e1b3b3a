"""Drift with a stated rate: an e-detector on the values of the requests and on the types that were answered.

Each week gives an e-value, E[e] <= 1 if nothing has changed. The detector is the sum M of the e-values of all weeks,
averaged over the features, and a notice is given at M >= c (Shin, Ramdas and Rinaldo, E-detectors: a nonparametric
framework for sequential change detection, arXiv 2203.03532, the Shiryaev-Roberts form). By Markov's inequality
P(notice within T weeks) <= E[M] / c <= T / c, under any dependence between features and between weeks, and however
often anybody looks. `tests/simulations/drift.py` measures the rate and the power.

The e-value of a week is the mean of two (`zap.monitoring.drift_evidence`): of this week alone, and of this week and the
three weeks before it, which finds smaller changes and changes among fewer drivers. In four weeks a driver may be
counted four times, so that its rows say less than rows of four drivers: the counts are scaled to the effective number
of drivers, in the reference too.
"""

from collections.abc import Mapping, Sequence
from math import exp

from zap.monitoring.drift_evidence import effect_of, effective_scale, log_evidence, pooled
from zap.monitoring.drift_notice import Notice, shift_of
from zap.monitoring.drift_state import DriftState, Week
from zap.monitoring.driver_sample import DriverSample
from zap.monitoring.reference import MISSING, FeatureReference, Reference

# All drift notices together are false at most so often a year, if nothing changes.
FALSE_A_YEAR = 0.05
WEEKS_A_YEAR = 52
# A change of a week that is smaller is of no interest, however certain it is (the population stability index).
LEAST_EFFECT = 0.1
# The numbers of weeks that are judged together.
WINDOWS = (1, 4)
# exp() of more would overflow, and the threshold is far lower.
_MOST_LOG = 600.0


def threshold_of(false_a_year: float) -> float:
    """Return the threshold c of the sum M for a rate of false notices; 1,040 for 5 % a year.

    Alarms can share a rate: each gets a part of it, and so a higher threshold.

    Args:
        false_a_year: the highest expected number of false notices in a year of 52 weeks.
    """
    return WEEKS_A_YEAR / false_a_year


THRESHOLD = threshold_of(FALSE_A_YEAR)


class DriftDetector:
    """The drift of one version. Rows go in by `observe`, in the order of the log; notices come out."""

    def __init__(self, reference: Reference, state: DriftState, threshold: float = THRESHOLD) -> None:
        self.reference = reference
        self.state = state
        self.threshold = threshold

    def observe(self, driver: str, week: int, order: int, values: Mapping[str, float | str | None]) -> Notice | None:
        """Take in a row, and return the notice of a week that ended before it. A driver counts once in a week.

        A row of an earlier week than the current week is too late and is not counted.

        Args:
            driver: the id of the driver.
            week: the number of the week, on the calendar of the reference.
            order: the random number of the row, `random_order`: it decides which row of the driver counts.
            values: a value of each feature; a feature that is left out is missing.
        """
        notice = self.end_week(week) if week > self.state.sample.week else None
        sample = self.state.sample
        if week == sample.week and week > self.state.first_week and (number := sample.wants(driver, order)) is not None:
            sample.add(number, order, [feature.place(values.get(feature.name)) for feature in self.reference.features])
        return notice

    def end_week(self, next_week: int) -> Notice | None:
        """End the current week, begin another, and return the notice of the week that ended.

        A week is judged only when it is over: Monday's requests are not like a whole week's.

        Args:
            next_week: the week that begins.
        """
        sample = self.state.sample
        self.state.sample = DriverSample(next_week)
        if not sample.rows:
            return None
        columns = zip(*sample.rows.values(), strict=True)
        counts = {
            feature.name: _counts(feature, places)
            for feature, places in zip(self.reference.features, columns, strict=True)
        }
        return self.add_week(Week(sample.week, list(sample.rows), counts))

    def add_week(self, newest: Week) -> Notice | None:
        """Add the e-values of a whole week, and return a notice if the evidence is enough.

        Args:
            newest: the counts of the week.
        """
        state, shifts = self.state, []
        state.past = [week for week in state.past if week.week > newest.week - max(WINDOWS)]
        state.past.append(newest)
        windows = [[week for week in state.past if week.week > newest.week - length] for length in WINDOWS]
        scales = [effective_scale(weeks) for weeks in windows]
        for feature in self.reference.features:
            logs = [log_evidence(feature, weeks, scale) for weeks, scale in zip(windows, scales, strict=True)]
            counts = newest.counts[feature.name]
            effect = effect_of(feature, counts)
            if feature.name in state.raised:
                # The longest window decides, so that a notice does not come and go.
                if logs[-1] < 0 and effect_of(feature, pooled(feature, windows[-1])) < LEAST_EFFECT:
                    del state.raised[feature.name]
                continue
            e = sum(exp(min(one, _MOST_LOG)) for one in logs) / len(logs)
            state.sums[feature.name] = state.sums.get(feature.name, 0.0) + e
            if state.sums[feature.name] >= self.threshold and effect >= LEAST_EFFECT:
                shifts.append(shift_of(feature, counts, effect))
        state.judge(newest)
        mean = sum(state.sums.values()) / len(self.reference.features)
        if mean < self.threshold or not shifts:
            return None
        # A notice uses the evidence up: so the expected number of false notices in T weeks is at most T / c.
        state.sums = {}
        state.raised.update({shift.feature: newest.week for shift in shifts})
        return Notice(newest.week, tuple(sorted(shifts, key=lambda shift: -shift.effect)), mean)


def _counts(feature: FeatureReference, places: Sequence[int]) -> list[int]:
    """Return the drivers in each bin, and at the end the drivers without a value."""
    counts = [0] * (len(feature.counts) + 1)
    for place in places:
        counts[-1 if place == MISSING else place] += 1
    return counts
