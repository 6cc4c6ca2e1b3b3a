"""What the monitors of a version have seen: the features of the requests against the training, and the harm.

The evidence M of a monitor is a number of weeks or days: without a change, M becomes as large at most once in this
number of weeks or days (see `zap.monitoring.drift`). Here it is in years, so that drift and harm have one scale.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Engine

from zap.db.monitoring.monitor_states import Kind, read_parts, read_revision, what_it_remembers
from zap.db.stored_json import reading
from zap.flows.remembered import Remembered
from zap.monitoring.drift import THRESHOLD as DRIFT_THRESHOLD
from zap.monitoring.drift import WEEKS_A_YEAR, WINDOWS
from zap.monitoring.drift_evidence import effect_of
from zap.monitoring.drift_notice import shift_of
from zap.monitoring.drift_state import JudgedWeek
from zap.monitoring.harm import CHECKS, DAYS_A_YEAR, JudgedDay, evidence_of
from zap.monitoring.harm import THRESHOLD as HARM_THRESHOLD
from zap.monitoring.harm import WINDOWS as HARM_WINDOWS
from zap.monitoring.reference import FeatureReference, Reference

# The thresholds of the monitors, in years.
DRIFT_YEARS, HARM_YEARS = DRIFT_THRESHOLD / WEEKS_A_YEAR, HARM_THRESHOLD / DAYS_A_YEAR
# The most points of a series. Fewer weeks and days are judged, but between them may be many without answers.
MOST_POINTS = 500
_EPOCH = date(1970, 1, 1)
# Week 0 begins on Monday, 1969-12-29.
_FIRST_MONDAY = date(1969, 12, 29)


@dataclass(frozen=True)
class Point:
    """The evidence after a week or a day, in years; None if nothing was judged then."""

    begins: date
    years: float | None


@dataclass(frozen=True)
class FeatureDrift:
    """One feature of the requests against the training.

    Attributes:
        feature: its name.
        edges: the upper ends of all bins of a number but the last bin; None for a category.
        noticed: the week in which its standing notice was given; None without a notice.
        years: the evidence of this feature alone; None while its notice stands.
        effect: the population stability index of the newest judged weeks, less what chance alone gives.
        training: the share of the training's drivers with each value, by value.
        found: the share of the drivers of the newest judged weeks.
        points: the evidence after each judged week, oldest first.
    """

    feature: str
    edges: Sequence[float] | None
    noticed: date | None
    years: float | None
    effect: float
    training: Mapping[str, float]
    found: Mapping[str, float]
    points: Sequence[Point]


@dataclass(frozen=True)
class DriftReport:
    """What the monitor of drift has seen.

    Attributes:
        names: the watched features; empty if the training had too few drivers.
        week: the first day of the newest judged week; None before the first one.
        weeks: how many of the newest weeks the shares are from.
        drivers: how many drivers the newest judged week had.
        years: the evidence of all features together.
        points: this evidence after each judged week, oldest first.
        features: standing notices first, then the features with most evidence; empty before the first judged week.
    """

    names: Sequence[str]
    week: date | None
    weeks: int
    drivers: int
    years: float | None
    points: Sequence[Point]
    features: Sequence[FeatureDrift]


@dataclass(frozen=True)
class HarmCheck:
    """One check of harm in one window.

    Attributes:
        check: `promise` or `baseline`.
        window: the number of days.
        drivers: how many drivers, or groups of drivers, these days have; None if the window is not whole yet.
        mean: their mean score (halved Brier), or the mean difference to the baseline.
        limit: the mean up to which there is no harm.
        years: the evidence of this check in this window alone.
    """

    check: str
    window: int
    drivers: int | None
    mean: float | None
    limit: float | None
    years: float


@dataclass(frozen=True)
class HarmReport:
    """What the monitor of harm has seen.

    Attributes:
        baseline: the best baseline of the version's test.
        day: the newest judged day; None before the first one.
        years: the evidence of all checks and windows together; None while an alarm stands.
        points: this evidence after each day, oldest first; None on days on which an alarm stood.
        checks: each check in each window.
    """

    baseline: str
    day: date | None
    years: float | None
    points: Sequence[Point]
    checks: Sequence[HarmCheck]


# The database, the version, and when the state was stored.
_Key = tuple[str, int, datetime]
Report = TypeVar("Report", DriftReport, HarmReport)
# Pages show the version in production.
_drifts: Remembered[_Key, DriftReport] = Remembered(4)
_harms: Remembered[_Key, HarmReport] = Remembered(4)


def read_drift(engine: Engine, version: int) -> DriftReport | None:
    """Return what the monitor of drift has seen; None if the version has no reference yet.

    Raises:
        DamagedRow: what the monitor remembers cannot be read.
    """
    return _remembered(engine, version, "drift", ("judged", "raised"), _drifts, _drift)


def read_harm(engine: Engine, version: int) -> HarmReport | None:
    """Return what the monitor of harm has seen; None if the version has no reference yet.

    Raises:
        DamagedRow: what the monitor remembers cannot be read.
    """
    return _remembered(engine, version, "harm", ("watch",), _harms, _harm)


def _remembered(  # noqa: PLR0913, PLR0917 - what is read, where the result is remembered, and how it is made
    engine: Engine,
    version: int,
    kind: Kind,
    parts: Sequence[str],
    known: Remembered[_Key, Report],
    report: Callable[[Mapping[str, Any], Mapping[str, Any]], Report],
) -> Report | None:
    """Return the report of a monitor. As long as its state was not stored again, the report is not made again.

    A state has megabytes, and PostgreSQL needs a tenth of a second to find the parts in it. It is stored at the end of
    a week or a day, and after 50,000 answers.
    """
    with engine.connect() as connection:
        revision = read_revision(connection, version, kind)
        if revision is None:
            return None
        key = (str(engine.url), version, revision)
        if (found := known.find(key)) is not None:
            return found
        # Stored again since then, it is as new as its revision or newer, and the next reader makes it again.
        stored = read_parts(connection, version, kind, parts)
    if stored is None:
        return None
    with reading(what_it_remembers(version, kind)):
        made = report(*stored)
    known.keep(key, made)
    return made


def _drift(reference: Mapping[str, Any], state: Mapping[str, Any]) -> DriftReport:
    features = Reference.from_plain(reference["features"] or ()).features
    judged = [JudgedWeek(**week) for week in state["judged"] or ()]
    names = [feature.name for feature in features]
    if not judged:
        return DriftReport(names, None, 0, 0, None, (), ())
    newest = judged[-1]
    last = [week for week in judged if week.week > newest.week - max(WINDOWS)]
    found = [_feature(feature, judged, last, state["raised"]) for feature in features]
    points = _weekly(judged, [sum(week.sums.values()) / len(features) for week in judged])
    return DriftReport(
        names=names,
        week=_monday(newest.week),
        weeks=len(last),
        drivers=newest.drivers,
        years=points[-1].years,
        points=points,
        features=sorted(found, key=lambda one: (one.noticed is None, -(one.years or 0), -one.effect)),
    )


def _harm(reference: Mapping[str, Any], state: Mapping[str, Any]) -> HarmReport:
    watch = state["watch"] or {}
    judged = [JudgedDay(**day) for day in watch.get("judged") or ()]
    if not judged:
        return HarmReport(str(reference["baseline"]), None, None, (), ())
    evidence = {day.day: evidence_of(day.sums) / DAYS_A_YEAR for day in judged}
    last = watch["last_day"]
    first = max(judged[0].day, last + 1 - MOST_POINTS)
    points = [Point(_EPOCH + timedelta(days=day), evidence.get(day)) for day in range(first, last + 1)]
    newest = judged[-1]
    checks = [_check(check, window, newest) for check in CHECKS for window in HARM_WINDOWS]
    return HarmReport(str(reference["baseline"]), _EPOCH + timedelta(days=last), points[-1].years, points, checks)


def _feature(
    feature: FeatureReference, judged: Sequence[JudgedWeek], last: Sequence[JudgedWeek], raised: Mapping[str, int]
) -> FeatureDrift:
    counts = [sum(column) for column in zip(*(week.counts[feature.name] for week in last), strict=True)]
    shift = shift_of(feature, counts, effect_of(feature, counts))
    points = _weekly(judged, [week.sums.get(feature.name) for week in judged])
    noticed = raised.get(feature.name)
    return FeatureDrift(
        feature=feature.name,
        edges=feature.edges,
        noticed=None if noticed is None else _monday(noticed),
        years=None if noticed is not None else points[-1].years,
        effect=shift.effect,
        training=shift.reference,
        found=shift.found,
        points=points,
    )


def _weekly(judged: Sequence[JudgedWeek], evidence: Sequence[float | None]) -> list[Point]:
    """Return a point for each week from the first judged week to the last, also for weeks without answers.

    If few weeks were judged in many years, these are the newest MOST_POINTS weeks.
    """
    by_week = dict(zip((week.week for week in judged), evidence, strict=True))
    points = []
    end = judged[-1].week + 1
    for week in range(max(judged[0].week, end - MOST_POINTS), end):
        weeks = by_week.get(week)
        points.append(Point(_monday(week), None if weeks is None else weeks / WEEKS_A_YEAR))
    return points


def _check(check: str, window: int, day: JudgedDay) -> HarmCheck:
    name = f"{check} {window}"
    years = day.sums.get(name, 0.0) / DAYS_A_YEAR
    return HarmCheck(check, window, day.drivers.get(name), day.means.get(name), day.limits.get(name), years)


def _monday(week: int) -> date:
    return _FIRST_MONDAY + timedelta(weeks=week)
