"""What the monitors of each version remember."""

from zap.db.engine import write_transaction
from zap.db.monitoring.monitor_states import (
    Remembered,
    has_references,
    read_monitor,
    read_parts,
    store_monitor,
    store_references,
)


def test_a_version_has_references_before_the_first_look_and_states_after_it(engine):
    with write_transaction(engine) as connection:
        store_references(connection, 3, {"drift": {"features": None}, "harm": {"limits": {"7": 0.25}}})
        assert read_monitor(connection, 3, "harm") == Remembered({"limits": {"7": 0.25}})
    after = Remembered({"limits": {"7": 0.25}}, {"sums": {"promise 7": 1e-300}}, 2**40)
    with write_transaction(engine) as connection:
        store_monitor(connection, 3, "harm", after)
    with engine.connect() as connection:
        assert read_monitor(connection, 3, "harm") == after
        assert read_monitor(connection, 3, "drift") == Remembered({"features": None})
        assert read_monitor(connection, 4, "drift") is None


def test_a_process_that_finds_references_too_late_does_not_reset_the_monitors(engine):
    with write_transaction(engine) as connection:
        store_references(connection, 3, {"harm": {"limits": {"7": 0.25}}})
        assert not has_references(connection, 3)
        counted = Remembered({"limits": {"7": 0.25}}, {"sums": {"promise 7": 2.0}}, 40)
        store_monitor(connection, 3, "harm", counted)
        store_references(connection, 3, {"drift": {"features": None}, "harm": {"limits": {"7": 0.25}}})

        assert read_monitor(connection, 3, "harm") == counted
        assert has_references(connection, 3)
        assert not has_references(connection, 4)


def test_parts_of_a_state_are_read_without_the_rest(engine):
    reference, parts = {"features": None}, ("judged", "raised", "absent")
    with write_transaction(engine) as connection:
        assert read_parts(connection, 3, "drift", parts) is None
        store_references(connection, 3, {"drift": reference})
        assert read_parts(connection, 3, "drift", parts) == (reference, dict.fromkeys(parts))
        state = {"judged": [{"week": 2, "sums": {"hour": 1e-300}}], "raised": {}, "sample": {"rows": {}}}
        store_monitor(connection, 3, "drift", Remembered(reference, state, 7))

        assert read_parts(connection, 3, "drift", parts) == (
            reference,
            {"judged": [{"week": 2, "sums": {"hour": 1e-300}}], "raised": {}, "absent": None},
        )
