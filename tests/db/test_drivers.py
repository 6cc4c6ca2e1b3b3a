"""What the database knows of a driver and a vehicle."""

import pytest
from sqlalchemy import insert

from zap.db.drivers import driver_facts
from zap.db.engine import write_transaction
from zap.db.tables import User, Vehicle

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
                KONA | {"vehicle_id": 4, "user_id": "stranger"},
            ],
        )
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
    ],
)
def test_facts(known, user_id, vehicle_id, facts):
    assert driver_facts(known, user_id, vehicle_id) == facts
