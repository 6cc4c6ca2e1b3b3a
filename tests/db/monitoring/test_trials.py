"""The rows of trials: what may begin, what is read, and which artefacts are kept."""

from datetime import timedelta
from threading import Barrier, Thread

import pytest
from sqlalchemy import func, insert, select, update
from sqlmodel import col
from trialled import add_copies, answered

from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.trial_predictions import compared_sessions, followed_until, is_followed
from zap.db.monitoring.trials import (
    MOST_RUNNING,
    Progress,
    begin_trial,
    conclude,
    end_trial,
    list_trials,
    read_trial,
    running_trials,
    store_progress,
)
from zap.db.monitoring_tables import Follower, Trial
from zap.db.tables import ModelVersion, Prediction, utc_now
from zap.db.versions.model_registry import prune_candidates
from zap.errors import NotFound, TrialRefused
from zap.formats.promotion_reason import Reason
from zap.formats.trial_options import TrialOptions
from zap.monitoring.trials import CAVEAT
from zap.monitoring.trials import Trial as Comparison


@pytest.fixture
def registry(trained):
    """Return an engine on a database with version 1 in production and candidates, which are copies of it."""
    engine = create_engine(trained.database_url)
    add_copies(engine, MOST_RUNNING + 1)
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite_registry(trained_sqlite):
    engine = create_engine(trained_sqlite.database_url)
    add_copies(engine, MOST_RUNNING + 1)
    yield engine
    engine.dispose()


def begin(engine, number, **options):
    with write_transaction(engine) as connection:
        return begin_trial(connection, number, TrialOptions(**options))


def test_it_works(registry):
    """Begin a trial, store what it remembers, and end it."""
    before = utc_now()
    trial_id = begin(registry, 2, epsilon=0.01, weeks=3, on_better="promote", who="ann", why="more trees")

    trial = read_trial(registry, trial_id)
    assert (trial["model_version"], trial["champion_version"], trial["status"]) == (2, 1, "running")
    assert (trial["epsilon"], trial["weeks"], trial["on_better"]) == (0.01, 3, "promote")
    assert (trial["who"], trial["why"], trial["ended_at"]) == ("ann", "more trees", None)
    assert before <= trial["started_at"] <= utc_now()
    assert trial["longest_until"] - trial["started_at"] == timedelta(weeks=3)
    assert (trial["answered"], trial["refused"]) == (0, 0)
    assert CAVEAT in trial["evidence"]["message"]
    assert "state" not in trial
    (running,) = running_trials(registry)
    with registry.connect() as connection:
        newest = connection.scalar(select(func.max(col(Prediction.prediction_id))))
    # Only later requests count.
    assert running.progress.prediction_id == newest
    assert running.progress.comparison == Comparison(epsilon=0.01, looks=3, challengers=MOST_RUNNING)

    progress = Progress(running.progress.comparison, 900, answered=7, refused=1)
    with write_transaction(registry) as connection:
        assert store_progress(connection, trial_id, progress, evidence={"verdict": "undecided", "message": "A look."})
    assert running_trials(registry)[0].progress == progress
    with write_transaction(registry) as connection:
        assert end_trial(connection, 2, Reason(who="bob")) == trial_id

    ended = read_trial(registry, trial_id)
    assert (ended["status"], ended["answered"], ended["refused"]) == ("ended", 7, 1)
    assert ended["ended_at"] >= trial["started_at"]
    assert ended["evidence"] == {"verdict": "undecided", "message": "The trial was ended by bob. A look."}
    assert running_trials(registry) == []
    # What has ended is not changed.
    with write_transaction(registry) as connection:
        assert not store_progress(connection, trial_id, progress)
        assert not conclude(connection, trial_id, "better", {"message": ""}, "")
    assert read_trial(registry, trial_id) == ended


@pytest.mark.parametrize(
    ("number", "error", "said"),
    [
        (99, NotFound, "there is no model version 99"),
        (1, TrialRefused, "version 1 serves already"),
        (3, TrialRefused, "the artefact of version 3 was pruned"),
        (2, TrialRefused, "version 2 is on trial already, in trial 1"),
    ],
)
def test_what_cannot_be_tried_is_refused_by_what_is_wrong(sqlite_registry, number, error, said):
    begin(sqlite_registry, 2)
    with write_transaction(sqlite_registry) as connection:
        connection.execute(update(ModelVersion).where(col(ModelVersion.model_version) == 3).values(artefact=None))

    with pytest.raises(error, match=said):
        begin(sqlite_registry, number)
    assert len(running_trials(sqlite_registry)) == 1


