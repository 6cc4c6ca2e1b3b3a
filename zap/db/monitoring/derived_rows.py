"""The rows that follow from the log and the history, and that the follower can make again."""

from sqlalchemy import Connection, delete, func, select
from sqlmodel import col

from zap.db.monitoring.data_quality_days import REQUESTS, remove_days
from zap.db.monitoring.removals import read_removed_before
from zap.db.monitoring_tables import Outcome, QualityDay


def remove_sums(connection: Connection) -> None:
    """Remove all sums, and the counts of answered requests. Servers count refused requests and reports themselves.

    If requests were removed, nobody can count them again. Then only the counts of later days are removed, and the
    caller takes the outcomes that are still there out of the sums.
    """
    removed_before = read_removed_before(connection)
    if removed_before is None:
        connection.execute(delete(QualityDay))
    remove_days(connection, REQUESTS, removed_before)


def remove_outcomes(connection: Connection, after: int, most: int) -> int | None:
    """Remove the outcomes of the next answers after an answer. Return the last of these answers; None if there is none.

    PostgreSQL keeps removed rows for a while. A search that begins after them need not pass over them again.

    Args:
        connection: a transaction that writes.
        after: the answer.
        most: the most outcomes to remove.
    """
    number = col(Outcome.prediction_id)
    some = select(number).where(number > after).order_by(number).limit(most).subquery()
    last: int | None = connection.scalar(select(func.max(some.c.prediction_id)))
    if last is not None:
        connection.execute(delete(Outcome).where(number > after, number <= last))
    return last
