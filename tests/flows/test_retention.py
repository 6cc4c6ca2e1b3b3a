"""Retention: old requests go, what was counted stays, and what is still needed stays too."""

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import followed
import pytest
from databases import role_in
from followed import HORIZON, NOON, log_answers, log_training, outcomes, row_of, session, statuses
from histories import add_sessions
from lived import Life
from sqlalchemy import func, select, text
from trialled import add_copies

from zap.db.engine import create_engine, write_transaction
from zap.db.free_pages import file_pages
from zap.db.history.session_reports import report_sessions
from zap.db.log.request_removal import may_remove
from zap.db.monitoring.data_quality_days import read_days
from zap.db.monitoring.monitor_states import Remembered, store_monitor
from zap.db.monitoring.removals import lock_follower, read_removed_before
from zap.db.monitoring_tables import Follower, QualityDay, TrialPrediction
from zap.db.tables import InferenceInput, Prediction
from zap.errors import InvalidRequest
from zap.flows import retention
from zap.flows.looking_back import LookingBack
from zap.flows.quality import Question, read_quality
from zap.flows.retention import Reached, Retention, remove_by_settings
from zap.flows.trials import try_version
from zap.formats.session_report import parse_report
from zap.formats.trial_options import TrialOptions
from zap.settings import Settings

DAY = timedelta(days=1)
KEPT = 14


@pytest.fixture
def trained_engine(trained):
    engine = create_engine(trained.database_url)
    yield engine
    engine.dispose()


def settings_of(engine, **values):
    url = engine.url.render_as_string(hide_password=False)
    return Settings(database_url=url, timezone="UTC", **values)


def follow(engine):
    """Follow everything. On PostgreSQL ids are missing, and ten minutes later no transaction has them any more."""
    followed.follow(engine)
    with write_transaction(engine) as connection:
        connection.execute(text("UPDATE follower SET missing = NULL"))


def prune(engine, now, days=KEPT):
    """Remove old requests, and return the numbers of the requests that are left."""
    for _ in Retention(engine, settings_of(engine), lock_follower).requests(days, now):
        pass
    return left(engine)


def left(engine):
    with engine.connect() as connection:
        return list(connection.scalars(select(InferenceInput.__table__.c.input_id).order_by("input_id")))


def counted(engine):
    """Return all sums of live quality, and all counts of data quality."""
    table = QualityDay.__table__
    with engine.connect() as connection:
        rows = connection.execute(select(table).order_by(*table.primary_key.columns)).all()
    days = read_days(engine, datetime(2000, 1, 1, tzinfo=UTC).date(), datetime(2100, 1, 1, tzinfo=UTC).date())
    return [(*row[:3], dict(row.answers), bytes(row.sums)) for row in rows], days


def age_of(days):
    """Return the moment at which the requests of `row_of` are so old. Requests of whole days (UTC) are removed."""
    return NOON.replace(tzinfo=UTC) + days * DAY


def test_old_requests_go_and_what_was_counted_stays(trained_engine, trained, monkeypatch):
    monkeypatch.setattr(retention, "PORTION", {"sqlite": 7, "postgresql": 7})
    engine, life = trained_engine, Life(trained_engine, lambda moment: moment.replace(tzinfo=None))
    for week in range(4):
        for sessions in life.days(week, 60):
            life.ask(sessions)
            life.report(sessions)
    life.close()
    now = life.now.replace(tzinfo=UTC) + DAY
    looking = LookingBack(engine, settings_of(engine))
    looking.following.look()
    looking.close()
    before, all_of_them = counted(engine), left(engine)
    question = Question(life.begin.date(), life.now.date())
    quality = read_quality(engine, question, life.now, HORIZON)
    assert len(before[0]) > 20
    assert len(all_of_them) == 240

    kept = prune(engine, now)

    assert 110 < len(kept) < 130
    assert counted(engine) == before
    assert read_quality(engine, question, life.now, HORIZON) == quality
    with engine.connect() as connection:
        oldest = connection.scalar(select(func.min(InferenceInput.__table__.c.request_timestamp)))
        removed_before = read_removed_before(connection)
        predictions = connection.scalar(text("SELECT count(*) FROM predictions WHERE source = 'inference'"))
    assert removed_before == (now - KEPT * DAY).replace(hour=0, minute=0, second=0, microsecond=0) <= oldest
    assert predictions == len(outcomes(engine)) == len(kept)

    # The follower makes its outcomes again. What the removed requests have counted stays.
    with write_transaction(engine) as connection:
        connection.execute(text("UPDATE follower SET prediction_id = -1, missing = NULL, session_mark = NULL"))
    looking = LookingBack(engine, settings_of(engine))
    looking.following.look()
    looking.close()
    assert len(outcomes(engine)) == len(kept)
    assert counted(engine) == before


