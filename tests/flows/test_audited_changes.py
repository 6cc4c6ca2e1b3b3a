"""Every change has its row in the audit, and happens only with it, on both engines."""

import json

import pytest
from alembic import command
from databases import HEAD, config_for
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from trialled import add_copies

from zap.actor import ACTOR, Actor
from zap.db.audit_chain import verify
from zap.db.audit_tables import AuditRow
from zap.db.engine import create_engine, write_transaction
from zap.db.history.history_rows import SESSIONS
from zap.db.history.sample_rows import remove_sample
from zap.db.history.session_removal import remove_sessions
from zap.db.log.prediction_list import Wanted
from zap.db.monitoring.alarms import acknowledge_alarm, raise_alarm
from zap.db.runs.training_runs import cancel_run, claim_run, fail_run, running_run
from zap.db.schema import upgrade
from zap.db.tables import TrainingRun
from zap.db.versions.promotions import promote_version, roll_back, serving_version
from zap.errors import DatabaseUnavailable, TrainingFailed
from zap.flows.database_backup import back_up
from zap.flows.database_copy import CopyOptions, copy_database
from zap.flows.database_restore import RestoreOptions, restore
from zap.flows.history_import import import_history
from zap.flows.prediction_export import export_predictions
from zap.flows.trials import stop_trial, try_version
from zap.formats.promotion_reason import Reason
from zap.formats.trial_options import LONGEST_WEEKS, TrialOptions

ANN = Actor("ann", "203.0.113.9")
AUDIT = AuditRow.__table__
TWO_SESSIONS = "user_id,charger_type,charging_start_time\nu1,Level 1,2026-01-01 10:00\nu2,Level 2,2026-01-02 11:00\n"


@pytest.fixture
def engine(trained):
    engine = create_engine(trained.database_url)
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def _by_ann():
    present = ACTOR.set(ANN)
    yield
    ACTOR.reset(present)


def rows(engine, since=0):
    """The rows of the audit after a number: each as who, origin, action, subject, before, after."""
    with engine.connect() as connection:
        found = connection.execute(select(AUDIT).where(AUDIT.c.audit_id > since).order_by(AUDIT.c.audit_id)).mappings()
        return [
            (
                *(row[name] for name in ("who", "origin", "action", "subject")),
                *(json.loads(row[name]) if row[name] else None for name in ("before", "after")),
            )
            for row in found
        ]


def alarm_in(engine):
    with write_transaction(engine) as connection:
        return raise_alarm(connection, "harm", "version 1", "…", {}, posts=False).alarm_id


def test_every_change_leaves_its_row(trained, engine, tmp_path):
    began = len(rows(engine))
    (second,) = add_copies(engine)
    promote_version(engine, second, Reason(who="Ann", why="more trees"))
    roll_back(engine, Reason())
    trial = try_version(engine, second, TrialOptions(epsilon=0.02, who="Ann"))["trial_id"]
    stop_trial(engine, second, Reason(why="holiday"))
    run = claim_run(engine, "train", {"force": True})
    cancel_run(engine, run)
    failing = claim_run(engine, "tune", {})
    fail_run(engine, failing, TrainingFailed("no memory"))
    alarm = alarm_in(engine)
    acknowledge_alarm(engine, alarm, "Ann")
    acknowledge_alarm(engine, alarm, "Bob")
    file = tmp_path / "two.csv"
    file.write_text(TWO_SESSIONS)
    import_history(engine, file, wall_time=trained.wall_time)
    remove_sessions(engine, [-1])
    removed = remove_sample(engine)
    export_predictions(engine, Wanted(user_id="sample-1", model_version=1), tmp_path / "answers.csv")

    cancelled = "the training was cancelled; the version in production is unchanged"
    message = "The trial was ended: holiday."
    expected = [
        ("version.promote", f"version {second}", {"production": 1},
         {"production": 2, "who": "Ann", "why": "more trees"}),
        ("version.rollback", "version 1", {"production": 2}, {"production": 1, "who": None, "why": None}),
        ("trial.begin", f"trial {trial}", None,
         {"model_version": 2, "champion_version": 1, "epsilon": 0.02, "weeks": LONGEST_WEEKS, "on_better": "tell",
          "who": "Ann", "why": None}),
        ("trial.end", f"trial {trial}", {"status": "running"}, {"status": "ended", "message": message}),
        ("training.start", f"run {run}", None, {"kind": "train", "options": {"force": True}}),
        ("training.cancel", f"run {run}", {"status": "running"}, {"status": "cancelled", "reason": cancelled}),
        ("training.start", f"run {failing}", None, {"kind": "tune", "options": {}}),
        ("training.fail", f"run {failing}", {"status": "running"}, {"status": "failed", "reason": "no memory"}),
        ("alarm.acknowledge", f"alarm {alarm}", {"acknowledged_by": None}, {"acknowledged_by": "Ann"}),
        ("alarm.acknowledge", f"alarm {alarm}", {"acknowledged_by": "Ann"}, {"acknowledged_by": "Bob"}),
        ("history.import", "file two.csv", None, {
            "users": {"added": 2, "updated": 0, "unchanged": 0, "repeated": 0},
            "vehicles": {"added": 0, "updated": 0, "unchanged": 0, "repeated": 0},
            "sessions": {"added": 2, "updated": 0, "unchanged": 0, "repeated": 0}}),
        ("history.remove", "session -1", {"sessions": 1, "ids": ["-1"]}, None),
        ("history.remove", "sample history", {"drivers": removed.users}, None),
        # No name of a driver: nothing can be erased from the audit.
        ("predictions.export", "file answers.csv", None, {"user_id": "one driver", "model_version": 1}),
    ]  # fmt: skip
    assert [row[2:4] for row in rows(engine, began)] == [row[:2] for row in expected]
    for found, wanted in zip(rows(engine, began), expected, strict=True):
        if wanted[0] == "trial.end":
            assert found[5]["message"].startswith(message)
            found = (*found[:5], {**found[5], "message": message})  # noqa: PLW2901
        assert found == (*ANN, *wanted)
    assert verify(engine).why is None


