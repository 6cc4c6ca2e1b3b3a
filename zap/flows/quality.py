"""The report of live quality: what versions scored on the sessions that followed their answers.

The days whose outcomes are all known, because they are older than the horizon, are final; later days are provisional.
Everything is computed from the sums of days, never from outcomes.
"""

from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal

from sqlalchemy import Engine

from zap.db.monitoring.quality_days import read_days
from zap.db.versions.model_registry import read_version
from zap.errors import NotFound
from zap.flows.version_quality import NewScores, VersionQuality, Wanted, add_intervals

By = Literal["day", "week", "month", "total"]
Kind = Literal["live", "backtest"]
# The first day by default, and the first day of the outcomes that correct the expected accuracy, before the last day.
_DAYS = 90
# The days that a report may be about: a little more than three years. If there are more versions than this, the oldest
# versions are left out.
MOST_DAYS = 1_100
MOST_VERSIONS = 100
BLIND_SPOT = (
    "The expected accuracy is what the probabilities of the answers say, corrected by how often earlier answers with"
    " such probabilities were right. It cannot see that drivers have changed their behaviour (concept drift): only"
    " outcomes can show this."
)
_PROMISED = ("macro_f1", "accuracy", "log_loss", "best_baseline", "log_loss_difference", "log_loss_difference_interval")


@dataclass(frozen=True)
class Question:
    """What a report is about.

    Attributes:
        first, last: the first and the last day that was asked about; None for the default.
        model_version: the version; None for all versions with answers.
        by: the length of the periods that are shown one by one; `total` shows no periods.
        kind: `live`, or `backtest` for requests about the past.
        detailed: the only version whose final days have all scores; other versions and provisional days have the main
            ones. None: all have all scores.
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
        """Return the first and the last day. A report may be about at most MOST_DAYS days, see `wrong_days`."""
        last = self.last or max(today, self.first or today)
        first = self.first or last - timedelta(days=min(_DAYS, last.toordinal() - 1))
        return first, last


def read_quality(engine: Engine, question: Question, now: datetime, horizon: timedelta) -> dict[str, Any]:
    """Return the report of live quality, with the fields of `QualityReply`.

    Args:
        engine: on the database.
        question: what it is about.
        now: the present moment, as the drivers' wall time.
        horizon: how long after the moment that was asked about an outcome may begin.

    Raises:
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
    new: list[NewScores] = []
    with closing(days):
        for number, of_version in groupby(days, key=attrgetter("model_version")):
            if len(versions) == MOST_VERSIONS:
                break
            known = _known(engine, number)
            every = ("final", "provisional")
            detailed = every if question.detailed is None else every[: number == question.detailed]
            wanted = Wanted(question.by, first, unknown, detailed, question.guessing)
            counted = VersionQuality(wanted, known["trained_samples"] or 0, new)
            for day in of_version:
                counted.add(day)
            if counted.is_asked:
                versions.append({"model_version": number, "promise": _promise(known), **counted.report()})
    add_intervals(new)
    return {
        "kind": question.kind,
        "by": question.by,
        "from": first.isoformat(),
        "to": last.isoformat(),
        "final_until": min(last, unknown - timedelta(days=1)).isoformat() if first < unknown else None,
        "versions": versions,
        "blind_spot": BLIND_SPOT,
    }


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
