"""VersionQuality: the live quality of one version, from the rows of its days.

Decoding the rows and resampling groups of drivers take most of the time of a report, and the sums of older days seldom
change. So each process remembers the totals of months and the scores of periods by the digests of their days. A day
that changes has another digest, so nothing that is remembered can be out of date.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, NamedTuple

import numpy as np
import structlog

from zap.db.monitoring.quality_days import StoredDay
from zap.errors import DamagedModel
from zap.flows.remembered import Remembered
from zap.ml.intervals import FEWEST_EFFECTIVE_DRIVERS, separate_intervals
from zap.monitoring.quality_figures import Figures, expected_accuracy
from zap.monitoring.quality_sums import Totals

log = structlog.get_logger(__name__)

TOO_FEW_DRIVERS = (
    f"too few drivers: an interval needs {FEWEST_EFFECTIVE_DRIVERS} effective drivers (fewer than the drivers if a few"
    " drivers have most of the sessions)"
)
_STATUSES = ("matched", "superseded", "waiting", "no_driver")
_Digests = tuple[bytes, ...]
_Scores = dict[str, Any]
# What scores depend on: the days, the number of training sessions, and whether they have what guessing scored.
_Key = tuple[_Digests, int, bool]
# The totals of a month take 150 kB with three types, and scores take 2 to 20 kB.
_totals: Remembered[_Digests, Totals] = Remembered(100)
_main_scores: Remembered[_Key, _Scores] = Remembered(2_000)
_all_scores: Remembered[_Key, _Scores] = Remembered(50)
# The digests of sums that cannot be read.
_damaged: Remembered[bytes, bool] = Remembered(1_000)


class Wanted(NamedTuple):
    """What a report wants to know about a version.

    Attributes:
        by: the length of the periods: `day`, `week`, `month`, or `total` for no periods.
        first: the first day that was asked about.
        unknown: the first day that is provisional.
        detailed: the parts of which it wants all scores: `final`, `provisional`. Of other parts it wants the main ones.
        guessing: whether the main scores also have what guessing scored, and the interval of the F1.
    """

    by: str
    first: date
    unknown: date
    detailed: Container[str]
    guessing: bool = False


class NewScores(NamedTuple):
    """Main scores that were computed now, and still need their interval.

    Attributes:
        key: what they depend on.
        scores: the scores.
        sums, sessions: for each group of drivers, as `Figures.group_sums` returns them.
    """

    key: _Key
    scores: _Scores
    sums: np.ndarray
    sessions: np.ndarray


@dataclass
class _Some:
    """What is counted on some days of a version: the answers by status, and the days with sums of scores.

    Attributes:
        first, last: the first and the last day.
        final: whether all outcomes are known.
        keeps: whether the totals of its months are worth remembering.
        answers: the answers by status.
        digests: of the sums of all days.
        totals: the sums of all days but the newest ones.
        newest: the newest days: of one month, or of one period.
    """

    first: date
    last: date
    final: bool
    keeps: bool = True
    answers: dict[str, int] = field(default_factory=dict)
    digests: list[bytes] = field(default_factory=list)
    totals: Totals | None = None
    newest: list[StoredDay] = field(default_factory=list)

    def add(self, day: StoredDay) -> None:
        """Add a day, which is later than all days before it."""
        self.last = day.key.day
        for name, number in day.answers.items():
            self.answers[name] = self.answers.get(name, 0) + number
        if day.digest is None:
            return
        # The days of a period may belong to two months; they are few, and perhaps nobody asks for their sums.
        if self.keeps and self.newest and _begin(self.newest[0].key.day, "month") != _begin(day.key.day, "month"):
            self._add_newest()
        self.digests.append(day.digest)
        self.newest.append(day)

    def summed(self) -> Totals | None:
        """Return the sums of all days; None without sums."""
        self._add_newest()
        return self.totals

    def coverage(self) -> dict[str, Any]:
        """Return the numbers of answers, and the share of answers whose session is known."""
        numbers = {name: self.answers.get(name, 0) for name in (*_STATUSES, "with_driver", "unscored")}
        answers = sum(numbers[name] for name in _STATUSES)
        known = (numbers["matched"] + numbers["superseded"]) / answers if answers else None
        return {"answers": answers, **numbers, "label_coverage": known}

    def _add_newest(self) -> None:
        """Add the sums of the newest days to the totals, and drop these days, because a year has hundreds of them."""
        days, self.newest = self.newest, []
        if not days:
            return
        more = _remembered_totals(days) if self.keeps else _totals_of(days)
        if more is None:
            return
        self.totals = self.totals or Totals(more.layout)
        try:
            self.totals.add(more)
        except DamagedModel as error:
            _note_damaged(days, error)


class VersionQuality:
    """The quality of one version. Its days are added in order.

    Args:
        wanted: what the report wants to know.
        trained_on: the number of training sessions of the version.
        new: gets the main scores that were not remembered, for `add_intervals`.
    """

    def __init__(self, wanted: Wanted, trained_on: int, new: list[NewScores]) -> None:
        self._wanted, self._trained_on, self._new = wanted, trained_on, new
        self._parts: dict[str, _Some] = {}
        self._earlier = _Some(wanted.first, wanted.first, final=True)
        self._period: _Some | None = None
        self._periods: list[dict[str, Any]] = []
        self._days: list[StoredDay] = []

    @property
    def is_asked(self) -> bool:
        """Return whether any day that was asked about has answers."""
        return bool(self._parts)

    def add(self, stored: StoredDay) -> None:
        """Add a day, which is later than all days before it."""
        day = stored.key.day
        final = day < self._wanted.unknown
        if day < self._wanted.first:
            if final:
                self._earlier.add(stored)
            return
        self._days.append(stored)
        self._parts.setdefault("final" if final else "provisional", _Some(day, day, final)).add(stored)
        if self._wanted.by == "total":
            return
        period = self._period
        if (
            period is None
            or period.final != final
            or _begin(period.first, self._wanted.by) != _begin(day, self._wanted.by)
        ):
            self._end_period()
            period = self._period = _Some(self._begin_of(day, final=final), day, final, keeps=False)
        period.add(stored)

    def _begin_of(self, day: date, *, final: bool) -> date:
        """Return the first day of the period of a day. Provisional days are a period of their own."""
        return max(
            _begin(day, self._wanted.by), self._wanted.first, self._wanted.first if final else self._wanted.unknown
        )

    def report(self) -> dict[str, Any]:
        """Return the figures of the final and the provisional days, and of the periods, without new intervals."""
        self._end_period()
        final, provisional = self._parts.get("final"), self._parts.get("provisional")
        parts = {name: self._part(name) for name in ("final", "provisional")}
        matured, earlier = final.summed() if final else None, self._earlier.summed()
        if matured is not None and earlier is not None and matured.layout == earlier.layout:
            matured.add(earlier)
        expected = expected_accuracy(provisional.summed() if provisional else None, matured or earlier)
        unread = [one.key.day.isoformat() for one in self._days if one.is_damaged or _damaged.find(one.digest or b"")]
        return {**parts, "periods": self._periods, "expected": expected, "unreadable_days": unread}

    def _part(self, name: str) -> dict[str, Any] | None:
        some = self._parts.get(name)
        if some is None:
            return None
        return {
            "answers": some.coverage(),
            "scores": self._all(some) if name in self._wanted.detailed else self._main(some),
        }

    def _all(self, some: _Some) -> _Scores | None:
        """Return all scores of some days; None without a scored session."""
        key = (tuple(some.digests), self._trained_on, self._wanted.guessing)
        known = _all_scores.find(key)
        if known is not None:
            return dict(known)
        figures = self._figures(some)
        if figures is None:
            return None
        scores = self._main_of(figures) | figures.full()
        scores |= _interval(scores["log_loss_difference_interval"])
        if self._wanted.guessing:
            scores["guessing"]["per_class"] = figures.class_scores_of_guessing()
        _all_scores.keep(key, scores)
        return dict(scores)

    def _main(self, some: _Some) -> _Scores | None:
        """Return the main scores of some days, without their interval; None without a scored session."""
        key = (tuple(some.digests), self._trained_on, self._wanted.guessing)
        known = _main_scores.find(key)
        if known is not None:
            return dict(known)
        figures = self._figures(some)
        if figures is None:
            return None
        scores = self._main_of(figures)
        self._new.append(NewScores(key, scores, *figures.group_sums()))
        return scores

    def _main_of(self, figures: Figures) -> _Scores:
        return figures.beside_guessing() if self._wanted.guessing else figures.brief()

    def _figures(self, some: _Some) -> Figures | None:
        totals = some.summed()
        if totals is None or not totals.groups[:, 0].any():
            return None
        return Figures(totals, self._trained_on)

    def _end_period(self) -> None:
        """Keep the figures of a period, and drop its sums."""
        period, self._period = self._period, None
        if period is None:
            return
        self._periods.append(
            {
                "from": period.first.isoformat(),
                "to": period.last.isoformat(),
                "final": period.final,
                "answers": period.coverage(),
                "scores": self._main(period),
            }
        )


def add_intervals(new: Sequence[NewScores]) -> None:
    """Add the intervals to new scores, and remember them. All of them together take far less time than one by one."""
    if not new:
        return
    intervals = separate_intervals(
        np.column_stack([one.sums for one in new]), np.column_stack([one.sessions for one in new])
    )
    for one, interval in zip(new, intervals, strict=True):
        one.scores.update(_interval(interval))
        _main_scores.keep(one.key, dict(one.scores))


def _remembered_totals(days: Sequence[StoredDay]) -> Totals | None:
    """Return the result of `_totals_of`, which nobody may change."""
    key = tuple(day.digest for day in days if day.digest is not None)
    totals = _totals.find(key)
    if totals is None:
        totals = _totals_of(days)
        if totals is not None:
            _totals.keep(key, totals)
    return totals


def _totals_of(days: Sequence[StoredDay]) -> Totals | None:
    """Return the sums of some days that have sums. Damaged days are left out; None if all of them are damaged."""
    totals: Totals | None = None
    for day in days:
        try:
            sums = day.counted.sums
            if sums is not None:
                totals = totals or Totals(sums.layout)
                totals.add(sums)
        except DamagedModel as error:
            _note_damaged([day], error)
    return totals


def _note_damaged(days: Sequence[StoredDay], error: DamagedModel) -> None:
    for day in days:
        if day.digest is not None:
            _damaged.keep(day.digest, True)
    found = {"model_version": days[0].model_version, "days": [day.key.day.isoformat() for day in days]}
    log.warning("the sums of live quality cannot be read", reason=error.message, **found)


def _interval(interval: list[float] | None) -> dict[str, Any]:
    note = TOO_FEW_DRIVERS if interval is None else None
    return {"log_loss_difference_interval": interval, "interval_note": note}


def _begin(day: date, by: str) -> date:
    """Return the first day of the period of a day. A week begins on Monday."""
    if by == "week":
        return day - timedelta(days=min(day.weekday(), day.toordinal() - 1))
    return day.replace(day=1) if by == "month" else day
