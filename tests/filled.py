"""A trained database that has been in use: weeks of answers with outcomes, their sums, minutes of serving, an alarm."""

import math
from datetime import timedelta

from answered import MONDAY, Service
from outcomes import LOGGED, applied
from sqlalchemy import select

from zap.db.engine import write_transaction
from zap.db.monitoring.alarms import raise_alarm
from zap.db.monitoring.serving_counts import CountedMinute, write_minutes
from zap.db.monitoring_tables import Outcome
from zap.db.tables import Prediction, utc_now
from zap.monitoring.answer_counts import LOG, OTHER, PREDICT, Counts
from zap.monitoring.outcome_change import OutcomeChange, OutcomeState


def fill(engine, weeks=3, sessions=200, *, alarmed=True):
    """Fill a trained database with the weeks before now. Let no follower run on it: it would judge the answers anew.

    Args:
        engine: on the database.
        weeks: how many weeks of answers.
        sessions: the answers of each week.
        alarmed: whether an alarm stands.
    """
    now = utc_now()
    this_week = (now.replace(tzinfo=None) - MONDAY) // timedelta(weeks=1)
    service = Service(engine)
    for ago in range(weeks, 0, -1):
        service.answer(this_week - ago, sessions)
    _number_on(engine)
    applied(engine, _changes(engine))
    minutes = [
        CountedMinute(
            number,
            now.replace(second=0, microsecond=0) - timedelta(minutes=number),
            {
                PREDICT: Counts(number % 3, 0, 10**8, _times(number, first=12)),
                OTHER: Counts(0, 0, 10**8, {35: 5}),
                LOG: Counts(0, 0, 10**8, _times(number, first=9)),
            },
        )
        for number in range(1, 100)
    ]
    write_minutes(engine, "a", minutes)
    if not alarmed:
        return
    with write_transaction(engine) as connection:
        message = "The commits of the log took 2.1 s in the last minutes (p99), more than 1 s. Look at the disk."
        raise_alarm(connection, "log_slow", "", message, {}, posts=False)


def _number_on(engine):
    """Let PostgreSQL number new rows after the rows that were written with their numbers."""
    if engine.dialect.name == "postgresql":
        with write_transaction(engine) as connection:
            for table, key in (("inference_inputs", "input_id"), ("predictions", "prediction_id")):
                newest = f"(SELECT max({key}) FROM {table})"
                connection.exec_driver_sql(f"SELECT setval(pg_get_serial_sequence('{table}', '{key}'), {newest})")


def _times(minute, first):
    """Return made-up answers of a minute by their bucket, more and fewer over the hour."""
    n = round(30 + 12 * math.sin(minute / 9) + 4 * math.sin(minute))
    return {first: n, first + 1: n // 2, first + 3: n // 4, first + 8: 1}


def _changes(engine):
    """Return the change from no outcome to the stored one, of each answer."""
    log, stored = Prediction.__table__, Outcome.__table__
    found = ("user_id", "asked_at", "kind", "status", "actual_class")
    asked = select(*(log.c[name] for name in LOGGED), *(stored.c[name] for name in found))
    with engine.connect() as connection:
        rows = connection.execute(asked.join(stored, stored.c.prediction_id == log.c.prediction_id)).mappings().all()
    return [
        OutcomeChange(
            **{name: row[name] for name in LOGGED},
            user_id=row["user_id"],
            before=None,
            after=OutcomeState(row["asked_at"], row["kind"], row["status"], row["actual_class"]),
        )
        for row in rows
    ]
