"""The plots of the page Quality: log loss and F1 over time, beside guessing, with marks where versions changed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any, Literal

from sqlalchemy import Engine

from zap.db.versions.promotions import list_promotions
from zap.pages.plots import Line, Mark, Plot
from zap.pages.texts import texts_in
from zap.settings import Settings

# The newest changes of the version in production that are looked at, and the most marks that have a text.
_PROMOTIONS = 200
_MARKS_WITH_TEXT = 12
# What a line shows of a period: the value and the ends of its interval, or None.
Part = Callable[[Mapping[str, Any]], tuple[float, Sequence[float] | None]]


def read_marks(engine: Engine, settings: Settings, first: date, last: date) -> list[tuple[float, int]]:
    """Return when the version in production changed, in order: seconds of wall time since 1970, and the new version.

    Args:
        engine: on the database.
        settings: for the wall time of the drivers.
        first: the first day.
        last: the last day.
    """
    changes = list_promotions(engine, _PROMOTIONS)
    found = []
    for change in reversed(changes):
        at = settings.wall_time(change["promoted_at"].replace(tzinfo=UTC))
        if first <= at.date() <= last:
            found.append((at.replace(tzinfo=UTC).timestamp(), change["to_version"]))
    return found


def quality_plots(
    versions: Iterable[Mapping[str, Any]], marks: Sequence[tuple[float, int]], language: str
) -> tuple[Plot | None, Plot | None]:
    """Return the plots of the log loss and of the weighted F1; None without a scored session.

    If several versions answered in a period, the plots show the version with the most sessions, because the scores of
    two versions are on different sessions. Final and provisional periods are lines of their own.

    Args:
        versions: the versions of a report that was asked for with `guessing`.
        marks: the result of `read_marks`.
        language: of the reader.
    """
    periods = _main_periods(versions)
    if not periods:
        return None, None
    _ = texts_in(language).translations.gettext
    texts = _spread([(at, _("version %(number)s") % {"number": number}) for at, number in marks])
    names = (_("zap"), _("guessing"), _("zap, provisional"), _("guessing, provisional"))
    x = [datetime.combine(date.fromisoformat(one["from"]), time(), UTC).timestamp() for one in periods]
    loss, f1 = _lines(periods, (_log_loss, _guessed_log_loss), names), _lines(periods, (_f1, _guessed_f1), names)
    return (
        Plot(x, loss, _("First day"), _("log loss (nats)"), decimals=3, marks=texts),
        Plot(x, f1, _("First day"), _("weighted F1 (0 to 1)"), decimals=3, marks=texts),
    )


def _main_periods(versions: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the periods with scores in order, each of the version with the most sessions."""
    found: dict[tuple[str, bool], Mapping[str, Any]] = {}
    for version in versions:
        for period in version["periods"]:
            key = (period["from"], not period["final"])
            scores = period["scores"]
            if scores and (key not in found or scores["sessions"] > found[key]["scores"]["sessions"]):
                found[key] = period
    return [found[key] for key in sorted(found)]


def _lines(periods: Sequence[Mapping[str, Any]], parts: Sequence[Part], names: Sequence[str]) -> list[Line]:
    """Return the lines of zap and of guessing, for final periods and for provisional ones."""
    lines: list[Line] = []
    for final in (True, False):
        if not any(period["final"] == final for period in periods):
            continue
        for part, name in zip(parts, names[:2] if final else names[2:], strict=True):
            shown = [part(period["scores"]) if period["final"] == final else (None, None) for period in periods]
            ends = [end for _, end in shown]
            low, high = ([None if end is None else end[at] for end in ends] for at in (0, 1))
            if not any(ends):
                low = high = []
            kind: Literal["line", "dashed"] = "line" if part is parts[0] else "dashed"
            lines.append(Line(name, [value for value, _ in shown], low, high, kind))
    return lines


def _log_loss(scores: Mapping[str, Any]) -> tuple[float, Sequence[float] | None]:
    """Return the log loss. The band says how far from guessing it may be, so it is the interval of the difference."""
    interval, guessing = scores["log_loss_difference_interval"], scores["guessing"]["log_loss"]
    return scores["log_loss"], interval and [guessing + end for end in interval]


def _guessed_log_loss(scores: Mapping[str, Any]) -> tuple[float, None]:
    return scores["guessing"]["log_loss"], None


def _f1(scores: Mapping[str, Any]) -> tuple[float, Sequence[float] | None]:
    return scores["weighted_f1"], scores["weighted_f1_interval"]


def _guessed_f1(scores: Mapping[str, Any]) -> tuple[float, None]:
    return scores["guessing"]["weighted_f1"], None


def _spread(marks: Sequence[tuple[float, str]]) -> list[Mark]:
    """Return the marks. Of marks near each other, only the last one has a text: texts must not cover each other."""
    if not marks:
        return []
    room = (marks[-1][0] - marks[0][0]) / _MARKS_WITH_TEXT
    nexts = [at for at, _ in marks[1:]] + [float("inf")]
    return [Mark(at, text if after - at > room else "") for (at, text), after in zip(marks, nexts, strict=True)]
