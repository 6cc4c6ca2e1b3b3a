"""The rows that follow from the log and the history, and that the follower can make again."""

from sqlalchemy import Connection, delete, select
from sqlmodel import SQLModel

_OUTCOMES = SQLModel.metadata.tables["outcomes"]
_QUALITY = SQLModel.metadata.tables["quality_days"]
_COUNTS = SQLModel.metadata.tables["data_quality_days"]


def remove_sums(connection: Connection) -> None:
    """Remove all sums and counts, except the counts of refused requests, which only the servers have seen."""
    connection.execute(delete(_QUALITY))
    connection.execute(delete(_COUNTS).where(_COUNTS.c.subject != "refused"))


def remove_outcomes(connection: Connection, most: int) -> int:
    """Remove at most `most` outcomes, and return how many were removed."""
    some = select(_OUTCOMES.c.prediction_id).limit(most)
    return connection.execute(delete(_OUTCOMES).where(_OUTCOMES.c.prediction_id.in_(some))).rowcount
