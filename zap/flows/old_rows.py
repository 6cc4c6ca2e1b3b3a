"""Old rows: what is removed after a stated time, by the process that follows, in short transactions."""

from datetime import datetime, timedelta

from sqlalchemy import Engine

from zap.db.engine import background_transactions
from zap.db.monitoring.alarm_outbox import remove_messages
from zap.db.monitoring.trial_predictions import ended_trials_with_answers, remove_answers
from zap.flows.trial_answers import Between, Check, nothing

# How long the messages about alarms are kept after their end, and the answers of a trial after its end.
KEPT = timedelta(days=90)
# The most rows of one transaction, and the most transactions of one look: meanwhile the follower does not follow.
PORTION = 1_000
_MOST_PORTIONS = 20


def remove_old_rows(engine: Engine, check: Check, now: datetime, between: Between = nothing) -> bool:
    """Remove messages and answers of trials that ended long ago. Return whether more of them are left for another look.

    What a trial has found stays, because it is stored with the trial.

    Args:
        engine: on the database.
        check: called in each transaction; raises an error if another process follows now.
        now: the present moment (UTC).
        between: called before each transaction; raises an error to end the work.
    """
    before = now - KEPT
    transaction = background_transactions(engine)
    between()
    with transaction() as connection:
        check(connection)
        remove_messages(connection, before)
    portions = 0
    for trial_id in ended_trials_with_answers(engine, before):
        some = PORTION
        while some == PORTION:
            if portions == _MOST_PORTIONS:
                return True
            portions += 1
            between()
            with transaction() as connection:
                check(connection)
                some = remove_answers(connection, trial_id, PORTION)
    return False
