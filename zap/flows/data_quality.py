"""The report of data quality: what was found in requests and in reported sessions, by day and over a range of days."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Annotated

from msgspec import Meta, Struct
from sqlalchemy import Engine

from zap.db.monitoring.data_quality_days import REFUSED, REFUSED_REPORTS, REQUESTS, SESSIONS, DayCount, read_days
from zap.formats.refusal_reasons import REFUSED as REFUSED_ONES
from zap.monitoring.data_quality import ADDED, ANSWERED, COMPLETED, ENDED, MISSING, NULL, UNKNOWN, WHOLE, Found

# The most days of one report. A day has at most a few hundred rows.
MOST_DAYS = 366
# The days of a report that names no first day, with the last day.
USUAL_DAYS = 30
_DRIVER = "user_id"

Share = float | None
_FIELD = Annotated[str, Meta(description="a field; other: a name that is not a field; empty: the whole body")]


class FoundInField(Struct):
    """How often something was found in one field."""

    field: _FIELD
    found: Annotated[str, Meta(description="missing, null, completed or unknown")]
    count: int
    share: Annotated[Share, Meta(description="of the answered requests, or of the sessions that ended")]


class RefusedField(Struct):
    """How often one field was a reason for a refusal."""

    field: _FIELD
    reason: Annotated[str, Meta(description="such as out_of_range, wrong_type, required or unknown_field")]
    count: int
    share: Annotated[Share, Meta(description="of the refused requests or reports")]


class RequestQuality(Struct):
    """What was found in requests. A share is null if it would be a share of nothing."""

    answered: Annotated[int, Meta(description="answered requests and rows of batches that the follower has read")]
    refused: Annotated[int, Meta(description="refused requests and rows of batches")]
    refused_share: Annotated[Share, Meta(description="of the answered and refused requests")]
    without_driver: Annotated[int, Meta(description="answered requests without a user_id")]
    without_driver_share: Share
    unknown_drivers: Annotated[int, Meta(description="answered requests of drivers without a known session")]
    unknown_drivers_share: Annotated[Share, Meta(description="of the answered requests with a driver")]
    completed: Annotated[int, Meta(description="answered requests with a field that zap took from the database")]
    completed_share: Share
    fields: list[FoundInField]
    refusals: list[RefusedField]


class SessionQuality(Struct):
    """What was found in reported sessions."""

    added: Annotated[int, Meta(description="sessions that reports added")]
    ended: Annotated[int, Meta(description="sessions whose end was reported; their fields are counted then")]
    refused: Annotated[int, Meta(description="refused reports, of one session or many")]
    fields: list[FoundInField]
    refusals: list[RefusedField]


class QualityOfDays(Struct):
    """What was found on some days."""

    requests: RequestQuality
    sessions: SessionQuality


class QualityOfDay(QualityOfDays, kw_only=True):
    """What was found on one day."""

    day: Annotated[date, Meta(description="the day (UTC) on which the requests and reports arrived")]


class DataQuality(Struct, rename={"first": "from", "last": "to"}):
    """What was found in a range of days."""

    first: date
    last: date
    all_days: QualityOfDays
    days: Annotated[list[QualityOfDay], Meta(description="the days with requests or reports, newest first")]


def data_quality(engine: Engine, first: date, last: date) -> DataQuality:
    """Return what was found from one day to another, both included.

    Args:
        engine: on the database.
        first: the first day (UTC).
        last: the last day, at most MOST_DAYS - 1 days later.
    """
    by_day: dict[date, list[DayCount]] = defaultdict(list)
    rows = read_days(engine, first, last)
    for row in rows:
        by_day[row.day].append(row)
    days = [
        QualityOfDay(day=day, requests=_requests(by_day[day]), sessions=_sessions(by_day[day]))
        for day in sorted(by_day, reverse=True)
    ]
    return DataQuality(first, last, QualityOfDays(_requests(rows), _sessions(rows)), days)


def usual_first(last: date) -> date:
    """Return the first day of a report that names only its last day."""
    return date.fromordinal(max(last.toordinal() - USUAL_DAYS + 1, 1))


def _requests(rows: Sequence[DayCount]) -> RequestQuality:
    found, refused = _sums(rows, REQUESTS), _sums(rows, REFUSED)
    answered, all_refused = found[WHOLE, ANSWERED], refused[WHOLE, REFUSED_ONES]
    without = found[_DRIVER, MISSING] + found[_DRIVER, NULL]
    return RequestQuality(
        answered=answered,
        refused=all_refused,
        refused_share=_share(all_refused, answered + all_refused),
        without_driver=without,
        without_driver_share=_share(without, answered),
        unknown_drivers=found[_DRIVER, UNKNOWN],
        unknown_drivers_share=_share(found[_DRIVER, UNKNOWN], answered - without),
        completed=found[WHOLE, COMPLETED],
        completed_share=_share(found[WHOLE, COMPLETED], answered),
        fields=_fields(found, answered),
        refusals=_refusals(refused, all_refused),
    )


def _sessions(rows: Sequence[DayCount]) -> SessionQuality:
    found, refused = _sums(rows, SESSIONS), _sums(rows, REFUSED_REPORTS)
    return SessionQuality(
        added=found[WHOLE, ADDED],
        ended=found[WHOLE, ENDED],
        refused=refused[WHOLE, REFUSED_ONES],
        fields=_fields(found, found[WHOLE, ENDED]),
        refusals=_refusals(refused, refused[WHOLE, REFUSED_ONES]),
    )


def _sums(rows: Iterable[DayCount], subject: str) -> dict[Found, int]:
    sums: dict[Found, int] = defaultdict(int)
    for row in rows:
        if row.subject == subject:
            sums[row.field, row.found] += row.count
    return sums


def _fields(found: dict[Found, int], of: int) -> list[FoundInField]:
    return [
        FoundInField(field, what, count, _share(count, of))
        for (field, what), count in sorted(found.items())
        if field != WHOLE and count
    ]


def _refusals(refused: dict[Found, int], of: int) -> list[RefusedField]:
    most_first = sorted(refused.items(), key=lambda one: (-one[1], one[0]))
    return [
        RefusedField(field, reason, count, _share(count, of))
        for (field, reason), count in most_first
        if (field, reason) != (WHOLE, REFUSED_ONES) and count
    ]


def _share(part: int, whole: int) -> Share:
    return part / whole if whole else None
