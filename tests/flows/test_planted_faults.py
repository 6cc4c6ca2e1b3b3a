"""A service with a planted fault: how soon it is found. And quiet services, in which nothing is raised.

Answers and sessions are written into the database as a server writes them. What follows is zap's own work on a stopped
clock, day by day: the follower, the monitors, and the looks for alarms. The tests print when each fault was found.
"""

import math
import shutil
from contextlib import contextmanager
from datetime import UTC, timedelta

import numpy as np
import pytest
from databases import postgresql_database
from lived import Life, first_monday, sessions_of_the_test
from sqlalchemy import make_url, update
from stopped import stop_clock

from zap.db.engine import create_engine, write_transaction
from zap.db.history.history_store import upsert_history
from zap.db.monitoring.alarms import list_alarms
from zap.db.monitoring.monitor_states import read_monitor
from zap.db.schema import upgrade
from zap.db.tables import Promotion
from zap.flows import looking_back
from zap.flows.alarms import LOOKS
from zap.flows.training import run_training
from zap.formats.training_options import TrainingOptions
from zap.ml.sample import sample_history
from zap.settings import Settings

# A test part of at least two whole weeks.
QUICK = TrainingOptions(hyper_parameters={"n_estimators": 20}, test_share=0.25)
# The type whose places are closed, and the type that its drivers use then.
CLOSED, INSTEAD = "Level 2", "DC Fast Charger"
# The sessions of a week, and the share that is reported.
A_WEEK, REPORTED = 300, 0.7
# Quiet weeks come before a fault; it must be found within some weeks.
QUIET_WEEKS, MOST_WEEKS = 6, 4
# The disk and the speed of the machine of the tests say nothing about the service.
OF_SERVICE = LOOKS.keys() - {"disk_nearly_full", "log_slow"}


class Watched:
    """A service, and everything that looks back at it.

    Args:
        engine: on a database with a version in production.
        settings: its settings.
        seed: of what drivers do.
    """

    def __init__(self, engine, settings, seed=1):
        self.engine, self.life = engine, Life(engine, settings.wall_time, seed)
        self.now = self.life.begin.replace(tzinfo=UTC)
        self.patch = pytest.MonkeyPatch()
        stop_clock(self.patch, lambda: self.now)
        self.patch.setattr(looking_back, "LOOKS", OF_SERVICE)
        self.patch.setattr(looking_back, "WHILE_BEHIND", looking_back.WHILE_BEHIND & OF_SERVICE)
        self.back = looking_back.LookingBack(engine, settings)

    def live(self, weeks, begin=0, change=lambda sessions: sessions):
        """Let drivers ask and report; look back just after each midnight. Yield each number of days with its alarms.

        Args:
            weeks: how many weeks.
            begin: the number of the first week.
            change: called with the sessions of each day; returns the sessions that drivers ask about and report.
        """
        for week in range(begin, begin + weeks):
            for number, sessions in enumerate(self.life.days(week, A_WEEK), start=7 * week + 1):
                changed = change(sessions)
                self.life.ask(changed)
                # Answers are followed before their sessions are reported.
                self.now = (self.life.now + timedelta(days=1)).replace(tzinfo=UTC)
                assert self.back.following.look()
                if change is not unreported:
                    self.life.report(changed[self.life.random.random(len(changed)) < REPORTED])
                self.now += timedelta(minutes=5)
                # Each look is a look at everything.
                self.back._monitors_at = self.back._alarms_at = -math.inf
                assert self.back.look()
                yield number, list_alarms(self.engine, 100, standing=False)

    def close(self):
        self.back.close()
        self.patch.undo()
        self.life.close()


TYPES = ("DC Fast Charger", "Level 1", "Level 2")


def swapped(sessions):
    """Let drivers use another type than they did."""
    other = {TYPES[0]: TYPES[2], TYPES[2]: TYPES[0], TYPES[1]: TYPES[1]}
    return sessions.assign(charger_type=sessions["charger_type"].map(other))


def in_miles(sessions):
    return sessions.assign(distance_driven_km=sessions["distance_driven_km"] / 1.609)


def closed_down(sessions):
    """Let drivers use another type instead of the most common one, whose places are closed."""
    return sessions.assign(charger_type=sessions["charger_type"].replace(CLOSED, INSTEAD))


def half_new(sessions):
    """Let every second driver be one that nobody has seen before."""
    new = [f"new {start:%d %H:%M:%S} {place}" for place, start in enumerate(sessions["charging_start_time"])]
    return sessions.assign(user_id=sessions["user_id"].where(np.arange(len(sessions)) % 2 == 1, new))


def unreported(sessions):
    return sessions


FAULTS = {
    "labels swapped": (swapped, "harm", "worse than"),
    "a feature in miles": (in_miles, "drift", "distance_driven_km"),
    "a type closed down": (closed_down, "harm", "worse than"),
    "half of the drivers new": (half_new, "drift", "driver: known"),
    "reports that stop": (unreported, "no_outcomes", "answers with a driver has a session"),
}
# There is another fault of the same kind; `test_monitors.py` has these too, in fewer weeks of written answers.
LONGER = {"a type closed down", "half of the drivers new"}