def test_without_a_version_in_production_there_is_nothing_to_compare_with(sqlite_registry):
    with write_transaction(sqlite_registry) as connection:
        connection.execute(update(ModelVersion).values(status="candidate"))

    with pytest.raises(TrialRefused, match="no version serves, so version 2 cannot be compared; promote it instead"):
        begin(sqlite_registry, 2)


def test_trials_that_begin_at_once_are_not_more_than_may_run(registry):
    barrier, refused = Barrier(MOST_RUNNING + 1), []

    def try_it(number):
        barrier.wait()
        try:
            begin(registry, number)
        except TrialRefused as error:
            refused.append(error.message)

    threads = [Thread(target=try_it, args=(number,)) for number in range(2, MOST_RUNNING + 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(running_trials(registry)) == MOST_RUNNING
    (said,) = refused
    assert f"{MOST_RUNNING} trials run already" in said
    # When one of them ends, another one may begin; and a version may be tried again.
    number = running_trials(registry)[0].model_version
    with write_transaction(registry) as connection:
        end_trial(connection, number, Reason())
    assert begin(registry, number) == MOST_RUNNING + 1


def test_trials_are_listed_newest_first(sqlite_registry):
    for number in (2, 3, 4):
        begin(sqlite_registry, number)

    assert [one["trial_id"] for one in list_trials(sqlite_registry, 2)] == [3, 2]
    assert [one["model_version"] for one in list_trials(sqlite_registry, 10, before=3)] == [3, 2]
    with pytest.raises(NotFound, match="there is no trial 4"):
        read_trial(sqlite_registry, 4)
    with write_transaction(sqlite_registry) as connection, pytest.raises(NotFound, match="version 5 is not on trial"):
        end_trial(connection, 5, Reason())


def test_a_version_on_trial_keeps_its_artefact(registry):
    begin(registry, 2)

    with write_transaction(registry) as connection:
        assert prune_candidates(connection, 1) == [3, 4, 5]
    with write_transaction(registry) as connection:
        end_trial(connection, 2, Reason())
        assert prune_candidates(connection, 1) == [2]


def test_what_is_followed_ends_before_the_first_missing_answer(registry):
    with registry.connect() as connection:
        assert followed_until(connection) == 0
        assert not is_followed(connection, utc_now())
        newest = connection.scalar(select(func.max(col(Prediction.prediction_id))))
    with write_transaction(registry) as connection:
        missing = [
            (first, last, utc_now().isoformat()) for first, last in ((newest - 1, newest), (newest - 5, newest - 4))
        ]
        connection.execute(insert(Follower).values(follower_id=1, prediction_id=newest, missing=missing))
        assert followed_until(connection) == newest - 6
        assert not is_followed(connection, utc_now())
        # Later answers do not matter.
        assert is_followed(connection, utc_now() - timedelta(days=3))
        connection.execute(update(Follower).values(missing=None))
        assert followed_until(connection) == newest
        assert is_followed(connection, utc_now())


def test_sessions_are_compared_in_portions(registry, monkeypatch):
    monkeypatch.setattr("zap.db.monitoring.trial_predictions._PORTION", 40)
    begin(registry, 2)
    (trial,) = running_trials(registry)
    at = utc_now().replace(tzinfo=None, microsecond=0)
    answered(registry, trial.trial_id, at, (0.4, 0.6), drivers=100)

    portions = list(compared_sessions(registry, trial, at + timedelta(seconds=1)))

    assert [len(one) for one in portions] == [40, 40, 20]
    assert {one.user_id for some in portions for one in some} == {f"driver {place}" for place in range(100)}
    for one in portions[0]:
        assert (one.champion[one.used], one.challenger[one.used]) == (0.4, 0.6)
    assert list(compared_sessions(registry, trial, at)) == []
    with registry.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(Trial)) == 1
