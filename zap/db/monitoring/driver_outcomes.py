"""What happened after the newest answers to one driver, as counts."""

from typing import NamedTuple

from sqlalchemy import Engine, Table, case, func, select

from zap.db.monitoring_tables import Outcome
from zap.db.tables import Prediction

_OUTCOMES: Table = Outcome.__table__  # type: ignore[attr-defined]
_PREDICTIONS: Table = Prediction.__table__  # type: ignore[attr-defined]
# Answers beyond this number are not counted: a driver may be the id of all guests.
MOST_COUNTED = 2_000


class DriverOutcomes(NamedTuple):
    """How many of the newest answers to a driver had which outcome.

    Attributes:
        answers: the answers, at most MOST_COUNTED.
        right: the session that followed had the predicted type.
        wrong: it had another type.
    """

    answers: int
    right: int
    wrong: int


def outcomes_of_driver(engine: Engine, user_id: str) -> DriverOutcomes:
    """Return the counts of the newest followed answers to a driver.

    Args:
        engine: on the database.
        user_id: the driver as the outcomes have the id.
    """
    newest = (
        select(_OUTCOMES.c.prediction_id, _OUTCOMES.c.status, _OUTCOMES.c.actual_class)
        .where(_OUTCOMES.c.user_id == user_id)
        .order_by(_OUTCOMES.c.asked_at.desc(), _OUTCOMES.c.prediction_id.desc())
        .limit(MOST_COUNTED)
        .subquery()
    )
    matched = newest.c.status == "matched"
    is_right = newest.c.actual_class == _PREDICTIONS.c.predicted_class
    counts = [func.coalesce(func.sum(case((matched & one, 1), else_=0)), 0) for one in (is_right, ~is_right)]
    asked = select(func.count(), *counts).select_from(
        newest.join(_PREDICTIONS, _PREDICTIONS.c.prediction_id == newest.c.prediction_id)
    )
    with engine.connect() as connection:
        return DriverOutcomes(*map(int, connection.execute(asked).one()))
