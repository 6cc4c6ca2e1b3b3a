"""The removal of old rows: the answers of trials and the messages about alarms, 90 days after their end."""

from datetime import timedelta

import pytest
from sqlalchemy import select, text
from trialled import HORIZON, add_copies, answered, no_check

from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.alarm_outbox import claim_message, note_delivered, note_failed
from zap.db.monitoring.alarms import raise_alarm
from zap.db.monitoring.trials import read_trial
from zap.db.monitoring_tables import AlarmDelivery
from zap.db.tables import utc_now
from zap.flows import old_rows
from zap.flows.looking_back import LookingBack
from zap.flows.old_rows import KEPT, remove_old_rows
from zap.flows.trials import Trials, stop_trial, try_version
from zap.formats.promotion_reason import Reason
from zap.formats.trial_options import TrialOptions

DAY = timedelta(days=1)


@pytest.fixture
def engine(trained):
    engine = create_engine(trained.database_url)
    yield engine
    engine.dispose()


def ended_trial(engine, settings, version, age):
    """Return a trial that had a look, and ended some time ago."""
    trial = try_version(engine, version, TrialOptions())
    answered(engine, trial["trial_id"], settings.wall_time(trial["started_at"]), (0.4, 0.6), drivers=25, mixed=True)
    looking = Trials(engine, settings, HORIZON)
    looking.look(no_check, trial["started_at"] + timedelta(weeks=1) + HORIZON)
    looking.close()
    stop_trial(engine, version, Reason())
    with write_transaction(engine) as connection:
        values = {"at": utc_now() - age, "trial": trial["trial_id"]}
        connection.execute(text("UPDATE trials SET ended_at = :at WHERE trial_id = :trial"), values)
    return trial["trial_id"]


def answers(engine):
    """Return how many answers each trial has."""
    counted = text("SELECT trial_id, count(*) FROM trial_predictions GROUP BY trial_id ORDER BY trial_id")
    with engine.connect() as connection:
        return {row.trial_id: row[1] for row in connection.execute(counted)}


def test_answers_of_trials_are_removed_after_their_time_and_the_figures_stay(trained, engine, monkeypatch):
    monkeypatch.setattr(old_rows, "PORTION", 10)
    first, second = add_copies(engine, 2)
    old = ended_trial(engine, trained, first, KEPT + DAY)
    recent = ended_trial(engine, trained, second, KEPT - DAY)
    runs = try_version(engine, first, TrialOptions())["trial_id"]
    answered(engine, runs, trained.wall_time(utc_now()), (0.4, 0.6), drivers=3)
    before = read_trial(engine, old)
    assert before["evidence"]["drivers"] == 25
    checks, turns = [], []

    assert not remove_old_rows(engine, checks.append, utc_now(), lambda: turns.append(None))

    assert answers(engine) == {recent: 25, runs: 3}
    assert read_trial(engine, old) == before
    # Messages, and 10, 10 and 5 answers: each transaction is short, and keeps the lease.
    assert len(checks) == len(turns) == 4


def test_the_follower_removes_them_in_several_looks(trained, engine, monkeypatch):
    monkeypatch.setattr(old_rows, "PORTION", 2)
    monkeypatch.setattr(old_rows, "_MOST_PORTIONS", 10)
    old = ended_trial(engine, trained, *add_copies(engine), KEPT + DAY)
    assert answers(engine) == {old: 25}
    looking = LookingBack(engine, trained)

    assert looking.look()
    # A look ends after some portions, so that the follower does not fall behind.
    assert answers(engine) == {old: 5}
    assert looking.look()
    looking.close()

    assert answers(engine) == {}


def test_messages_are_removed_after_their_end_also_if_no_other_is_delivered(engine):
    now = utc_now()
    for number, ended in enumerate(["given up", "delivered", "given up lately", "open"]):
        with write_transaction(engine) as connection:
            raise_alarm(connection, "harm", f"version {number}", "…", {}, posts=True)
        age = KEPT - DAY if ended == "given up lately" else KEPT + DAY

        def clock(_connection, age=age):
            return now - age

        with write_transaction(engine) as connection:
            moved = {"at": now - age, "subject": f"%version {number}%"}
            change = "UPDATE alarm_deliveries SET next_attempt_at = :at, created_at = :at WHERE body LIKE :subject"
            connection.execute(text(change), moved)
        if ended == "open":
            continue
        message = claim_message(engine, clock)
        if ended == "delivered":
            note_delivered(engine, message, clock)
        else:
            note_failed(engine, message, "the receiver answered 410", final=True, clock=clock)

    remove_old_rows(engine, no_check, now)

    with engine.connect() as connection:
        left = connection.scalars(select(AlarmDelivery.__table__.c["body"])).all()
    assert [f"version {number}" in body for number, body in zip((2, 3), left, strict=True)] == [True, True]
