"""Rows of the database that the examples of /docs name, so that the examples are answered."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, func, select
from sqlmodel import col

from zap.db.history.drivers import facts_now
from zap.db.history.history_rows import USERS
from zap.db.monitoring_tables import Alarm, Trial
from zap.db.tables import InferenceInput, Prediction, TrainingRun
from zap.formats.request import USER_ID
from zap.ml.features import MANUAL_USER, SAMPLE_USER_PREFIX, is_sample_user

# How many ids that look like ids of the sample are read.
_MOST_ALIKE = 100


class ExampleRows(NamedTuple):
    """Rows that examples may name.

    Attributes:
        driver: a driver of the sample history; None without a sample history.
        facts: the facts of the database about this driver and the driver's vehicle.
        prediction_id: the first prediction; None if there is none.
        run_id: the first training run; None if there is none.
        alarm_id: the first alarm; None if there is none.
        answer_id: the prediction for the first request, which can be explained; None if there is none.
        trial_id: the first trial; None if there is none.
    """

    driver: str | None = None
    facts: Mapping[str, Any] = {}
    prediction_id: int | None = None
    run_id: int | None = None
    alarm_id: int | None = None
    answer_id: int | None = None
    trial_id: int | None = None


def example_rows(engine: Engine) -> ExampleRows:
    """Return the rows that examples may name.

    Only drivers of the sample history and the smallest numbers are named: anybody may read the examples, and they must
    not say who drives or how much zap is used.
    """
    with engine.connect() as connection:
        driver = _sample_driver(connection)
        facts = facts_now(connection, [{USER_ID: driver}])[0] if driver else {}
        prediction_id = connection.scalar(select(func.min(col(Prediction.prediction_id))))
        run_id = connection.scalar(select(func.min(col(TrainingRun.run_id))))
        alarm_id = connection.scalar(select(func.min(col(Alarm.alarm_id))))
        first = select(func.min(col(InferenceInput.input_id))).scalar_subquery()
        of_first = select(func.min(col(Prediction.prediction_id))).where(col(Prediction.input_id) == first)
        answer_id = connection.scalar(of_first)
        trial_id = connection.scalar(select(func.min(col(Trial.trial_id))))
    return ExampleRows(driver, facts, prediction_id, run_id, alarm_id, answer_id, trial_id)


def _sample_driver(connection: Connection) -> str | None:
    """Return the driver that the manual names, or else any driver of a sample history."""
    user_id = USERS.c.user_id
    named: str | None = connection.scalar(select(user_id).where(user_id == MANUAL_USER))
    if named is not None:
        return named
    # A real driver may have an id that begins like the ids of the sample.
    alike = select(user_id).where(user_id.like(f"{SAMPLE_USER_PREFIX}%-_____")).limit(_MOST_ALIKE)
    return next(filter(is_sample_user, connection.scalars(alike).all()), None)