def test_what_is_needed_stays(engine):
    late = 24 * 3
    log_answers(
        engine,
        # 2 supersedes 1, which is newer than 2 and stays. 3 has no session. 4 asks about a moment that is to come.
        row_of(2, "a", after=1),
        row_of(3, "b"),
        row_of(4, "c", after=24 * 40, requested_after=0),
        # Its time cannot be read on SQLite, as in a row of another program, so it is as old as the next one.
        row_of(5, "d", requested_after=late),
        row_of(11, "a", after=0, requested_after=late),
        row_of(12, "e", after=late),
    )
    add_sessions(engine, session(7, 2, "a"))
    log_training(engine, 20, 21)
    with write_transaction(engine) as connection:
        change = "UPDATE outcomes SET status = 'superseded', session_id = 7, superseded_by = 2 WHERE prediction_id = 11"
        if engine.dialect.name == "sqlite":
            connection.execute(text("UPDATE inference_inputs SET request_timestamp = 'soon' WHERE input_id = 5"))
    # Nothing is followed, so nothing goes.
    assert prune(engine, age_of(100)) == [2, 3, 4, 5, 11, 12]
    follow(engine)
    with write_transaction(engine) as connection:
        connection.execute(text(change))
    assert statuses(engine)[2] == ("matched", 7)

    assert prune(engine, age_of(KEPT)) == [2, 3, 4, 5, 11, 12]
    assert prune(engine, age_of(KEPT + 1)) == [2, 4, 5, 11, 12]
    # Then 11 is old too.
    prune(engine, age_of(KEPT + 4))
    assert prune(engine, age_of(KEPT + 4)) == [4]
    # Nobody waits forever for a moment that is years away.
    assert prune(engine, age_of(KEPT + 60)) == []
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(Prediction)) == 2


def test_monitors_and_running_trials_keep_what_they_have_not_counted(trained_engine):
    engine = trained_engine
    (challenger,) = add_copies(engine)
    training = left_predictions(engine)
    first = training + 1
    log_answers(engine, *(row_of(first + number, f"u{number}", after=24 * number) for number in range(4)))
    add_sessions(engine, *(session(10**6 + number, 24 * number + 1, f"u{number}") for number in range(4)))
    follow(engine)
    day = (NOON.date() - datetime(1970, 1, 1, tzinfo=UTC).date()).days
    with write_transaction(engine) as connection:
        store_monitor(connection, 1, "drift", Remembered({}, {}, first + 1))
        store_monitor(connection, 1, "harm", Remembered({}, {"watch": {"last_day": day}, "days": {}}))

    # Drift has counted two answers, harm the first day.
    assert prune(engine, age_of(60)) == [first + 1, first + 2, first + 3]
    with write_transaction(engine) as connection:
        store_monitor(connection, 1, "harm", Remembered({}, {"watch": {"last_day": day + 9}, "days": {}}))
    assert prune(engine, age_of(60)) == [first + 2, first + 3]
    trial = try_version(engine, challenger, TrialOptions())
    with write_transaction(engine) as connection:
        connection.execute(text("UPDATE trials SET after_prediction_id = :after"), {"after": first + 2})
        row = {"trial_id": trial["trial_id"], "prediction_id": first + 3, "predicted_class": "A"}
        connection.execute(TrialPrediction.__table__.insert(), row | {"probabilities": {"A": 1.0}, "features": b""})
    # A monitor that counts nothing any more waits in vain. The trial still compares its answer.
    assert prune(engine, age_of(KEPT + 4 + 98 + 1)) == [first + 3]
    with write_transaction(engine) as connection:
        connection.execute(text("UPDATE trials SET status = 'ended'"))
    assert prune(engine, age_of(KEPT + 4 + 98 + 1)) == []
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(TrialPrediction)) == 0


def left_predictions(engine):
    with engine.connect() as connection:
        return connection.scalar(select(func.max(Prediction.__table__.c.prediction_id)))


