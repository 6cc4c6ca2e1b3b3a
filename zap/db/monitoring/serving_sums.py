"""The sums of the counts of serving, made by the database: cheap enough for a page."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Engine, Table, Text, case, cast, func, select

from zap.db.monitoring.serving_counts import LENGTHS
from zap.db.monitoring_tables import ServingCount
from zap.monitoring.answer_counts import NOTHING, PREDICTING, Counts, total

_COUNTS: Table = ServingCount.__table__  # type: ignore[attr-defined]
_BUCKETS = msgspec.json.Decoder(list[dict[int, int]])


class ServingSums(NamedTuple):
    """The sums of all processes.

    Attributes:
        of_spans: for each asked begin, the counts from it until the end, by subject.
        answered: the answers to drivers by minute, from the newest begin; minutes without a row are left out.
    """

    of_spans: Sequence[dict[str, Counts]]
    answered: dict[datetime, int]


def read_sums(engine: Engine, begins: Sequence[datetime], until: datetime) -> ServingSums:
    """Return the sums of the counts from some begins until one end.

    The database adds the numbers, and joins the buckets of all rows to one text, which is decoded at once: the rows of
    a week one by one take five times as long.

    Args:
        engine: on the database.
        begins: the begins (UTC), newest first. Rows that are old enough to be merged must not cross them.
        until: the end (UTC).
    """
    at = _COUNTS.c.begins_at
    # The number of the first begin that a row is not older than.
    part: ColumnElement[int] = case(*((at >= begin, place) for place, begin in enumerate(begins)), else_=len(begins))
    within = _COUNTS.c.minutes.in_(LENGTHS), at >= min(begins), at < until
    sums = select(
        part.label("part"),
        _COUNTS.c.subject,
        func.sum(_COUNTS.c.refused),
        func.sum(_COUNTS.c.failed),
        func.sum(_COUNTS.c.nanoseconds),
        func.aggregate_strings(cast(_COUNTS.c.buckets, Text), ","),
    )
    newest = select(at, func.sum(_COUNTS.c.answered)).where(*within, at >= begins[0], _COUNTS.c.subject.in_(PREDICTING))
    with engine.connect() as connection:
        rows = connection.execute(sums.where(*within).group_by("part", _COUNTS.c.subject)).all()
        answered = {begin: int(n) for begin, n in connection.execute(newest.group_by(at))}
    parts: list[dict[str, Counts]] = [{} for _ in begins]
    for place, subject, *numbers in rows:
        parts[place][subject] = _counts(*numbers)
    return ServingSums(list(_cumulated(parts)), answered)


def _counts(refused: Any, failed: Any, nanoseconds: Any, buckets: str) -> Counts:
    found: dict[int, int] = {}
    for one in _BUCKETS.decode(f"[{buckets}]"):
        for place, n in one.items():
            found[place] = found.get(place, 0) + n
    # PostgreSQL adds numbers to decimals.
    return Counts(int(refused), int(failed), int(nanoseconds), found)


def _cumulated(parts: Iterable[dict[str, Counts]]) -> Iterable[dict[str, Counts]]:
    """Yield the sums of the first part, of the first two parts, and so on."""
    sums: dict[str, Counts] = {}
    for part in parts:
        sums = {subject: total((sums.get(subject, NOTHING), part.get(subject, NOTHING))) for subject in sums | part}
        yield sums
