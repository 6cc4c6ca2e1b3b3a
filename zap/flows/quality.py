"""The report of live quality: what versions scored on the sessions that followed their answers.

The days whose outcomes are all known, because they are older than the horizon, are final; later days are provisional.
Everything is computed from the sums of days, never from outcomes.
"""

from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal

import numpy as np
from sqlalchemy import Engine

from zap.db.monitoring.quality_days import StoredDay, read_days
from zap.db.versions.model_registry import read_version
from zap.errors import InvalidRequest, NotFound
from zap.ml.intervals import FEWEST_EFFECTIVE_DRIVERS, separate_intervals
from zap.monitoring.quality_figures import Figures, expected_accuracy
from zap.monitoring.quality_sums import Totals

By = Literal["day", "week", "month", "total"]
Kind = Literal["live", "backtest"]
# The first day by default, and the first day of the outcomes that correct the expected accuracy, before the last day.
_DAYS = 90
# The days that a report may be about: a little more than three years. If there are more versions than this, the oldest
# versions are left out.
MOST_DAYS = 1_100
MOST_VERSIONS = 100
TOO_FEW_DRIVERS = (
    f"too few drivers: an interval needs {FEWEST_EFFECTIVE_DRIVERS} effective drivers (fewer than the drivers if a few"
    " drivers have most of the sessions)"
)
BLIND_SPOT = (
    "The expected accuracy is what the probabilities of the answers say, corrected by how often earlier answers with"
    " such probabilities were right. It cannot see that drivers have changed their behaviour (concept drift): only"
    " outcomes can show this."
)
_PROMISED = ("macro_f1", "accuracy", "log_loss", "best_baseline", "log_loss_difference", "log_loss_difference_interval")
_STATUSES = ("matched", "superseded", "waiting", "no_driver")


@dataclass(frozen=True)
class Question:
    """What a report is about.

    Attributes:
        first, last: the first and the last day that was asked about; None for the default.
        model_version: the version; None for all versions with answers.
        by: the length of the periods that are shown one by one; `total` shows no periods.
        kind: `live`, or `backtest` for requests about the past.
        detailed: the only version with all scores; the others have the main ones. None: all versions have all scores.
        guessing: whether the main scores also have what guessing scored, and the interval of the F1.
    """

    first: date | None = None
    last: date | None = None
    model_version: int | None = None
    by: By = "total"
    kind: Kind = "live"
    detailed: int | None = None
    guessing: bool = False

    def days(self, today: date) -> tuple[date, date]:
        """Return the first and the last day.

        Raises:
            InvalidRequest: the first day is after the last one, or there are more than MOST_DAYS days.
        """
        last = self.last or max(today, self.first or today)
        first = self.first or last - timedelta(days=min(_DAYS, last.toordinal() - 1))
        if first > last:
            raise InvalidRequest([{"pointer": "#/from", "detail": f"{first} is after {last}, the last day"}])
        if (last - first).days >= MOST_DAYS:
            detail = f"{first} to {last} are more than {MOST_DAYS:,} days; ask for fewer"
            raise InvalidRequest([{"pointer": "#/from", "detail": detail}])
        return first, last


def read_quality(engine: Engine, question: Question, now: datetime, horizon: timedelta) -> dict[str, Any]:
    """Return the report of live quality, with the fields of `QualityReply`.

    Args:
        engine: on the database.
        question: what it is about.
        now: the present moment, as the drivers' wall time.
        horizon: how long after the moment that was asked about an outcome may begin.

    Raises:
        InvalidRequest: as `Question.days`.
        NotFound: there is no such version.
    """
    first, last = question.days(now.date())
    if question.model_version is not None:
        read_version(engine, question.model_version)
    # The outcomes of the days before this one are all known.
    unknown = (now - horizon).date()
    # The outcomes of the days before the first one only correct the expected accuracy of provisional days.
    begin = min(first, unknown - timedelta(days=_DAYS)) if last >= unknown else first
    days = read_days(engine, question.kind, begin, last, question.model_version)
    versions: list[dict[str, Any]] = []
    with closing(days):
        for number, of_version in groupby(days, key=attrgetter("model_version")):
            if len(versions) == MOST_VERSIONS:
                break
            known = _known(engine, number)
            counted = _Counted(question, number, first, unknown, known["trained_samples"] or 0)
            for day in of_version:
                counted.add(day)
            if counted.is_asked:
                versions.append({"model_version": number, "promise": _promise(known), **counted.report()})
    return {
        "kind": question.kind,
        "by": question.by,
        "from": first.isoformat(),
        "to": last.isoformat(),
        "final_until": min(last, unknown - timedelta(days=1)).isoformat() if first < unknown else None,
        "versions": versions,
        "blind_spot": BLIND_SPOT,
    }


@dataclass
class _Some:
    """What is counted on some days of a version: the answers by status, and the sums of scores."""

    first: date
    last: date
    final: bool
    totals: Totals | None = None
    answers: dict[str, int] = field(default_factory=dict)

    def add(self, day: StoredDay) -> None:
        self.last = day.key.day
        for name, number in day.counted.answers.items():
            self.answers[name] = self.answers.get(name, 0) + number
        if (sums := day.counted.sums) is not None:
            self.totals = self.totals or Totals(sums.layout)
            self.totals.add(sums)

    def figures(self, trained_on: int) -> Figures | None:
        """Return the figures; None without a scored session."""
        if self.totals is None or not self.totals.groups[:, 0].any():
            return None
        return Figures(self.totals, trained_on)

    def coverage(self) -> dict[str, Any]:
        """Return the numbers of answers, and the share of answers whose session is known."""
        numbers = {name: self.answers.get(name, 0) for name in (*_STATUSES, "with_driver", "unscored")}
        answers = sum(numbers[name] for name in _STATUSES)
        known = (numbers["matched"] + numbers["superseded"]) / answers if answers else None
        return {"answers": answers, **numbers, "label_coverage": known}