def test_the_follower_removes_what_the_settings_say(trained_engine, monkeypatch):
    monkeypatch.setattr(retention, "PORTION", {"sqlite": 2, "postgresql": 2})
    monkeypatch.setattr(retention, "_MOST_PORTIONS", 3)
    engine = trained_engine
    first = left_predictions(engine) + 1
    now = datetime.now(UTC).replace(tzinfo=None)
    ago = [(now - NOON).total_seconds() / 3600 - 24 * days for days in (90, *[80] * 9, 1)]
    log_answers(engine, *(row_of(first + number, after=hours) for number, hours in enumerate(ago)))
    looking = LookingBack(engine, settings_of(engine, keep_requests_days=30, keep_train_predictions_versions=0))
    try:
        assert looking.look()
        assert len(left(engine)) == 5
        assert looking.look()
        assert left(engine) == [first + 10]
        assert looking.look()
    finally:
        looking.close()
    # The version in production keeps the predictions of its training.
    assert left_predictions(engine) == first + 10
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM predictions WHERE source = 'train'")) > 1000
        assert connection.scalar(select(Follower.__table__.c.removing)) is None
        # One row, although it took several looks.
        ((who, subject, after),) = connection.execute(
            text("SELECT who, subject, after FROM audit WHERE action = 'log.prune'")
        ).all()
    assert [who, subject] == ["zap", "requests"]
    assert json.loads(after) | {"before": ""} == {
        "trial_predictions": 0, "outcomes": 10, "predictions": 10, "inference_inputs": 10, "before": "",
    }  # fmt: skip


# Remove one request in each transaction, in a process that imports no more than it needs.
_SLOWLY = """
import sys
from datetime import datetime
from zap.db.engine import create_engine
from zap.db.monitoring.removals import lock_follower
from zap.errors import InvalidRequest
from zap.flows import retention
from zap.settings import Settings

retention.PORTION = {"sqlite": 1, "postgresql": 1}
engine = create_engine(sys.argv[1])
removing = retention.Retention(engine, Settings(database_url=sys.argv[1], timezone="UTC"), lock_follower)
for _ in removing.requests(14, datetime.fromisoformat(sys.argv[2])):
    pass
"""


def removing_slowly(url, now):
    command = [sys.executable, "-c", _SLOWLY, url, now.isoformat()]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def test_requests_that_stay_do_not_hide_the_later_ones(engine, monkeypatch):
    """More requests than one look goes through ask about a moment that is to come. Later ones go all the same."""
    monkeypatch.setattr(retention, "PORTION", {"sqlite": 2, "postgresql": 2})
    monkeypatch.setattr(retention, "_MOST_PORTIONS", 3)
    log_answers(
        engine,
        *(row_of(number, "a", after=24 * 60, requested_after=0) for number in range(1, 10)),
        *(row_of(number, "b", requested_after=1) for number in range(10, 20)),
    )
    follow(engine)
    settings, reached = settings_of(engine, keep_requests_days=KEPT), Reached()

    looks = 0
    while remove_by_settings(engine, settings, lock_follower, age_of(30), lambda: None, reached):
        looks += 1
        assert looks < 10

    assert left(engine) == list(range(1, 10))
    # The next look begins with the first request again.
    assert reached.input_id == 0
    prune(engine, age_of(200))
    assert left(engine) == []