def prepared(settings):
    """Train a version whose test part has many drivers, and let it serve since two days before the first answer."""
    upgrade(settings.database_url)
    engine = create_engine(settings.database_url)
    sample = sample_history(seed=1, drivers=400, months=3)
    upsert_history(engine, sample.users, sample.vehicles, sample.sessions)
    run_training(engine, settings, options=QUICK)
    with write_transaction(engine) as connection:
        before = first_monday(sessions_of_the_test(engine)) - timedelta(days=2)
        connection.execute(update(Promotion).values(promoted_at=before.replace(tzinfo=UTC)))
    engine.dispose()


def lived(settings):
    """Let a prepared service live some quiet weeks."""
    engine = create_engine(settings.database_url)
    watched = Watched(engine, settings)
    is_quiet(watched, QUIET_WEEKS)
    watched.close()
    engine.dispose()


@contextmanager
def another(engine_name, folder, template=None):
    """Yield the settings of a new database, or of a copy of a database, whose settings are `template`."""
    if engine_name == "sqlite":
        settings = sqlite_in(folder)
        if template is not None:
            shutil.copy(make_url(template.database_url).database, make_url(settings.database_url).database)
        yield settings
        return
    known = () if template is None else (make_url(template.database_url).database,)
    with postgresql_database(*known) as url:
        yield Settings(database_url=url, models_dir=folder, timezone="UTC")


def sqlite_in(folder):
    return Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder, timezone="UTC")


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def engine_name(request):
    if request.param == "postgresql":
        request.getfixturevalue("postgresql_server")
    return request.param


@pytest.fixture(scope="module")
def trained_service(engine_name, made_once, tmp_path_factory):
    """Yield the settings of a service with a version in production, before the first answer."""
    if engine_name == "sqlite":
        yield sqlite_in(made_once("trained-service", lambda folder: prepared(sqlite_in(folder))))
        return
    with another(engine_name, tmp_path_factory.mktemp("trained")) as settings:
        prepared(settings)
        yield settings


@pytest.fixture(scope="module")
def quiet_service(engine_name, trained_service, made_once, tmp_path_factory):
    """Yield the settings of this service after some quiet weeks."""
    if engine_name == "sqlite":

        def fill(folder):
            with another(engine_name, folder, trained_service) as settings:
                lived(settings)

        yield sqlite_in(made_once("quiet-service", fill))
        return
    with another(engine_name, tmp_path_factory.mktemp("quiet"), trained_service) as settings:
        lived(settings)
        yield settings


@contextmanager
def watching(engine_name, folder, template, seed):
    """Yield a service that goes on from a copy of a database."""
    with another(engine_name, folder, template) as settings:
        engine = create_engine(settings.database_url)
        watched = Watched(engine, settings, seed)
        yield watched
        watched.close()
        engine.dispose()


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=pytest.mark.long) if fault in LONGER else fault for fault in FAULTS]
)
def test_a_planted_fault_is_found(engine_name, quiet_service, tmp_path, fault):
    change, kind, words = FAULTS[fault]
    found = {}
    with watching(engine_name, tmp_path, quiet_service, seed=2) as watched:
        for day, raised in watched.live(MOST_WEEKS, QUIET_WEEKS, change):
            found |= {one["alarm_id"]: (day, one) for one in raised if one["alarm_id"] not in found}
            if any(one["kind"] == kind for one in raised):
                break

    begun = 7 * QUIET_WEEKS
    told = [f"{one['kind']} after {day - begun} days: {one['message']}" for day, one in found.values()]
    print(f"{fault} from day {begun + 1}:", *told or ["nothing was found"])
    assert [words in one["message"] for _, one in found.values() if one["kind"] == kind] == [True]


def is_quiet(watched, weeks):
    """Assert that nothing is raised in some weeks, although everything was looked at."""
    for day, raised in watched.live(weeks):
        assert raised == [], f"on day {day}"
    with watched.engine.connect() as connection:
        drift, harm = (read_monitor(connection, 1, kind) for kind in ("drift", "harm"))
    assert sum(drift.state["sums"].values()) > 0
    assert len(harm.state["days"]) >= 7 * min(weeks, 13) - 3


def test_a_quiet_service_raises_nothing(quiet_service):
    engine = create_engine(quiet_service.database_url)
    assert list_alarms(engine, 100, standing=False) == []
    engine.dispose()


@pytest.mark.long
@pytest.mark.parametrize("seed", [10, 11, 12])
def test_other_quiet_services_raise_nothing(engine_name, trained_service, tmp_path, seed):
    with watching(engine_name, tmp_path, trained_service, seed) as watched:
        is_quiet(watched, weeks=8)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20, 30))
def test_ten_quiet_services_raise_nothing_in_a_quarter(engine_name, trained_service, tmp_path, seed):
    with watching(engine_name, tmp_path, trained_service, seed) as watched:
        is_quiet(watched, weeks=13)
