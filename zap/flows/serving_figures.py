"""The figures of serving over all processes and machines: answers a minute, times, refusals, failures, log delay."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, Struct
from sqlalchemy import Engine

from zap.db.monitoring.serving_counts import ServedSpan, clock_of, first_span, read_spans, span_begin
from zap.monitoring.answer_counts import LOG, NOTHING, PREDICT, RESOLUTION, ROUTES, SUBJECTS, Counts, total

Span = Literal["hour", "day", "week"]
# Every process has written a minute this long after its end, if the database answers.
WRITTEN_SECONDS = 10
_MINUTE = timedelta(minutes=1)


class _Length(NamedTuple):
    """A span, and the minutes of its points. Rows that are old enough to be merged fit into the points."""

    span: Span
    length: timedelta
    point: int

    def begin(self, until: datetime) -> datetime:
        """Return when the first point begins of the span that ends at a moment."""
        return span_begin(until - self.length, self.point)


LENGTHS = (
    _Length("hour", timedelta(hours=1), 1),
    _Length("day", timedelta(days=1), 10),
    _Length("week", timedelta(days=7), 60),
)

# The counts by the begin of a point and by subject.
Sums = dict[datetime, dict[str, Counts]]
PerMinute = Annotated[float | None, Meta(description="null if no minute is counted")]
Milliseconds = Annotated[
    float | None,
    Meta(description="at most this many milliseconds, see `resolution`; null without answers, and above 10,000 s"),
]


class RouteFigures(Struct):
    """What one group of routes has answered. The time of an answer ends when its reply begins."""

    route: Annotated[
        Literal["predict", "batch", "training", "other"],
        Meta(description="POST /predict, POST /predict/batch, POST /train-model, or all other routes"),
    ]
    answered: Annotated[int, Meta(description="replies below 400; a batch is one answer")]
    answered_per_minute: PerMinute
    refused: Annotated[int, Meta(description="replies 4xx")]
    failed: Annotated[int, Meta(description="replies 5xx: errors")]
    p50_ms: Milliseconds
    p99_ms: Milliseconds


class LogDelay(Struct):
    """How long requests and batches waited for the commit of their predictions after these were computed."""

    committed: Annotated[int, Meta(description="requests, batches and portions of streams")]
    p50_ms: Milliseconds
    p99_ms: Milliseconds


class ServingPoint(Struct):
    """What was answered in some minutes."""

    begins_at: Annotated[datetime, Meta(description="UTC")]
    answered_per_minute: Annotated[float, Meta(description="all routes")]
    refused: int
    failed: int
    predict_p50_ms: Milliseconds
    predict_p99_ms: Milliseconds
    log_p99_ms: Milliseconds


class SpanFigures(Struct, rename={"since": "from", "until": "to"}):
    """The figures of the last hour, day or week."""

    span: Span
    since: Annotated[
        datetime,
        Meta(
            description="the first minute (UTC): of the span, or the first one that zap has ever counted if it is later"
        ),
    ]
    until: Annotated[datetime, Meta(description="when the last counted minute ended (UTC)")]
    answered: Annotated[int, Meta(description="replies below 400 of all routes")]
    answered_per_minute: Annotated[
        float | None,
        Meta(description="the mean from `from` to `to`, with minutes without a server; null if no minute is counted"),
    ]
    refused: int
    failed: int
    routes: Annotated[list[RouteFigures], Meta(description="in order: predict, batch, training, other")]
    log_delay: LogDelay
    point_minutes: Annotated[int, Meta(description="the minutes of a point; the first and the last may be shorter")]
    points: Annotated[list[ServingPoint], Meta(description="oldest first, at most 170")]


class ServingFigures(Struct):
    """What all server processes have answered. Processes write their counts after each minute."""

    resolution: Annotated[
        float,
        Meta(
            description="times are counted in buckets: a quantile is the upper bound of its bucket, and is too high by"
            " this share at most"
        ),
    ]
    spans: Annotated[list[SpanFigures], Meta(description="the last hour, day and week")]


def serving_figures(engine: Engine, now: datetime | None = None) -> ServingFigures:
    """Return the figures of the last hour, day and week, from the minutes that the server processes have written.

    The present minute is not in them. A process that was killed has not written its last minute.

    Args:
        engine: on the database.
        now: the present time (UTC); by default on the clock of the database.
    """
    until = counted_until(engine, now)
    begins = {one: one.begin(until) for one in LENGTHS}
    rows = [row for row in read_spans(engine, min(begins.values())) if row.begins_at < until]
    first = first_span(engine)
    hour, day, week = LENGTHS
    minutes = _summed((row for row in rows if row.begins_at >= begins[hour]), hour.point)
    tens = _summed(rows, day.point)
    # Summed from the sums, because most rows are of minutes.
    hours = _summed((_span(begin, *one) for begin, counts in tens.items() for one in counts.items()), week.point)
    sums = {hour: minutes, day: tens, week: hours}
    spans = [_figures(one, sums[one], counted_from(begin, until, first), until) for one, begin in begins.items()]
    return ServingFigures(RESOLUTION, spans)


def counted_until(engine: Engine, now: datetime | None = None) -> datetime:
    """Return the end of the newest minute that all processes have written.

    Args:
        engine: on the database.
        now: the present time (UTC); by default on the clock of the database.
    """
    return span_begin((now or clock_of(engine)) - timedelta(seconds=WRITTEN_SECONDS), 1)


def _span(begins_at: datetime, subject: str, counts: Counts) -> ServedSpan:
    return ServedSpan(begins_at, 0, subject, counts)


def _summed(rows: Iterable[ServedSpan], minutes: int) -> Sums:
    """Return the sums of rows by the begin of their point and by subject."""
    of_point: dict[datetime, dict[str, list[Counts]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        of_point[span_begin(row.begins_at, minutes)][row.subject].append(row.counts)
    return {
        begin: {subject: total(counts) for subject, counts in subjects.items()} for begin, subjects in of_point.items()
    }


def counted_from(begin: datetime, until: datetime, first: datetime | None) -> datetime:
    """Return the begin of a span, or of the first minute that was ever counted if it is later; without one, the end."""
    return until if first is None else min(max(begin, first), until)


def _figures(length: _Length, sums: Sums, since: datetime, until: datetime) -> SpanFigures:
    within = [counts for begin, counts in sums.items() if begin >= span_begin(since, length.point)]
    counts = {subject: total(one[subject] for one in within if subject in one) for subject in SUBJECTS}
    minutes = (until - since) / _MINUTE
    routes = [_route(route, counts[route], minutes) for route in ROUTES]
    answered = sum(route.answered for route in routes)
    log = counts[LOG]
    return SpanFigures(
        span=length.span,
        since=since,
        until=until,
        answered=answered,
        answered_per_minute=_rate(answered, minutes),
        refused=sum(route.refused for route in routes),
        failed=sum(route.failed for route in routes),
        routes=routes,
        log_delay=LogDelay(log.answered, log.quantile_ms(0.5), log.quantile_ms(0.99)),
        point_minutes=length.point,
        points=_points(length, sums, since, until),
    )


def _route(route: str, counts: Counts, minutes: float) -> RouteFigures:
    answered = counts.answered
    return RouteFigures(
        route=route,  # type: ignore[arg-type] # one of ROUTES
        answered=answered,
        answered_per_minute=_rate(answered, minutes),
        refused=counts.refused,
        failed=counts.failed,
        p50_ms=counts.quantile_ms(0.5),
        p99_ms=counts.quantile_ms(0.99),
    )


def _rate(answered: int, minutes: float) -> float | None:
    return answered / minutes if minutes else None


def _points(length: _Length, sums: Sums, since: datetime, until: datetime) -> list[ServingPoint]:
    points: list[ServingPoint] = []
    begin, step = span_begin(since, length.point), timedelta(minutes=length.point)
    while since < until and begin < until:
        minutes = (min(begin + step, until) - max(begin, since)) / _MINUTE
        points.append(_point(begin, sums.get(begin, {}), minutes))
        begin += step
    return points


def _point(begin: datetime, counts: Mapping[str, Counts], minutes: float) -> ServingPoint:
    routes = [counts[route] for route in ROUTES if route in counts]
    predict, log = counts.get(PREDICT, NOTHING), counts.get(LOG, NOTHING)
    return ServingPoint(
        begins_at=begin,
        answered_per_minute=sum(route.answered for route in routes) / minutes,
        refused=sum(route.refused for route in routes),
        failed=sum(route.failed for route in routes),
        predict_p50_ms=predict.quantile_ms(0.5),
        predict_p99_ms=predict.quantile_ms(0.99),
        log_p99_ms=log.quantile_ms(0.99),
    )
