"""The monitors of the version in production: which changes they find, and that they are quiet without a change."""

import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from answered import MONDAY, Service
from servers import until
from sqlalchemy import insert, select, update

from zap.db.engine import create_engine, write_transaction
from zap.db.history.history_store import upsert_history
from zap.db.monitoring.alarms import list_alarms, standing_alarms
from zap.db.monitoring.monitor_states import read_monitor, store_references
from zap.db.monitoring_tables import MonitorState, Outcome
from zap.db.schema import upgrade
from zap.db.tables import ChargingSession, ModelVersion, Promotion
from zap.db.versions.promotions import promote_version
from zap.errors import NotFound
from zap.flows.monitors import Monitors
from zap.flows.training import run_training
from zap.formats.promotion_reason import Reason
from zap.formats.training_options import TrainingOptions
from zap.ml.features import MATRIX_COLUMNS
from zap.ml.fitted import computed_columns
from zap.ml.sample import sample_history
from zap.settings import Settings

QUICK = TrainingOptions(hyper_parameters={"n_estimators": 20})
NOW = datetime(2030, 3, 1, tzinfo=UTC)
DISTANCE = MATRIX_COLUMNS.index("distance_driven_km")


@pytest.fixture(scope="module")
def trained_folder(tmp_path_factory):
    """Return the folder of a database with a version whose test part has many drivers."""
    folder = tmp_path_factory.mktemp("monitored")
    settings = Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models")
    upgrade(settings.database_url)
    engine = create_engine(settings.database_url)
    sample = sample_history(seed=1, drivers=400, months=5)
    upsert_history(engine, sample.users, sample.vehicles, sample.sessions)
    run_training(engine, settings, options=QUICK)
    # The version has served since long before the first answer.
    with write_transaction(engine) as connection:
        connection.execute(update(Promotion).values(promoted_at=(MONDAY - timedelta(days=2)).replace(tzinfo=UTC)))
    engine.dispose()
    return folder


@pytest.fixture
def settings(trained_folder, tmp_path):
    shutil.copytree(trained_folder, tmp_path / "zap")
    file = tmp_path / "zap" / "zap.sqlite"
    return Settings(database_url=f"sqlite:///{file}", models_dir=tmp_path / "zap" / "models", timezone="UTC")


@pytest.fixture
def engine(settings):
    engine = create_engine(settings.database_url)
    yield engine
    engine.dispose()


def follow(engine, settings, weeks, begin=0, **options):
    """Let a service answer for some weeks, and return the alarms that stand after each week."""
    service, monitors = Service(engine), Monitors(engine, settings)
    found = []
    for week in range(begin, begin + weeks):
        end = service.answer(week, **options)
        monitors.look(lambda _: None, (end + timedelta(days=1, hours=1)).replace(tzinfo=UTC))
        found.append({kind for kind, _ in standing_alarms(engine)})
    return found


def alarm(engine, kind):
    (found,) = [one for one in list_alarms(engine, 10, standing=True) if one["kind"] == kind]
    return found


def swap(matrix, users, used):
    """Let drivers use another type than they did."""
    first, second = np.unique(used)[:2]
    used[:] = np.where(used == first, second, np.where(used == second, first, used))


def in_miles(matrix, users, used):
    matrix[:, DISTANCE] /= 1.609


def test_quiet_weeks_raise_nothing(engine, settings):
    assert follow(engine, settings, 9) == [set()] * 9
    with engine.connect() as connection:
        drift, harm = (read_monitor(connection, 1, kind) for kind in ("drift", "harm"))
    # All weeks were counted.
    assert sum(drift.state["sums"].values()) > 0
    assert len(harm.state["days"]) >= 8 * 7


def test_swapped_labels_are_harm(engine, settings):
    assert follow(engine, settings, 2) == [set(), set()]
    found = follow(engine, settings, 3, begin=2, change=swap)
    assert "harm" in found[0] | found[1]
    said = alarm(engine, "harm")
    assert said["subject"] == "version 1"
    assert "worse than" in said["message"]


def test_a_feature_in_miles_is_drift(engine, settings):
    assert follow(engine, settings, 2) == [set(), set()]
    found = follow(engine, settings, 4, begin=2, change=in_miles)
    assert "drift" in found[-1]
    assert "distance_driven_km" in alarm(engine, "drift")["message"]


SESSIONS = computed_columns(["A", "B", "C"]).index("sessions")


def half_new(matrix, users, used):
    """Let every second driver be one that nobody has seen before."""
    new = np.arange(len(users)) % 2 == 0
    users[new] = [f"new {number}" for number in range(new.sum())]
    matrix[new, SESSIONS] = 0