class _Counted:
    """What is counted for one version. Its days are added in order.

    Args:
        question: what the report is about.
        number: the version.
        first: the first day that was asked about.
        unknown: the first day that is provisional.
        trained_on: the number of training sessions.
    """

    def __init__(self, question: Question, number: int, first: date, unknown: date, trained_on: int) -> None:
        self._by, self._first, self._unknown, self._trained_on = question.by, first, unknown, trained_on
        self._guessing, self._detailed = question.guessing, question.detailed in {None, number}
        self._parts: dict[str, _Some] = {}
        self._earlier: Totals | None = None
        self._period: _Some | None = None
        self._periods: list[dict[str, Any]] = []
        self._group_sums: list[tuple[dict[str, Any], np.ndarray, np.ndarray]] = []

    @property
    def is_asked(self) -> bool:
        """Return whether any day that was asked about has answers."""
        return bool(self._parts)

    def add(self, stored: StoredDay) -> None:
        """Add a day, which is later than all days before it."""
        day, sums = stored.key.day, stored.counted.sums
        final = day < self._unknown
        if day < self._first:
            if sums is not None and final:
                self._earlier = self._earlier or Totals(sums.layout)
                self._earlier.add(sums)
            return
        self._parts.setdefault("final" if final else "provisional", _Some(day, day, final)).add(stored)
        if self._by == "total":
            return
        period = self._period
        if period is None or period.final != final or _begin(period.first, self._by) != _begin(day, self._by):
            self._end_period()
            period = self._period = _Some(self._begin_of(day, final=final), day, final)
        period.add(stored)

    def _begin_of(self, day: date, *, final: bool) -> date:
        """Return the first day of the period of a day. Provisional days are a period of their own."""
        return max(_begin(day, self._by), self._first, self._first if final else self._unknown)

    def report(self) -> dict[str, Any]:
        """Return the figures of the final days, of the provisional days, and of the periods."""
        self._end_period()
        final, provisional = self._parts.get("final"), self._parts.get("provisional")
        report = {"final": self._part(final), "provisional": self._part(provisional), "periods": self._periods}
        for (scores, _, _), interval in zip(self._group_sums, self._intervals(), strict=True):
            scores |= _interval(interval)
        matured = final.totals if final else None
        if matured is not None and self._earlier is not None:
            matured.add(self._earlier)
        expected = expected_accuracy(provisional.totals if provisional else None, matured or self._earlier)
        return {**report, "expected": expected}

    def _part(self, some: _Some | None) -> dict[str, Any] | None:
        if some is None:
            return None
        figures = some.figures(self._trained_on)
        if figures is None:
            return {"answers": some.coverage(), "scores": None}
        scores = self._main(figures)
        if self._detailed:
            scores |= figures.full()
            scores |= _interval(scores["log_loss_difference_interval"])
            if self._guessing:
                scores["guessing"]["per_class"] = figures.class_scores_of_guessing()
        else:
            self._group_sums.append((scores, *figures.group_sums()))
        return {"answers": some.coverage(), "scores": scores}

    def _main(self, figures: Figures) -> dict[str, Any]:
        return figures.beside_guessing() if self._guessing else figures.brief()

    def _end_period(self) -> None:
        """Keep the figures of a period, and drop its sums, because a year has hundreds of periods."""
        period, self._period = self._period, None
        if period is None:
            return
        figures = period.figures(self._trained_on)
        scores = None if figures is None else self._main(figures)
        if figures is not None and scores is not None:
            self._group_sums.append((scores, *figures.group_sums()))
        self._periods.append(
            {
                "from": period.first.isoformat(),
                "to": period.last.isoformat(),
                "final": period.final,
                "answers": period.coverage(),
                "scores": scores,
            }
        )

    def _intervals(self) -> list[list[float] | None]:
        """Return the interval of each period with scores. All of them together take far less time than one by one."""
        if not self._group_sums:
            return []
        _, sums, sessions = zip(*self._group_sums, strict=True)
        return separate_intervals(np.column_stack(sums), np.column_stack(sessions))


def _interval(interval: list[float] | None) -> dict[str, Any]:
    note = TOO_FEW_DRIVERS if interval is None else None
    return {"log_loss_difference_interval": interval, "interval_note": note}


def _begin(day: date, by: By) -> date:
    """Return the first day of the period of a day. A week begins on Monday."""
    if by == "week":
        return day - timedelta(days=min(day.weekday(), day.toordinal() - 1))
    return day.replace(day=1) if by == "month" else day


def _known(engine: Engine, number: int) -> dict[str, Any]:
    try:
        return read_version(engine, number)
    except NotFound:
        # A database of another program may name versions that it does not have.
        return {"trained_samples": None, "test_samples": None, "evaluation": None}


def _promise(known: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the test of a version promised; None for a version of an older zap without these figures."""
    evaluation = known["evaluation"] or {}
    if any(name not in evaluation for name in (*_PROMISED, "test_f1_score", "calibration")):
        return None
    return {
        "sessions": known["test_samples"],
        "weighted_f1": evaluation["test_f1_score"],
        **{name: evaluation[name] for name in _PROMISED},
        "expected_calibration_error": evaluation["calibration"]["expected_calibration_error"],
    }
