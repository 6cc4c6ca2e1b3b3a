"""What the database knows of a driver and a vehicle."""

import shutil

import pandas as pd
import pytest
from histories import add_sessions, session_row
from sqlalchemy import insert

from zap.db.engine import create_engine, write_transaction
from zap.db.history.drivers import VEHICLE_FACTS, driver_facts
from zap.db.history.history_store import read_history
from zap.db.schema import upgrade
from zap.db.tables import User, Vehicle
from zap.ml.features import FEATURES
from zap.ml.history import clean_history

LEAF = {"battery_capacity_kwh": 40.0, "vehicle_age_years": 2.0, "vehicle_model": "Leaf"}
KONA = {"battery_capacity_kwh": 64.0, "vehicle_age_years": None, "vehicle_model": "Kona"}


@pytest.fixture
def known(engine):
    with write_transaction(engine) as connection:
        connection.execute(
            insert(User), [{"user_id": "one", "user_type": "Commuter"}, {"user_id": "two", "user_type": None}]
        )
        connection.execute(
            insert(Vehicle),
            [
                LEAF | {"vehicle_id": 1, "user_id": "one"},
                LEAF | {"vehicle_id": 2, "user_id": "two"},
                KONA | {"vehicle_id": 3, "user_id": "two"},
                KONA | {"vehicle_id": 4, "user_id": "unknown"},
                # As histories of other hands may hold them.
                KONA | {"vehicle_id": 5, "user_id": " ", "battery_capacity_kwh": 1e9, "vehicle_model": " Kona "},
                LEAF | {"vehicle_id": 6, "user_id": None, "vehicle_model": " "},
                # Words for nothing.
                KONA | {"vehicle_id": 7, "user_id": "NULL", "vehicle_model": "n/a"},
            ],
        )
        names = [{"user_id": "one ", "user_type": " Tourist "}, {"user_id": "NULL", "user_type": "Commuter"}]
        connection.execute(insert(User), names)
    return engine


@pytest.mark.parametrize(
    ("user_id", "vehicle_id", "facts"),
    [
        ("one", None, {"user_type": "Commuter"} | LEAF),
        (None, 1, {"user_type": "Commuter"} | LEAF),
        ("one", 3, {"user_type": "Commuter"} | KONA),
        # Two vehicles: there is no only one.
        ("two", None, {"user_type": None}),
        ("two", 3, {"user_type": None} | KONA),
        # A vehicle whose owner Users lacks.
        (None, 4, KONA),
        ("nobody", None, {}),
        (None, 99, {}),
        ("one", 99, {"user_type": "Commuter"}),
        ("O'Neill\\\"; DROP TABLE", 0, {}),
        (None, 2**63 - 1, {}),
        # An id is what it is, to the letter; other texts are without the spaces around them.
        ("one ", None, {"user_type": "Tourist"}),
        (" one", None, {}),
        (" ", None, {}),
        (None, 5, KONA | {"battery_capacity_kwh": 1e9}),
        (None, 6, LEAF | {"vehicle_model": None}),
        # A driver with the name of nothing is no driver, in trainings and here.
        ("NULL", None, {}),
        (None, 7, KONA | {"vehicle_model": None}),
    ],
)
def test_facts(known, user_id, vehicle_id, facts):
    assert driver_facts(known, {"user_id": user_id, "vehicle_id": vehicle_id}) == facts


def test_nothing_is_asked_about_a_request_without_gaps(known):
    whole = {"user_id": "one"} | dict.fromkeys(("user_type", *VEHICLE_FACTS), None)

    assert driver_facts(known, whole) == {}


def facts_are_those_of_the_history(engine):
    raw = read_history(engine)
    frame = clean_history(raw).frame.set_index("session_id")
    numbers = {feature.name: feature for feature in FEATURES if feature.kind == "number"}
    for session_id, user_id, vehicle_id in raw.sessions[["session_id", "user_id", "vehicle_id"]].itertuples(
        index=False
    ):
        named = {
            "user_id": None if pd.isna(user_id) else user_id,
            "vehicle_id": None if pd.isna(vehicle_id) else int(vehicle_id),
        }
        facts = driver_facts(engine, named)
        for name in ("user_type", *VEHICLE_FACTS):
            trained_on = frame.loc[session_id, name]
            fact = facts.get(name)
            if name in numbers and fact is not None and not numbers[name].inside(fact):
                fact = None
            assert fact == (None if pd.isna(trained_on) else trained_on), (session_id, name)
    return len(frame)


def test_a_session_has_the_facts_that_a_request_like_it_gets(known):
    named = [
        {"user_id": user, "vehicle_id": vehicle}
        for user in ("one", "one ", "two", "unknown", "nobody", " ", "NULL", None)
        for vehicle in (None, 1, 2, 3, 4, 5, 6, 7, 99)
    ]
    add_sessions(known, *[session_row() | one for one in named])

    assert facts_are_those_of_the_history(known) == len(named)


def test_ids_that_a_float_cannot_hold_are_told_apart(engine):
    large = 2**53
    with write_transaction(engine) as connection:
        connection.execute(
            insert(Vehicle),
            [LEAF | {"vehicle_id": large, "user_id": "a"}, KONA | {"vehicle_id": large + 1, "user_id": "b"}],
        )
    add_sessions(engine, *[session_row(None, vehicle_id=one) for one in (large, large + 1, None)])

    frame = clean_history(read_history(engine)).frame

    assert frame["battery_capacity_kwh"].tolist()[:2] == [40.0, 64.0]
    assert facts_are_those_of_the_history(engine) == 3


def test_so_it_is_in_the_real_history(zapapp_database, tmp_path):
    url = f"sqlite:///{shutil.copyfile(zapapp_database, tmp_path / 'zapapp.sqlite')}"
    upgrade(url)
    engine = create_engine(url)

    assert facts_are_those_of_the_history(engine) == 1320
    engine.dispose()
