"""Trials: whether a challenger is better than the version that serves, on the same requests.

Each look compares the two versions by the mean difference of their scores for each driver, over all sessions of the
driver since the trial began. The looks are fixed before it starts (one at the end of each week), and the interval of
the trial is the part that the intervals of all looks share:

    C_k = C_1(a / K) and ... and C_k(a / K),   P(the mean difference is outside C_k at any look) <= a on either side

by Bonferroni's inequality over K looks. Between two looks nothing changes, so it does not matter how often anybody
looks: C_k is a confidence sequence. Each C_j comes from bets (`zap.monitoring.betting`; Waudby-Smith and Ramdas, arXiv
2010.15757), which need bounded scores and nothing else. Choe and Ramdas (Comparing sequential forecasters, arXiv
2110.00115) compare forecasts after each outcome. Here the drivers come back: after each outcome the drivers seen are
another mixture, and the sessions are not independent; but at the end of a week a driver is one number.
`tests/simulations/trials.py` measures how often a challenger is called better by chance.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np

from zap.monitoring.betting import lower_bound, upper_bound
from zap.sentences import say

TrialVerdict = Literal["better", "not_worse", "worse", "undecided"]
# The probability that all challengers of a trial together are called better by chance; and the same for worse.
RATE = 0.05
# A challenger whose score is higher by less than this is not worse, on the scale of the halved Brier score.
EPSILON = 0.005
# The longest trial, in weeks; and the looks.
LONGEST_WEEKS = 8
# What is to be known wherever a result of a trial is read.
CAVEAT = say("The drivers saw the answers of the version that serves, and this is an advantage for that version.")


@dataclass
class Trial:
    """One challenger, as plain numbers. `epsilon`, `looks` and `challengers` are fixed before it starts.

    Attributes:
        epsilon: how much worse is not worse yet.
        looks: how many looks there are at most: the longest time in weeks.
        challengers: how many challengers share the rate.
        rate: the probability of a false promotion in the whole trial.
        done: the looks that were taken.
        low: the difference (champion minus challenger, so that more is better) is not below this.
        high: the difference is not above this.
        drivers: the drivers at the last look.
        mean: the mean difference at the last look.
    """

    epsilon: float = EPSILON
    looks: int = LONGEST_WEEKS
    challengers: int = 1
    rate: float = RATE
    done: int = 0
    low: float = -1.0
    high: float = 1.0
    drivers: int = 0
    mean: float = 0.0

    def look(self, differences: np.ndarray, widest: float = 1.0) -> TrialVerdict:
        """Take the next look, and return the verdict. A trial that has ended keeps its verdict.

        Args:
            differences: for each driver the mean over all its sessions since the trial began of the champion's halved
                Brier score minus the challenger's.
            widest: no difference of a driver can be larger than this, up or down; see `DriverDifferences.widest`.
        """
        if self.ended:
            return self.verdict
        self.done += 1
        self.drivers = len(differences)
        if not self.drivers:
            return self.verdict
        rate = self.rate / (self.looks * self.challengers)
        scores = np.clip((differences / widest + 1) / 2, 0.0, 1.0)
        self.mean = float(differences.mean())
        self.low = max(self.low, widest * (2 * lower_bound(scores, rate) - 1))
        self.high = min(self.high, widest * (2 * upper_bound(scores, rate) - 1))
        return self.verdict

    @property
    def verdict(self) -> TrialVerdict:
        """Return the verdict: `not_worse` is said of a challenger that is not known to be better or worse."""
        if self.low > 0:
            return "better"
        if self.high < 0:
            return "worse"
        return "not_worse" if self.low > -self.epsilon else "undecided"

    @property
    def ended(self) -> bool:
        """Return whether the trial is over: it is decided, or its longest time has passed."""
        return self.verdict in {"better", "worse"} or self.done >= self.looks

    def in_words(self) -> str:
        """Return what is known after the last look, with the caveat."""
        said = {
            "better": say("The challenger is better"),
            "worse": say("The challenger is worse"),
            "not_worse": say("The challenger is not worse by {epsilon:g} or more", epsilon=self.epsilon),
            "undecided": say("It is not known which version is better"),
        }[self.verdict]
        return say(
            "{said}: after look {done} of {looks}, its Brier score (0 to 1, halved) for {drivers:,} drivers is lower by"
            " {mean:+.4f} ({low:+.4f} to {high:+.4f}). {caveat}",
            said=said,
            caveat=CAVEAT,
            **asdict(self),
        )

    def to_plain(self) -> dict[str, Any]:
        """Return the trial as JSON values."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Return the trial that `to_plain` described."""
        return cls(**plain)
