"""What the drift detector remembers between two rows, as plain numbers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from zap.monitoring.driver_sample import DriverSample

# The judged weeks that are kept for people: two years.
MOST_JUDGED = 104


@dataclass(frozen=True)
class Week:
    """The counts of a whole week.

    Attributes:
        week: the number of the week.
        drivers: the hashes of the drivers that were counted.
        counts: for each feature the drivers in each bin, and at the end the drivers without a value.
    """

    week: int
    drivers: list[int]
    counts: dict[str, list[int]]


@dataclass(frozen=True)
class JudgedWeek:
    """What people see of a judged week.

    Attributes:
        week: the number of the week.
        drivers: how many drivers were counted.
        counts: the counts of `Week`.
        sums: the evidence of each feature after this week, before a notice uses it up. A feature with a standing notice
            is not judged, and has none.
    """

    week: int
    drivers: int
    counts: dict[str, list[int]]
    sums: dict[str, float]


@dataclass
class DriftState:
    """All that the detector remembers, as plain numbers.

    Attributes:
        first_week: the week in which the version began to serve. It is not counted, because it began in the middle.
        sample: the drivers of the current week.
        past: the whole weeks before it that are still needed.
        sums: for each feature, the sum of the e-values since the last notice.
        raised: the features of standing notices, and the weeks in which they were given.
        judged: the newest judged weeks, at most MOST_JUDGED. No decision depends on them.
    """

    first_week: int
    sample: DriverSample
    past: list[Week] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    raised: dict[str, int] = field(default_factory=dict)
    judged: list[JudgedWeek] = field(default_factory=list)

    @classmethod
    def beginning(cls, week: int) -> Self:
        """Return the state of a detector that begins in the middle of a week.

        Args:
            week: the number of the week.
        """
        return cls(week, DriverSample(week))

    def serves_since(self, week: int) -> None:
        """Begin anew if the version serves again, after another version has served.

        The week in which it stopped and the week in which it begins are not whole, so they are not counted. Its earlier
        notice ended with the other version. If the change goes on, it is found again, like any other change.

        Args:
            week: the number of the week in which the version was promoted last.
        """
        if week > self.first_week:
            self.first_week, self.sample, self.raised = week, DriverSample(week), {}

    def judge(self, week: Week) -> None:
        """Keep what people see of a judged week, and forget the oldest one."""
        self.judged.append(JudgedWeek(week.week, len(week.drivers), week.counts, dict(self.sums)))
        del self.judged[:-MOST_JUDGED]

    def to_plain(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        rest: dict[str, Any] = {"first_week": self.first_week, "sums": dict(self.sums), "raised": dict(self.raised)}
        rest["judged"] = [asdict(week) for week in self.judged]
        return {**rest, "past": [asdict(week) for week in self.past], "sample": self.sample.to_plain()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Return the state that `to_plain` described."""
        sample, past = DriverSample.from_plain(plain["sample"]), [Week(**week) for week in plain["past"]]
        # A state that an older zap stored has no judged weeks.
        judged = [JudgedWeek(**week) for week in plain.get("judged", ())]
        return cls(plain["first_week"], sample, past, dict(plain["sums"]), dict(plain["raised"]), judged)
