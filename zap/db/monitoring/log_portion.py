"""A portion of the log: the next answers to requests, in the order of their numbers."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from zap.db.engine import database_now
from zap.db.history.drivers import named_drivers
from zap.db.monitoring.follower_marks import Marks
from zap.db.monitoring.given_rows import NUMBER, among, fetched, given, is_sqlite, joined
from zap.db.monitoring.missing_ids import MissingIds, gaps, without, young
from zap.formats.logged_request import read_logged
from zap.formats.values import in_years

# The most answers of a portion. On SQLite, requests wait for the transaction that follows them, so it has to be short
# while requests are logged.
MOST_ANSWERS = {"sqlite": 1_000, "postgresql": 3_000}
# The most answers of a portion while no requests are logged. Large portions take a seventh less time for each answer.
MOST_IN_QUIET = 3_000
# The most rows of a portion if the portion before had only predictions of trainings.
MOST_ROWS = 20_000

WallTime = Callable[[datetime], datetime]

_COLUMNS = (
    "p.prediction_id, p.model_version, p.predicted_class, {probabilities}, p.features, p.prediction_timestamp,"
    " i.request_timestamp, i.input_data_json"
)


class LoggedAnswer(NamedTuple):
    """An answer to a request, as it was logged.

    Attributes:
        prediction_id, model_version, predicted_class, features: columns of the prediction.
        probabilities: the JSON of the probabilities; None for an answer that is older than zap.
        requested_at: when the request was received, as the drivers' wall time.
        text: the request, as the client sent it.
        user_id: the id of the driver; None if the request names none.
        asked_at: the moment that was asked about, as the drivers' wall time.
        day: the day (UTC) on which the request was received.
    """

    prediction_id: int
    model_version: int | None
    predicted_class: str
    probabilities: str | None
    features: bytes | None
    requested_at: datetime
    text: str
    user_id: str | None
    asked_at: datetime
    day: date


class Portion(NamedTuple):
    """Some rows of the log.

    Attributes:
        answers: the answers to requests among them.
        marks: the marks when these answers are followed.
        rows: how many rows were read, including the rows of trainings.
    """

    answers: list[LoggedAnswer]
    marks: Marks
    rows: int


def newest_id(connection: Connection) -> int:
    """Return the number of the newest row of the log; 0 if there is none."""
    ((newest,),) = fetched(connection, "SELECT coalesce(max(prediction_id), 0) FROM predictions")
    return int(newest)


def next_portion(connection: Connection, marks: Marks, wall_time: WallTime, most_rows: int, most: int) -> Portion:
    """Return the next answers after the marks, and the marks after them.

    Args:
        connection: on a database at head.
        marks: how far the log was followed.
        wall_time: converts a moment to the drivers' wall time.
        most_rows: the most rows of the log to read.
        most: the most answers to requests among them.
    """
    first, now = marks.prediction_id, database_now(connection)
    mark = "?" if is_sqlite(connection) else "%s"
    asked = (
        f"SELECT prediction_id, source FROM predictions WHERE prediction_id > {mark}"  # noqa: S608
        f" ORDER BY prediction_id LIMIT {mark}"
    )
    found = fetched(connection, asked, (first, most_rows))
    answers = [number for number, source in found if source == "inference"][:most]
    cut = len(answers) == most
    ids = [number for number, _ in found if not cut or number <= answers[-1]]
    late = _late_ids(connection, marks.missing, most)
    missing = without(marks.missing, [number for number, _ in late])
    if not is_sqlite(connection):
        # SQLite gives ids in the order of the commits.
        missing = young((*missing, *gaps(first, ids, now)), now, aged=len(late) < most)
    wanted = [number for number, source in late if source == "inference"] + answers
    return Portion(
        _answers(connection, wanted, wall_time),
        marks._replace(prediction_id=ids[-1] if ids else first, missing=missing),
        len(ids) + len(late),
    )


def _late_ids(connection: Connection, missing: Sequence[MissingIds], most: int) -> list[tuple[int, str]]:
    """Return at most `most` of the missing ids that are there now, each with its source, in order."""
    if not missing:
        return []
    ranges, parameters = given(connection, {"lo": NUMBER, "hi": NUMBER}, [one[:2] for one in missing])
    inside = joined(connection, "predictions", "p", "p.prediction_id BETWEEN given.lo AND given.hi")
    asked = f"SELECT p.prediction_id, p.source FROM {ranges} {inside} ORDER BY 1 LIMIT {most}"  # noqa: S608
    return [(number, source) for number, source in fetched(connection, asked, parameters)]


def _answers(connection: Connection, ids: Sequence[int], wall_time: WallTime) -> list[LoggedAnswer]:
    """Return the answers with these numbers. An answer without a readable time is left out."""
    if not ids:
        return []
    columns = _COLUMNS.format(probabilities="p.probabilities" if is_sqlite(connection) else "p.probabilities::text")
    which, parameters = among(connection, "p.prediction_id", ids)
    asked = (
        f"SELECT {columns} FROM predictions AS p LEFT JOIN inference_inputs AS i ON i.input_id = p.input_id"  # noqa: S608
        f" WHERE {which} ORDER BY p.prediction_id"
    )
    answers = list(_read(fetched(connection, asked, parameters), wall_time))
    names = named_drivers(connection, {one.user_id for one in answers if one.user_id is not None})
    return [one if one.user_id not in names else one._replace(user_id=names[one.user_id]) for one in answers]


def _read(rows: Any, wall_time: WallTime) -> Iterator[LoggedAnswer]:
    for number, version, answer, probabilities, features, answered, requested, text in rows:
        known = _received(requested, wall_time) or _received(answered, wall_time)
        if known is not None:
            received, day = known
            user_id, asked_at = read_logged(text or "", received, wall_time)
            yield LoggedAnswer(
                number, version, answer, probabilities, features, received, text or "", user_id, asked_at, day
            )


def _received(stamp: str | datetime | None, wall_time: WallTime) -> tuple[datetime, date] | None:
    """Return a stored stamp as the drivers' wall time, and its day (UTC); None if it is no time.

    An old stamp without offset stays as it is.
    """
    try:
        moment = datetime.fromisoformat(stamp) if isinstance(stamp, str) else stamp
        if moment is None or not in_years(moment):
            return None
        in_utc = moment.tzinfo is None or moment.tzinfo is UTC
        return wall_time(moment), (moment if in_utc else moment.astimezone(UTC)).date()
    except (ValueError, OverflowError):
        return None
