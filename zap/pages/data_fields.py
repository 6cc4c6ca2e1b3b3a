"""GET /pages/data/fields: what was missing, unknown or refused in requests and reported sessions, by field and day."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

from litestar import Request, Response, get
from sqlalchemy import Engine

from zap.db.monitoring.data_quality_days import day_of
from zap.db.tables import utc_now
from zap.flows.data_quality import (
    MOST_DAYS,
    DataQuality,
    FoundInField,
    QualityOfDay,
    RefusedField,
    RequestQuality,
    SessionQuality,
    data_quality,
    usual_first,
)
from zap.formats.time_range import wrong_days
from zap.monitoring.data_quality import COMPLETED, MISSING, NULL, UNKNOWN
from zap.pages import data_words
from zap.pages.page import answer_reading, see_other
from zap.pages.plots import Line, Plot
from zap.pages.query import Query, address, wrong_filter
from zap.pages.reader import read_reader
from zap.pages.texts import texts_in
from zap.public import AS_JSON, PAGE
from zap.scopes import READ, needs

_PATH = "/pages/data/fields"
_SUBJECTS = ("requests", "sessions")
_DAY_SECONDS = 86_400.0
_EPOCH_DAY = date(1970, 1, 1).toordinal()
Findings = Sequence[FoundInField | RefusedField]
# The field and what was found in it, or why it was refused.
Key = tuple[str, str]


class Asked:
    """The filters of a request for the page.

    Args:
        query: the filters as they were sent.

    Attributes:
        subject: `requests` or `sessions`.
        field: the chosen field; None for all fields.
        first, last: the first and the last day (UTC).
        filters: the filters that the request has, by name.

    Raises:
        ValidationException: a filter cannot be read, or the days do not fit together.
    """

    def __init__(self, query: Query) -> None:
        subject, self.field = query.choice("subject", _SUBJECTS), query.choice("field", _fields())
        days = {"from": query.day("from"), "to": query.day("to")}
        self.subject = subject or _SUBJECTS[0]
        self.last = days["to"] or day_of(utc_now())
        self.first = days["from"] or usual_first(self.last)
        if wrong := wrong_days(self.first, self.last, MOST_DAYS):
            raise wrong_filter("from", wrong)
        self.filters: dict[str, Any] = {"subject": subject, "field": self.field, **days}

    def address(self, path: str = _PATH, **other: Any) -> str:
        """Return the address of the page, or of another path, with these filters and with others instead."""
        return address(path, {**self.filters, **other})


@get(_PATH, opt=PAGE | needs(READ))
async def fields(request: Request[Any, Any, Any]) -> Response[Any]:
    """Show what was found in the fields of requests or of reported sessions."""
    query = Query(request)
    asked = Asked(query)
    if query.has_empty:
        return see_other(request, address(_PATH, query.values))
    language = read_reader(request).language
    return await answer_reading(request, "data_fields.html", _read, asked, language)


def _read(engine: Engine, asked: Asked, language: str) -> Mapping[str, Any]:
    report = data_quality(engine, asked.first, asked.last)
    quality = _of_subject(report.all_days, asked.subject)
    found = [one for one in quality.fields if asked.field in {None, one.field}]
    refusals = [one for one in quality.refusals if asked.field in {None, one.field}]
    by_day = _by_day(report, asked.subject)
    findings: Findings = (*quality.fields, *quality.refusals)
    known = {one.field for one in findings} | {asked.field}
    return {
        "asked": asked,
        "quality": quality,
        "unknown_models": _one(quality, "vehicle_model", UNKNOWN),
        "has_days": bool(report.days),
        "found": sorted(found, key=lambda one: (-one.count, one.field)),
        "refusals": refusals,
        "series": lambda one: by_day.get((one.field, _what(one)), ()),
        "names": [name for name in _fields() if name in known],
        "plot": _plot(report, asked, language) if report.days else None,
        "document": address("/quality/data", {"from": asked.first, "to": asked.last, **AS_JSON}),
        "data_words": data_words,
    }


def _fields() -> list[str]:
    return [name for name in data_words.FIELD_WORDS if name]


def _of_subject(days: Any, subject: str) -> RequestQuality | SessionQuality:
    quality: RequestQuality | SessionQuality = getattr(days, subject)
    return quality


def _what(one: FoundInField | RefusedField) -> str:
    """Return what was found in a field, or why it was refused. Some words are both, such as `unknown`."""
    return f"refused {one.reason}" if isinstance(one, RefusedField) else one.found


def _one(quality: RequestQuality | SessionQuality, field: str, found: str) -> float | None:
    return next((one.share for one in quality.fields if (one.field, one.found) == (field, found)), None)


def _by_day(report: DataQuality, subject: str) -> dict[Key, Sequence[float | None]]:
    """Return for each finding its share by day, oldest first; None on a day without requests or reports."""
    length = (report.last - report.first).days + 1
    series: dict[Key, list[float | None]] = {}
    zeros: list[float | None] = [None] * length
    for day in report.days:
        quality = _of_subject(day, subject)
        if (quality.answered if isinstance(quality, RequestQuality) else quality.ended) or quality.refused:
            zeros[(day.day - report.first).days] = 0.0
    for day in report.days:
        quality = _of_subject(day, subject)
        findings: Findings = (*quality.fields, *quality.refusals)
        for one in findings:
            of_one = series.setdefault((one.field, _what(one)), list(zeros))
            of_one[(day.day - report.first).days] = one.share
    return dict(series)


def _plot(report: DataQuality, asked: Asked, language: str) -> Plot:
    """Return the plot of the chosen field, or of the whole requests or reports."""
    _ = texts_in(language).translations.gettext
    percent, y_label = 100.0, _("share (%)")
    if asked.field is not None:
        words = {what: _(data_words.FOUND_WORDS[what]) for what in (MISSING, NULL, COMPLETED, UNKNOWN)}
        reads = {word: _share_of(asked, what) for what, word in words.items()}
        reads[_("refused")] = lambda day: _refused(day, asked)
    elif asked.subject == "requests":
        reads = {
            _("refused"): lambda day: day.requests.refused_share,
            _("without a driver"): lambda day: day.requests.without_driver_share,
            _("unknown drivers"): lambda day: day.requests.unknown_drivers_share,
            _("completed by zap"): lambda day: day.requests.completed_share,
            _("unknown vehicle model"): _share_of(asked, UNKNOWN, "vehicle_model"),
        }
    else:
        percent, y_label = 1.0, _("sessions and reports")
        reads = {
            _("added sessions"): lambda day: day.sessions.added,
            _("ended sessions"): lambda day: day.sessions.ended,
            _("refused reports"): lambda day: day.sessions.refused,
        }
    by_day = {day.day: day for day in report.days}
    every = [date.fromordinal(number) for number in range(report.first.toordinal(), report.last.toordinal() + 1)]
    lines = [
        Line(name, [None if day not in by_day else _times(percent, read(by_day[day])) for day in every])
        for name, read in reads.items()
    ]
    lines = [line for line in lines if any(line.values)] or lines[:1]
    places = [(day.toordinal() - _EPOCH_DAY) * _DAY_SECONDS for day in every]
    return Plot(places, lines, _("Day (UTC)"), y_label, decimals=1 if percent > 1 else 0, y_from=0.0)


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


def _share_of(asked: Asked, what: str, field: str | None = None) -> Callable[[QualityOfDay], float | None]:
    """Return the function that reads the share of one finding from a day; 0 if nothing was found on a day."""

    def read(day: QualityOfDay) -> float | None:
        quality = _of_subject(day, asked.subject)
        whole = quality.answered if isinstance(quality, RequestQuality) else quality.ended
        return (_one(quality, field or asked.field or "", what) or 0.0) if whole else None

    return read


def _refused(day: QualityOfDay, asked: Asked) -> float | None:
    """Return the share of the requests, or of the reports, that were refused because of the chosen field."""
    quality = _of_subject(day, asked.subject)
    all_of_them = quality.refused + (quality.answered if isinstance(quality, RequestQuality) else quality.ended)
    # A request may have several errors in one field, so the most frequent reason is a lower bound.
    refused = max((one.count for one in quality.refusals if one.field == asked.field), default=0)
    return refused / all_of_them if all_of_them else None
