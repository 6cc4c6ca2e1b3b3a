"""The monitors of the version in production: which changes they find, and that they are quiet without a change."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from answered import MONDAY, Service
from servers import until
from sqlalchemy import event, func, insert, select, update

from zap.db.engine import create_engine, write_transaction
from zap.db.erasure.driver_rows import OtherRequests
from zap.db.history.history_store import upsert_history
from zap.db.monitoring.alarms import list_alarms, standing_alarms
from zap.db.monitoring.monitor_states import read_monitor, store_references
from zap.db.monitoring_tables import Follower, MonitorState, Outcome
from zap.db.schema import upgrade
from zap.db.tables import ChargingSession, ModelVersion, Promotion
from zap.db.versions.model_registry import load_version, production_version
from zap.db.versions.promotions import promote_version
from zap.errors import NotFound
from zap.flows.drift_monitor import DriftMonitor
from zap.flows.driver_erasure import erase_in, key_of
from zap.flows.monitors import Monitors
from zap.flows.training import run_training
from zap.formats.promotion_reason import Reason
from zap.formats.training_options import TrainingOptions
from zap.ml.cells import to_seconds
from zap.ml.driver_columns import DAY
from zap.ml.features import MATRIX_COLUMNS
from zap.ml.fitted import computed_columns
from zap.ml.sample import sample_history
from zap.monitoring.driver_sample import driver_hash
from zap.settings import Settings

QUICK = TrainingOptions(hyper_parameters={"n_estimators": 20})
NOW = datetime(2030, 3, 1, tzinfo=UTC)
DISTANCE = MATRIX_COLUMNS.index("distance_driven_km")


@pytest.fixture(scope="module")
def trained_folder(made_once):
    """Return the folder of a database with a version whose test part has many drivers."""
    return made_once("monitored", train_in)


def train_in(folder):
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
    """Promote a copy of the version in production, after three weeks of answers."""
    with write_transaction(engine) as connection:
        row = connection.execute(select(ModelVersion.__table__)).mappings().one()
        connection.execute(insert(ModelVersion), {**row, "model_version": 2, "status": "candidate"})
        references = {kind: read_monitor(connection, 1, kind).reference for kind in ("drift", "harm")}
        store_references(connection, 2, references)
    promote_version(engine, 2, Reason(why="a better one"))
    served_since(engine, MONDAY + timedelta(weeks=3))


def served_since(engine, moment):
    """Let the version that was promoted last have served since a moment. A monitor looks at each day since then."""
    with write_transaction(engine) as connection:
        newest = select(func.max(Promotion.promotion_id)).scalar_subquery()
        this = update(Promotion).where(Promotion.promotion_id == newest)
        connection.execute(this.values(promoted_at=moment.replace(tzinfo=UTC)))


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


def late(engine, settings, weeks, begin=0, **options):
    """Let a service answer whose sessions are imported on Monday mornings; return the alarms after each import."""
    service, monitors = Service(engine), Monitors(engine, settings)
    found = []
    for week in range(begin, begin + weeks):
        end = service.answer(week, reported=False, **options)
        for day in range(5):
            monitors.look(lambda _: None, (end + timedelta(days=day - 4)).replace(tzinfo=UTC))
        service.report(end, 7 * 24)
        monitors.look(lambda _: None, (end + timedelta(hours=1)).replace(tzinfo=UTC))
        found.append({kind for kind, _ in standing_alarms(engine)})
    return found


def scored_sessions(engine):
    """Return how many sessions the days of harm have."""
    with engine.connect() as connection:
        days = read_monitor(connection, 1, "harm").state["days"]
    return {int(day): sum(sessions for sessions, *_ in sums.values()) for day, sums in days.items()}


def test_swapped_labels_are_harm_with_weekly_imports_too(engine, settings):
    assert late(engine, settings, 4) == [set()] * 4
    # The horizon and the delay take eight days. Each day that is scored has all its sessions.
    days = {day: sessions for day, sessions in scored_sessions(engine).items() if day >= to_seconds(MONDAY) // DAY}
    assert len(days) == 3 * 7 - 1
    assert min(days.values()) > 30

    found = late(engine, settings, 3, begin=4, change=swap)
    assert "harm" in found[-1]
    print("weekly imports: harm after", ["harm" in one for one in found].index(True) + 1, "weeks")


def test_no_day_is_scored_before_anything_has_arrived(engine, settings):
    service, monitors = Service(engine), Monitors(engine, settings)
    end = service.answer(0, reported=False)
    monitors.look(lambda _: None, (end + timedelta(days=5)).replace(tzinfo=UTC))

    with engine.connect() as connection:
        assert read_monitor(connection, 1, "harm").state is None


def states(engine):
    """Return what the monitor of drift of version 1 has stored, without its time."""
    with engine.connect() as connection:
        return read_monitor(connection, 1, "drift")


def test_a_look_can_end_between_two_portions(engine, settings, monkeypatch):
    monkeypatch.setattr("zap.flows.drift_monitor._PORTION", 50)
    Service(engine).answer(0)
    monitor, model = DriftMonitor(engine, settings), load_version(engine, production_version(engine))
    portions = []

    def refuse():
        portions.append("refused")
        raise NotFound("the process is told to stop")

    for _ in range(2):
        with pytest.raises(NotFound):
            monitor.look(lambda _: None, 1, model, refuse)
    assert states(engine).state is None
    monitor.look(lambda _: None, 1, model, lambda: portions.append("counted"))
    # Of 600 answers, the first 100 are not read again.
    assert portions == 2 * ["refused"] + 10 * ["counted"]


def test_a_process_that_is_killed_leaves_the_rows_of_one_that_is_not(engine, settings, monkeypatch, tmp_path):
    """Look after each half week: one process all the time, and beside it a new process for each look."""
    monkeypatch.setattr("zap.flows.drift_monitor._STORED_AFTER", 170)
    shutil.copy(tmp_path / "zap" / "zap.sqlite", tmp_path / "zap" / "other.sqlite")
    other_settings = settings.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'zap' / 'other.sqlite'}"})
    other = create_engine(other_settings.database_url)
    services = Service(engine), Service(other)
    monitors = Monitors(engine, settings)
    for week in range(6):
        options = {"sessions": 230, "change": in_miles if week > 2 else None}
        (end, _) = (one.answer(week, **options).replace(tzinfo=UTC) for one in services)
        with write_transaction(engine) as connection:
            newest = connection.execute(select(Follower.prediction_id)).scalar_one()
            connection.execute(update(Follower).values(prediction_id=newest - 101))
        monitors.look(lambda _: None, end - timedelta(days=3))
        with write_transaction(engine) as connection:
            connection.execute(update(Follower).values(prediction_id=newest))
        monitors.look(lambda _: None, end)
        Monitors(other, other_settings).look(lambda _: None, end)
        if week % 2:
            monitors = Monitors(engine, settings)

    assert states(engine) == states(other)
    assert [one["evidence"] for one in list_alarms(engine, 9, standing=False) if one["kind"] == "drift"] == [
        one["evidence"] for one in list_alarms(other, 9, standing=False) if one["kind"] == "drift"
    ]
    assert alarm(other, "drift")
    other.dispose()


def test_a_look_within_a_week_stores_nothing(engine, settings):
    service, monitors = Service(engine), Monitors(engine, settings)
    for week in range(2):
        end = service.answer(week).replace(tzinfo=UTC)
        monitors.look(lambda _: None, end)
    before = states(engine)
    written = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: written.append(arguments[2]))
    service.answer(1, sessions=20)
    written.clear()
    monitors.look(lambda _: None, end)

    assert not [one for one in written if "monitor_states" in one and not one.lstrip().startswith("SELECT")]
    # What was stored is not read either, because it may be large.
    assert not [one for one in written if "monitor_states.state" in one]
    assert states(engine) == before


def test_a_driver_who_is_erased_is_dropped_from_what_is_counted_and_not_stored_yet(engine, settings):
    service, monitors = Service(engine), Monitors(engine, settings)
    for week in range(2):
        end = service.answer(week)
        monitors.look(lambda _: None, end.replace(tzinfo=UTC))
    with engine.connect() as connection:
        week = Outcome.__table__.c.asked_at >= MONDAY + timedelta(weeks=1)
        drivers = set(connection.scalars(select(Outcome.user_id).where(week)))
        driver = connection.scalar(select(Outcome.user_id).order_by(Outcome.prediction_id.desc()).limit(1))
    number = driver_hash(driver)
    # Most of this week is not stored: it is in the memory of the process that follows.
    assert f"{number:016x}" not in json.dumps(states(engine).state)
    with write_transaction(engine) as connection:
        erase_in(connection, key_of(engine, settings), driver, OtherRequests(frozenset(), 0))

    def is_gone(matrix, users, used):
        users[users == driver] = "a new driver"

    end = service.answer(2, change=is_gone)
    monitors.look(lambda _: None, end.replace(tzinfo=UTC))

    state = states(engine).state
    assert str(number) not in json.dumps(state)
    assert f"{number:016x}" not in json.dumps(state)
    (week,) = state["past"]
    assert len(week["drivers"]) == len(drivers) - 1


def serve_again(engine, week):
    """Let version 1 serve again from the Wednesday of a week on."""
    promote_version(engine, 1, Reason(why="the other was worse"))
    served_since(engine, MONDAY + timedelta(weeks=week, days=2))


def test_drift_is_noticed_again_when_its_version_serves_again(engine, settings):
    assert "drift" in follow(engine, settings, 3, change=in_miles)[-1]
    promote_another(engine)
    Monitors(engine, settings).look(lambda _: None, (MONDAY + timedelta(weeks=3)).replace(tzinfo=UTC))
    assert not standing_alarms(engine)
    serve_again(engine, 3)

    # The week in which it begins again is not whole.
    found = follow(engine, settings, 3, begin=3, change=in_miles)
    assert "drift" not in found[0] | found[1]
    assert "drift" in found[-1]
    assert "distance_driven_km" in alarm(engine, "drift")["message"]


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
