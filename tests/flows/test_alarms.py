"""The looks for alarms: a planted fault is found, and its alarm ends with it; a quiet service has no alarms."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from conftest import client_of
from receivers import SECRET
from sqlalchemy import delete, event, insert, select, update

from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.alarms import list_alarms, standing_alarms
from zap.db.monitoring_tables import AlarmDelivery, DataQualityDay, Follower, QualityDay
from zap.db.runs.training_runs import claim_run, fail_run
from zap.db.tables import ModelVersion, Prediction, TrainingRun
from zap.errors import TrainingFailed
from zap.flows import alarms
from zap.flows.alarms import look_for_alarms
from zap.monitoring.alarm_kinds import KINDS
from zap.settings import Settings


class Disk(NamedTuple):
    total: int
    used: int
    free: int


MINUTE = timedelta(minutes=1)


@pytest.fixture
def settings(database_url, tmp_path):
    (tmp_path / "models").mkdir()
    return Settings(database_url=database_url, models_dir=tmp_path / "models", timezone="UTC")


@pytest.fixture
def now():
    return datetime.now(UTC)


def write(engine, *statements):
    with write_transaction(engine) as connection:
        for statement, *values in statements:
            connection.execute(statement, *values)


def kinds(engine):
    return [kind for kind, _ in standing_alarms(engine)]


def test_a_service_that_just_began_has_no_alarms(engine, settings, now):
    for minute in range(10):
        assert look_for_alarms(engine, settings, now + minute * MINUTE) == []

    assert list_alarms(engine, 10, standing=False) == []


def test_a_trained_service_has_no_alarms(trained, now):
    engine = create_engine(trained.database_url)
    assert [look_for_alarms(engine, trained, now + minute * MINUTE) for minute in range(4)] == [[]] * 4
    engine.dispose()


def test_every_kind_that_is_looked_for_is_described():
    assert set(alarms.LOOKS) == set(KINDS) - {"harm", "drift"}


def log_answer(engine, prediction_id, logged_at):
    row = {"prediction_id": prediction_id, "prediction_timestamp": logged_at, "source": "train"}
    write(engine, (insert(Prediction), row | {"predicted_class": "Level 2"}))


def test_a_follower_that_does_not_keep_up_is_found_after_minutes(engine, settings, now):
    write(engine, (insert(Follower), {"follower_id": 1, "prediction_id": 5}))
    log_answer(engine, 5, now - timedelta(days=1))
    assert look_for_alarms(engine, settings, now) == []
    log_answer(engine, 6, datetime.now(UTC) - 2 * MINUTE)

    # A backlog that is soon worked off is no alarm.
    assert look_for_alarms(engine, settings, now) == []
    assert look_for_alarms(engine, settings, now + 2 * MINUTE) == []
    (raised,) = look_for_alarms(engine, settings, now + 3 * MINUTE)
    assert (raised.kind, raised.raised) == ("follower_behind", True)
    assert raised.message == "An answer has been waiting for the follower for 2 minutes."
    assert look_for_alarms(engine, settings, now + 4 * MINUTE) == []

    # Behind by 40 seconds: too much to end the alarm.
    write(engine, (update(Prediction).where(Prediction.prediction_id == 6),
                   {"prediction_timestamp": datetime.now(UTC) - timedelta(seconds=40)}))  # fmt: skip
    assert look_for_alarms(engine, settings, now + 5 * MINUTE) == []
    assert kinds(engine) == ["follower_behind"]
    write(engine, (update(Follower), {"prediction_id": 6}))
    (resolved,) = look_for_alarms(engine, settings, now + 6 * MINUTE)
    assert (resolved.alarm_id, resolved.raised) == (raised.alarm_id, False)


def test_a_log_whose_commits_are_slow_is_found(engine, settings, now):
    """Let each commit wait, as on a slow disk."""

    def wait(_connection):
        time.sleep(1.05)

    event.listen(engine, "commit", wait)
    assert look_for_alarms(engine, settings, now) == []
    (raised,) = look_for_alarms(engine, settings, now + MINUTE)
    event.remove(engine, "commit", wait)
    (resolved,) = look_for_alarms(engine, settings, now + 2 * MINUTE)

    assert (raised.kind, raised.raised, resolved.raised) == ("log_slow", True, False)
    assert raised.message.startswith("A commit of the log took 1.")


def test_a_version_that_cannot_be_loaded_is_found(trained, now):
    engine = create_engine(trained.database_url)
    assert look_for_alarms(engine, trained, now) == []
    with engine.connect() as connection:
        whole = connection.execute(select(ModelVersion.artefact, ModelVersion.sha256)).one()
    write(engine, (update(ModelVersion), {"artefact": b"damaged", "sha256": "0" * 64}))

    (raised,) = look_for_alarms(engine, trained, now)
    assert (raised.kind, raised.subject) == ("version_refused", "version 1")
    assert "SHA-256" in raised.message
    assert look_for_alarms(engine, trained, now + MINUTE) == []
    write(engine, (update(ModelVersion), {"artefact": whole.artefact, "sha256": whole.sha256}))
    assert [one.raised for one in look_for_alarms(engine, trained, now + 2 * MINUTE)] == [False]
    engine.dispose()


def test_another_version_in_production_ends_the_alarm_of_the_first(trained_sqlite, now):
    engine = create_engine(trained_sqlite.database_url)
    with engine.connect() as connection:
        row = dict(connection.execute(select(ModelVersion.__table__)).mappings().one())
    damaged = row | {"model_version": 2, "status": "candidate", "artefact": b"damaged"}
    write(engine, (insert(ModelVersion), damaged))

    def promote(number):
        write(engine, (update(ModelVersion), {"status": "archived"}))
        write(engine, (update(ModelVersion).where(ModelVersion.model_version == number), {"status": "production"}))

    promote(2)
    assert [(one.subject, one.raised) for one in look_for_alarms(engine, trained_sqlite, now)] == [("version 2", True)]
    promote(1)
    assert [(one.subject, one.raised) for one in look_for_alarms(engine, trained_sqlite, now)] == [("version 2", False)]
    engine.dispose()


def test_a_training_that_failed_stands_until_one_finishes(engine, settings, now):
    def train(error=None):
        run = claim_run(engine, "train", {})
        if error:
            fail_run(engine, run, error)
        else:
            finished = {"status": "finished", "finished_at": datetime.now(UTC)}
            write(engine, (update(TrainingRun).where(TrainingRun.run_id == run), finished))
        return run

    first = train(TrainingFailed("the process died"))
    (raised,) = look_for_alarms(engine, settings, now)
    assert (raised.kind, raised.message) == ("training_failed", f"Training run {first} failed: the process died.")
    # The next training fails too: the alarm stands, and its evidence is about the newest training.
    second = train(TrainingFailed("no memory"))
    assert look_for_alarms(engine, settings, now) == []
    assert standing_alarms(engine) == {("training_failed", ""): {"run_id": second, "reason": "no memory"}}
    # It also stands three days later, and while another training runs.
    claimed = claim_run(engine, "train", {})
    assert look_for_alarms(engine, settings, now + timedelta(days=3)) == []
    write(engine, (delete(TrainingRun).where(TrainingRun.run_id == claimed),))
    train()
    assert [one.raised for one in look_for_alarms(engine, settings, now)] == [False]


def test_a_training_that_failed_long_ago_is_no_news(engine, settings, now):
    fail_run(engine, claim_run(engine, "train", {}), TrainingFailed("the process died"))
    fail_run(engine, claim_run(engine, "tune", {}), TrainingFailed("a search is no training"))

    assert look_for_alarms(engine, settings, now + timedelta(days=2)) == []


def test_a_disk_with_little_room_is_found_and_must_have_twice_as_much_to_end(engine, settings, now, monkeypatch):
    disk = Disk(100 * 2**30, 0, 2**30 - 1)
    monkeypatch.setattr(alarms.shutil, "disk_usage", lambda _: disk)
    (raised,) = look_for_alarms(engine, settings, now)
    assert raised.kind == "disk_nearly_full"
    # A disk that holds both is named once.
    named = "the database" if engine.dialect.name == "sqlite" else "the models"
    assert raised.subject == f"disk of {named}"
    assert raised.message == f"The disk of {named} has 1,024 MiB left, 1.0% of it."

    disk = Disk(100 * 2**30, 0, 2**31 - 1)
    assert look_for_alarms(engine, settings, now) == []
    assert kinds(engine) == ["disk_nearly_full"]
    disk = Disk(100 * 2**30, 0, 2**31)
    assert [one.raised for one in look_for_alarms(engine, settings, now)] == [False]
    # Of a small disk, 5 % is enough.
    disk = Disk(2**30, 0, 2**30 // 10)
    assert look_for_alarms(engine, settings, now) == []


def test_a_disk_that_cannot_be_asked_changes_no_alarm(sqlite_engine, tmp_path, now, monkeypatch):
    settings = Settings(database_url=str(sqlite_engine.url), models_dir=tmp_path)
    monkeypatch.setattr(alarms.shutil, "disk_usage", lambda _: Disk(2**40, 0, 1))
    assert len(look_for_alarms(sqlite_engine, settings, now)) == 1

    def broken(_):
        raise PermissionError("no")

    monkeypatch.setattr(alarms.shutil, "disk_usage", broken)
    assert look_for_alarms(sqlite_engine, settings, now) == []
    assert kinds(sqlite_engine) == ["disk_nearly_full"]


def outcomes(engine, day, matched, waiting, *, kind="live", version=1):
    row = {"model_version": version, "day": day.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)}
    answers = {"matched": matched, "waiting": waiting, "superseded": 3, "no_driver": 9}
    write(engine, (insert(QualityDay), row | {"kind": kind, "answers": answers}))


def arrivals(engine, *moments):
    """Let outcomes arrive in the hours of some moments."""
    at = [moment.astimezone(UTC) for moment in moments]
    values = {"subject": "outcomes", "found": "1 h", "count": 5}
    rows = {(one.date(), f"{one.hour:02}") for one in at}
    of_day = [values | {"day": datetime.combine(day, datetime.min.time()), "field": hour} for day, hour in sorted(rows)]
    write(engine, (insert(DataQualityDay), of_day))


def test_reports_that_stop_are_found_and_one_session_ends_the_alarm(engine, settings, now):
    days = [now - timedelta(days=back) for back in range(40, -1, -1)]
    arrivals(engine, *(day for day in days[:37]))
    for place, day in enumerate(days):
        outcomes(engine, day, 0 if place > 36 else 30, 60 if place > 36 else 30)
        # Answers about the past tell nothing about the reports.
        outcomes(engine, day, 50, 0, kind="backtest")

    (raised,) = look_for_alarms(engine, settings, now)
    assert raised.kind == "no_outcomes"
    since = days[37].date().isoformat()
    # Today and yesterday may still get sessions.
    assert raised.message.startswith(f"Since {since} none of ")
    assert raised.message.endswith(
        "answers with a driver has a session; usually 50% have one. The longest usual time between two arrivals of"
        " sessions is 24 hours."
    )
    assert look_for_alarms(engine, settings, now + timedelta(hours=1)) == []
    # A standing alarm does not end because the usual days are over.
    assert look_for_alarms(engine, settings, now + timedelta(days=200)) == []
    assert kinds(engine) == ["no_outcomes"]

    outcomes(engine, now, 1, 0, version=2)
    assert [one.raised for one in look_for_alarms(engine, settings, now)] == [False]


def imports(engine, now, weeks, every=7):
    """Let a service answer for some weeks until now. Its sessions arrive in imports; return the days of the imports."""
    days = [now - timedelta(days=back) for back in range(7 * weeks, -1, -1)]
    imported = days[::every]
    arrivals(engine, *imported)
    for day in days:
        outcomes(engine, day, 30 if day < imported[-1] else 0, 30 if day < imported[-1] else 60)
    return imported


def test_a_service_with_weekly_imports_has_no_alarm_before_more_than_its_usual_gap(engine, settings, now):
    last = imports(engine, now, 8)[-1]
    found = []
    for day in range(1, 25):
        outcomes(engine, last + timedelta(days=day), 0, 60)
        found.append(bool(look_for_alarms(engine, settings, last + timedelta(days=day))))

    assert found.index(True) + 1 in range(14, 22)
    (evidence,) = standing_alarms(engine).values()
    assert evidence["longest_usual_gap_hours"] == 7 * 24
    # The import is made up for. It knows nothing yet about the newest days.
    until = last + timedelta(days=24)
    arrivals(engine, until)
    days = QualityDay.__table__
    older = days.c.day < (until - timedelta(days=4)).replace(tzinfo=None)
    write(engine, (update(days).where(older).values(answers={"matched": 30, "waiting": 30}),))
    assert [one.raised for one in look_for_alarms(engine, settings, until)] == [False]
    assert look_for_alarms(engine, settings, until + timedelta(days=3)) == []


def test_a_new_service_with_rare_imports_waits_until_it_knows_what_is_usual(engine, settings, now):
    last = imports(engine, now, 4)[-1]
    for day in range(1, 7):
        outcomes(engine, last + timedelta(days=day), 0, 60)

        assert look_for_alarms(engine, settings, last + timedelta(days=day)) == []


def requests(engine, day, answered, refused):
    at = day.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    rows = [
        {"day": at, "subject": subject, "field": field, "found": found, "count": count}
        for subject, field, found, count in (
            ("requests", "", "answered", answered), ("requests", "temperature_c", "missing", answered),
            ("refused", "", "refused", refused), ("refused", "temperature_c", "out_of_range", 3 * refused),
        )
    ]  # fmt: skip
    write(engine, (delete(DataQualityDay).where(DataQualityDay.day == at),), (insert(DataQualityDay), rows))


def test_a_client_that_breaks_is_found_on_the_same_day(engine, settings):
    now = datetime(2026, 6, 15, 9, 30, tzinfo=UTC)
    for back in range(30, 0, -1):
        requests(engine, now - timedelta(days=back), 1000, 10)
    requests(engine, now, 300, 5)
    assert look_for_alarms(engine, settings, now) == []

    requests(engine, now, 300, 200)
    (raised,) = look_for_alarms(engine, settings, now)
    assert raised.kind == "refused_requests"
    assert raised.message == "On 2026-06-15 (UTC) 200 of 500 requests were refused; usually 1.0% are."
    requests(engine, now, 310, 300)
    assert look_for_alarms(engine, settings, now) == []
    assert standing_alarms(engine)["refused_requests", ""]["refused"] == 300

    # Just after midnight nobody knows yet whether it is over.
    tomorrow = now + timedelta(days=1)
    assert look_for_alarms(engine, settings, tomorrow) == []
    requests(engine, tomorrow, 20, 0)
    assert look_for_alarms(engine, settings, tomorrow) == []
    requests(engine, tomorrow, 200, 2)
    assert [one.raised for one in look_for_alarms(engine, settings, tomorrow)] == [False]


def test_changes_are_posted_only_with_a_receiver(engine, settings, now):
    fail_run(engine, claim_run(engine, "train", {}), TrainingFailed("the process died"))
    look_for_alarms(engine, settings, now)

    def told():
        with engine.connect() as connection:
            return [json.loads(body)["type"] for body in connection.scalars(select(AlarmDelivery.body))]

    assert told() == []
    posting = settings.model_copy(update={"alarm_url": "https://example.com/zap", "alarm_secret": SECRET})
    write(engine, (delete(TrainingRun),))
    look_for_alarms(engine, posting, now)
    assert told() == ["alarm.resolved"]


def test_a_look_costs_little(trained_sqlite, now):
    """Count the statements of a look without a change: it must not grow with the history."""
    engine = create_engine(trained_sqlite.database_url)
    look_for_alarms(engine, trained_sqlite, now)
    statements = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    look_for_alarms(engine, trained_sqlite, now)
    engine.dispose()

    assert len([one for one in statements if not one.startswith(("PRAGMA", "BEGIN"))]) == 10


def test_a_real_server_and_a_look_beside_it_agree(trained_sqlite, good_request, now):
    """Answer requests, and look as the follower would: nothing is raised."""
    with client_of(trained_sqlite.model_copy(update={"follow": False})) as client:
        write(client.app.state.engine, (insert(Follower), {"follower_id": 1, "prediction_id": 0}))
        for _ in range(3):
            assert client.post("/predict", json=good_request).status_code == 200
        changes = look_for_alarms(client.app.state.engine, trained_sqlite, now)

    assert changes == []
