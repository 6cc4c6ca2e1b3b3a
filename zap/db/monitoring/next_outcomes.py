"""The outcomes in the order of the log, for what reads all of them in portions."""

from typing import NamedTuple

from sqlalchemy import Connection, Subquery, func, select
from sqlmodel import col

from zap.db.monitoring_tables import Outcome


class NextOutcomes(NamedTuple):
    """Some outcomes, next to each other in the log.

    Attributes:
        rows: their columns `prediction_id`, `model_version`, `user_id` and `kind`, to be joined with other tables.
        last: the number of the last one; None if there is none.
        are_all: whether there are no more.
    """

    rows: Subquery
    last: int | None
    are_all: bool


def next_outcomes(connection: Connection, after: int, until: int, most: int) -> NextOutcomes:
    """Return the next outcomes.

    They are of all versions. A condition on the version beside the limit would let a database without new statistics
    read the index of versions: for each portion, it reads and sorts all outcomes of a version.

    Args:
        connection: on the database.
        after: the number of the answer before them.
        until: the last number.
        most: the most outcomes.
    """
    number = col(Outcome.prediction_id)
    columns = number, col(Outcome.model_version), col(Outcome.user_id), col(Outcome.kind)
    rows = select(*columns).where(number > after, number <= until).order_by(number).limit(most).subquery()
    last, count = connection.execute(select(func.max(rows.c.prediction_id), func.count()).select_from(rows)).one()
    return NextOutcomes(rows, last, count < most)


def first_of(connection: Connection, version: int) -> int | None:
    """Return the number of the first answer of a version that has an outcome; None if there is none."""
    first = select(func.min(col(Outcome.prediction_id))).where(col(Outcome.model_version) == version)
    found: int | None = connection.scalar(first)
    return found