def test_a_kill_and_two_processes_leave_nothing_half_done(engine):
    n = 150
    log_answers(engine, *(row_of(number, f"u{number}") for number in range(1, n + 1)))
    follow(engine)
    url = engine.url.render_as_string(hide_password=False)
    killed = removing_slowly(url, age_of(60))
    while len(left(engine)) == n:
        time.sleep(0.005)
    killed.kill()
    killed.wait()
    ids = left(engine)
    with engine.connect() as connection:
        answers = list(connection.scalars(select(Prediction.__table__.c.input_id).order_by("input_id")))
        removing = connection.scalar(select(Follower.__table__.c.removing))
    assert ids == answers == list(outcomes(engine))
    # The count of the killed process is not lost.
    assert 0 < removing["inference_inputs"] == n - len(ids) < n

    both = [removing_slowly(url, age_of(60)) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    assert left(engine) == []
    with engine.connect() as connection:
        written = [json.loads(one) for one in connection.scalars(text("SELECT after FROM audit"))]
    assert sum(one["inference_inputs"] for one in written) == n


def test_a_report_may_name_a_removed_answer_again_but_no_new_one(engine):
    log_answers(engine, row_of(1), row_of(2, "v", after=1))
    follow(engine)

    def report(number, prediction_id):
        start = (NOON + timedelta(hours=1)).isoformat()
        sent = {"session_id": number, "user_id": "u", "charger_type": "A", "charging_start_time": start}
        body = json.dumps(sent | {"prediction_id": prediction_id}).encode()
        return report_sessions(engine, parse_report(body, settings_of(engine).wall_time), NOON)

    report(7, 1)
    assert prune(engine, age_of(60)) == []

    report(7, 1)
    with pytest.raises(InvalidRequest) as refused:
        report(8, 1)
    assert "were removed, and no report can name them" in str(refused.value.details)


def test_a_role_without_the_right_removes_nothing(empty_postgresql_url, at_head):
    engine = at_head(empty_postgresql_url)
    log_answers(engine, row_of(1))
    follow(engine)
    with role_in(empty_postgresql_url, "GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}") as url:
        small = create_engine(url)
        assert not may_remove(small)
        settings = settings_of(engine, keep_requests_days=30)
        assert not remove_by_settings(small, settings, lock_follower, age_of(60), lambda: None)
        small.dispose()
    assert may_remove(engine)
    assert left(engine) == [1]


def test_requests_beside_a_removal_are_answered_and_logged(client, trained, good_request, monkeypatch):
    monkeypatch.setattr(retention, "PORTION", {"sqlite": 10, "postgresql": 10})
    engine, n = create_engine(trained.database_url), 600
    first = left_predictions(engine) + 1
    # Numbers follow on each other, so that answers of the app come after them.
    log_answers(engine, *(row_of(first + number, f"u{number}") for number in range(n)))
    if engine.dialect.name == "postgresql":
        with write_transaction(engine) as connection:
            for table, key in (("inference_inputs", "input_id"), ("predictions", "prediction_id")):
                connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', '{key}'), {first + n})"))
    follow(engine)
    removing = threading.Thread(target=prune, args=(engine, age_of(60)))
    answered, during = [], 0

    removing.start()
    while removing.is_alive() or not answered:
        reply = client.post("/predict", json=good_request)
        assert reply.status_code == 200, reply.text
        answered.append(reply.json()["prediction_id"])
        during += removing.is_alive()
    removing.join()

    assert during > 5
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT prediction_id FROM predictions WHERE source = 'inference' ORDER BY 1"))
        assert list(rows.scalars()) == answered
    assert len(left(engine)) == len(answered)
    engine.dispose()


def test_a_new_file_returns_free_pages_and_an_old_one_does_not(tmp_path, at_head, monkeypatch):
    monkeypatch.setattr(retention, "_PAGES", 50)
    engine = at_head(f"sqlite:///{tmp_path / 'zap.sqlite'}")
    file = tmp_path / "zap.sqlite"
    log_answers(engine, *(row_of(number, f"u{number}", features=bytes(2000)) for number in range(1, 2001)))
    follow(engine)

    def pages():
        with engine.connect() as connection:
            return file_pages(connection)

    def size():
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").close()
        return file.stat().st_size

    full = size()
    prune(engine, age_of(60))
    too_many = pages().too_many
    assert (size(), too_many > 1000) == (full, True)
    shutil.copy(file, tmp_path / "old.sqlite")
    with closing(sqlite3.connect(tmp_path / "old.sqlite")) as old:
        old.execute("PRAGMA auto_vacuum=NONE")
        old.execute("CREATE TABLE more (bytes BLOB)")
        old.execute("VACUUM")
        old.executemany("INSERT INTO more VALUES (?)", [(bytes(3000),)] * 1000)
        old.execute("DELETE FROM more")
        old.commit()
    was_old = create_engine(f"sqlite:///{tmp_path / 'old.sqlite'}")

    # A reader keeps its snapshot, and the file gets shorter when the reader has ended.
    with engine.connect() as reader:
        assert left(engine) == list(reader.scalars(select(InferenceInput.__table__.c.input_id)))
        looks, settings = 1, settings_of(engine, keep_requests_days=14)
        while remove_by_settings(engine, settings, lock_follower, age_of(60), lambda: None):
            looks += 1
        assert reader.scalar(text("SELECT count(*) FROM inference_inputs")) == 0
    assert (looks, pages().too_many) == (1 + too_many // 1000, 0)
    assert size() < full / 3
    assert 0.09 < pages().free / pages().pages < 0.11
    assert list(Retention(was_old, settings_of(was_old), lock_follower).free_pages()) == []
    was_old.dispose()
