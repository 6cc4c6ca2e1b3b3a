"""The figures of serving at a glance: sums of the last hour, day and week, and the answers of each minute."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Engine

from zap.db.monitoring.serving_counts import first_span
from zap.db.monitoring.serving_sums import read_sums
from zap.flows.serving_figures import LENGTHS, Span, counted_from, counted_until
from zap.monitoring.answer_counts import LOG, NOTHING, PREDICT, PREDICTING, ROUTES, Counts

_MINUTE = timedelta(minutes=1)


class SpanGlance(NamedTuple):
    """The sums of the last hour, day or week.

    Attributes:
        span: which one.
        answered: replies below 400 to POST /predict and POST /predict/batch; an open page asks only other routes.
        answered_per_minute: their mean; None if no minute is counted.
        p50_ms: the time of half of the answers of POST /predict, in milliseconds; None without answers.
        p99_ms: the time of 99 of 100 of them.
        refused: replies 4xx of all routes.
        failed: replies 5xx of all routes.
        log_p99_ms: how long 99 of 100 requests waited for the commit of their predictions.
    """

    span: Span
    answered: int
    answered_per_minute: float | None
    p50_ms: float | None
    p99_ms: float | None
    refused: int
    failed: int
    log_p99_ms: float | None


class ServingGlance(NamedTuple):
    """The sums of each span, and the answers of each minute of the last hour, oldest first.

    Minutes before the first one that was ever counted are None. `unreadable` is how many rows cannot be read.
    """

    spans: Sequence[SpanGlance]
    minutes: Sequence[int | None]
    unreadable: int

    @property
    def busiest(self) -> int:
        """Return the most answers of a minute."""
        return max((one for one in self.minutes if one is not None), default=0)


def serving_glance(engine: Engine, now: datetime | None = None) -> ServingGlance:
    """Return sums of what `serving_figures` has for each span, without its points, in a fifth of its time.

    Args:
        engine: on the database.
        now: the present time (UTC); by default on the clock of the database.
    """
    until = counted_until(engine, now)
    begins = [one.begin(until) for one in LENGTHS]
    sums, first = read_sums(engine, begins, until), first_span(engine)
    since = [counted_from(begin, until, first) for begin in begins]
    minutes = [begins[0] + place * _MINUTE for place in range((until - begins[0]) // _MINUTE)]
    return ServingGlance(
        [
            _glance(length.span, counts, (until - begin) / _MINUTE)
            for length, counts, begin in zip(LENGTHS, sums.of_spans, since, strict=True)
        ],
        [sums.answered.get(one, 0) if one >= since[0] else None for one in minutes],
        sums.unreadable,
    )


def _glance(span: Span, counts: Mapping[str, Counts], minutes: float) -> SpanGlance:
    routes = [counts.get(route, NOTHING) for route in ROUTES]
    answered = sum(counts[route].answered for route in PREDICTING if route in counts)
    predict, log = counts.get(PREDICT, NOTHING), counts.get(LOG, NOTHING)
    return SpanGlance(
        span=span,
        answered=answered,
        answered_per_minute=answered / minutes if minutes else None,
        p50_ms=predict.quantile_ms(0.5),
        p99_ms=predict.quantile_ms(0.99),
        refused=sum(one.refused for one in routes),
        failed=sum(one.failed for one in routes),
        log_p99_ms=log.quantile_ms(0.99),
    )