def test_a_training_has_the_rows_of_its_start_its_promotion_and_its_end(engine):
    """The fixture has trained with the code of every training."""
    found = [row[2:] for row in rows(engine)]

    assert [row[:2] for row in found] == [
        ("history.import", "rows"),
        ("training.start", "run 1"),
        ("version.promote", "version 1"),
        ("training.finish", "run 1"),
    ]
    assert found[2][2] == {"production": None}
    assert found[2][3]["why"].startswith("training run 1: ")
    assert found[3][2] == {"status": "running"}
    assert (found[3][3]["status"], found[3][3]["model_version"]) == ("finished", 1)


REFUSE = {
    "sqlite": ["CREATE TRIGGER full_up BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full up'); END"],
    "postgresql": [
        "CREATE FUNCTION full_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'full up'; END $$",
        "CREATE TRIGGER full_up BEFORE INSERT ON audit EXECUTE FUNCTION full_up()",
    ],
}


def test_nothing_happens_that_the_audit_cannot_write_down(trained, engine, tmp_path):
    url = trained.database_url
    (second,) = add_copies(engine)
    alarm = alarm_in(engine)
    file = tmp_path / "two.csv"
    file.write_text(TWO_SESSIONS)
    with engine.connect() as connection:
        session = connection.scalar(select(SESSIONS.c.session_id).limit(1))
    with engine.begin() as connection:
        for statement in REFUSE[engine.dialect.name]:
            connection.execute(text(statement))
    before = state_of(engine)

    for change in (
        lambda: promote_version(engine, second, Reason()),
        lambda: try_version(engine, second, TrialOptions()),
        lambda: claim_run(engine, "train", {}),
        lambda: acknowledge_alarm(engine, alarm, "Ann"),
        lambda: import_history(engine, file, wall_time=trained.wall_time),
        lambda: remove_sessions(engine, [session]),
        lambda: remove_sample(engine),
        lambda: export_predictions(engine, Wanted(), tmp_path / "answers.csv"),
        lambda: back_up(url, tmp_path / "backup.sqlite"),
        lambda: copy_database(url, f"sqlite:///{tmp_path / 'copy.sqlite'}", CopyOptions(force=True)),
    ):
        with pytest.raises((DBAPIError, DatabaseUnavailable), match="full up"):
            change()

    assert state_of(engine) == before
    assert running_run(engine) is None
    assert {path.name for path in tmp_path.iterdir()} <= {"zap.sqlite", "zap.sqlite-shm", "zap.sqlite-wal", "two.csv",
                                                          "models", "copy.sqlite.filling.lock"}  # fmt: skip


def state_of(engine):
    with engine.connect() as connection:
        counts = [
            connection.scalar(text(f"SELECT count(*) FROM {table}"))
            for table in ('"ChargingSessions"', '"Users"', "trials", "training_runs", "promotions", "audit")
        ]
        seen = connection.scalar(text("SELECT acknowledged_by FROM alarms"))
        return counts, seen, serving_version(connection)


def test_backup_restore_and_copy_keep_the_chain_and_say_what_was_done(trained, engine, tmp_path):
    file, url = tmp_path / "backup.sqlite", trained.database_url
    began = len(rows(engine))
    back_up(url, file)
    acknowledge_alarm(engine, alarm_in(engine), "Ann")
    replaced = verify(engine).head
    engine.dispose()
    made = restore(file, url, RestoreOptions(replace=True))

    # What happened after the backup is gone, and the row says which head was replaced.
    (row,) = rows(engine, began)
    head = {"audit_rows": replaced.rows, "audit_hash": replaced.hash}
    assert row == (*ANN, "database.restore", "database", head, {"file": file.name, "made_at": made.made_at})
    assert verify(engine).why is None
    assert verify(engine, replaced.hash).known_at is None

    engine.dispose()
    target = f"sqlite:///{tmp_path / 'copy.sqlite'}"
    copy_database(url, target, CopyOptions(finish=True))
    other = create_engine(target)
    assert rows(other) == rows(engine)
    assert rows(other)[-1][2:4] == ("database.copy", "database")
    assert rows(other)[-1][5]["finish"] is True
    assert verify(other).head == verify(engine).head
    other.dispose()


def test_an_upgrade_is_written_down(engine, trained):
    engine.dispose()
    command.downgrade(config_for(trained.database_url), "0012")
    upgrade(trained.database_url)

    assert rows(engine) == [(*ANN, "database.upgrade", "database", {"revision": "0012"}, {"revision": HEAD})]
    with engine.connect() as connection:
        assert connection.scalar(select(TrainingRun.__table__.c.run_id)) == 1
