"""GET /pages/quality: how good the answers were over time and in detail, beside guessing and beside the promise."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, get_args

from litestar import Request, Response, get
from litestar.datastructures import State
from sqlalchemy import Engine

from zap.db.versions.model_registry import production_version, read_version
from zap.flows.quality import MOST_DAYS, By, Question, read_quality
from zap.formats.time_range import wrong_days
from zap.pages.figures import Bin
from zap.pages.page import answer_reading, see_other
from zap.pages.plots import MOST_POINTS
from zap.pages.quality_plots import quality_plots, read_marks
from zap.pages.query import Query, address, wrong_filter
from zap.pages.reader import read_reader
from zap.public import AS_JSON, PAGE
from zap.scopes import READ, needs
from zap.sentences import say

_PATH = "/pages/quality"
_PERIODS = tuple(by for by in get_args(By) if by != "total")
# What the test of a version must have, so that it is shown. Versions of an older zap do not have all of it.
_OF_A_TEST = (
    *("log_loss", "test_f1_score", "macro_f1", "accuracy", "calibration", "best_baseline", "log_loss_difference"),
    *("log_loss_difference_interval", "classes", "confusion_matrix"),
)
# With more days than this, weeks are shown by default.
_MANY_DAYS = 60
# The versions of the table that are shown at once; the others are behind a click.
_SHOWN_VERSIONS = 8


class Asked:
    """The filters of a request for the page.

    Args:
        query: the filters as they were sent.
        today: the day of the drivers' wall time.

    Attributes:
        first, last: the first and the last day.
        version: the chosen version; None for all versions.
        by: the length of the periods.
        filters: the filters that the request has, by name.

    Raises:
        ValidationException: a filter cannot be read, or the filters do not fit together.
    """

    def __init__(self, query: Query, today: date) -> None:
        self.version = query.number("version")
        by = query.choice("by", _PERIODS)
        days = {"from": query.day("from"), "to": query.day("to")}
        self.first, self.last = Question(days["from"], days["to"]).days(today)
        if wrong := wrong_days(self.first, self.last, MOST_DAYS):
            raise wrong_filter("from", wrong)
        count = (self.last - self.first).days + 1
        if by == "day" and count > MOST_POINTS:
            raise wrong_filter(
                "by",
                say(
                    "is 'day' for {count:,} days; choose week, or at most {most_points} days",
                    count=count,
                    most_points=MOST_POINTS,
                ),
            )
        self.by: By = by or ("week" if count > _MANY_DAYS else "day")  # type: ignore[assignment] # of _PERIODS
        self.filters: dict[str, Any] = {"version": self.version, **days, "by": by}

    def address(self, path: str = _PATH, **other: Any) -> str:
        """Return the address of the page, or of another path, with these filters and with others instead."""
        return address(path, {**self.filters, **other})


@get(_PATH, opt=PAGE | needs(READ))
async def quality(request: Request[Any, Any, Any]) -> Response[Any]:
    """Show the quality of the answers."""
    query, state = Query(request), request.app.state
    asked = Asked(query, state.settings.wall_now().date())
    if query.has_empty:
        # A form also sends its empty fields. An address without them is shorter to send to a colleague.
        return see_other(request, address(_PATH, query.values))
    language = read_reader(request).language
    return await answer_reading(request, "quality.html", _read, state, asked, language)


def _read(engine: Engine, state: State, asked: Asked, language: str) -> Mapping[str, Any]:
    settings = state.settings
    production = production_version(engine)
    serving = None if production is None else production.model_version
    number = serving if asked.version is None else asked.version
    question = Question(
        asked.first, asked.last, asked.version, asked.by, detailed=number if number is not None else 0, guessing=True
    )
    report = read_quality(engine, question, settings.wall_now(), settings.horizon)
    versions = report["versions"]
    marks = read_marks(engine, settings, asked.first, asked.last)
    loss, f1 = quality_plots(versions, marks, language)
    one = next((one for one in versions if one["model_version"] == number), None)
    version = None if number is None else read_version(engine, number)
    tested = None if version is None else _tested(version)
    return {
        "number": number,
        "is_serving": number is not None and number == serving,
        "one": one,
        "tested": tested,
        "unreadable": [*([] if version is None else version["unreadable"]), *_unread_days(versions)],
        "detail": _detail(one, tested),
        "versions": versions,
        "shown_versions": _SHOWN_VERSIONS,
        "choices": _choices([one["model_version"] for one in versions], number),
        "loss": loss,
        "f1": f1,
        "by": asked.by,
        "first": asked.first,
        "last": asked.last,
        "final_until": report["final_until"],
        "filters": asked.filters,
        "here_with": asked.address,
        "document": asked.address("/quality", by=asked.by, **AS_JSON),
        "horizon": settings.horizon / timedelta(seconds=1),
    }


def _unread_days(versions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the days that cannot be read, each after its table."""
    return sorted({f"quality_days {day}" for version in versions for day in version["unreadable_days"]})


def _choices(numbers: Sequence[int], chosen: int | None) -> list[int]:
    """Return the versions that can be chosen: those with answers on these days, and the chosen one."""
    return sorted({*numbers, *([] if chosen is None else [chosen])}, reverse=True)


def _tested(version: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the test of a version's training found; None for a version of an older zap."""
    evaluation = version["evaluation"]
    if not evaluation or version["scores"] is None or any(name not in evaluation for name in _OF_A_TEST):
        return None
    scores, best = version["scores"], evaluation["best_baseline"]
    return {
        "sessions": version["test_samples"],
        "log_loss": evaluation["log_loss"],
        "weighted_f1": evaluation["test_f1_score"],
        "weighted_f1_interval": evaluation.get("test_f1_interval"),
        "macro_f1": evaluation["macro_f1"],
        "accuracy": evaluation["accuracy"],
        "expected_calibration_error": evaluation["calibration"]["expected_calibration_error"],
        "log_loss_difference": evaluation["log_loss_difference"],
        "log_loss_difference_interval": evaluation["log_loss_difference_interval"],
        "best_baseline": best,
        "guessing": {"log_loss": scores["best_baseline_log_loss"], "weighted_f1": scores["best_baseline_f1_score"]},
        "classes": evaluation["classes"],
        "confusion_matrix": evaluation["confusion_matrix"],
        "calibration": evaluation["calibration"],
    }


def _detail(one: Mapping[str, Any] | None, tested: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the calibration and the confusion matrix of final outcomes; without such outcomes, from the test."""
    live = one and one["final"] and one["final"]["scores"]
    scores = live or tested
    if not scores:
        return None
    bins = [Bin(at["mean_confidence"], at["accuracy"], at["sessions"]) for at in scores["calibration"]["bins"]]
    rows = zip(scores["classes"], scores["confusion_matrix"], strict=True)
    return {
        "is_live": bool(live),
        "bins": bins,
        "error": scores["calibration"]["expected_calibration_error"],
        "classes": scores["classes"],
        "confusion": [(used, row, sum(row)) for used, row in rows if sum(row)],
        "sessions": scores["sessions"],
    }
