"""The rows of `outcomes`: add, find and change them with few statements."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from zap.db.engine import copy_rows
from zap.db.monitoring.given_rows import NUMBER, TEXT, among, fetched, given, is_sqlite
from zap.monitoring.matching import Answer, Match

_OF_MATCH = {
    "status": TEXT,
    "session_id": NUMBER,
    "actual_class": TEXT,
    "lag_seconds": NUMBER,
    "matched_by": TEXT,
    "superseded_by": NUMBER,
}
_COLUMNS = ("prediction_id", "model_version", "user_id", "asked_at", "kind", *_OF_MATCH)
_MATCH_AT = _COLUMNS.index("status")


class Outcome(NamedTuple):
    """A row of `outcomes`."""

    answer: Answer
    model_version: int | None
    match: Match


def insert_outcomes(connection: Connection, rows: Iterable[Outcome]) -> None:
    """Add outcomes of answers that have none.

    Raises:
        SQLAlchemyError: the database does not take them.
    """
    sqlite = is_sqlite(connection)
    values = [
        (one.prediction_id, version, one.user_id, str(one.asked_at) if sqlite else one.asked_at, one.kind, *match)
        for one, version, match in rows
    ]
    if not values:
        return
    if sqlite:
        names, marks = ", ".join(_COLUMNS), ", ".join("?" * len(_COLUMNS))
        connection.exec_driver_sql(f"INSERT INTO outcomes ({names}) VALUES ({marks})", values)  # noqa: S608
        return
    # Imported here, because psycopg is not needed with SQLite.
    import psycopg  # noqa: PLC0415

    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor:
            copy_rows(cursor, "outcomes", _COLUMNS, values)
    except psycopg.Error as error:
        raise OperationalError("COPY outcomes", None, error) from error


def update_matches(connection: Connection, rows: Sequence[Outcome]) -> None:
    """Write the matches of stored outcomes."""
    if not rows:
        return
    values: list[tuple[Any, ...]]
    if is_sqlite(connection):
        values = [(*row.match, row.answer.prediction_id) for row in rows]
        names = ", ".join(f"{name} = ?" for name in _OF_MATCH)
        connection.exec_driver_sql(f"UPDATE outcomes SET {names} WHERE prediction_id = ?", values)  # noqa: S608
        return
    values = [(row.answer.prediction_id, *row.match) for row in rows]
    new, parameters = given(connection, {"prediction_id": NUMBER, **_OF_MATCH}, values)
    names = ", ".join(f"{name} = given.{name}" for name in _OF_MATCH)
    changing = f"UPDATE outcomes SET {names} FROM {new} WHERE outcomes.prediction_id = given.prediction_id"  # noqa: S608
    connection.exec_driver_sql(changing, parameters)


def read_outcome(engine: Engine, prediction_id: int) -> Outcome | None:
    """Return the outcome of an answer; None if it is not followed."""
    with engine.connect() as connection:
        found = outcomes_of(connection, [prediction_id])
    return found[0] if found else None


def outcomes_of(connection: Connection, ids: Sequence[int]) -> list[Outcome]:
    """Return the outcomes of these answers, in order. Answers that are not followed have none."""
    if not ids:
        return []
    which, parameters = among(connection, "prediction_id", ids)
    asked = f"{_SELECT} WHERE {which} ORDER BY prediction_id"
    return [_outcome(row) for row in fetched(connection, asked, parameters)]


def outcomes_after(connection: Connection, prediction_id: int, most: int) -> list[Outcome]:
    """Return the outcomes of the next answers after an answer, in order."""
    mark = "?" if is_sqlite(connection) else "%s"
    asked = f"{_SELECT} WHERE prediction_id > {mark} ORDER BY prediction_id LIMIT {mark}"
    return [_outcome(row) for row in fetched(connection, asked, (prediction_id, most))]


_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM outcomes"  # noqa: S608


def _outcome(row: Sequence[Any]) -> Outcome:
    number, version, user_id, asked_at, kind = row[:_MATCH_AT]
    moment = datetime.fromisoformat(asked_at) if isinstance(asked_at, str) else asked_at
    return Outcome(Answer(number, user_id, moment, kind), version, Match(*row[_MATCH_AT:]))
