"""The rows that follow from the log and the history, and that the follower can make again."""

from sqlalchemy import Connection, delete, select
from sqlmodel import col

from zap.db.monitoring.data_quality_days import REQUESTS, remove_days
from zap.db.monitoring_tables import Outcome, QualityDay


def remove_sums(connection: Connection) -> None:
    """Remove all sums, and the counts of answered requests. Servers count refused requests and reports themselves."""
    connection.execute(delete(QualityDay))
    remove_days(connection, REQUESTS)


def remove_outcomes(connection: Connection, most: int) -> int:
    """Remove at most `most` outcomes, and return how many were removed."""
    some = select(col(Outcome.prediction_id)).limit(most)
    return connection.execute(delete(Outcome).where(col(Outcome.prediction_id).in_(some))).rowcount