def closed_down(matrix, users, used):
    """Let nobody use the second most common type, as if its places had been closed some weeks ago.

    By then the pasts of its drivers are like the pasts of others.
    """
    names, counts = np.unique(used, return_counts=True)
    second, first = names[np.argsort(counts)[-2:]]
    gone, others = np.flatnonzero(used == second), np.flatnonzero(used == first)
    matrix[gone] = matrix[np.resize(others, len(gone))]
    used[gone] = first


def test_new_drivers_are_drift(engine, settings):
    assert follow(engine, settings, 2) == [set(), set()]
    found = follow(engine, settings, 3, begin=2, change=half_new)
    assert "drift" in found[-1]
    assert "driver: " in alarm(engine, "drift")["message"]


def test_a_type_that_closes_down_is_drift(engine, settings):
    assert follow(engine, settings, 2) == [set(), set()]
    found = follow(engine, settings, 3, begin=2, change=closed_down)
    assert "drift" in found[-1]
    assert "answered_type: " in alarm(engine, "drift")["message"]


def promote_another(engine):
    """Promote a copy of the version in production."""
    with write_transaction(engine) as connection:
        row = connection.execute(select(ModelVersion.__table__)).mappings().one()
        connection.execute(insert(ModelVersion), {**row, "model_version": 2, "status": "candidate"})
        references = {kind: read_monitor(connection, 1, kind).reference for kind in ("drift", "harm")}
        store_references(connection, 2, references)
    promote_version(engine, 2, Reason(why="a better one"))


def test_an_alarm_is_resolved_when_another_version_serves(engine, settings):
    follow(engine, settings, 4, change=swap)
    assert alarm(engine, "harm")
    promote_another(engine)
    Monitors(engine, settings).look(lambda _: None, NOW)
    assert not standing_alarms(engine)


def test_harm_stands_again_when_its_version_serves_again(engine, settings):
    follow(engine, settings, 4, change=swap)
    promote_another(engine)
    Monitors(engine, settings).look(lambda _: None, (MONDAY + timedelta(weeks=4)).replace(tzinfo=UTC))
    assert not standing_alarms(engine)
    promote_version(engine, 1, Reason(why="the better one was worse"))

    assert follow(engine, settings, 1, begin=4, change=swap) == [{"harm"}]


def test_a_look_can_end_between_two_portions(engine, settings, monkeypatch):
    monkeypatch.setattr("zap.flows.monitors._PORTION", 50)
    service = Service(engine)
    end = service.answer(0)

    def refuse():
        raise NotFound("the process is told to stop")

    with pytest.raises(NotFound):
        Monitors(engine, settings).look(lambda _: None, end.replace(tzinfo=UTC), refuse)
    with engine.connect() as connection:
        answers = connection.scalars(select(Outcome.prediction_id).order_by(Outcome.prediction_id)).all()
        assert len(answers) > 50
        assert read_monitor(connection, 1, "drift").prediction_id == answers[49]


def test_nothing_is_stored_by_a_process_that_no_longer_follows(engine, settings):
    def refuse(_connection):
        raise NotFound("another process follows")

    service = Service(engine)
    end = service.answer(0)
    with pytest.raises(NotFound):
        Monitors(engine, settings).look(refuse, end.replace(tzinfo=UTC))
    with engine.connect() as connection:
        assert read_monitor(connection, 1, "drift").state is None


def test_another_process_computes_the_references_of_an_older_version_once(engine, settings):
    def references():
        with engine.connect() as connection:
            return [read_monitor(connection, 1, kind) for kind in ("drift", "harm")]

    before = [one.reference for one in references()]
    with write_transaction(engine) as connection:
        connection.execute(MonitorState.__table__.delete())
        # An older zap did not store the exponents with the scores.
        scores = connection.scalar(select(ModelVersion.__table__.c.evaluation))
        del scores["pooled_exponents"]
        connection.execute(update(ModelVersion).values(evaluation=scores))
    monitors = Monitors(engine, settings)

    def looked():
        monitors.look(lambda _: None, NOW)
        return all(references())

    until(looked)
    assert [one.reference for one in references()] == before
    monitors.close()


def test_a_version_whose_sessions_are_gone_is_not_watched_and_is_tried_once(engine, settings, capfd):
    with write_transaction(engine) as connection:
        connection.execute(MonitorState.__table__.delete())
        connection.execute(ChargingSession.__table__.delete())
    monitors = Monitors(engine, settings)
    said = []

    def told():
        monitors.look(lambda _: None, NOW)
        said.append(capfd.readouterr().err)
        return "cannot be watched" in "".join(said) or "could not be computed" in "".join(said)

    until(told)
    monitors.look(lambda _: None, NOW)
    with engine.connect() as connection:
        assert read_monitor(connection, 1, "drift") is None
    monitors.close()
