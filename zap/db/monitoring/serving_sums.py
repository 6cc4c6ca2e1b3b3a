"""The sums of the counts of serving, made by the database: cheap enough for a page."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Engine, Table, Text, case, cast, func, select

from zap.db.monitoring.serving_counts import LENGTHS
from zap.db.monitoring_tables import ServingCount
from zap.monitoring.answer_counts import NOTHING, PREDICTING, Counts, total

_COUNTS: Table = ServingCount.__table__  # type: ignore[attr-defined]
_BUCKETS = msgspec.json.Decoder(list[dict[int, int]])
# Stands between the buckets of two rows. It is in no JSON that zap writes.
_BETWEEN = "\n"


class ServingSums(NamedTuple):
    """The sums of all processes.

    Attributes:
        of_spans: for each asked begin, the counts from it until the end, by subject.
        answered: the answers to drivers by minute, from the newest begin; minutes without a row are left out.
        unreadable: how many rows have buckets that cannot be read.
    """

    of_spans: Sequence[dict[str, Counts]]
    answered: dict[datetime, int]
    unreadable: int


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
        func.aggregate_strings(cast(_COUNTS.c.buckets, Text), _BETWEEN),
    )
    newest = select(at, func.sum(_COUNTS.c.answered)).where(*within, at >= begins[0], _COUNTS.c.subject.in_(PREDICTING))
    with engine.connect() as connection:
        rows = connection.execute(sums.where(*within).group_by("part", _COUNTS.c.subject)).all()
        answered = {begin: int(n) for begin, n in connection.execute(newest.group_by(at))}
    parts: list[dict[str, Counts]] = [{} for _ in begins]
    unreadable = 0
    for place, subject, refused, failed, nanoseconds, texts in rows:
        buckets, damaged = _buckets(texts)
        # PostgreSQL adds numbers to decimals.
        parts[place][subject] = Counts(int(refused), int(failed), int(nanoseconds), buckets)
        unreadable += damaged
    return ServingSums(list(_cumulated(parts)), answered, unreadable)


def _buckets(texts: str) -> tuple[dict[int, int], int]:
    """Return the sums of the buckets of some rows, and how many rows have buckets that cannot be read."""
    found: dict[int, int] = {}
    read, damaged = _decoded(texts)
    for one in read:
        for place, n in one.items():
            found[place] = found.get(place, 0) + n
    return found, damaged


def _decoded(texts: str) -> tuple[list[dict[int, int]], int]:
    try:
        return _BUCKETS.decode(f"[{texts.replace(_BETWEEN, ',')}]"), 0
    except (msgspec.MsgspecError, UnicodeError):
        pass
    read, damaged = [], 0
    for text in texts.split(_BETWEEN):
        try:
            read += _BUCKETS.decode(f"[{text}]")
        except (msgspec.MsgspecError, UnicodeError):
            damaged += 1
    return read, damaged


def _cumulated(parts: Iterable[dict[str, Counts]]) -> Iterable[dict[str, Counts]]:
    """Yield the sums of the first part, of the first two parts, and so on."""
    sums: dict[str, Counts] = {}
    for part in parts:
        sums = {subject: total((sums.get(subject, NOTHING), part.get(subject, NOTHING))) for subject in sums | part}
        yield sums
